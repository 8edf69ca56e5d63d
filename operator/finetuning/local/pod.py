"""Runs one pod: its sidecars first and for as long as the one container that does the work."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from finetuning.controller import observed
from finetuning.controller.observed import Pod
from finetuning.local.launch import Launch
from finetuning.local.process import Process

_SIDECAR_PATIENCE = 10.0
"""Seconds that a sidecar has to leave; nobody scrapes its final state here."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a sidecar that ended is started again: doubled each time."""


class Sidecar:
    """A process that is started again whenever it ends, until it is told to stop."""

    def __init__(self, launch: Launch, kept_open: tuple[int, ...]) -> None:
        self._launch = launch
        self._kept_open = kept_open
        self.process = Process(launch, kept_open)
        self._task = asyncio.create_task(self._keep())
        self._stopping = False

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            await self.process.run()
            if not self._stopping:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                self.process = Process(self._launch, self._kept_open)

    async def stop(self) -> None:
        self._stopping = True
        self.process.stop()
        if not self.process.running:
            self._task.cancel()
        done, _ = await asyncio.wait([self._task], timeout=_SIDECAR_PATIENCE)
        if not done:
            self.process.kill()
            await asyncio.wait([self._task])


class LocalPod:
    """One attempt of a Job."""

    def __init__(
        self,
        metadata: Mapping[str, Any],
        launches: Sequence[Launch],
        kept_open: tuple[int, ...],
    ) -> None:
        self._metadata = metadata
        self._sidecar_launches = [each for each in launches if each.restarts]
        self._sidecars: list[Sidecar] = []
        self._kept_open = kept_open
        (main,) = [each for each in launches if not each.restarts]
        self.main = Process(main, kept_open)

    async def run(self) -> int:
        """The exit code of the container that does the work."""
        self._sidecars = [Sidecar(launch, self._kept_open) for launch in self._sidecar_launches]
        try:
            return await self.main.run()
        finally:
            for sidecar in self._sidecars:
                await sidecar.stop()

    def view(self) -> Pod:
        """As the operator sees a Pod."""
        status = {
            "phase": self._phase(),
            "podIP": "127.0.0.1",
            "initContainerStatuses": [each.process.status() for each in self._sidecars],
            "containerStatuses": [self.main.status()],
        }
        return observed.pod({"metadata": self._metadata, "status": status})

    def _phase(self) -> str:
        match self.main.exit_code:
            case None:
                return "Running" if self.main.running else "Pending"
            case 0:
                return "Succeeded"
            case _:
                return "Failed"
