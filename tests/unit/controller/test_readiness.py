"""Jobs of an operator that knew neither Ready nor Stalled; tests/unit/readers has the others."""

from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import trainer_says, validator_says
from tests.unit.controller.story import STORY, conditions, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import naming

FAILS = (
    *STORY[:3],
    lambda world: world.finish(
        naming.TRAINING, trainer_says(result="failed", reason="DatasetInvalid"), 2
    ),
)
WANTING = (
    *STORY[:5],
    lambda world: world.finish(naming.VALIDATION, validator_says("model_output"), 1),
)
NEVER = {"Ready": "False", "Stalled": "True"}


def without_conditions(world: World) -> dict[str, Any]:
    """Nor up to when the usage is counted, by the clock."""
    return {k: v for k, v in world.status.items() if k not in {"conditions", "usage"}}


@pytest.mark.parametrize(
    ("story", "expected"),
    [(STORY, {"Ready": "True"}), (FAILS, NEVER), (WANTING, NEVER)],
    ids=["passed", "failed", "wanting"],
)
async def test_a_finished_job_of_an_older_operator_is_told_of_once(
    world: World, http: aiohttp.ClientSession, story: Any, expected: dict[str, str]
) -> None:
    await tell(world, Process(world, http), story)
    held = [each for each in world.status["conditions"] if each["type"] not in {"Ready", "Stalled"}]
    world.patch(("finetuningjobs", *KEY), {"status": {"conditions": held}}, only_status=True)
    before, rest = len(world.writes), without_conditions(world)
    await Process(world, http).settle()
    assert conditions(world).items() >= expected.items()
    assert world.writes[before:] == [("patch", "finetuningjobs", "demo")]
    assert without_conditions(world) == rest


@pytest.mark.parametrize("phase", ["Pending", "Running", "Failed"])
async def test_a_job_of_the_prototype_is_taken_up_unless_it_has_ended(
    world: World, http: aiohttp.ClientSession, phase: str
) -> None:
    """Whose controller wrote a phase and a message alone."""
    world.apply()
    world.objects["finetuningjobs", *KEY]["status"] = {"phase": phase, "message": "pod failed"}
    await Process(world, http).settle()
    jobs = [each["metadata"]["name"] for each in world.of("jobs")]
    assert jobs == ([] if phase == "Failed" else ["demo-train"])
    assert conditions(world).get("Stalled") == ("True" if phase == "Failed" else None)
