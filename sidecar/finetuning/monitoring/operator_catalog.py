"""Every metric of the operator, once: its exporter, the documentation and the rules follow it.

A prefix of their own keeps sums over finetuning_* from counting anything twice. What carries a job
name is read from the resources at each scrape: it outlives the job's pods and goes with the job.
"""

from enum import StrEnum

from finetuning.monitoring import catalog
from finetuning.monitoring.catalog import Kind, Metric

PREFIX = "finetuning_operator_"


class Group(StrEnum):
    """Headings under which the metrics are listed."""

    JOBS = "Jobs"
    VALIDATION = "Validation"
    OPERATOR = "Operator"


_JOB = ("namespace", "job_name")
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

JOB_INFO = Metric(
    f"{PREFIX}job_info",
    Kind.GAUGE,
    (*_JOB, "model_id", "method", "gpus"),
    "1",
    "Always 1; what the job trains, how, and the number of its GPUs in all pods",
    Group.JOBS,
)
JOB_PHASE = Metric(
    f"{PREFIX}job_phase",
    Kind.GAUGE,
    (*_JOB, "phase"),
    "1",
    "1 for the phase that the job is in, 0 for the others: Pending, Running, Succeeded, Failed, "
    "Paused",
    Group.JOBS,
)
JOB_CREATED = Metric(
    f"{PREFIX}job_created_timestamp_seconds",
    Kind.GAUGE,
    _JOB,
    "Unix seconds",
    "When the job was created",
    Group.JOBS,
)
JOB_STARTED = Metric(
    f"{PREFIX}job_started_timestamp_seconds",
    Kind.GAUGE,
    _JOB,
    "Unix seconds",
    "When its training began; absent before",
    Group.JOBS,
)
JOB_COMPLETED = Metric(
    f"{PREFIX}job_completed_timestamp_seconds",
    Kind.GAUGE,
    _JOB,
    "Unix seconds",
    "When its training ended, well or not; absent before",
    Group.JOBS,
)
JOB_DEADLINE = Metric(
    f"{PREFIX}job_deadline_timestamp_seconds",
    Kind.GAUGE,
    _JOB,
    "Unix seconds",
    "When activeDeadlineSeconds will stop the training, by the clock of its Job; absent without "
    "one, before the Job began, in a pause and after the end",
    Group.JOBS,
)
JOB_FINAL_TRAIN_LOSS = Metric(
    f"{PREFIX}job_final_train_loss",
    Kind.GAUGE,
    _JOB,
    "nats per token",
    "Training loss last told of in a training that has ended: status.trainLoss",
    Group.JOBS,
)
JOB_RESTARTS = Metric(
    f"{PREFIX}job_restarts",
    Kind.GAUGE,
    _JOB,
    "pods",
    "Training pods that failed and were replaced; only grows",
    Group.JOBS,
)
JOB_GPU_SECONDS = Metric(
    f"{PREFIX}job_gpu_seconds_total",
    Kind.COUNTER,
    _JOB,
    "seconds",
    "GPUs times the seconds for which the job's training pods trained, all attempts together; "
    "exact once the training has ended",
    Group.JOBS,
)
JOB_ENERGY = Metric(
    f"{PREFIX}job_energy_joules_total",
    Kind.COUNTER,
    _JOB,
    "joules",
    "Energy that the GPUs of the job's training used, all attempts together; absent where a GPU "
    "cannot tell, and for jobs of several pods",
    Group.JOBS,
)
QUEUE_WAIT = Metric(
    f"{PREFIX}queue_wait_seconds",
    Kind.HISTOGRAM,
    (),
    "seconds",
    "Time from the creation of a job to the first start of its training",
    Group.JOBS,
    (
        *(1.0, 5.0, 15.0, 30.0),
        *(n * _MINUTE for n in (1, 5, 15, 30)),
        *(n * _HOUR for n in (1, 2, 4, 8, 12)),
        *(n * _DAY for n in (1, 2, 7)),
    ),
)
JOB_DURATION = Metric(
    f"{PREFIX}job_duration_seconds",
    Kind.HISTOGRAM,
    ("method", "result"),
    "seconds",
    "Time from the first start of a training to its end; result is Succeeded or Failed",
    Group.JOBS,
    catalog.JOB_DURATION.buckets,
)

