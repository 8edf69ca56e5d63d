"""The GPUs' figures while the trainer has nothing to tell: a long step, an evaluation, a hang.

They are in a file of their own, so that no step ever waits for this thread, whatever the driver or
the disk does to it. When the trainer last told anything stays as it is: alerts go by that. Without
a GPU the file says only that the process is there: of one that was killed nobody else may tell.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from finetuning.artifacts import GPUS_FILE
from finetuning.artifacts.files import write_atomic
from finetuning.artifacts.models import GpuFigures
from finetuning.base.live import LiveState

INTERVAL_SECONDS = 5.0
"""Between two looks, and how long the trainer must have been silent."""

log = logging.getLogger(__name__)


@contextmanager
def beating(live: LiveState, interval: float = INTERVAL_SECONDS) -> Iterator[None]:
    """Tell the figures of the GPUs of `live`, and that it lives, beside what runs inside."""
    done = threading.Event()
    if live.reports:
        # A driver that hangs holds its thread; the process ends without it.
        arguments = (live, interval, done)
        threading.Thread(target=_beat, args=arguments, daemon=True, name="gpu-pulse").start()
    try:
        yield
    finally:
        done.set()


def _beat(live: LiveState, interval: float, done: threading.Event) -> None:
    warned, begins = False, True
    while begins or not done.wait(interval):
        # The first one tells readers that there is a pulse, whose absence means something.
        if live.silence < interval and not begins:
            continue
        begins = False
        try:
            tell(live)
        except Exception as error:  # noqa: BLE001 - drivers fail in ways of their own
            if not warned:
                log.warning("The GPU's figures cannot be told between two steps: %s", error)
            warned = True


def tell(live: LiveState) -> None:
    """Write them now; raises what the driver or the disk raises."""
    figures = GpuFigures(gpus=live.gpus(), updated_at=live.clock())
    live.folder.mkdir(parents=True, exist_ok=True)
    text = figures.model_dump_json(by_alias=True)
    write_atomic(live.folder / GPUS_FILE, text.encode(), durable=False)
