"""One table of accepted and refused jobs, for the API server and for local runs."""

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PROTOTYPE = sorted((HERE / "prototype").glob("*.yaml"))


@dataclass(frozen=True)
class Case:
    """A change to the minimal job; `says` and `field` are empty where it must be accepted."""

    case: str
    set: dict[str, Any]
    field: str = ""
    says: str = ""

    @property
    def manifest(self) -> dict[str, Any]:
        job = copy.deepcopy(minimal())
        for path, value in self.set.items():
            *parents, last = path.split(".")
            place = job
            for name in parents:
                place = place.setdefault(name, {})
            place[last] = copy.deepcopy(value)
        return job


@cache
def minimal() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load((HERE / "minimal.yaml").read_text())
    return job


def _cases(name: str) -> list[Case]:
    return [Case(**entry) for entry in yaml.safe_load((HERE / name).read_text())]


ACCEPTED = _cases("accepted.yaml")
REFUSED = _cases("refused.yaml")


def named(case: Case) -> str:
    return case.case
