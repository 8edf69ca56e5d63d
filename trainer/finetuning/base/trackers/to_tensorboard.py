"""TensorBoard: event files in the output folder, no server."""

from collections.abc import Sequence
from typing import Any

from finetuning.artifacts.history import HistoryLine
from finetuning.base.trackers.figures import as_texts, figures
from finetuning.base.trackers.memory import Memory
from finetuning.base.trackers.order import Order, Outcome


class TensorBoard:
    """Writes <output>/tracking/tensorboard."""

    def open(self, order: Order, memory: Memory) -> int:
        """Go on after the last step that both sides have; readers drop what was written beyond."""
        from tensorboardX import SummaryWriter  # noqa: PLC0415 - only when asked for

        known = min(memory.step, order.after_step)
        folder = order.folder / "tensorboard"
        is_new = not folder.exists()
        self._writer: Any = SummaryWriter(str(folder), purge_step=None if is_new else known + 1)
        if is_new:
            self._writer.add_text("params", _table(as_texts(order.params)))
        self._step = known
        return known

    def log(self, lines: Sequence[HistoryLine]) -> None:
        for line in lines:
            for tag, value in figures(line).items():
                self._writer.add_scalar(tag, value, line.step)
        self._writer.flush()
        self._step = lines[-1].step

    def close(self, outcome: Outcome) -> None:
        self._writer.add_text("outcome", outcome.value, self._step)
        self._writer.close()


def _table(params: dict[str, str]) -> str:
    rows = [f"| {name} | {value} |" for name, value in params.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])
