"""Operators of other times with their definitions, and jobs that are held where they stand."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import yaml
from tests.faults.install import CRDS, DEFINITION
from tests.faults.node import FINAL, Ending, component, parent
from tests.faults.scene import ROOT, Raw, Site, judged

from finetuning.controller import naming
from finetuning.controller.gateway import CLAIMS, CUSTOMS, JOBS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCES = ("operator", "trainer", "sidecar")
CHILDREN = (JOBS, CLAIMS, SERVICES)


def unpack(commit: str, folder: Path) -> bool:
    """Sources and definition of a commit into a folder; False where the clone lacks it."""
    archive = ["git", "archive", commit, DEFINITION, *SOURCES]
    done = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as found:
        found.extractall(folder, filter="data")
    return True


class Release:
    """What lies in one tree: an operator with its definition."""

    def __init__(self, site: Site, tree: Path = ROOT) -> None:
        self._site, self._tree = site, tree

    async def install(self) -> None:
        """In place of the one that runs; the definition first, as Helm does it."""
        await self.define()
        if self._site.process is not None:
            assert await self._site.stop_operator() == 0
        self._site.start_operator(":".join(str(self._tree / each) for each in SOURCES))

    async def define(self) -> None:
        admin, definition = self._site.admin, yaml.safe_load((self._tree / DEFINITION).read_text())
        path = CRDS.path(None, definition["metadata"]["name"])
        found = await admin._call("get", CRDS, "GET", path)
        definition["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        await admin._call("update", CRDS, "PUT", path, body=definition)


def waits(status: Raw) -> bool:
    return bool(status.get("phase") == "Paused")


def trains(status: Raw) -> bool:
    return bool(status.get("phase") == "Running")


def is_judged_now(status: Raw) -> bool:
    return bool((status.get("validation") or {}).get("phase") == "Running")


def failed(status: Raw) -> bool:
    return bool(status.get("phase") == "Failed")


STAGES: dict[str, Callable[[Raw], bool]] = {
    "waits": waits,
    "trains": trains,
    "paused": trains,
    "judges": is_judged_now,
    "done": judged,
    "fails": failed,
}
"""A job at each, called after it; `paused` is told to pause once it trains."""
HELD = {"trains": naming.TRAINING, "paused": naming.TRAINING, "judges": naming.VALIDATION}
"""Which pod of a job runs on until it is let go."""


class Cast:
    """Jobs of several releases, one at each stage of each."""

    def __init__(self, site: Site) -> None:
        self._site, self._held = site, True
        self.names: list[str] = []
        site.node.ending = self._ending

    async def enter(self, prefix: str) -> None:
        """One job at each stage, under the release that runs."""
        for stage in STAGES:
            self.names.append(f"{prefix}-{stage}")
            await self._site.submit(f"{prefix}-{stage}", suspend=stage == "waits")
        for stage, there in STAGES.items():
            await self._site.until(stage, there, name=f"{prefix}-{stage}")
        await self._site.change(f"{prefix}-paused", suspend=True)
        await self._site.until("a pause", waits, name=f"{prefix}-paused")

    async def go_on(self) -> None:
        """Each to its own end."""
        self._held = False
        for name in self.names:
            if name.endswith(("-waits", "-paused")):
                await self._site.change(name, suspend=False)
        for name in self.names:
            end = failed if name.endswith("-fails") else judged
            await self._site.until("the end", end, name=name)

    def _ending(self, pod: Raw) -> Ending | None:
        _, stage = parent(pod).split("-")
        if stage == "fails":
            return (2, "no rows")
        held = self._held and HELD.get(stage) == component(pod)
        return None if held else (0, FINAL[component(pod)])

    async def state(self) -> dict[str, tuple[object, ...]]:
        """What a change of release must leave alone, by kind and name."""
        found: dict[str, tuple[object, ...]] = {}
        for kind in CHILDREN:
            async for raw in self._site.admin.items(
                kind, self._site.namespace, labelSelector=naming.CHILD_SELECTOR
            ):
                meta, spec = raw["metadata"], raw["spec"]
                found[f"{kind.plural}/{meta['name']}"] = (meta["uid"], spec.get("suspend"))
        async for raw in self._site.admin.items(CUSTOMS, self._site.namespace):
            found[raw["metadata"]["name"]] = _stands(raw)
        return found


def _stands(raw: Raw) -> tuple[object, ...]:
    """Where a job stands; not the spec, to which a definition adds its own defaults."""
    meta, status = raw["metadata"], raw["status"]
    told = (status.get(name) for name in ("phase", "reason", "currentStep", "trainLoss"))
    verdict = (status.get("validation") or {}).get("phase")
    return (meta["uid"], meta["generation"], *told, verdict)
