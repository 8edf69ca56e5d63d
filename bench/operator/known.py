"""What the operator keeps of the jobs that it knows, and what they cost it, alone in one process.

Usage: python -m bench.operator.known [--jobs 10000] [--objects build/bench-operator/objects.json]

The objects are those of one finished job, as an API server sent them to `python -m bench.operator`,
under a new name and new uids for each job. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from bench.operator.costs import memory_mib
from bench.operator.workload import SETTINGS

from finetuning.controller import status, wire
from finetuning.controller.cache import Cache
from finetuning.controller.specs import Specs
from finetuning.controller.watching import Kind, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

OBJECTS = Path(__file__).resolve().parents[2] / "build" / "bench-operator" / "objects.json"
NAMESPACES = 100
"""The jobs are spread over so many."""


@dataclass(frozen=True)
class Model:
    """One job's objects as text, and what is another job's own in it."""

    texts: dict[str, list[str]]
    """By plural."""
    name: str
    namespace: str
    uids: list[str]

    @classmethod
    def read(cls, file: Path) -> Model:
        """Raises OSError and ValueError for what `python -m bench.operator` did not write."""
        found = json.loads(file.read_text())
        try:
            about = found["finetuningjobs"][0]["metadata"]
            uids = [each["metadata"]["uid"] for items in found.values() for each in items]
            name, namespace = about["name"], about["namespace"]
        except (LookupError, TypeError, AttributeError) as error:
            problem = "no objects of a job; make them with python -m bench.operator"
            raise ValueError(problem) from error
        return cls(
            texts={plural: [json.dumps(each) for each in items] for plural, items in found.items()},
            name=name,
            namespace=namespace,
            uids=uids,
        )

    @classmethod
    def of_choice(cls, file: Path, jobs: int) -> Model:
        """As `read`; raises ValueError alone, with the flag, also for an amount of none."""
        if jobs < 1:
            raise ValueError(f"--jobs {jobs}: give at least 1")
        try:
            return cls.read(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"--objects {file}: {error}") from error

    def of(self, number: int) -> dict[str, list[bytes]]:
        """The same for another job."""
        new = {uid: str(uuid.UUID(int=number * len(self.uids) + at))
               for at, uid in enumerate(self.uids)}  # fmt: skip
        new |= {self.namespace: f"team-{number % NAMESPACES:03}", self.name: f"n{number:06}"}
        return {
            plural: [renamed(text, new) for text in texts] for plural, texts in self.texts.items()
        }


def renamed(text: str, new: dict[str, str]) -> bytes:
    for old, other in new.items():
        text = text.replace(old, other)
    return text.encode()


def fill(kind: Kind, texts: Iterator[bytes]) -> float:
    """Take objects up as a watch does; processor seconds, without the making of the texts."""
    spent = 0.0
    for text in texts:
        begun = time.process_time()
        kind.store.put(kind.read(msgspec.Raw(text)))
        spent += time.process_time() - begun
    return spent


def look(cache: Cache, specs: Specs) -> float:
    """See of each job that nothing is left to be done, as a resync does; processor seconds."""
    begun = time.process_time()
    for custom in cache.customs:
        job, _ = specs.read(custom)
        if not status.is_settled(job):
            raise ValueError(f"{custom.key}: its objects are not those of a finished job")
        specs.forget(custom.key)
    return time.process_time() - begun


def names(model: Model, jobs: int) -> dict[str, float]:
    """What a resync lists of all jobs, names without specs or states: per job."""
    texts = [each for texts in model.of(0).values() for each in texts]
    listed = [{"metadata": json.loads(text)["metadata"]} for text in texts]
    page = msgspec.json.encode({"metadata": {}, "items": listed * 100})
    begun = time.process_time()
    for _ in range(0, jobs, 100):
        wire.names(page)
    spent = (time.process_time() - begun) / len(range(0, jobs, 100)) / 100
    return {
        "its names in a resync, KiB": len(page) / 100 / 1024,
        "its names in a resync, us": 1e6 * spent,
    }


def measure(model: Model, jobs: int) -> dict[str, float]:
    """Microseconds of an object by kind and of a look; KiB of a job, with all its objects."""
    cache = Cache()
    gc.collect()
    before = memory_mib(os.getpid(), "VmRSS")
    found: dict[str, float] = {}
    for kind in kinds(cache):
        plural = kind.resource.plural
        texts = (text for number in range(jobs) for text in model.of(number)[plural])
        found[f"{plural}: an object, us"] = 1e6 * fill(kind, texts) / len(kind.store)
    specs = Specs(SETTINGS)
    found["a look at a finished job, us"] = 1e6 * look(cache, specs) / jobs
    gc.collect()
    # With what the looks leave behind.
    after = memory_mib(os.getpid(), "VmRSS")
    found["memory of a job, KiB"] = 1024 * (after - before) / jobs
    return found | names(model, jobs)


def choices(module: str, about: str | None, arguments: list[str]) -> tuple[Model, int]:
    """The objects of a job, and how many jobs; raises ValueError for what is of no use."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--objects", type=Path, default=OBJECTS)
    chosen = parser.parse_args(arguments)
    return Model.of_choice(chosen.objects, chosen.jobs), chosen.jobs


def main(arguments: list[str]) -> int:
    """Exit code: 0, or 2 for wrong arguments."""
    try:
        model, jobs = choices("bench.operator.known", __doc__, arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for title, value in measure(model, jobs).items():
        print(f"{title}: {value:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
