import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hack.cluster import tools
from tests.built import program
from tests.unit.readers.moments import Moment, moments

Ask = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def lives() -> list[Moment]:
    return moments()


@pytest.fixture(scope="session")
def readers() -> Path:
    """What Flux, Katib and Argo read a job with, built as the cluster's tools are."""
    return program(tools.READERS)


@pytest.fixture(scope="session")
def ask(readers: Path) -> Ask:
    """An answer for each question, in the words of hack/cluster/tools/readers/main.go."""

    def asked(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(each) + "\n" for each in questions)
        done = subprocess.run([readers], input=lines, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asked
