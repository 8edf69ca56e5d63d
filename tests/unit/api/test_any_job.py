"""Whatever the schema lets through becomes children or a plain refusal, never an exception."""

import json
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError
from tests.unit.api.any_job import EXAMPLES, specs

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus
from finetuning.controller import desired, status
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.settings import Settings

SETTINGS = Settings(operator_image="operator:1", trainer_image="trainer:1")
CHEAP = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def body(spec: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": "demo", "namespace": "team", "uid": "uid", "generation": 1}
    kind = {"apiVersion": "aim.amd.com/v1alpha1", "kind": "FineTuningJob"}
    return {**kind, "metadata": meta, "spec": spec}


@pytest.mark.fault(
    "Jobs drawn from the schema, without a cluster",
    "children or a condition, never an exception",
)
def test_every_admitted_job_maps_to_children_or_to_a_condition() -> None:
    seen: Counter[str] = Counter()

    @CHEAP
    @given(specs())
    def each(spec: dict[str, Any]) -> None:
        try:
            job = FineTuningJob.from_body(body(spec))
            made = desired.build(job, SETTINGS)
        except ValidationError:
            seen["refused by the schema"] += 1
        except InvalidSpecError:
            seen["told in a condition"] += 1
        else:
            seen["served"] += 1
            text = json.dumps(made.training_job, allow_nan=False)
            assert "$(" not in text
            assert json.dumps(desired.build(job, SETTINGS).training_job) == text

    each()
    assert seen["served"] > EXAMPLES / 20, seen
    assert seen["refused by the schema"] > EXAMPLES / 20, seen


_KEYS = st.sampled_from(sorted(FineTuningJobStatus.model_json_schema()["properties"])) | st.text(
    max_size=6
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300, database=None)
@given(st.dictionaries(_KEYS, _JSON, max_size=5))
def test_a_status_of_any_shape_is_read_and_written_again(raw: dict[str, Any]) -> None:
    """Somebody may write there, or a newer version did."""
    found = status.parse(raw)
    json.dumps(status.wire(found), allow_nan=False)