VALIDATION_PHASE = Metric(
    f"{PREFIX}validation_phase",
    Kind.GAUGE,
    (*_JOB, "phase"),
    "1",
    "1 for the phase that the validation is in, 0 for the others: Pending, Running, Passed, "
    "Failed, Error, Skipped; absent while nothing is known of one",
    Group.VALIDATION,
)
VALIDATION_PASSED = Metric(
    f"{PREFIX}validation_passed",
    Kind.GAUGE,
    _JOB,
    "1",
    "Verdict on the trained model: 1 passed, 0 not; absent while there is none",
    Group.VALIDATION,
)
VALIDATION_CHECK_RESULT = Metric(
    f"{PREFIX}validation_check_result",
    Kind.GAUGE,
    (*_JOB, "check", "result"),
    "1",
    "1 for the result of the check, 0 for the others: Pass, Fail, Skip, Error",
    Group.VALIDATION,
)
VALIDATION_CHECK_SCORE = Metric(
    f"{PREFIX}validation_check_score",
    Kind.GAUGE,
    (*_JOB, "check"),
    "1",
    "The check's own figure, where it has one",
    Group.VALIDATION,
)
VALIDATION_DURATION = Metric(
    f"{PREFIX}validation_duration_seconds",
    Kind.HISTOGRAM,
    ("result",),
    "seconds",
    "Time of a validation; result is Passed, Failed or Error",
    Group.VALIDATION,
    (*(5.0, 15.0, 30.0), *(n * _MINUTE for n in (1, 2, 5, 10, 20, 30)), _HOUR, 2 * _HOUR),
)

RECONCILE_TOTAL = Metric(
    f"{PREFIX}reconcile_total",
    Kind.COUNTER,
    ("outcome",),
    "looks",
    "Looks at a job; outcome is ok, retry (will be tried again) or error (a bug)",
    Group.OPERATOR,
)
RECONCILE_DURATION = Metric(
    f"{PREFIX}reconcile_duration_seconds",
    Kind.HISTOGRAM,
    (),
    "seconds",
    "Time of one look at a job",
    Group.OPERATOR,
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
API_REQUESTS_TOTAL = Metric(
    f"{PREFIX}api_requests_total",
    Kind.COUNTER,
    ("verb", "resource", "code"),
    "requests",
    "Calls of the Kubernetes API besides the watches; code 0 means no answer",
    Group.OPERATOR,
)
API_REQUEST_DURATION = Metric(
    f"{PREFIX}api_request_duration_seconds",
    Kind.HISTOGRAM,
    ("verb",),
    "seconds",
    "Time of one call of the Kubernetes API, answered or not",
    Group.OPERATOR,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
WORKQUEUE_DEPTH = Metric(
    f"{PREFIX}workqueue_depth",
    Kind.GAUGE,
    (),
    "jobs",
    "Jobs that wait for a look; 0 where another replica leads",
    Group.OPERATOR,
)
MONITOR_ERRORS_TOTAL = Metric(
    f"{PREFIX}monitor_errors_total",
    Kind.COUNTER,
    ("reason",),
    "tries",
    "Tries to wire up the monitoring that failed; reason is that of the condition MonitoringReady, "
    "or ApiError",
    Group.OPERATOR,
)
WATCHED_JOBS = Metric(
    f"{PREFIX}watched_jobs",
    Kind.GAUGE,
    (),
    "jobs",
    "Jobs that the operator knows, the finished ones included",
    Group.OPERATOR,
)
LEADER = Metric(
    f"{PREFIX}leader",
    Kind.GAUGE,
    (),
    "1",
    "1 for the operator that works, 0 for one that stands by; only the first has metrics of jobs",
    Group.OPERATOR,
)
BUILD_INFO = Metric(
    f"{PREFIX}build_info",
    Kind.GAUGE,
    ("version",),
    "1",
    "Always 1; tells which version of the operator runs",
    Group.OPERATOR,
)

METRICS: tuple[Metric, ...] = (
    JOB_INFO,
    JOB_PHASE,
    JOB_CREATED,
    JOB_STARTED,
    JOB_COMPLETED,
    JOB_DEADLINE,
    JOB_FINAL_TRAIN_LOSS,
    JOB_RESTARTS,
    JOB_GPU_SECONDS,
    JOB_ENERGY,
    QUEUE_WAIT,
    JOB_DURATION,
    VALIDATION_PHASE,
    VALIDATION_PASSED,
    VALIDATION_CHECK_RESULT,
    VALIDATION_CHECK_SCORE,
    VALIDATION_DURATION,
    RECONCILE_TOTAL,
    RECONCILE_DURATION,
    API_REQUESTS_TOTAL,
    API_REQUEST_DURATION,
    WORKQUEUE_DEPTH,
    MONITOR_ERRORS_TOTAL,
    WATCHED_JOBS,
    LEADER,
    BUILD_INFO,
)
