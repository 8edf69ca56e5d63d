"""The group of processes that torchrun starts: waited for, run, and its end as one exit code."""

import argparse
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any

from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.spared import load
from finetuning.base import console, environment, last_words
from finetuning.base.session import finished_already

PATIENCE = 1800.0
"""Seconds to wait for the others: GPUs of half a group are taken from somebody else."""

RETRY_SECONDS = 2.0

SAVING = 110
"""Seconds for a checkpoint after SIGTERM; a little less than the pod has."""

_ENDED_BY_TERM = {int(ExitCode.INTERRUPTED), -15}

log = logging.getLogger("finetuning")


def launch(options: argparse.Namespace, trainer: list[str], machine: str) -> int:
    """Run the processes of this machine, the first of which is "0", with the flags `trainer`."""
    environment.prepare()
    environment.launches()
    console.set_up()
    last_words.clear()
    if finished_already(trainer):
        log.info("The output folder holds the finished result of this very run; nothing to do.")
        return int(ExitCode.OK)
    if options.nnodes > 1 and machine != "0" and not reachable(options.rdzv_endpoint, PATIENCE):
        log.error("error: %s", _nobody(options.rdzv_endpoint))
        return int(ExitCode.FAILED)
    return _run_group(options, trainer, hosts=machine == "0")


def reachable(endpoint: str, patience: float) -> bool:
    """Wait until machine 0 listens; its name may not exist before."""
    host, _, port = endpoint.rpartition(":")
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            socket.create_connection((host, int(port)), timeout=RETRY_SECONDS).close()
        except OSError:
            time.sleep(RETRY_SECONDS)
        else:
            return True
    return False


def _nobody(endpoint: str) -> str:
    minutes = int(PATIENCE / 60)
    return (
        f"--rdzv-endpoint {endpoint}: nobody listened there in {minutes} minutes; see that the "
        "first pod of the job can start, and that its name can be resolved"
    )


def _run_group(options: argparse.Namespace, trainer: list[str], *, hosts: bool) -> int:
    load("torch.distributed.launcher.api")
    from torch.distributed.elastic.multiprocessing.api import (  # noqa: PLC0415 - takes seconds
        SignalException,
    )
    from torch.distributed.elastic.multiprocessing.errors import (  # noqa: PLC0415
        ChildFailedError,
    )
    from torch.distributed.elastic.rendezvous import RendezvousError  # noqa: PLC0415
    from torch.distributed.launcher.api import elastic_launch  # noqa: PLC0415

    def told(number: int, _frame: FrameType | None) -> None:
        """As torch answers once its processes run: a meeting point that is left stays open."""
        raise SignalException("told to stop", signal.Signals(number))

    signal.signal(signal.SIGTERM, told)
    command = ["-m", "finetuning.base.app", *trainer]
    try:
        elastic_launch(_settings(options, hosts=hosts), sys.executable)(*command)
    except ChildFailedError as error:
        return exit_code(failure.exitcode for failure in error.failures.values())
    except SignalException:
        return int(ExitCode.INTERRUPTED)
    except RendezvousError as error:
        log.error("error: the other machines of the run were not found, or lost: %s", error)  # noqa: TRY400
        return int(ExitCode.FAILED)
    return int(ExitCode.OK)


def _settings(options: argparse.Namespace, *, hosts: bool) -> Any:
    from torch.distributed.launcher.api import LaunchConfig  # noqa: PLC0415 - takes seconds

    return LaunchConfig(
        min_nodes=options.nnodes,
        max_nodes=options.nnodes,
        nproc_per_node=options.nproc_per_node,
        run_id="finetuning",
        rdzv_backend="c10d",
        rdzv_endpoint=options.rdzv_endpoint,
        rdzv_configs={"is_host": hosts, "timeout": int(PATIENCE), "join_timeout": int(PATIENCE)},
        max_restarts=0,
        shutdown_timeout=SAVING,
    )


def exit_code(codes: Iterable[int]) -> int:
    """One for all: a wrong configuration wins over a crash, a crash over being stopped."""
    found = list(codes)
    if ExitCode.INVALID in found:
        return int(ExitCode.INVALID)
    crashes = [code for code in found if code not in _ENDED_BY_TERM]
    if not crashes:
        return int(ExitCode.INTERRUPTED)
    # A signal's number counts as in a shell, which kubelet shows.
    return crashes[0] if crashes[0] > 0 else 128 - crashes[0]
