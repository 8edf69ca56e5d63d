import pytest

from finetuning.api.v1alpha1 import NAME_MAX_LENGTH, ObjectMeta
from finetuning.controller import attempts, naming

LABEL_LIMIT = 63
POD_SUFFIX = len("-abcde")


@pytest.mark.parametrize("name", ["a", "demo", "x" * NAME_MAX_LENGTH])
def test_children_carry_the_name_of_their_job_and_a_suffix(name: str) -> None:
    found = naming.names(name)
    assert (found.training, found.validation) == (f"{name}-train", f"{name}-validate")
    assert (found.metrics, found.claim) == (f"{name}-metrics", f"{name}-output")


def test_the_longest_allowed_name_leaves_room_for_labels_services_and_pods() -> None:
    found = naming.names("x" * NAME_MAX_LENGTH)
    assert len(found.metrics) <= LABEL_LIMIT
    assert len(found.validation) + POD_SUFFIX <= LABEL_LIMIT + len("-abcd")


def test_the_pod_selector_is_a_part_of_the_labels() -> None:
    meta = ObjectMeta(name="demo", uid="u-1")
    labels = naming.labels(meta, naming.TRAINING)
    assert naming.selector(meta, naming.TRAINING).items() <= labels.items()
    key, _, value = naming.CHILD_SELECTOR.partition("=")
    assert labels[key] == value


@pytest.mark.parametrize("attempt", [1, 2, 10, attempts.LIMIT])
def test_every_attempt_has_a_name_that_is_a_label_and_says_its_number(attempt: int) -> None:
    longest = "a" * NAME_MAX_LENGTH
    name = naming.validation_job(longest, attempt)
    assert len(name) <= LABEL_LIMIT
    assert naming.attempt(longest, name) == attempt


@pytest.mark.parametrize(
    "name", ["demo-train", "demo-validate-", "demo-validate-x", "demo-validate2", "x"]
)
def test_other_names_are_no_attempts(name: str) -> None:
    assert naming.attempt("demo", name) == 0
