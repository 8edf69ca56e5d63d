"""Every command in README and docs is run by a test: here, or in the one that is named here.

A command that no line below knows fails the build, so that nobody documents what nobody runs.
"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    p
    for p in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "charts/finetuning-operator/README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    if p.exists() and "decisions" not in p.parts
)

RUN_ELSEWHERE: dict[str, str] = {}
"""Pattern of a command: the test that runs it, as file::name below tests/."""


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page."""
    fence = r"^```(?:bash|sh|console)\n(.*?)^```"
    return re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """One line per command: continuations joined, prompts, comments and here-documents gone."""
    found = []
    for block in blocks(page):
        text = re.sub(r"<<\s*'?(\w+)'?.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in text.replace("\\\n", " ").splitlines():
            words = re.sub(r"\s+#\s.*$", "", line.strip().removeprefix("$ "))
            if words and not words.startswith("#"):
                found.append(re.sub(r"\s+", " ", words))
    return found


DOCUMENTED = sorted({(str(p.relative_to(ROOT)), c) for p in PAGES for c in commands(p)})


def test_there_are_documented_commands() -> None:
    assert len(DOCUMENTED) > 20


@pytest.mark.parametrize(("page", "command"), DOCUMENTED)
def test_a_documented_command_is_run_by_a_test(page: str, command: str) -> None:
    if command.startswith("make "):
        _make_knows(command)
        return
    where = [test for pattern, test in RUN_ELSEWHERE.items() if re.search(pattern, command)]
    assert where, f"{page}: no test runs `{command}`; run it in one and name that test here"
    file, _, name = where[0].partition("::")
    assert f"def {name}" in (ROOT / "tests" / file).read_text(), where[0]


def _make_knows(command: str) -> None:
    """`make` itself says whether the target is there; CI and the demo's test run the big ones."""
    words = shlex.split(command)
    done = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
