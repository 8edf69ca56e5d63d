"""What documentation and examples show: manifests of FineTuningJobs, and commands."""

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


def blocks(text: str) -> list[str]:
    """The shell blocks of a page; of a console only what was typed."""
    found = []
    fence = r"^```(bash|sh|console)\n(.*?)^```"
    for kind, block in re.findall(fence, text, re.MULTILINE | re.DOTALL):
        found.append("\n".join(_typed(block)) if kind == "console" else block)
    return found


def _typed(block: str) -> Iterator[str]:
    """The lines behind a prompt, and those that they go on in."""
    goes_on = False
    for line in block.splitlines():
        if goes_on or line.startswith("$ "):
            yield line
            goes_on = line.endswith("\\")


def commands(text: str) -> list[str]:
    """One line per command: continuations joined, prompts, comments and here-documents gone."""
    found = []
    for block in blocks(text):
        whole = re.sub(r"<<\s*'?(\w+)'?.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in whole.replace("\\\n", " ").splitlines():
            words = re.sub(r"\s+#\s.*$", "", line.strip().removeprefix("$ "))
            if words and not words.startswith("#"):
                found.append(re.sub(r"\s+", " ", words))
    return found
