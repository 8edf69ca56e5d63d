"""What a person sees while training: a progress bar on a terminal, plain lines elsewhere."""

import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

MINUTE = 60
HOUR = 3600

log = logging.getLogger("finetuning")


def set_up() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for noisy in ("httpx", "httpx2", "huggingface_hub", "datasets", "filelock", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # "triton not found"
    logging.getLogger("torch._subclasses").setLevel(logging.WARNING)  # Counts of a cache.
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def quiet(rank: int) -> None:
    """Let a process that does not report say warnings alone, and who it is."""
    logging.getLogger().setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        words = f"%(asctime)s rank {rank}: %(message)s"
        handler.setFormatter(logging.Formatter(words, datefmt="%H:%M:%S"))


def duration(seconds: float) -> str:
    """200 is 3m20s."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02d}s"
    return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}m"


@dataclass(frozen=True)
class Figures:
    """The figures of one logging interval."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    remaining_seconds: float

    def line(self) -> str:
        return (
            f"step {self.step}/{self.total_steps}  epoch {self.epoch:.2f}  loss {self.loss:.4f}  "
            f"lr {self.learning_rate:.2e}  {self.tokens_per_second:.0f} tokens/s  "
            f"ETA {duration(self.remaining_seconds)}"
        )


class Progress:
    """Shows the steps as they are done."""

    def __init__(self, total: int, done: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - on a terminal

            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def redirect(self) -> AbstractContextManager[Any]:
        """Log lines above the bar instead of through it."""
        if self._bar is None:
            return nullcontext()
        from tqdm.contrib.logging import (  # type: ignore[import-untyped]  # noqa: PLC0415
            logging_redirect_tqdm,
        )

        return logging_redirect_tqdm()  # type: ignore[no-any-return]

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def figures(self, figures: Figures) -> None:
        if self._bar is None:
            log.info("%s", figures.line())
        else:
            self._bar.set_postfix_str(
                f"loss {figures.loss:.4f}, lr {figures.learning_rate:.1e}, "
                f"{figures.tokens_per_second:.0f} tokens/s"
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
