"""`finetuning submit`, `pause`, `resume`, `cancel` and `validate`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning.api.v1alpha1 import GROUP, SINGULAR, FineTuningJob, ValidationPhase
from finetuning.controller import naming
from finetuning.jobs.page import page
from finetuning.jobs.session import FAILED, WRONG, Where, complain, hint, main, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning.client import AsyncFineTuningClient, Until

    Turn = Until | Callable[[FineTuningJob], bool]


@dataclass(frozen=True, slots=True)
class Patience:
    """Whether a command waits for what it began, and for how many seconds at most."""

    wait: bool = False
    seconds: float | None = None


def submit(
    where: Where, manifest: Path, name: str | None, patience: Patience, *, dry_run: bool
) -> int:
    """Create the job of a manifest; waiting, 1 when not all that it asks for comes about."""

    async def work(client: "AsyncFineTuningClient") -> int:
        from finetuning.client.story import Until, is_ready  # noqa: PLC0415 - takes a second

        job = await client.submit(manifest, name=name, dry_run=dry_run)
        _say_done(job, "would be created (dry run)" if dry_run else "created")
        if dry_run:
            return 0
        if not patience.wait:
            hint(f"finetuning logs -f {job.metadata.name} shows its output, finetuning top all")
            return 0
        # A manifest may name a namespace of its own.
        client = client.within(job.metadata.namespace)
        job = await _wait(client, job.metadata.name, Until.READY, patience)
        return _shown(job, good=is_ready(job))

    return main(where, work)


def pause(where: Where, name: str, patience: Patience) -> int:
    """Have the work saved and the GPU freed."""

    async def work(client: "AsyncFineTuningClient") -> int:
        from finetuning.client import Until  # noqa: PLC0415 - the client takes a second

        job = await client.pause(name)
        if patience.wait:
            job = await _wait(client, name, Until.PAUSED, patience)
            _say_done(job, f"is {job.status.phase}")
            return 0 if job.status.phase == "Paused" else FAILED
        _say_done(job, "pauses")
        return 0

    return main(where, work)


def resume(where: Where, name: str) -> int:
    """Go on from the newest checkpoint."""

    async def work(client: "AsyncFineTuningClient") -> int:
        _say_done(await client.resume(name), "resumes")
        return 0

    return main(where, work)


def cancel(where: Where, name: str, *, sure: bool) -> int:
    """Delete the job, when whoever typed it is sure."""

    async def work(client: "AsyncFineTuningClient") -> int:
        job = await client.get(name)
        if not sure and (code := _ask(job)) is not None:
            return code
        await client.delete(name)
        _say_done(job, "deleted")
        return 0

    return main(where, work)


def _ask(job: FineTuningJob) -> int | None:
    """None to go on; else the exit code."""
    lost = _what_goes(job)
    if not sys.stdin.isatty():
        return complain(WRONG, f"{lost}; if that is meant, type --yes as well")
    sys.stderr.write(f"{lost}. Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return None
    hint("nothing was deleted")
    return FAILED


def _what_goes(job: FineTuningJob) -> str:
    name, claim = job.metadata.name, job.spec.output.storage.claim_name
    if claim is None:
        own = naming.names(name).claim
        return f"{name} is deleted with its claim {own}, which holds its checkpoints and model"
    return f"{name} is deleted; its files stay in the claim {claim}"


def validate(where: Where, name: str, patience: Patience) -> int:
    """Have the model judged again; waiting, 0 when it passed and 1 when it did not."""

    async def work(client: "AsyncFineTuningClient") -> int:
        from finetuning.client.story import answers  # noqa: PLC0415 - the client takes a second

        wish = await client.revalidate(name)
        if not patience.wait:
            say(f"{SINGULAR}.{GROUP}/{name} is judged again")
            return 0
        job = await _wait(client, name, lambda job: answers(job, wish), patience)
        found = job.status.validation
        return _shown(job, good=found is not None and found.phase is ValidationPhase.PASSED)

    return main(where, work)


async def _wait(
    client: "AsyncFineTuningClient", name: str, until: "Turn", patience: Patience
) -> FineTuningJob:
    from finetuning.client.progress import Bar  # noqa: PLC0415 - rich

    with Bar() as bar:
        return await client.wait(name, until, timeout=patience.seconds, progress=bar)


def _shown(job: FineTuningJob, *, good: bool) -> int:
    say(page(job))
    return 0 if good else FAILED


def _say_done(job: FineTuningJob, what: str) -> None:
    say(f"{SINGULAR}.{GROUP}/{job.metadata.name} {what}")
