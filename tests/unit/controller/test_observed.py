from typing import Any

import pytest
from tests.unit.controller.objects import UID, batch_job, pod, running, waiting

from finetuning.controller import naming, observed


@pytest.mark.parametrize("raw", [{}, {"metadata": {}}, {"status": {"conditions": None}}])
@pytest.mark.parametrize("view", [observed.batch_job, observed.pod, observed.meta])
def test_a_view_is_made_of_whatever_the_server_sends(raw: dict[str, Any], view: Any) -> None:
    assert view(raw) is not None


def test_a_broken_time_is_unknown() -> None:
    raw = {"metadata": {"creationTimestamp": "yesterday"}}
    assert observed.meta(raw).created is None


def test_the_kept_body_of_a_job_has_no_managed_fields() -> None:
    raw = {"metadata": {"name": "a", "managedFields": [{}]}, "spec": {"x": 1}, "other": 1}
    assert observed.custom(raw).body == {"metadata": {"name": "a"}, "spec": {"x": 1}}


def test_the_end_of_a_job_is_known_without_reading_its_body() -> None:
    def ended_at(**found: str) -> str:
        body = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T10:00:00Z"}}
        return observed.custom(body | {"status": found}).ended_at

    assert ended_at(phase="Running", completionTime="2026-01-02T10:00:00Z") == ""
    assert ended_at(phase="Succeeded", completionTime="2026-01-02T10:00:00Z").startswith(
        "2026-01-02"
    )
    assert ended_at(phase="Failed") == "2026-01-01T10:00:00Z"


def test_a_job_with_our_labels_but_another_owner_is_not_ours() -> None:
    stranger = batch_job()
    assert observed.children("another-uid", [stranger], []).training is None
    assert observed.children(UID, [stranger], []).training is stranger


def test_pods_come_newest_first_and_live_ones_before_those_that_ended() -> None:
    ended = pod(name="a", created="2026-01-01T10:00:09Z", phase="Failed")
    old = pod(name="b", created="2026-01-01T10:00:01Z", phase="Failed")
    live = pod(running(), name="c", created="2026-01-01T10:00:05Z", phase="Running")
    found = observed.children(UID, [batch_job()], [ended, live, old])
    assert [each.meta.name for each in found.training_pods] == ["c", "a", "b"]


def test_pods_of_an_earlier_job_object_do_not_count() -> None:
    other = pod(component=naming.VALIDATION)
    assert observed.children(UID, [batch_job()], [other]).training_pods == ()


def test_the_states_of_containers_are_told_apart() -> None:
    found = pod(waiting("ErrImagePull", "no such tag"), sidecar=running())
    trainer = found.container(naming.TRAINING_CONTAINER)
    sidecar = found.container(naming.SIDECAR_CONTAINER)
    assert trainer is not None
    assert sidecar is not None
    assert (trainer.waiting, trainer.waiting_message) == ("ErrImagePull", "no such tag")
    assert sidecar.running_since is not None
    assert trainer.exit_code is None


def test_the_newest_validation_counts_by_its_number() -> None:
    numbers = (1, 10, 2)
    jobs = [batch_job(naming.VALIDATION, attempt=number) for number in numbers]
    found = observed.children(UID, jobs, []).validation
    assert found is not None
    assert found.meta.name == "demo-validate-10"


def test_of_annotations_only_the_wish_to_be_judged_again_is_kept_and_cut() -> None:
    wish = {naming.REVALIDATE_ANNOTATION: "x" * 5000, "kubectl/last-applied": "y"}
    raw = {"metadata": {"name": "a", "annotations": wish}}
    kept = observed.custom(raw).body["metadata"]["annotations"]
    assert kept == {naming.REVALIDATE_ANNOTATION: "x" * 256}


@pytest.mark.parametrize("reason", ["Unschedulable", "SchedulerError", "SchedulingGated"])
def test_what_the_scheduler_says_of_a_pod_that_it_does_not_place_is_seen(reason: str) -> None:
    mark = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "why"}
    found = pod(conditions=[mark]).unscheduled
    assert found is not None
    assert found.message == "why"
