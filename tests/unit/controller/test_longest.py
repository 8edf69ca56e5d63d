"""Whatever the definition lets into a spec, the status that comes of it is one that it lets in."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import jsonschema
import pytest
from tests.unit.controller.objects import publisher_says, trainer_says, validator_says
from tests.unit.controller.story import tell
from tests.unit.controller.test_writers import neighbour
from tests.unit.controller.world import KEY, Name, Process, World
from typing_extensions import override

from finetuning.api.crd import job_schema
from finetuning.controller import conditions, naming
from finetuning.controller.gateway import ApiError
from finetuning.controller.reconcile import HOLD_SECONDS

pytestmark = pytest.mark.usefixtures("no_progress")

NAME = "n" * 253
STORE = {"uri": "s3://bucket/".ljust(512, "u"), "secretName": NAME, "region": "r" * 64}
STORE |= {"endpoint": "https://".ljust(256, "e")}
SERVE = {"image": "i" * 512, "gpuModel": "G" * 64, "create": "Service"}
SERVE |= {"secretName": NAME, "aimId": f"{'a' * 96}/{'a' * 96}"}
OUTPUT: dict[str, Any] = {
    "storage": {"claimName": NAME, "subPath": NAME},
    "publish": {"form": "Both", "s3": STORE},
    "serve": SERVE,
}
MODEL = {"modelId": f"{'m' * 96}/{'m' * 96}"}
CHECKPOINT = "checkpoints/checkpoint-1000000000"


class Strict(World):
    """Refuses a status as the API server does."""

    _status = jsonschema.Draft202012Validator(job_schema()["properties"]["status"])

    @override
    def patch(
        self, key: Name, patch: Mapping[str, Any], *, only_status: bool = False
    ) -> dict[str, Any]:
        before = self.objects[key]
        found = super().patch(key, patch, only_status=only_status)
        if key[0] == "finetuningjobs" and only_status:
            wrong = next(self._status.iter_errors(found["status"]), None)
            if wrong is not None:
                self.objects[key] = before
                raise ApiError(422, "Invalid", f"{wrong.json_path}: {wrong.message[-80:]}")
        return found


async def test_the_longest_names_come_through_to_the_end(http: aiohttp.ClientSession) -> None:
    world = Strict()
    process = Process(world, http)
    said = trainer_says(step=10, totalSteps=10, loss=0.5, checkpoint=CHECKPOINT)
    copies = publisher_says(str(STORE["uri"]))
    world.apply(baseModel=MODEL, output=OUTPUT)
    await process.settle()
    for component, words in (
        (naming.TRAINING, said),
        (naming.VALIDATION, validator_says()),
        (naming.PUBLISHING, copies),
    ):
        world.start(component)
        await tell(world, process, (lambda w: w.finish(component, words),))  # noqa: B023
    found = world.status
    assert found["checkpointPath"] == f"pvc://{NAME}/{NAME}/{CHECKPOINT}"
    assert found["validation"]["phase"] == "Passed"
    assert found["publish"]["phase"] == "Published"
    assert found["serving"]["sourceUri"] == f"{STORE['uri']}/merged"


async def test_a_message_that_names_two_of_the_longest_folders_is_cut(
    http: aiohttp.ClientSession,
) -> None:
    world = Strict()
    process = Process(world, http)
    around = {"claimName": NAME, "subPath": NAME[:120]}
    neighbour(world, process, output={"storage": around})
    inside = f"{NAME[:120]}/{NAME[:130]}"
    world.apply(output={"storage": {"claimName": NAME, "subPath": inside}})
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    assert len(world.status["message"]) == conditions.MESSAGE_LIMIT


async def test_a_status_that_is_refused_all_the_same_is_told_in_the_log(
    world: World, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(verb: str, plural: str) -> ApiError | None:
        refused = (verb, plural) == ("patch", "finetuningjobs")
        return ApiError(422, "Invalid", "status.phase: Unsupported value") if refused else None

    world.fail_with = refuse
    world.apply()
    process.watch()
    await process.reconciler.reconcile(KEY)
    process.time += HOLD_SECONDS
    with pytest.raises(ApiError):
        await process.reconciler.reconcile(KEY)
    assert "team/demo its status was refused" in caplog.text
    assert "status.phase: Unsupported value" in caplog.text
