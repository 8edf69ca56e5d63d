"""`finetuning list`, `get` and `logs`: they change nothing."""

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from finetuning.artifacts.plain import plain
from finetuning.jobs import formats, table
from finetuning.jobs.formats import Format
from finetuning.jobs.page import page
from finetuning.jobs.session import Where, hint, main, say
from finetuning.local.words import headline, unseen

if TYPE_CHECKING:
    from finetuning.api.v1alpha1 import FineTuningJob
    from finetuning.client import AsyncFineTuningClient

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Listing:
    """Which jobs, and how they are shown."""

    where: Where
    all_namespaces: bool = False
    selector: str = ""
    form: Format | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Whose output, and how much of it."""

    where: Where
    name: str
    of: str
    follow: bool = False
    tail: int | None = None


def list_jobs(wish: Listing) -> int:
    """Print a table, or whatever else was asked for."""

    async def work(client: "AsyncFineTuningClient") -> int:
        found = await client.objects(all_namespaces=wish.all_namespaces, selector=wish.selector)
        found.sort(key=lambda job: (job["metadata"]["namespace"], job["metadata"]["name"]))
        if wish.form is not None and wish.form is not Format.WIDE:
            say(formats.many(found, wish.form))
        elif found:
            say(_table(found, wide=wish.form is Format.WIDE, namespaces=wish.all_namespaces))
        else:
            space = "any namespace" if wish.all_namespaces else f"the namespace {client.namespace}"
            hint(f"no FineTuningJobs in {space} of {client.context}")
        return 0

    return main(wish.where, work)


def get_job(where: Where, name: str, form: Format | None) -> int:
    """Print one job."""

    async def work(client: "AsyncFineTuningClient") -> int:
        if form is None:
            say(page(await client.get(name)))
            return 0
        found = await client.object(name)
        if form is Format.WIDE:
            say(_table([found], wide=True, namespaces=False))
        else:
            say(formats.one(found, form))
        return 0

    return main(where, work)


def _table(found: Sequence[Mapping[str, Any]], *, wide: bool, namespaces: bool) -> str:
    return table.table(found, datetime.now(UTC), wide=wide, namespaces=namespaces)


def show_log(wish: Log) -> int:
    """Print a container's output as it comes; what holds it up goes to stderr."""
    told = ""

    def say_why(job: "FineTuningJob") -> None:
        nonlocal told
        why = unseen(job) and f"{job.status.phase}: {unseen(job)}"
        if (why or job.status.message) and told != (told := why or headline(job.status)):
            hint(f"{wish.name} is {plain(told, _LONGEST)}")

    async def work(client: "AsyncFineTuningClient") -> int:
        from finetuning.client import LogOf  # noqa: PLC0415 - the client takes a second

        of = LogOf(wish.of)
        async for piece in client.log(
            wish.name, of, follow=wish.follow, tail=wish.tail, progress=say_why
        ):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return 0

    return main(wish.where, work)


def names(where: Where) -> list[str]:
    """The names of the jobs, for completion: nothing is said when there are none to be had."""
    found: list[str] = []

    async def work(client: "AsyncFineTuningClient") -> int:
        found.extend(job["metadata"]["name"] for job in await client.objects())
        return 0

    with contextlib.redirect_stderr(io.StringIO()):
        main(where, work)
    return found
