"""A job's progress as one bar: in a terminal, in a notebook, or as lines in a pipe."""

from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from finetuning.api.v1alpha1 import FineTuningJob, Phase
from finetuning.artifacts.plain import plain
from finetuning.local.words import awaited, figures, headline, unseen

_IN_A_BAR, _IN_A_LINE = 120, 300
"""Characters of what is told."""


def _told(job: FineTuningJob) -> str:
    """What a trained job still waits for, the figures of one that trains, what holds up another."""
    now = job.status
    known = ", ".join(figures(now, None))
    if found := unseen(job) or awaited(now):
        return found
    if now.phase in {Phase.RUNNING, Phase.SUCCEEDED} and known:
        return known
    return headline(now).removeprefix(f"{now.phase}: ") or known


class Bar:
    """Call it with each state of the job."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, markup=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20))
        told = TextColumn("{task.fields[told]}", markup=False)
        self._bar = Progress(*columns, told, console=self._console)
        self._task = self._bar.add_task("Pending", total=None, told="")
        self._last = ""

    def __enter__(self) -> Self:
        if self._moves:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._moves:
            self._bar.stop()

    def __call__(self, job: FineTuningJob) -> None:
        now = job.status
        told = plain(_told(job), _IN_A_BAR if self._moves else _IN_A_LINE)
        if self._moves:
            self._bar.update(
                self._task,
                description=f"{job.metadata.name} {now.phase}",
                total=now.total_steps,
                completed=now.current_step or 0,
                told=told,
            )
        elif told != self._last:
            self._last = told
            self._console.print(f"{job.metadata.name} {now.phase}  {told}", soft_wrap=True)

    @property
    def _moves(self) -> bool:
        """A notebook needs ipywidgets for a bar that is drawn again."""
        if self._console.is_jupyter:
            return find_spec("ipywidgets") is not None
        return self._console.is_terminal
