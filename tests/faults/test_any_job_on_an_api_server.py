"""The schema's own jobs against a real API server: both judge alike, and children are admitted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import ValidationError
from tests.unit.api.any_job import EXAMPLES, specs
from tests.unit.api.test_any_job import SETTINGS, body

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import desired
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.gateway import CLAIMS, CUSTOMS, JOBS, SERVICES, ApiError, Gateway

if TYPE_CHECKING:
    from tests.faults.scene import Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def drawn() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(specs())
    def each(spec: dict[str, Any]) -> None:
        found.append(spec)

    each()
    return found


async def admitted(admin: Gateway, manifest: dict[str, Any]) -> str:
    """Empty where the API server would take the job, else its words."""
    try:
        await admin.create(CUSTOMS, manifest, dry_run=True)
    except ApiError as error:
        if error.code not in {400, 422}:
            raise
        return error.message
    return ""


def ours(manifest: dict[str, Any]) -> tuple[FineTuningJob | None, str]:
    try:
        return FineTuningJob.from_body(manifest), ""
    except ValidationError as error:
        return None, str(error)


@pytest.mark.fault(
    "Jobs drawn from the schema",
    "API server and operator judge alike; children admitted, or a condition",
)
async def test_api_server_and_models_judge_alike_and_children_are_admitted(
    site: Site, record_property: Any
) -> None:
    counted: Counter[str] = Counter()
    for spec in drawn():
        manifest = body(spec)
        manifest["metadata"] |= {"namespace": site.namespace, "uid": "u"}
        words = await admitted(site.admin, manifest)
        job, own_words = ours(manifest)
        assert bool(words) == bool(own_words), (spec, words, own_words)
        counted["refused" if words else "admitted"] += 1
        record_property("refused" if words else "accepted", words)
        if job is not None:
            counted[await _children(site.admin, job)] += 1
    record_property("happened", ", ".join(f"{n} {what}" for what, n in counted.items()))
    assert min(counted["refused"], counted["admitted"]) > EXAMPLES / 20, counted


async def _children(admin: Gateway, job: FineTuningJob) -> str:
    try:
        made = desired.build(job, SETTINGS)
    except InvalidSpecError:
        return "told in a condition"
    for kind, manifest in (
        (JOBS, made.training_job), (JOBS, made.validation_job), (CLAIMS, made.storage),
        (SERVICES, made.rendezvous),
    ):  # fmt: skip
        if manifest is not None:
            await admin.create(kind, manifest, dry_run=True)
    return "children admitted"
