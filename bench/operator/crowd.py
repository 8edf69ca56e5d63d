"""An operator that is started beside thousands of finished jobs, on a real API server.

Usage: python -m bench.operator.crowd [--jobs 10000] [--objects build/bench-operator/objects.json]

The objects of one finished job, as `python -m bench.operator` left them, are created for each job
under a name of its own, with its Jobs and pods. There is etcd and an API server and nothing else:
nobody runs, ends or collects anything. Then the operator is started twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.operator import rounds, sizes, workload
from bench.operator.command import exit_code
from bench.operator.costs import Meter, cpu_seconds, memory_mib
from bench.operator.known import NAMESPACES, Model, choices, renamed
from bench.operator.plane import Plane
from bench.operator.process import OperatorProcess
from bench.operator.watcher import CONCURRENT, Client, established
from bench.operator.workload import CRD, DEFINITIONS, SETTINGS
from rich.progress import track

from finetuning.controller.settings import MonitoringMode

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS = {plural: root for root, plural in sizes.KINDS.values()}
GIVEN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
"""The API server's own part of the metadata."""
IDLE_SECONDS = 10.0
LOOKED_SECONDS = 600.0


def begun(made: dict[str, Any]) -> dict[str, Any]:
    """An object as it can be created: without what the API server adds to it."""
    about = {key: value for key, value in made["metadata"].items() if key not in GIVEN}
    found = {**made, "metadata": about}
    if "template" in found.get("spec", {}):
        # The server draws the selector of a Job from its new uid.
        spec = {key: value for key, value in found["spec"].items() if key != "selector"}
        template = {**spec["template"], "metadata": {"labels": _own(spec["template"])}}
        found["spec"] = {**spec, "template": template}
    return found


def _own(template: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = template["metadata"]["labels"]
    of_the_server = ("batch.kubernetes.io/", "controller-uid", "job-name")
    return {key: value for key, value in labels.items() if not key.startswith(of_the_server)}


async def add(client: Client, model: Model, number: int) -> None:
    """One finished job with all its objects, each with the uids that the server gave the others."""
    given: dict[str, str] = {}
    for plural, texts in model.of(number).items():
        for text in texts:
            wanted = json.loads(renamed(text.decode(), given))
            place = f"{ROOTS[plural]}/namespaces/{wanted['metadata']['namespace']}/{plural}"
            made = await client.create(place, begun(wanted))
            given[wanted["metadata"]["uid"]] = made["metadata"]["uid"]
            path = f"{place}/{wanted['metadata']['name']}/status"
            await client.replace(path, {**made, "status": wanted["status"]})


async def furnish(plane: Plane, model: Model, jobs: int) -> None:
    """The definition, the namespaces, and the jobs."""
    client = Client(plane)
    try:
        await client.create_text(DEFINITIONS, CRD.read_text())
        await client.until(DEFINITIONS, established)
        await client.create(
            "/api/v1/namespaces", workload.named("Namespace", SETTINGS.deployment_namespace)
        )
        for number in range(min(NAMESPACES, jobs)):
            await _namespace(client, f"team-{number:03}")
        told = track(range(jobs), "creating", disable=not sys.stderr.isatty(), transient=True)
        numbers = iter(told)
        await asyncio.gather(*(_add_all(client, model, numbers) for _ in range(CONCURRENT)))
    finally:
        await client.close()


async def _namespace(client: Client, name: str) -> None:
    await client.create("/api/v1/namespaces", workload.named("Namespace", name))
    account = workload.named("ServiceAccount", "default")
    await client.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)


async def _add_all(client: Client, model: Model, numbers: Iterator[int]) -> None:
    for number in numbers:
        await add(client, model, number)


def measure(plane: Plane, jobs: int) -> dict[str, float]:
    """Two starts of the operator, and what it does once it has looked at each job."""
    operator = OperatorProcess(plane, MonitoringMode.NONE.value)
    found: dict[str, float] = {}
    try:
        for start in ("first start", "second start"):
            found |= {f"{start}: {title}": value for title, value in _life(operator, jobs).items()}
            idle = rounds.idle(plane, operator, IDLE_SECONDS)
            found[f"{start}: requests in {IDLE_SECONDS:.0f} s of nothing to do"] = idle["requests"]
            operator.stop()
    finally:
        operator.stop()
    sent = Meter(dict, plane.place.audit_log).requests()
    return found | {
        f"both starts: {verb} {resource}": count
        for (who, verb, resource), count in sorted(sent.items())
        if who == "operator"
    }


def _life(operator: OperatorProcess, jobs: int) -> dict[str, float]:
    """Until it has looked at every job."""
    ready = operator.start()
    found = {"ready, s": ready, "processor until then, s": cpu_seconds(operator.pid)}
    with ThreadPoolExecutor() as pool:
        busy = threading.Event()
        silence = pool.submit(_longest_silence, operator, busy)
        try:
            _wait_for_looks(operator, jobs)
        finally:
            busy.set()
    found["processor until all were looked at, s"] = cpu_seconds(operator.pid)
    found["longest wait for /livez meanwhile, s"] = silence.result()
    found["memory, MiB"] = memory_mib(operator.pid, "VmRSS")
    found["memory at most, MiB"] = memory_mib(operator.pid, "VmHWM")
    return found


def _wait_for_looks(operator: OperatorProcess, jobs: int) -> None:
    deadline = time.monotonic() + LOOKED_SECONDS
    while (looks := operator.looks()) < jobs:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{looks:.0f} of {jobs} jobs were looked at")
        time.sleep(0.2)


def _longest_silence(operator: OperatorProcess, over: threading.Event) -> float:
    longest = 0.0
    while not over.wait(0.02):
        longest = max(longest, operator.silence())
    return longest


def run(model: Model, jobs: int) -> dict[str, float]:
    """Raises ClusterError, RuntimeError and TimeoutError for what does not start or answer."""
    with (
        tempfile.TemporaryDirectory(prefix="finetuning-crowd-") as folder,
        Plane(Path(folder), pod_seconds=1.0) as plane,
    ):
        begun_at = time.monotonic()
        asyncio.run(furnish(plane, model, jobs))
        created = time.monotonic() - begun_at
        found = measure(plane, jobs)
        database = sizes.database_mib(plane.folder)
    return {"creating all, s": created, **found, "database, MiB": database}


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 where something does not start or answer, 2 for wrong arguments."""
    try:
        model, jobs = choices("bench.operator.crowd", __doc__, arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return exit_code(lambda: tell(run(model, jobs)))


def tell(found: dict[str, float]) -> int:
    for title, value in found.items():
        print(f"{title}: {value:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
