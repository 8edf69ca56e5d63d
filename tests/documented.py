"""The manifests of FineTuningJobs that documentation and examples show."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown_jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of the pages: where one stands, and the whole manifest; parts of one are left out."""
    for page in PAGES:
        for text in _BLOCK.findall(page.read_text()):
            for body in _jobs(text):
                yield f"{page.name}: {body['metadata']['name']}", body


def example_jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of the files in examples/, at any depth."""
    folder = ROOT / "examples"
    for path in sorted(folder.rglob("*.yaml")):
        for body in _jobs(path.read_text()):
            yield path.relative_to(folder).as_posix(), body


def _jobs(text: str) -> Iterator[dict[str, Any]]:
    for body in yaml.safe_load_all(text):
        if isinstance(body, dict) and body.get("kind") == "FineTuningJob":
            yield body
