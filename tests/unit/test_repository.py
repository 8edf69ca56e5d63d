"""Rules of the repository that no linter knows."""

import ast
import re
import statistics
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("operator", "trainer", "sidecar")


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, or every file where this is no git checkout."""
    done = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    named = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in named if path.is_file()]


def python_sources() -> list[Path]:
    return [p for root in SOURCES for p in (ROOT / root).rglob("*.py")]


def function_lengths() -> list[tuple[int, str]]:
    """Lines of each function, its docstring left out."""
    found = []
    for path in python_sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = node.body[0]
                has_doc = ast.get_docstring(node) is not None
                skipped = (doc.end_lineno or 0) - doc.lineno + 1 if has_doc else 0
                length = (node.end_lineno or 0) - node.lineno + 1 - skipped
                found.append((length, f"{path.relative_to(ROOT)}:{node.name}"))
    return found


def test_nothing_hides_the_namespace_or_the_standard_librarys_operator() -> None:
    forbidden = [ROOT / "operator" / "__init__.py"]
    forbidden += [ROOT / root / "finetuning" / "__init__.py" for root in SOURCES]
    assert [path for path in forbidden if path.exists()] == []


def test_the_changelog_begins_with_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_files_stay_readable_in_one_sitting() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in python_sources()}
    assert {str(p): n for p, n in lines.items() if n > 500} == {}


def test_functions_stay_small() -> None:
    lengths = sorted(n for n, _ in function_lengths())
    assert statistics.median(lengths) <= 8
    assert lengths[int(len(lengths) * 0.9)] <= 30
    assert [where for n, where in function_lengths() if n > 60 and "train.py" not in where] == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later_in_the_code(word: str) -> None:
    marked = [str(p) for p in python_sources() if re.search(rf"\b{word}\b", p.read_text())]
    assert marked == []


def test_lock_files_hold_hashes_and_no_download_addresses() -> None:
    locks = sorted((ROOT / "requirements").glob("*.lock"))
    assert len(locks) == 7
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        assert text.count("--hash=sha256:") > text.count("=="), lock


def test_make_help_lists_every_target_of_the_readme() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = chain([ROOT / "README.md", ROOT / "CONTRIBUTING.md"], (ROOT / "docs").rglob("*.md"))
    named = {m for p in texts for m in re.findall(r"`?\bmake ([a-z]+(?:-[a-z]+)*)`", p.read_text())}
    assert named <= set(re.findall(r"^  ([a-z-]+) ", listed.stdout, re.MULTILINE))


def test_every_page_is_found_from_the_sites_navigation() -> None:
    """Decisions are added by the site itself."""
    docs = ROOT / "docs"
    pages = [p.relative_to(docs).as_posix() for p in tracked("docs/*.md")]
    listed = re.findall(
        r"^ +- (?:Home: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(p for p in pages if not p.startswith("decisions/"))
