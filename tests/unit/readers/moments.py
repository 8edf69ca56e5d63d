"""Jobs as the operator leaves them at each turn of their lives, and what GitOps must make of each.

The operator is the real one, down to the API server, which is the one in memory.
"""

import asyncio
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.unit.controller.objects import ended, publisher_says, trainer_says, validator_says
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import naming

SHA = "c" * 64
FINAL = trainer_says(step=100, totalSteps=100, loss=0.5, manifestSha256=SHA)
GOOD, BAD = validator_says(manifestSha256=SHA), validator_says("model_output", manifestSha256=SHA)
S3 = {"uri": "s3://models/law", "endpoint": "http://minio:9000", "secretName": "store"}
COPIED = publisher_says(S3["uri"], manifestSha256=SHA)
TRAINING, VALIDATION, PUBLISHING = naming.TRAINING, naming.VALIDATION, naming.PUBLISHING

WAITS, DONE, BROKEN = "InProgress", "Current", "Failed"
PAUSED = "Suspended"
ARGO = {WAITS: "Progressing", DONE: "Healthy", BROKEN: "Degraded", PAUSED: "Suspended"}

Step = tuple[Callable[[World], Any], str]


@dataclass(frozen=True)
class Moment:
    """A job, and what it is taken for."""

    name: str
    body: dict[str, Any]
    kstatus: str
    argo: str


def apply(**spec: Any) -> Step:
    return (lambda world: world.apply(**spec)), WAITS


def start(component: str) -> Step:
    return (lambda world: world.start(component)), WAITS


def finish(component: str, said: str, expected: str, code: int = 0) -> Step:
    return (lambda world: world.finish(component, said, code)), expected


def change(expected: str, **spec: Any) -> Step:
    return (lambda world: world.change(**spec)), expected


def _pods_are_gone(world: World) -> None:
    world.set_pods(TRAINING, "Failed", ended(143, trainer_says(result="paused", step=4)))
    world.run_jobs()


def trained(expected: str = WAITS, **spec: Any) -> list[Step]:
    return [apply(**spec), start(TRAINING), finish(TRAINING, FINAL, expected)]


def judged(expected: str, said: str = GOOD, code: int = 0, **spec: Any) -> list[Step]:
    return [*trained(**spec), start(VALIDATION), finish(VALIDATION, said, expected, code)]


def published(policy: str = "IfValidated") -> dict[str, Any]:
    return {"output": {"publish": {"s3": S3, "policy": policy}}}


def served() -> dict[str, Any]:
    serve = {"image": "example/aim-base:0.9", "create": "Service"}
    return {"output": {"publish": {"s3": S3, "form": "Both"}, "serve": serve}}


def install_aim(expected: str) -> Step:
    """And ask again, as the condition says."""

    def happens(world: World) -> None:
        world.kinds |= {"aimmodels", "aimservices"}
        world.annotate("installed", naming.SERVE_ANNOTATION)

    return happens, expected


STORIES: dict[str, list[Step]] = {
    "trained and validated": judged(DONE),
    "trained, nobody judges": trained(DONE, validation={"enabled": False}),
    "found wanting": judged(BROKEN, BAD, 1),
    "the validator broke off": judged(BROKEN, "", 2),
    "judged anew after a change": [
        *judged(BROKEN, BAD, 1),
        change(WAITS, validation={"maxLoss": 3.0}),
        start(VALIDATION),
        finish(VALIDATION, GOOD, DONE),
    ],
    "found wanting, and that fails the job": judged(
        BROKEN, BAD, 1, validation={"onFailure": "Fail"}
    ),
    "failed by its verdict and judged anew": [
        *judged(BROKEN, BAD, 1, validation={"onFailure": "Fail"}),
        change(WAITS, validation={"onFailure": "Fail", "maxLoss": 3.0}),
        start(VALIDATION),
        finish(VALIDATION, GOOD, DONE),
    ],
    "bad data": [
        apply(),
        start(TRAINING),
        finish(TRAINING, trainer_says(result="failed", reason="DatasetInvalid"), BROKEN, 2),
    ],
    "no such method": [((lambda world: world.apply(method="magic")), BROKEN)],
    "paused and resumed": [
        apply(),
        start(TRAINING),
        change(WAITS, suspend=True),
        (_pods_are_gone, PAUSED),
        change(WAITS, suspend=False),
        start(TRAINING),
        finish(TRAINING, FINAL, WAITS),
    ],
    "born paused": [((lambda world: world.apply(suspend=True)), PAUSED)],
    "published": [
        *judged(WAITS, **published()),
        start(PUBLISHING),
        finish(PUBLISHING, COPIED, DONE),
    ],
    "published, and served once AIM is there": [
        *judged(WAITS, **served()),
        start(PUBLISHING),
        finish(PUBLISHING, COPIED, BROKEN),
        install_aim(DONE),
    ],
    "not to be published": [
        *judged(WAITS, **published()),
        start(PUBLISHING),
        finish(PUBLISHING, "no such bucket", BROKEN, 2),
    ],
    "found wanting, and so not published": judged(BROKEN, BAD, 1, **published()),
    "asked for another copy": [
        *judged(DONE),
        change(WAITS, **published()),
        start(PUBLISHING),
        finish(PUBLISHING, COPIED, DONE),
    ],
}
"""What happens, and how the job is to be read once the operator has looked."""


def moments() -> list[Moment]:
    return [each for name, story in STORIES.items() for each in asyncio.run(_lived(name, story))]


async def _lived(name: str, story: list[Step]) -> list[Moment]:
    found: list[Moment] = []
    async with aiohttp.ClientSession() as http:
        process = Process(World(), http)
        for number, (happens, expected) in enumerate(story):
            happens(process.world)
            found += _not_seen_yet(f"{name}, {number}, unseen", process.world, found)
            await process.settle()
            found.append(_moment(f"{name}, {number}", process.world, expected))
    return found


def _not_seen_yet(name: str, world: World, before: list[Moment]) -> Iterator[Moment]:
    """A spec that the operator has not looked at is under way, whatever the status says."""
    spec = world.get("finetuningjobs", KEY[1])["spec"]
    if not before or before[-1].body["spec"] != spec:
        yield _moment(name, world, WAITS)


def _moment(name: str, world: World, expected: str) -> Moment:
    body = copy.deepcopy(world.get("finetuningjobs", KEY[1]))
    return Moment(name, body, WAITS if expected == PAUSED else expected, ARGO[expected])
