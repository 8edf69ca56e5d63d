"""The workflow for GitHub: it runs what the README names, and nothing that may change under it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOB = WORKFLOW["jobs"]["test"]


@pytest.mark.parametrize("target", JOB["strategy"]["matrix"]["target"])
def test_each_target_is_the_makefiles(target: str) -> None:
    assert f"\n{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_actions_are_named_by_commits() -> None:
    used = [step["uses"] for step in JOB["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", each) for each in used)
    assert len(re.findall(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", TEXT)) == len(used)


def test_a_pull_request_gets_no_more_than_to_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets." not in TEXT
    assert "pull_request_target" not in TEXT
