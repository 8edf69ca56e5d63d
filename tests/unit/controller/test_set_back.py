"""What a later version wrote, in the hands of an earlier one."""

from typing import Any

import pytest
from tests.unit.controller.objects import validator_says
from tests.unit.controller.story import STORY, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.controller import naming, status

pytestmark = pytest.mark.usefixtures("no_progress")

CHECK = {"name": "model_output", "result": "Pass"}
FAILED = {"phase": "Failed"}
CHECKS = [{"name": "new"}, CHECK, {"result": 7}]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"phase": "Dancing", "reason": "Music"}, {"reason": "Music"}),
        ({**FAILED, "message": "x" * 5000}, FAILED),
        ({**FAILED, "validation": {"phase": "Doubted", "attempt": "two"}}, FAILED),
        (
            {"validation": {"phase": "Passed", "checks": CHECKS}},
            {"validation": {"phase": "Passed", "checks": [CHECK]}},
        ),
        ({**FAILED, "completionTime": "at noon"}, FAILED),
        ({**FAILED, "conditions": 7, "usage": {"gpuSeconds": -1}}, {**FAILED, "usage": {}}),
        (None, {}),
        ("Succeeded", {}),
    ],
)
def test_what_cannot_be_read_takes_nothing_else_along(written: Any, read: Any) -> None:
    assert status.parse(written) == FineTuningJobStatus.model_validate(read)


@pytest.mark.fault(
    "Set back to a version that cannot read all of a status",
    "what was trained is not trained again, also when its Job is gone; rest",
)
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize(
    "later",
    [
        {"validation": {"phase": "Doubted"}},
        {"message": "x" * 2000},
        {"publish": {"phase": "Signed"}},
    ],
)
async def test_a_job_is_trained_once_whatever_a_later_version_says_of_it(
    world: World, process: Process, later: dict[str, Any], *, gone: bool
) -> None:
    world.apply(ttlSecondsAfterFinished=0)
    await process.settle()
    await tell(world, process, STORY[1:])
    if gone:
        for raw in world.of("jobs"):
            world.delete("jobs", raw["metadata"]["name"])
    world.patch(("finetuningjobs", *KEY), {"status": later}, only_status=True)
    before = list(world.writes)
    after = Process(world, process.http)
    await after.settle()
    made = [each for each in world.writes[len(before) :] if each[0] == "create"]
    assert ("create", "jobs", "demo-train") in before
    assert ("create", "jobs", "demo-train") not in made
    assert world.status["phase"] == "Succeeded"
    if ("create", "jobs", world.status["validation"]["jobName"]) in made:
        world.start(naming.VALIDATION)
        world.finish(naming.VALIDATION, validator_says())
        await after.settle()
    assert world.status["validation"]["phase"] == "Passed"
