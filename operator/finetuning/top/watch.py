"""`finetuning top`: choose where the jobs are, then look, draw, wait."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.live import Live

from finetuning.local.plan import RUNS
from finetuning.local.problems import InputError
from finetuning.top.local import LocalSource
from finetuning.top.rows import Order, Row, in_order
from finetuning.top.source import Source, SourceError
from finetuning.top.view import Frame, render

_KUBECONFIG = "~/.kube/config"
_SHOWN = 10
"""Names of jobs in a message."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed; a local folder, or which jobs of which cluster."""

    runs: Path | None = None
    job: str | None = None
    """The only one that is shown."""
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    all_namespaces: bool = False
    once: bool = False
    seconds: float = 2.0
    order: Order = Order.PHASE


def main(options: Options) -> int:
    """Show the jobs; every error is one line on stderr."""
    console = Console(highlight=False)
    try:
        asyncio.run(_show(options, console))
    except (InputError, SourceError) as error:
        sys.stderr.write(f"finetuning: {error}\n")
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        pass
    return 0


async def _show(options: Options, console: Console) -> None:
    source = await _source(options)
    try:
        viewer = Viewer(source, options.order, console, options.job)
        if options.once or not console.is_terminal:
            await viewer.once()
        else:
            await viewer.watch(options.seconds)
    finally:
        await source.close()


async def _source(options: Options) -> Source:
    """Raises InputError when nothing says where the jobs are, SourceError when they are not."""
    if options.runs is not None:
        if not options.runs.is_dir():
            raise InputError(f"--runs {options.runs}: no such folder; name a run's output folder")
        return LocalSource(options.runs)
    named = options.kubeconfig or options.context or options.namespace or options.all_namespaces
    if not (named or _cluster_is_known()):
        if RUNS.is_dir():
            return LocalSource(RUNS)
        raise InputError(
            f"there is neither {_KUBECONFIG} nor a folder {RUNS} here; name a cluster with "
            "--kubeconfig FILE, or the folder of local runs with --runs FOLDER"
        )
    if find_spec("kubernetes") is None or find_spec("aiohttp") is None:
        raise InputError(
            "to see a cluster the operator's libraries are needed: pip install "
            "'finetuning-operator[operator]'; local runs are shown with --runs FOLDER"
        )
    from finetuning.top.cluster import ClusterSource  # noqa: PLC0415 - the client takes a second

    return await ClusterSource.connect(
        options.kubeconfig,
        options.namespace,
        every=options.all_namespaces,
        context=options.context,
    )


def _cluster_is_known() -> bool:
    if "KUBERNETES_SERVICE_HOST" in os.environ or os.environ.get("KUBECONFIG"):
        return True
    return Path(_KUBECONFIG).expanduser().is_file()


class Viewer:
    """Draws what a source has."""

    def __init__(
        self, source: Source, order: Order, console: Console, job: str | None = None
    ) -> None:
        self._source, self._order, self._console, self._job = source, order, console, job

    async def once(self) -> None:
        """Print one frame; raises SourceError."""
        found = await self._rows()
        self._console.print(render(self._frame(found)))

    async def watch(self, seconds: float) -> None:
        """Draw until cancelled; what cannot be read any more is said, and tried again.

        Raises:
            SourceError: it cannot be read at the first look either.
        """
        found, trouble = await self._rows(), ""
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                frame = replace(self._frame(found), height=self._console.height, trouble=trouble)
                live.update(render(frame), refresh=True)
                await asyncio.sleep(seconds)
                try:
                    found, trouble = await self._rows(), ""
                except SourceError as error:
                    trouble = f"{error}; trying again"

    async def _rows(self) -> Sequence[Row]:
        """Those that are shown; raises SourceError, also where the wanted one is not there."""
        found = await self._source.rows()
        if self._job is None:
            return found
        if chosen := [row for row in found if row.name == self._job]:
            return chosen
        raise SourceError(
            f'no job "{self._job}" in {self._source.name}; it has '
            f"{', '.join(sorted(row.name for row in found)[:_SHOWN]) or 'none'}"
        )

    def _frame(self, found: Sequence[Row]) -> Frame:
        return Frame(
            rows=in_order(found, self._order),
            source=self._source.name,
            now=datetime.now(UTC).astimezone(),
            width=self._console.width,
        )
