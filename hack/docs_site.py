"""What mkdocs cannot know from mkdocs.yml alone; `make docs` loads this file as a hook.

Links that leave docs/ work where the repository is read as it is. On the site they lead there.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DECISIONS = "Decisions"
_CELL = re.compile(r"<td.*?</td>", re.DOTALL)
_NUMBER = re.compile(r"^# (\d+\. )?")
_LEAVING = re.compile(r"\]\((\.\./[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """The repository's address, and every decision in the navigation by its number."""
    # Not as repo_url: for that the theme asks the host of the repository for stars and releases.
    link = {"icon": "fontawesome/brands/github", "link": repository(), "name": "Sources"}
    config.extra["social"] = [link]
    for section in config.nav:
        if DECISIONS in section:
            section[DECISIONS] = decisions(Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    return leading_out(markdown, page.file.src_uri)


def on_page_content(html: str, **_: Any) -> str:
    return unescaped(html)


@cache
def repository() -> str:
    """Address of the sources, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["urls"]["Source"])


def decisions(docs: Path) -> list[dict[str, str]]:
    """Title with the number, and the page below docs/."""
    pages = sorted((docs / "decisions").glob("*.md"))
    return [{_title(page): page.relative_to(docs).as_posix()} for page in pages]


def _title(page: Path) -> str:
    heading = page.read_text(encoding="utf-8").partition("\n")[0]
    return f"{page.name[:4]} {_NUMBER.sub('', heading)}"


def leading_out(markdown: str, page: str) -> str:
    """The text of a page (its path below docs/) with absolute links to what is not below docs/."""

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link[1]))
        if path.startswith(("docs/", "../")):
            return link[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({repository()}/{kind}/main/{path})"

    return _LEAVING.sub(absolute, markdown)


def unescaped(html: str) -> str:
    r"""HTML with `|` for the `\|` that code in a cell needs: Python's Markdown shows both signs."""
    return _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)
