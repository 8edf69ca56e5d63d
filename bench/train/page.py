"""Renews the table and the picture of docs/trainer.md from what the bench has measured.

Usage: python -m bench.train.page [RESULTS]
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.train.picture import draw
from bench.train.table import in_markdown

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "train.json"
PICTURE = ROOT / "docs" / "images" / "speed.svg"
PAGE = ROOT / "docs" / "trainer.md"
BEGIN, END = "<!-- Made by python -m bench.train.page -->\n", "<!-- to here -->\n"


def section(results: dict[str, Any]) -> str:
    """The conditions in a sentence, and the table."""
    machine = results["machine"]
    counts = sorted({len(rounds) for rounds in results["rounds"].values()})
    told = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"Measured on {machine['date']}: {machine['cores']} cores with a load of "
        f"{machine['load_before']} before it began, {machine['threads']} thread, {told} rounds; "
        "the median of the rounds and, in brackets, the lowest and the highest. What misses its "
        "target is in bold.\n\n"
        f"{in_markdown(results)}\n"
    )


def with_section(page: str, text: str) -> str:
    """The page with its generated part replaced; raises ValueError where it has none."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{PAGE} has no part between {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{BEGIN}{text}{END}{after}"


def renew(results: dict[str, Any]) -> None:
    PAGE.write_text(with_section(PAGE.read_text(), section(results)))
    draw(results["rounds"], PICTURE)


if __name__ == "__main__":
    renew(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else RESULTS).read_text()))
