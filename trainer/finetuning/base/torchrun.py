"""`python3 -m finetuning.base.torchrun`: torchrun's elastic agent around the trainer.

What it has over plain torchrun: exit codes that the Job's podFailurePolicy understands, the time
that a checkpoint takes after SIGTERM, patience for pods that start later, and no group where the
result is there already. A group that lost a process is not mended here: all of its pods end, and
the Job starts them again, which is counted and shown in one place.
"""

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

from finetuning.artifacts.models import ExitCode
from finetuning.artifacts.spared import load
from finetuning.base import console, environment, last_words
from finetuning.base.app import finished_already

PATIENCE = 1800.0
"""Seconds to wait for the others: GPUs of half a group are taken from somebody else."""

RETRY_SECONDS = 2.0

SAVING = 110
"""Seconds for a checkpoint after SIGTERM; a little less than the pod has."""

INDEX = "JOB_COMPLETION_INDEX"
"""The number of the pod, set by Kubernetes in an Indexed Job."""

_ENDED_BY_TERM = {int(ExitCode.INTERRUPTED), -15}

log = logging.getLogger("finetuning")


def main(argv: list[str] | None = None) -> int:
    """Run this machine's share of the processes; the exit code stands for all of them."""
    environment.prepare()
    console.set_up()
    options, trainer = command_line().parse_known_args(argv)
    options.trainer = trainer
    last_words.clear()
    if finished_already(options.trainer):
        log.info("The output folder holds the finished result of this very run; nothing to do.")
        return int(ExitCode.OK)
    node = os.environ.get(INDEX, "0")
    if options.nnodes > 1 and node != "0" and not reachable(options.rdzv_endpoint, PATIENCE):
        log.error("error: %s", _nobody(options.rdzv_endpoint))
        return int(ExitCode.FAILED)
    return _launch(options, hosts=node == "0")


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m finetuning.base.torchrun",
        usage="%(prog)s [--nnodes N] [--nproc-per-node N] [--rdzv-endpoint HOST:PORT] FLAG ...",
        description="Train with several processes, on one machine or on several. All other flags "
        "are those of finetuning.base.app.",
        epilog="With more than one machine, start it on each of them, with the variable "
        f"{INDEX} as the number of the machine; 0 reports.",
        allow_abbrev=False,
    )
    parser.add_argument("--nnodes", type=_count, default=1, metavar="N", help="Machines.")
    parser.add_argument(
        "--nproc-per-node",
        type=_count,
        default=1,
        metavar="N",
        help="Processes on each: one per GPU.",
    )
    parser.add_argument(
        "--rdzv-endpoint",
        default="localhost:0",
        metavar="HOST:PORT",
        help="Where machine 0 waits for the others.",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


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


def _launch(options: argparse.Namespace, *, hosts: bool) -> int:
    load("torch.distributed.launcher.api")
    from torch.distributed.elastic.multiprocessing.api import (  # noqa: PLC0415 - takes seconds
        SignalException,
    )
    from torch.distributed.elastic.multiprocessing.errors import (  # noqa: PLC0415
        ChildFailedError,
    )
    from torch.distributed.elastic.rendezvous import RendezvousError  # noqa: PLC0415
    from torch.distributed.launcher.api import elastic_launch  # noqa: PLC0415

    command = ["-m", "finetuning.base.app", *options.trainer]
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


if __name__ == "__main__":
    sys.exit(main())
