"""Trainers as processes of their own, forked from one that has imported torch already.

Run as a script it reads orders from standard input, one JSON object a line, forks a child for each,
and answers with the child's process id and, once it ended, with its exit status.
"""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from finetuning.artifacts.spared import load

PATIENCE = 600.0
TICK = 0.02


@dataclass
class Child:
    """A trainer that was started."""

    pid: int
    log: Path
    answers: Any
    ended: bool = False

    def wait(self) -> int:
        """The exit code; minus the signal's number when one ended it."""
        code = int(self.answers.readline())
        self.ended = True
        return code

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def kill(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        return self.wait()


class WarmTrainer:
    """The other side of the pipe: starts children, one after the other."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._count = 0
        self._last: Child | None = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[Self]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        trainer = cls(process, folder)
        with process:
            try:
                yield trainer
            finally:
                trainer.end()

    def end(self) -> None:
        """Also of a child that a failed test has left."""
        if self._last is not None and not self._last.ended:
            os.kill(self._last.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def start(self, *argv: object, kill_in: str = "", **environ: str) -> Child:
        """`kill_in` is `module.function:n`: SIGKILL at the start of its n-th call.

        Or the signal whose name follows: `module.function:n:SIGTERM`.
        """
        self._count += 1
        log = self._folder / f"{self._count}.log"
        order = {"argv": [str(arg) for arg in argv], "log": str(log), "kill_in": kill_in}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "environ": environ}) + "\n")
        self._process.stdin.flush()
        self._last = Child(int(self._process.stdout.readline()), log, self._process.stdout)
        return self._last

    def run(self, *argv: object, kill_in: str = "", **environ: str) -> tuple[int, str]:
        child = self.start(*argv, kill_in=kill_in, **environ)
        return child.wait(), child.output()


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(TICK)


def _serve() -> None:
    load("finetuning.base.train", "peft", "transformers.models.qwen2.modeling_qwen2")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        _answer(pid)
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _child(order: dict[str, Any]) -> None:
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environ"])
        if order["kill_in"]:
            _arrange_death(order["kill_in"])
        from finetuning.base.app import main

        code = main(order["argv"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arrange_death(where: str) -> None:
    target, number, *name_of_signal = where.split(":")
    by = signal.Signals[(name_of_signal or ["SIGKILL"])[0]]
    module_name, _, name = target.rpartition(".")
    module = importlib.import_module(module_name)
    original = getattr(module, name)
    calls = count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == int(number):
            os.kill(os.getpid(), by)
        return original(*args, **kwargs)

    setattr(module, name, dying)


if __name__ == "__main__":
    _serve()
