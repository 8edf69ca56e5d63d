"""Tests that belong to a fault say so; with --record-faults what happened goes into the table."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hack.cluster import tools
from hypothesis import settings
from tests.faults.controlplane import API_SERVER, ControlPlane

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

RECORD = Path(__file__).resolve().parents[1] / "docs" / "reliability.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-faults",
        action="store_true",
        help="write what became of the tests marked `fault` into docs/reliability.json",
    )
    parser.addoption(
        "--kubernetes",
        choices=sorted(tools.api_servers()),
        help="against the API server of this minor version, without controllers, instead of "
        "the cluster's; for the tests of `make test-matrix`",
    )


@pytest.fixture(scope="session")
def plane(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ControlPlane]:
    """A control plane that belongs to the tests alone."""
    minor = request.config.getoption("--kubernetes")
    server = tools.api_servers()[minor] if minor else API_SERVER
    found = ControlPlane(tmp_path_factory.mktemp("plane"), server)
    try:
        found.start()
        yield found
    finally:
        found.stop()


class Recorder:
    """One row for a fault, over all the tests that name it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report: Any = yield
        mark = item.get_closest_marker("fault")
        if mark is not None and (report.when == "call" or report.failed):
            fault, expected = mark.args
            self._add(fault, expected, report)
        return report

    def _add(self, fault: str, expected: str, report: Any) -> None:
        row = self.rows.setdefault(fault, {"expected": expected, "passed": 0, "failed": 0})
        row["passed" if report.passed else "failed"] += 1
        row["where"] = report.nodeid.partition("::")[0]
        told = [str(value) for name, value in report.user_properties if name == "happened"]
        if told:
            row["happened"] = "; ".join([each for each in (row.get("happened"), *told) if each])

    def pytest_sessionfinish(self) -> None:
        """Rows of tests that were not run stay; processes of one run take turns."""
        with RECORD.open("r+") as record:
            fcntl.flock(record, fcntl.LOCK_EX)
            rows = json.load(record) | self.rows
            text = json.dumps(rows, indent=1, ensure_ascii=False, sort_keys=True)
            record.seek(0)
            record.truncate()
            record.write(text + "\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that train go first: the long ones at the end would leave cores without work."""
    long = {item.path for item in items if item.get_closest_marker("training")}
    items.sort(key=lambda item: item.path not in long)


# The same cases in every run: what is found by luck belongs to `make fuzz`, not to whoever tests.
settings.register_profile(
    "on a busy machine", deadline=None, derandomize="FUZZ" not in os.environ, database=None
)
settings.load_profile("on a busy machine")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control lets its background commands ignore Ctrl-C, and they their own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--record-faults"):
        config.pluginmanager.register(Recorder())
