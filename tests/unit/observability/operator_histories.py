"""Histories of jobs as the operator tells them, and of the operator itself."""

from tests.unit.observability.histories import (
    BAD_MODEL,
    ENDED_A_DAY_BEFORE,
    ENDED_AT_10,
    ENDED_AT_30,
    ENDED_HALF_A_DAY_BEFORE,
    ERRORS,
    FAILED,
    FAILURE,
    JOB,
    NO_LEADER,
    NO_OPERATOR,
    NO_VERDICT,
    QUEUED,
    RESTARTED,
    RESTARTING,
    RUNNING,
    STUCK,
    SUCCEEDED,
    UNMONITORED,
    Case,
    operator,
    verdict,
)

JOBS = (
    Case(
        QUEUED, "for an hour", (operator("job_phase", "1x200", **JOB, phase="Pending"),), 65,
        "team/llama has been pending for more than an hour.",
    ),
    Case(QUEUED, "resumed a minute ago", (
        operator("job_phase", "0x60 1x140", **JOB, phase="Pending"),
        operator("job_created_timestamp_seconds", "0x200", **JOB)), 65),
    Case(
        FAILURE, "fifty minutes ago", (FAILED, ENDED_AT_30), 80,
        "team/llama failed within the last hour; its status has the reason.",
    ),
    Case(FAILURE, "two hours ago", (FAILED, ENDED_AT_30), 155),
    Case(FAILURE, "succeeded", (
        operator("job_phase", "0x200", **JOB, phase="Failed"), SUCCEEDED, ENDED_AT_10), 20),
    Case(
        FAILURE, "the operator was replaced", (
            operator("job_phase", "1x40 stale", **JOB, phase="Failed"),
            operator("job_phase", "_x38 1x100", **JOB, phase="Failed", pod="operator-2"),
            operator("job_completed_timestamp_seconds", "1800x40 stale", **JOB),
            operator("job_completed_timestamp_seconds", "_x38 1800x90", **JOB, pod="operator-2"),
        ), 39,
        "team/llama failed within the last hour; its status has the reason.",
    ),
    Case(
        RESTARTED, "a trainer was killed", (operator("job_restarts", "0x30 1x60", **JOB),), 35,
        "A trainer of team/llama was killed or failed in the last 15 minutes; another one goes on"
        " from the newest checkpoint.",
    ),
    Case(
        RESTARTED, "killed while the operator was replaced", (
            operator("job_restarts", "1x30 stale", **JOB),
            operator("job_restarts", "_x33 2x60", **JOB, pod="operator-2")), 35,
        "A trainer of team/llama was killed or failed in the last 15 minutes; another one goes on"
        " from the newest checkpoint.",
    ),
    Case(RESTARTED, "an hour ago", (operator("job_restarts", "0x30 1x90", **JOB),), 90),
    Case(RESTARTED, "for the third time within an hour", (
        operator("job_restarts", "0x30 1x5 2x5 3x60", **JOB),), 50),
    Case(RESTARTED, "the operator was replaced", (
        operator("job_restarts", "1x30 stale", **JOB),
        operator("job_restarts", "_x33 1x60", **JOB, pod="operator-2")), 35),
    Case(RESTARTED, "it trains", (operator("job_restarts", "0x90", **JOB),), 35),
    Case(
        RESTARTING, "three times", (operator("job_restarts", "0x30 1x5 2x5 3x60", **JOB),), 50,
        "The training of team/llama was started anew 3 times within an hour.",
    ),
    Case(RESTARTING, "twice", (operator("job_restarts", "0x30 1x5 2x60", **JOB),), 50),
    Case(RESTARTING, "over days", (operator("job_restarts", "3x200", **JOB),), 50),
    Case(
        BAD_MODEL, "a check failed", (
            *verdict("0x50", Fail="1x50", Error="0x50"), ENDED_HALF_A_DAY_BEFORE), 20,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(BAD_MODEL, "all passed", (*verdict("1x200", Fail="0x200"), ENDED_AT_10), 20),
    Case(BAD_MODEL, "an optional check failed", (
        *verdict("1x200", Fail="1x200"), ENDED_AT_10), 20),
    Case(BAD_MODEL, "the validator broke", (
        *verdict("0x200", Fail="0x200", Error="1x200"), ENDED_AT_10), 20),
    Case(
        BAD_MODEL, "judged again a week later", (
            *verdict("1x30 0x170", Fail="0x30 1x170"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(
        BAD_MODEL, "found bad again a week later", (
            *verdict("0x200", Fail="1x200"),
            operator("validation_phase", "0x20 1x10 0x170", **JOB, phase="Running"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(BAD_MODEL, "days ago", (*verdict("0x50", Fail="1x50"), ENDED_A_DAY_BEFORE), 20),
    Case(
        NO_VERDICT, "a check could not be made", (
            *verdict("0x200", Fail="0x200", Error="1x200"), ENDED_AT_10), 20,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(
        NO_VERDICT, "the validator left no word", (*verdict("0x50"), ENDED_HALF_A_DAY_BEFORE), 20,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(NO_VERDICT, "a check failed", (
        *verdict("0x200", Fail="1x200", Error="1x200"), ENDED_AT_10), 20),
    Case(
        NO_VERDICT, "judged again a week later", (
            *verdict("1x30 0x170", Error="0x30 1x170"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(NO_VERDICT, "days ago", (*verdict("0x50", Error="1x50"), ENDED_A_DAY_BEFORE), 20),
    Case(
        STUCK, "pending for an hour", (
            SUCCEEDED, operator("validation_phase", "1x200", **JOB, phase="Pending"),
            operator("validation_phase", "0x200", **JOB, phase="Running")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(
        STUCK, "first pending, then running", (
            SUCCEEDED, operator("validation_phase", "1x40 0x160", **JOB, phase="Pending"),
            operator("validation_phase", "0x40 1x160", **JOB, phase="Running")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(STUCK, "for half an hour", (
        SUCCEEDED, operator("validation_phase", "1x200", **JOB, phase="Running")), 40),
    Case(STUCK, "still training", (RUNNING,), 80),
    Case(
        STUCK, "a job that has to pass waits for a GPU to validate on", (
            RUNNING, operator("validation_phase", "1x200", **JOB, phase="Pending")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(STUCK, "has a verdict", (
        SUCCEEDED, operator("validation_phase", "1x30 0x170", **JOB, phase="Running")), 80),
    Case(STUCK, "turned off", (SUCCEEDED,), 80),
    Case(
        UNMONITORED, "forbidden", (
            operator("monitor_errors_total", "0+1x60", reason="Forbidden"),), 30,
        "The operator could not make the monitoring objects of a job (Forbidden); training goes on"
        " without them.",
        {"reason": "Forbidden"},
    ),
    Case(UNMONITORED, "for ten minutes", (
        operator("monitor_errors_total", "0+1x60", reason="Forbidden"),), 10),
    Case(UNMONITORED, "one error, mended", (
        operator("monitor_errors_total", "0x5 1x60", reason="Forbidden"),), 30),
    Case(
        NO_OPERATOR, "gone", (operator("build_info", "1x5 stale", version="1"),), 20,
        "Prometheus gets nothing from the operator: new jobs do not start, and the status of"
        " running ones stands still. Training itself goes on.",
        {},
    ),
    Case(
        NO_OPERATOR, "that of one of two releases", (
            operator("build_info", "1x20 stale", version="1", namespace="a"),
            operator("build_info", "1x200", version="1", namespace="b", pod="b")), 60,
        "Prometheus gets nothing from the operator: new jobs do not start, and the status of"
        " running ones stands still. Training itself goes on.",
        {"namespace": "a"},
    ),
    Case(NO_OPERATOR, "for five minutes", (
        operator("build_info", "1x5 stale", version="1"),), 11),
    Case(NO_OPERATOR, "an upgrade", (
        operator("build_info", "1x5 stale", version="1"),
        operator("build_info", "_x10 1x60", version="2", pod="operator-2")), 20),
    Case(
        NO_LEADER, "nobody gets the lease", (
            operator("leader", "1x5 0x60"), operator("leader", "0x65", pod="operator-2")), 20,
        "Operators run, but none of them holds the lease that lets it work: new jobs do not"
        " start, and the status of running ones stands still.",
        {},
    ),
    Case(
        NO_LEADER, "in one of two releases", (
            operator("leader", "0x60", namespace="a"),
            operator("leader", "1x60", namespace="b", pod="b")), 20,
        "Operators run, but none of them holds the lease that lets it work: new jobs do not"
        " start, and the status of running ones stands still.",
        {"namespace": "a"},
    ),
    Case(NO_LEADER, "one stands by", (
        operator("leader", "1x60"), operator("leader", "0x60", pod="operator-2")), 30),
    Case(NO_LEADER, "a take-over", (
        operator("leader", "1x5 stale"),
        operator("leader", "0x8 1x60", pod="operator-2")), 12),
    Case(
        ERRORS, "every fourth look", (
            operator("reconcile_total", "0+3x60", outcome="ok"),
            operator("reconcile_total", "0+1x60", outcome="retry"),
            operator("reconcile_total", "0x60", outcome="error")), 30,
        "25% of the operator's looks at jobs failed in the last 10 minutes.",
        {},
    ),
    Case(
        ERRORS, "every look of one of two releases", (
            operator("reconcile_total", "0+1x60", outcome="retry", namespace="a"),
            operator("reconcile_total", "0+90x60", outcome="ok", namespace="b")), 30,
        "100% of the operator's looks at jobs failed in the last 10 minutes.",
        {"namespace": "a"},
    ),
    Case(ERRORS, "every twentieth look", (
        operator("reconcile_total", "0+19x60", outcome="ok"),
        operator("reconcile_total", "0+1x60", outcome="retry")), 30),
    Case(ERRORS, "for five minutes", (
        operator("reconcile_total", "0+3x60", outcome="ok"),
        operator("reconcile_total", "0+1x60", outcome="retry")), 6),
    Case(ERRORS, "all well", (
        operator("reconcile_total", "0+3x60", outcome="ok"),
        operator("reconcile_total", "0x60", outcome="error")), 30),
    Case(ERRORS, "nothing to do", (operator("reconcile_total", "5x60", outcome="ok"),), 30),
)  # fmt: skip
