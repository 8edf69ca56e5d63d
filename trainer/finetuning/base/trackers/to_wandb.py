"""Weights & Biases, by the variables that its own library reads (WANDB_API_KEY, WANDB_MODE, …)."""

import os
from collections.abc import Sequence
from typing import Any

from finetuning.artifacts.history import HistoryLine
from finetuning.base.trackers.figures import figures
from finetuning.base.trackers.memory import Memory
from finetuning.base.trackers.order import FLUSH_SECONDS, Order, Outcome

PROJECT = "finetuning"


class Wandb:
    """Keeps its files in <output>/tracking/wandb, from where `wandb sync` sends them later."""

    def open(self, order: Order, memory: Memory) -> int:
        # Its service process reads this when it starts, and reports errors to its maker otherwise.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # noqa: PLC0415 - only when asked for
        from wandb.analytics.opentelemetry import opentelemetry_proxy  # noqa: PLC0415

        opentelemetry_proxy.disable()
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            init_timeout=FLUSH_SECONDS,
        )
        self._run: Any = wandb.init(
            id=memory.run_id,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=order.job_name,
            dir=order.folder,
            config=order.params,
            settings=settings,
        )
        return max(memory.step, int(self._run.step) - 1)

    def log(self, lines: Sequence[HistoryLine]) -> None:
        for line in lines:
            self._run.log(figures(line), step=line.step)

    def close(self, outcome: Outcome) -> None:
        if outcome is Outcome.PAUSED:
            self._run.mark_preempting()
        self._run.finish(exit_code=int(outcome is not Outcome.FINISHED))
