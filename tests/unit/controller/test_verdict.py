"""No report, no pass: every way in which a validation can end."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controller.objects import (
    CHECKS,
    SETTINGS,
    batch_job,
    ended,
    job,
    pod,
    running,
    seen,
    validator_says,
    waiting,
)

from finetuning.api.v1alpha1 import (
    CheckStatus,
    FineTuningJobStatus,
    Reason,
    ValidationPhase,
    ValidationStatus,
)
from finetuning.artifacts.exits import ValidatorExit
from finetuning.controller import naming, verdict
from finetuning.controller.announcements import announcements
from finetuning.controller.desired import validation as desired_validation
from finetuning.controller.last_words import MESSAGE_LIMIT
from finetuning.controller.training_status import Problem
from finetuning.controller.verdict import CHECKS_LIMIT, REPORT_LIMIT, validation_status
from finetuning.local.batch import Action, action

DIGEST = "a" * 64
STATUS_LIMIT = 16 * 1024
"""Bytes of status.validation: each of its writes is sent to everybody who watches."""


def judged(
    state: dict[str, Any] | None,
    *,
    failed: str | None = None,
    before: str | None = None,
    policy: dict[str, Any] | None = None,
    failed_pods: int = 0,
) -> ValidationStatus:
    written: dict[str, Any] = {"phase": "Succeeded"}
    if before is not None:
        written["validation"] = {"phase": "Pending", "manifestSha256": before}
    found = batch_job(
        naming.VALIDATION, failed=failed, complete=failed is None, failed_pods=failed_pods
    )
    pods = (pod(state, component=naming.VALIDATION),) if state is not None else ()
    of = job(written, validation=policy or {})
    return validation_status(seen(of=of, validation=found, validation_pods=pods))


def test_four_checks_passed_is_a_pass() -> None:
    found = judged(ended(0, validator_says()))
    assert (found.phase, found.summary) == (ValidationPhase.PASSED, "4/4 checks passed")
    assert [check.name for check in found.checks] == list(CHECKS)
    assert found.report.startswith(
        "=== Fine-Tuning Validation Report ===\n\n✓ PASS - training_loss"
    )
    assert found.report.endswith("Summary: 4/4 checks passed")
    assert found.report_path == "pvc://demo-output/validation/validation_report.txt"
    assert found.completion_time is not None


def test_a_failed_check_is_a_failure_of_the_model() -> None:
    found = judged(ended(1, validator_says("model_output")), failed="PodFailurePolicy")
    assert (found.phase, found.summary) == (ValidationPhase.FAILED, "3/4 checks passed")
    assert "✗ FAIL - model_output" in found.report


def test_the_status_tells_what_was_judged_by_what_and_how_it_compares() -> None:
    report = json.loads(validator_says(reportSha256=DIGEST, validatorVersion="1.2.3"))
    report["checks"][0] |= {"score": 0.5, "threshold": 10, "seconds": 1.5, "warned": ["LossSpikes"]}
    report["model"] = {"files": 7, "sizeBytes": 123}
    loss = {"base": 2.0, "tuned": 1.5, "standardError": 0.1, "verdict": "better"}
    report["baseline"] = {"rows": 24, **loss}
    state = ended(0, json.dumps(report))
    found = judged(state)
    assert found.model_dump(mode="json", by_alias=True, exclude_none=True)["model"] == {
        "path": "pvc://demo-output",
        "files": 7,
        "sizeBytes": 123,
    }
    assert found.baseline is not None
    assert (found.baseline.model_id, found.baseline.delta) == (job().spec.base_model.model_id, -0.5)
    first, *rest = found.checks
    assert (first.threshold, first.duration_seconds, first.warnings) == (10, 1.5, ["LossSpikes"])
    assert {each.duration_seconds for each in rest} == {None}
    assert (found.report_sha256, found.validator_version) == (DIGEST, "1.2.3")
    assert found.image == "registry.example/trainer:1"


def test_the_status_tells_each_task_once() -> None:
    task = {"task": "capitals", "metric": "acc", "base": 0.8, "tuned": 0.9, "verdict": "same"}
    report = json.loads(validator_says())
    report["benchmarks"] = [{**task, "z": 1.1}, {**task, "task": "b", "z": None}, task]
    found = judged(ended(0, json.dumps(report)))
    told = [each.model_dump(mode="json", exclude_none=True) for each in found.benchmarks]
    assert told == [task, {**task, "task": "b"}]


NO_VERDICT = [
    ("no pod", None, "PodFailurePolicy", "left no report"),
    ("no words", ended(1), "PodFailurePolicy", "no report, exit code 1"),
    ("garbage", ended(0, "\x00\x01 all passed!"), None, "no report, exit code 0"),
    ("a cut report", ended(0, validator_says()[:200]), None, "report was cut: kubelet keeps 12"),
    ("a traceback", ended(1, "ImportError: peft"), "PodFailurePolicy", "ImportError: peft"),
    ("out of memory", ended(137, "", "OOMKilled"), "BackoffLimitExceeded", "OOMKilled"),
    ("a usage error", ended(2, validator_says()), "PodFailurePolicy", "exit code 2"),
    ("the deadline", None, "DeadlineExceeded", "longer than spec.validation.timeoutSeconds (3600"),
    ("no checks at all", ended(0, validator_says(names=())), None, "contradicts exit code 0"),
    ("a check is missing", ended(0, validator_says(names=CHECKS[:3])), None, "contradicts"),
    (
        "passed on paper, failed by exit code",
        ended(1, validator_says()),
        "PodFailurePolicy",
        "contradicts exit code 1",
    ),
    (
        "failed on paper, passed by exit code",
        ended(0, validator_says("aim_profile")),
        None,
        "contradicts exit code 0",
    ),
    ("a check twice", ended(0, validator_says(names=(*CHECKS, "aim_profile"))), None, "repeated"),
    ("a strange name", ended(0, validator_says(names=(*CHECKS, "<b>"))), None, "broken"),
]


@pytest.mark.fault(
    "Validator without a report, with one that is cut, contradicts itself or its exit code",
    "an error, never a pass",
)
@pytest.mark.parametrize(
    ("state", "failed", "words"), [pytest.param(*rest, id=name) for name, *rest in NO_VERDICT]
)
def test_without_a_usable_report_there_is_an_error_and_never_a_pass(
    state: dict[str, Any] | None, failed: str | None, words: str
) -> None:
    found = judged(state, failed=failed)
    assert found.phase is ValidationPhase.ERROR
    assert words in found.summary
    assert (found.report, found.result) == ("", "Error")
    assert re.fullmatch("[A-Z][A-Za-z]+", found.reason)


def test_nothing_of_a_report_that_was_cut_is_shown() -> None:
    found = judged(ended(1, validator_says("model_output")[:300]), failed="PodFailurePolicy")
    assert found.reason == "ReportTruncated"
    assert "validation/validation_report.txt" in found.summary
    assert "{" not in verdict.in_words(found)


def test_the_report_cannot_declare_a_failing_check_optional() -> None:
    report = json.loads(validator_says("model_output"))
    report["checks"][1]["required"] = False
    found = judged(ended(1, json.dumps(report)), failed="PodFailurePolicy")
    assert (found.phase, found.passed, found.total) == (ValidationPhase.FAILED, 3, 4)


def test_the_order_of_the_report_is_ours() -> None:
    found = judged(ended(0, validator_says(names=CHECKS[::-1])))
    assert [check.name for check in found.checks] == list(CHECKS)


def test_an_optional_check_may_fail() -> None:
    report = json.loads(validator_says(names=(*CHECKS, "perplexity")))
    report["checks"][4] |= {"required": False, "result": "Fail"}
    found = judged(ended(0, json.dumps(report)))
    assert (found.phase, found.total, len(found.checks)) == (ValidationPhase.PASSED, 4, 5)


@pytest.mark.parametrize("said", [DIGEST, None], ids=["another manifest", "no manifest"])
def test_a_model_that_changed_after_its_training_fails_whatever_the_report_says(
    said: str | None,
) -> None:
    fields: dict[str, Any] = {} if said is None else {"manifestSha256": said}
    found = judged(ended(0, validator_says(**fields)), before="b" * 64)
    assert (found.phase, found.reason, found.result) == (
        ValidationPhase.FAILED,
        "ChecksFailed",
        "3/4",
    )
    (bad,) = (check for check in found.checks if check.result == "Fail")
    assert (bad.name, bad.reason) == ("checkpoint_integrity", "ManifestChanged")
    assert "between training and validation" in verdict.in_words(found)
    assert found.manifest_sha256 == "b" * 64


def test_a_policy_without_the_integrity_check_is_bound_to_the_files_all_the_same() -> None:
    policy = {"checks": ["training_loss"]}
    said = validator_says(names=("training_loss",), manifestSha256=DIGEST)
    assert judged(ended(0, said), before=DIGEST, policy=policy).result == "1/1"
    assert judged(ended(0, said), before="b" * 64, policy=policy).result == "1/2"


def test_the_first_verdict_binds_the_later_ones_where_the_training_named_no_manifest() -> None:
    assert judged(ended(0, validator_says(manifestSha256=DIGEST))).manifest_sha256 == DIGEST


def test_the_same_files_pass() -> None:
    found = judged(ended(0, validator_says(manifestSha256=DIGEST)), before=DIGEST)
    assert (found.phase, found.reason, found.result) == (
        ValidationPhase.PASSED,
        "ChecksPassed",
        "4/4",
    )


def test_the_policy_says_which_checks_count() -> None:
    policy = {"checks": ["aim_profile", "training_loss"]}
    some = judged(ended(0, validator_says("model_output")), policy=policy)
    assert (some.phase, some.result) == (ValidationPhase.PASSED, "2/2")
    assert [check.required for check in some.checks] == [True, False, False, True]
    lacking = judged(ended(0, validator_says(names=("training_loss",))), policy=policy)
    assert lacking.phase is ValidationPhase.ERROR


@pytest.mark.parametrize(
    ("results", "phase", "reason"),
    [
        (("Error", "Pass"), ValidationPhase.ERROR, "ValidatorError"),
        (("Skip", "Pass"), ValidationPhase.ERROR, "ValidatorError"),
        (("Error", "Fail"), ValidationPhase.FAILED, "ChecksFailed"),
    ],
)
def test_a_check_that_broke_off_is_no_pass_and_no_fault_of_the_model(
    results: tuple[str, str], phase: ValidationPhase, reason: str
) -> None:
    report = json.loads(validator_says())
    for check, result in zip(report["checks"], results, strict=False):
        check["result"] = result
    found = judged(ended(1, json.dumps(report)), failed="PodFailurePolicy")
    assert (found.phase, found.reason) == (phase, reason)
    assert found.passed + found.failed + found.skipped + found.errors == found.total == 4
    assert "training_loss: about training_loss" in verdict.in_words(found)


def test_pods_that_were_killed_or_lost_are_told_by_their_number() -> None:
    killed = judged(ended(137, ""), failed="BackoffLimitExceeded", failed_pods=3)
    assert killed.summary == "no report, exit code 137 (3 pods)."
    oom = judged(ended(137, "", "OOMKilled"), failed="BackoffLimitExceeded", failed_pods=3)
    assert oom.summary.startswith("OOMKilled (3 pods): it needs more memory")
    assert oom.reason == "OOMKilled"
    gone = judged(None, failed="BackoffLimitExceeded", failed_pods=3)
    assert gone.summary == "the validation pod left no report: 3 of its pods were lost"


def broken_off(reason: str = "OutOfMemory", message: str = "was killed") -> str:
    """What a validator says whose process with the model came to an end."""
    report = json.loads(validator_says())
    report["checks"][1] |= {"result": "Error", "reason": reason, "message": message}
    return json.dumps(report)


def test_a_validator_that_reports_its_lack_of_memory_has_kubelets_reason_and_the_field() -> None:
    """Of its processes the kernel takes the one with the model; the other one reports."""
    state = ended(ValidatorExit.TRY_AGAIN, broken_off(), "OOMKilled")
    found = judged(state, failed="BackoffLimitExceeded", failed_pods=3)
    assert (found.phase, found.reason, found.result) == (ValidationPhase.ERROR, "OOMKilled", "3/4")
    words = verdict.in_words(found)
    assert words.startswith("OOMKilled (3 pods): it needs more memory (spec.validation.resources")
    assert words.endswith("model_output: was killed")
    assert len(found.checks) == 4


def test_a_report_that_is_tried_again_counts_when_no_try_is_left() -> None:
    state = ended(ValidatorExit.TRY_AGAIN, broken_off("MachineFailed", "HIP error"))
    found = judged(state, failed="BackoffLimitExceeded", failed_pods=3)
    assert (found.phase, found.reason) == (ValidationPhase.ERROR, "ValidatorError")
    assert "model_output: HIP error" in verdict.in_words(found)


def test_a_model_that_failed_is_blamed_whatever_was_killed_besides() -> None:
    report = json.loads(broken_off())
    report["checks"][0]["result"] = "Fail"
    state = ended(ValidatorExit.NOT_PASSED, json.dumps(report), "OOMKilled")
    found = judged(state, failed="PodFailurePolicy")
    assert (found.phase, found.reason) == (ValidationPhase.FAILED, "ChecksFailed")


def test_the_job_tries_again_what_may_pass_and_no_verdict() -> None:
    rules = desired_validation.job(job(), SETTINGS)["spec"]["podFailurePolicy"]["rules"]
    again = [code for code in (*ValidatorExit, 137, 139) if action(code, rules) is Action.COUNT]
    assert again == [ValidatorExit.TRY_AGAIN, 137, 139]


@pytest.mark.fault("Validation pod evicted", "an error in kubelet's words, no verdict")
def test_an_evicted_pod_is_told_in_kubelets_words() -> None:
    words = "The node was low on resource: memory."
    evicted = pod(
        None, component=naming.VALIDATION, phase="Failed", reason="Evicted", message=words
    )
    found = validation_status(
        seen(
            of=job({"phase": "Succeeded"}),
            validation=batch_job(naming.VALIDATION, failed="BackoffLimitExceeded"),
            validation_pods=(evicted,),
        )
    )
    assert (found.phase, found.reason) == (ValidationPhase.ERROR, "PodLost")
    assert "Evicted: The node was low on resource" in found.summary
    stopped = pod(
        ended(137), component=naming.VALIDATION, phase="Failed", reason="Evicted", message=words
    )
    told = validation_status(
        seen(
            of=job({"phase": "Succeeded"}),
            validation=batch_job(naming.VALIDATION, failed="BackoffLimitExceeded"),
            validation_pods=(stopped,),
        )
    )
    assert (told.reason, "exit code 137. Evicted: " in told.summary) == ("NoReport", True)


WIDE = "\U0001f600"  # four bytes, and one character for every limit in characters


@pytest.mark.parametrize("letter", ["x", "é", "漢", WIDE, "\u2028", '"', "token=a "])
def test_the_largest_report_that_kubelet_keeps_stays_within_the_status(letter: str) -> None:
    names = (*CHECKS, *(f"extra_{index:02}" + "y" * 40 for index in range(11)))
    size = 300
    while len((said := _hostile(names, letter * size)).encode()) > MESSAGE_LIMIT:
        size -= 1
    found = judged(ended(1, said), failed="PodFailurePolicy", before=DIGEST)
    assert found.total == CHECKS_LIMIT
    data = found.model_dump_json(by_alias=True, exclude_none=True).encode()
    assert len(data) <= STATUS_LIMIT
    words = verdict.in_words(found)
    assert max(len(words), len(found.summary)) <= 1024


@pytest.mark.parametrize("count", [12, 16])
def test_a_report_of_other_checks_alone_is_no_verdict(count: int) -> None:
    said = validator_says(names=tuple(f"extra_{index}" for index in range(count)))
    found = judged(ended(0, said), before=DIGEST)
    assert (found.phase, found.reason) == (ValidationPhase.ERROR, "ReportInvalid")


def test_one_check_more_has_room_beside_the_most_that_a_report_may_have() -> None:
    names = ("training_loss", *(f"extra_{index}" for index in range(CHECKS_LIMIT - 1)))
    said = validator_says(names=names)
    found = judged(ended(0, said), before=DIGEST, policy={"checks": ["training_loss"]})
    assert (found.result, len(found.checks)) == (f"{CHECKS_LIMIT}/16", 16)


def _hostile(names: tuple[str, ...], text: str) -> str:
    checks = [
        {"name": name, "result": "Fail", "score": -1.7976931348623157e308, "message": text}
        for name in names
    ]
    return json.dumps({"kind": "validation", "checks": checks}, ensure_ascii=False)


def test_a_message_longer_than_kubelet_keeps_is_no_report() -> None:
    said = _hostile(CHECKS, WIDE * 250)
    assert len(said) <= MESSAGE_LIMIT < len(said.encode())
    assert judged(ended(1, said), failed="PodFailurePolicy").reason == "NoReport"


def test_messages_of_checks_are_cleaned() -> None:
    report = json.loads(validator_says())
    report["checks"][0]["message"] = "loss\x1b[31m 0.5\nSummary: 9/9 hf_abcdefghijkl"
    found = judged(ended(0, json.dumps(report)))
    assert found.checks[0].message == "loss [31m 0.5 Summary: 9/9 [redacted]"
    assert found.report.count("\nSummary:") == 1


@pytest.mark.fault("NaN in a report", "refused; the status stays JSON")
def test_a_score_that_is_not_a_number_is_refused() -> None:
    said = validator_says().replace('"message"', '"score": NaN, "message"', 1)
    assert judged(ended(0, said)).phase is ValidationPhase.ERROR


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_no_text_passes_by_chance(text: str) -> None:
    found = judged(ended(0, text))
    assert found.phase is ValidationPhase.ERROR
    assert len(found.summary) <= 128


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.sampled_from((*CHECKS, "extra", "")),
                "result": st.sampled_from(("Pass", "Fail", "Skip", "Error", "Maybe")),
                "required": st.booleans(),
                "message": st.text(max_size=40),
            }
        ),
        max_size=6,
    ),
    st.sampled_from((0, 1, 2, 137)),
)
def test_a_pass_means_four_passed_checks_and_exit_code_0(
    checks: list[dict[str, Any]], code: int
) -> None:
    said = json.dumps({"kind": "validation", "checks": checks})
    found = judged(ended(code, said), failed=None if code == 0 else "PodFailurePolicy")
    results = {check["name"]: check["result"] for check in checks}
    if found.phase is ValidationPhase.PASSED:
        assert code == 0
        assert [results.get(name) for name in CHECKS] == ["Pass"] * 4
    assert len(found.report) <= REPORT_LIMIT
    assert all(isinstance(check, CheckStatus) for check in found.checks)


def test_what_was_decided_stays() -> None:
    said = {"phase": "Passed", "summary": "4/4 checks passed", "passed": 4, "total": 4}
    found = validation_status(seen(of=job({"phase": "Succeeded", "validation": said})))
    assert found.phase is ValidationPhase.PASSED


def test_validation_that_is_turned_off_is_skipped() -> None:
    found = validation_status(seen(of=job(validation={"enabled": False})))
    assert found.phase is ValidationPhase.SKIPPED


@pytest.mark.parametrize("state", [None, waiting("ContainerCreating"), running()])
def test_a_validation_runs_from_its_creation_so_that_its_start_is_no_write(
    state: dict[str, Any] | None,
) -> None:
    pods = (pod(state, component=naming.VALIDATION),) if state is not None else ()
    found = validation_status(seen(validation=batch_job(naming.VALIDATION), validation_pods=pods))
    assert (found.phase, found.summary) == (ValidationPhase.RUNNING, "checks are running")


def test_a_validation_that_cannot_start_is_pending_and_says_why() -> None:
    pods = (pod(waiting("ErrImagePull", "no such tag"), component=naming.VALIDATION),)
    found = validation_status(seen(validation=batch_job(naming.VALIDATION), validation_pods=pods))
    assert found.phase is ValidationPhase.PENDING
    assert found.reason == "ImagePullFailed"


@pytest.mark.parametrize("waits", ["ErrImagePull", "ImagePullBackOff"])
def test_a_validation_without_an_image_says_what_gives_it_another(waits: str) -> None:
    pods = (pod(waiting(waits, "a long story " * 20), component=naming.VALIDATION),)
    found = validation_status(seen(validation=batch_job(naming.VALIDATION), validation_pods=pods))
    told = "ImagePullFailed: mend the chart's images, then give "
    assert found.summary == f"{told}finetuning.aim.amd.com/revalidate a new value"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            'MountVolume.SetUp failed for volume "held-out" : configmap "rows" not found',
            "spec.validation.heldOut.source: configmap rows is not there: create it",
        ),
        (
            "MountVolume.SetUp failed: configmap references non-existent config key: a.jsonl",
            "spec.validation.heldOut.source: configmap rows has no key a.jsonl: add it",
        ),
        ("0/3 nodes are full", "0/3 nodes are full"),
    ],
)
def test_a_validation_without_its_rows_says_which_field_names_them(words: str, told: str) -> None:
    wanting = job(validation={"heldOut": {"source": "configmap:rows:a.jsonl"}})
    pods = (pod(waiting("ContainerCreating"), component=naming.VALIDATION),)
    found = validation_status(
        seen(validation=batch_job(naming.VALIDATION), validation_pods=pods, hint=words, of=wanting)
    )
    assert found.phase is ValidationPhase.PENDING
    assert found.summary.removeprefix("ContainerConfigError: ") == told
    (event,) = announcements(None, FineTuningJobStatus(validation=found))
    assert (event.reason, event.warning) == ("ContainerConfigError", True)
    assert event.message.endswith(f"{told}.")
    status = FineTuningJobStatus(validation=found)
    assert announcements(status, status) == []


MISSING = 'MountVolume.SetUp failed for volume "heldout" : configmap "nothere" not found'


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (f"ContainerConfigError: {MISSING}", MISSING),
        ("Unschedulable: 0/1 nodes: 1 Insufficient gpu", "0/1 nodes: 1 Insufficient gpu"),
        ('pods "x" is forbidden: exceeded quota', 'pods "x" is forbidden: exceeded quota'),
    ],
)
@pytest.mark.parametrize("number", [1, 2], ids=["first", "again"])
def test_what_a_validation_waited_for_is_told_when_its_time_is_over(
    before: str, told: str, number: int
) -> None:
    waits = {"phase": "Pending", "attempt": number, "summary": before}
    passed = {"phase": "Passed", "attempt": 1, "policy": "another", "summary": "4/4 checks passed"}
    of = job(
        {"phase": "Succeeded", "validation": {**passed, "rerun": waits} if number > 1 else waits}
    )
    # While its controller takes the Pod away, nothing says any more what stood in its way.
    ending = batch_job(naming.VALIDATION, condition="FailureTarget", attempt=number)
    found = validation_status(seen(of=of, validation=ending))
    assert (found.rerun.summary if found.rerun else found.summary) == before
    over = batch_job(naming.VALIDATION, failed="DeadlineExceeded", attempt=number)
    found = validation_status(seen(of=of, validation=over))
    assert (found.phase, found.reason) == (ValidationPhase.ERROR, "DeadlineExceeded")
    assert found.summary == f"timeoutSeconds (3600 s) is over; {told}"


def test_a_validation_that_ran_too_long_is_not_told_to_have_waited() -> None:
    old = {"phase": "Running", "attempt": 1, "summary": "checks are running"}
    of = job({"phase": "Succeeded", "validation": old})
    over = batch_job(naming.VALIDATION, failed="DeadlineExceeded")
    found = validation_status(seen(of=of, validation=over))
    assert found.summary.startswith("the validation ran longer than spec.validation.timeoutSeconds")


def test_a_validation_job_that_cannot_be_made_is_an_error_only_if_it_never_can() -> None:
    for final, phase in ((True, ValidationPhase.ERROR), (False, ValidationPhase.PENDING)):
        problem = Problem(Reason.FORBIDDEN, "no", final=final)
        found = validation_status(seen(validation_problem=problem))
        assert (found.phase, found.summary) == (phase, "no")
