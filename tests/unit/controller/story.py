"""A job's life without trouble, step by step, and what is seen of it."""

from collections.abc import Callable

from tests.unit.controller.objects import trainer_says, validator_says
from tests.unit.controller.world import Process, World

from finetuning.controller import naming

FINAL = trainer_says(step=100, totalSteps=100, loss=0.5)
VALID = validator_says()
STORY: tuple[Callable[[World], None], ...] = (
    lambda world: world.apply(),
    lambda world: world.run_jobs(),
    lambda world: world.start(naming.TRAINING),
    lambda world: world.finish(naming.TRAINING, FINAL),
    lambda world: world.start(naming.VALIDATION),
    lambda world: world.finish(naming.VALIDATION, VALID),
)


def conditions(world: World) -> dict[str, str]:
    return {each["type"]: each["status"] for each in world.status["conditions"]}


async def tell(world: World, process: Process, story: tuple[Callable[[World], None], ...]) -> None:
    for happens in story:
        happens(world)
        await process.settle()


def events(world: World) -> list[tuple[str, str]]:
    return [(each["type"], each["reason"]) for each in world.of("events")]
