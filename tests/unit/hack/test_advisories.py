"""What `make audit` says of pip-audit's report, and when it fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from hack.advisories import main, told

GOOD = {"name": "kopf", "version": "1.45.2", "vulns": []}
BAD = {
    "name": "torch",
    "version": "2.5.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.6.0"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
SKIPPED = {"name": "aiohttp", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        ([GOOD], 0, ["a.lock: no known vulnerability in 1 packages"]),
        (
            [GOOD, BAD],
            1,
            [
                "a.lock: torch 2.5.0: PYSEC-1, mended in 2.6.0",
                "a.lock: torch 2.5.0: PYSEC-2, mended in no version yet",
            ],
        ),
        (
            [SKIPPED, GOOD],
            0,
            ["a.lock: 1 of 2 packages were not looked up: Dependency not found on PyPI"],
        ),
    ],
)
def test_findings_alone_fail(packages: list[dict[str, Any]], code: int, lines: list[str]) -> None:
    assert told("a.lock", json.dumps({"dependencies": packages})) == (lines, code)


def test_a_finding_fails_also_where_others_were_not_looked_up() -> None:
    lines, code = told("a.lock", json.dumps({"dependencies": [SKIPPED, BAD]}))
    assert (len(lines), code) == (3, 1)


def test_an_index_that_does_not_answer_is_told_in_one_line_and_is_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("a.lock", tmp_path / "nothing.json") == 0
    told_of = "a.lock: no package was looked up: pip-audit gave no report\n"
    assert capsys.readouterr().out == told_of
