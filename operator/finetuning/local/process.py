"""Starts the processes of containers, each held by a tether, and reads their last words."""

import asyncio
import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.local.launch import Launch

_TETHER = Path(__file__).with_name("tether.py")
_MESSAGE_BYTES = 4096
_LOG_TAIL_BYTES = 2048
_LOG_TAIL_LINES = 80
"""kubelet's limits of a termination message, from the file and from the log."""


class Process:
    """One start of one container."""

    def __init__(self, launch: Launch, kept_open: tuple[int, ...] = ()) -> None:
        self.launch = launch
        self._kept_open = kept_open
        """Held by the tether: the lock on the output folder lasts as long as the process."""
        self._orders = -1
        self._log_start = 0
        self._started_at: datetime | None = None
        self._finished_at: datetime | None = None
        self.exit_code: int | None = None
        self._message = ""

    async def run(self) -> int:
        """Start, wait for the end, keep the last words; raises OSError when it cannot start."""
        self.launch.termination_log.write_bytes(b"")
        try:
            tether = await self._start()
            self._started_at = datetime.now(UTC)
            code = await self._end(tether)
        finally:
            os.close(self._orders)
            self._orders = -1
        self._finished_at = datetime.now(UTC)
        self._message = self._last_words(failed=code != 0)
        self.exit_code = code
        return code

    async def _end(self, tether: asyncio.subprocess.Process) -> int:
        try:
            return await tether.wait()
        except asyncio.CancelledError:
            self.kill()
            await tether.wait()
            raise

    async def _start(self) -> asyncio.subprocess.Process:
        # The tether reads orders from a pipe whose other end only this process has: when it is
        # gone, however it died, the tether notices.
        orders, self._orders = os.pipe()
        launch = self.launch
        try:
            with launch.log.open("ab") as log:
                self._log_start = log.tell()
                return await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(_TETHER), str(launch.grace), *launch.argv),
                    stdin=orders,
                    stdout=log,
                    stderr=log,
                    env=launch.env,
                    start_new_session=True,
                    pass_fds=self._kept_open,
                )
        finally:
            os.close(orders)

    @property
    def running(self) -> bool:
        return self._orders >= 0

    def stop(self) -> None:
        """Ask it to save its work and leave."""
        self._order(b"T")

    def kill(self) -> None:
        self._order(b"K")

    def _order(self, order: bytes) -> None:
        if self.running:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._orders, order)

    def status(self) -> dict[str, Any]:
        """As kubelet would report it in the pod's status."""
        return {"name": self.launch.name, "state": self._state()}

    def _state(self) -> dict[str, Any]:
        if self._started_at is None:
            return {"waiting": {"reason": "PodInitializing"}}
        started = self._started_at.isoformat()
        if self.exit_code is None or self._finished_at is None:
            return {"running": {"startedAt": started}}
        ended = {
            "exitCode": self.exit_code,
            "reason": "Completed" if self.exit_code == 0 else "Error",
            "message": self._message,
            "startedAt": started,
            "finishedAt": self._finished_at.isoformat(),
        }
        return {"terminated": ended}

    def _last_words(self, *, failed: bool) -> str:
        try:
            words = read_bounded(self.launch.termination_log, _MESSAGE_BYTES)
        except UnreadableFileError:
            words = b""
        if not words and failed and self.launch.message_from_log:
            return log_tail(self.launch.log, self._log_start)
        return words.decode(errors="replace")


def log_tail(log: Path, start: int = 0) -> str:
    """The last lines of a log, none of them older than byte `start`."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - _LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])
