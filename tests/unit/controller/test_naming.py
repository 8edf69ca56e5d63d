import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.api.v1alpha1 import CHILD_STEM_MAX_LENGTH, NAME_MAX_LENGTH, ObjectMeta
from finetuning.controller import attempts, naming

LABEL_LIMIT = 63
POD_SUFFIX = len("-abcde")


LONGEST = "x" * CHILD_STEM_MAX_LENGTH


@pytest.mark.parametrize("name", ["a", "demo", LONGEST])
def test_children_carry_the_name_of_their_job_and_a_suffix(name: str) -> None:
    found = naming.names(name)
    assert (found.training, found.validation) == (f"{name}-train", f"{name}-validate")
    assert (found.metrics, found.claim) == (f"{name}-metrics", f"{name}-output")


@pytest.mark.parametrize("name", [LONGEST, "x" * NAME_MAX_LENGTH, "7" * NAME_MAX_LENGTH])
def test_the_longest_names_leave_room_for_labels_services_and_pods(name: str) -> None:
    found = naming.names(name)
    assert len(found.metrics) <= LABEL_LIMIT
    assert len(found.validation) + POD_SUFFIX <= LABEL_LIMIT + len("-abcd")


@given(st.from_regex(r"\A[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?\Z"))
def test_every_name_has_children_that_a_service_can_be_called_like(name: str) -> None:
    found = naming.names(name)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", found.metrics), found.metrics
    assert len(found.validation) + POD_SUFFIX <= LABEL_LIMIT + len("-abcd")
    assert naming.attempt(name, naming.validation_job(name, 12)) == 12


def test_names_that_look_alike_have_children_of_their_own() -> None:
    names = ("qwen2.5-7b", "qwen2-5-7b", "qwen2-5.7b", f"{LONGEST}a", f"{LONGEST}b", "7b", "job-7b")
    assert len({naming.names(name).training for name in names}) == len(names)
    assert naming.names("7b.lora").training == "job-7b-lora-31ebe109-train"


def test_the_pod_selector_is_a_part_of_the_labels() -> None:
    meta = ObjectMeta(name="demo", uid="u-1")
    labels = naming.labels(meta, naming.TRAINING)
    assert naming.selector(meta, naming.TRAINING).items() <= labels.items()
    key, _, value = naming.CHILD_SELECTOR.partition("=")
    assert labels[key] == value


@pytest.mark.parametrize("attempt", [1, 2, 10, attempts.LIMIT])
def test_every_attempt_has_a_name_that_is_a_label_and_says_its_number(attempt: int) -> None:
    longest = "a" * CHILD_STEM_MAX_LENGTH
    name = naming.validation_job(longest, attempt)
    assert len(name) <= LABEL_LIMIT
    assert naming.attempt(longest, name) == attempt


@pytest.mark.parametrize(
    "name", ["demo-train", "demo-validate-", "demo-validate-x", "demo-validate2", "x"]
)
def test_other_names_are_no_attempts(name: str) -> None:
    assert naming.attempt("demo", name) == 0
