"""Trackers of other makers (reportTo): each is told by a process of its own.

That process reads the loss history and is the only one that loads the tracker's library or talks
to its server. Training only starts it and says how the run ended; a server that fails or hangs
costs at most Outcome.seconds at the very end.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from finetuning.api.hyperparameters import ReportTo
from finetuning.api.run_config import RunConfig
from finetuning.base.errors import ConfigError
from finetuning.base.run import Run
from finetuning.base.trackers.order import Order, Outcome

LIBRARIES = {
    ReportTo.TENSORBOARD: "tensorboardX",
    ReportTo.MLFLOW: "mlflow",
    ReportTo.WANDB: "wandb",
}
ADDRESS = "MLFLOW_TRACKING_URI"

log = logging.getLogger(__name__)


def require(config: RunConfig, environ: Mapping[str, str]) -> None:
    """Every tracker that is asked for can be reached by this environment's packages.

    Raises:
        ConfigError: a library is not installed, or nothing says where the server is.
    """
    for name in config.hyperparameters.report_to:
        if not _is_installed(LIBRARIES[name]):
            raise ConfigError(
                f"--report-to {name}: the package {LIBRARIES[name]} is not installed here; run "
                f"`pip install 'finetuning-operator[{name}]'`, take a trainer image that has it, "
                f"or drop {name} from --report-to"
            )
        if name is ReportTo.MLFLOW and not environ.get(ADDRESS):
            raise ConfigError(
                f"--report-to mlflow: the environment variable {ADDRESS} is not set; set it to "
                "the server's address, such as http://mlflow.example.com:5000 (in a FineTuningJob "
                "it is a key of the Secret in spec.trackingSecretRef)"
            )


def _is_installed(library: str) -> bool:
    """Without loading it; a mere folder of that name, as W&B leaves them around, does not count."""
    found = find_spec(library)
    return found is not None and found.origin is not None


class Tracking:
    """The processes that tell the trackers, from the first step to the outcome of the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._processes: dict[ReportTo, subprocess.Popen[str]] = {}
        self.outcome = Outcome.FAILED
        """What the trackers are told at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            _tell(process, self.outcome)
        for name, process in self._processes.items():
            _await(name, process, self.outcome.seconds)

    def start(self, after_step: int) -> None:
        """Follow the history, which holds the steps up to `after_step` and grows from there."""
        for name in self._run.config.hyperparameters.report_to:
            order = Order(
                tracker=name,
                output=self._run.output.absolute(),
                job_name=self._run.config.job_name,
                after_step=after_step,
                params=self._run.facts,
            )
            try:
                self._processes[name] = _started(order)
            except OSError as error:
                log.warning("%s is told nothing: its process did not start: %s", name, error)


def _started(order: Order) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "finetuning.base.trackers"],
        stdin=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # Ctrl-C is for the trainer, which then says how it ended.
        start_new_session=True,
    )
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(order.model_dump_json() + "\n")
            process.stdin.flush()
    return process


def _tell(process: "subprocess.Popen[str]", outcome: Outcome) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(outcome.value)


def _await(name: ReportTo, process: "subprocess.Popen[str]", seconds: int) -> None:
    """Nothing of the process is left, nor of what its library started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait() < 0:
        log.warning(
            "%s has not taken the last steps within %d s; they stand in the loss history.",
            name,
            seconds,
        )
