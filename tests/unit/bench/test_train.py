"""The bench of the trainer: whose turn it is, and what its figures come to."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from bench.train import page
from bench.train.table import in_markdown, in_text
from bench.train.turns import listening, take

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = f"\0tests-of-turns-{os.getpid()}"
SIDE = """
import sys
from bench.train.turns import Turns
address, name, steps, at_once, path = sys.argv[1:]
turns = Turns("\\0" + address, int(at_once))
for _ in range(int(steps)):
    turns.wait()
    open(path, "a").write(name)
"""


def side(words: tuple[str, int, int], path: Path, stack: ExitStack) -> IO[str]:
    """A process that writes its name down in every step; it answers by closing its output."""
    command = [sys.executable, "-c", SIDE, ADDRESS[1:], *map(str, words), str(path)]
    process = stack.enter_context(
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    )
    assert process.stdout is not None
    return process.stdout


def told(tmp_path: Path, *sides: tuple[str, int, int]) -> str:
    path = tmp_path / "steps"
    with ExitStack() as stack:
        place = stack.enter_context(listening(ADDRESS))
        take(place, {words[0]: partial(side, words, path, stack) for words in sides})
    return path.read_text(encoding="utf-8")


def test_sides_take_turns_and_the_longest_goes_on_alone(tmp_path: Path) -> None:
    assert told(tmp_path, ("a", 4, 1), ("b", 2, 1), ("c", 4, 2)) == "abccabccaa"


def test_a_side_without_a_first_step_leaves_the_others_theirs(tmp_path: Path) -> None:
    assert told(tmp_path, ("a", 2, 1), ("b", 0, 1), ("c", 1, 1)) == "aca"


def speed(tokens: float, memory: float, losses: float = 2.0) -> dict[str, Any]:
    figures = {"tokens_per_cpu_s": tokens, "tokens_per_s": tokens, "peak_rss_mb": memory}
    return figures | {"losses": [losses]}


def step(milliseconds: float) -> dict[str, Any]:
    return {"median_cpu_ms": milliseconds, "median_wall_ms": milliseconds}


def start(seconds: float, help_seconds: float) -> dict[str, Any]:
    times = {"cpu_s": seconds, "wall_s": seconds}
    return times | {"help_cpu_s": help_seconds, "help_wall_s": help_seconds}


MACHINE = {"date": "2026-11-30", "cores": 2, "load_before": 0.1, "threads": 1}
ROUNDS: dict[str, list[dict[str, Any]]] = {
    "full": [
        {"ours": speed(120, 70), "trl": speed(100, 100, 2.25), "bare": speed(150, 80)},
        {"ours": speed(110, 70), "trl": speed(100, 100), "bare": speed(100, 80)},
        {"ours": speed(130, 70), "trl": speed(100, 100), "bare": speed(150, 80)},
    ],
    "short": [{"ours": speed(200, 110), "trl": speed(100, 100)}],
    "fixed": [{"ours": step(5.5), "trl": step(9.0), "bare": step(5.0)}],
    "telemetry-10M": [{"ours": {"off_ms": 40.0, "added_ms": 0.2}}],
    "start": [{"ours": start(4.0, 0.2), "trl": start(16.0, 8.0)}],
}


def rows() -> dict[str, list[str]]:
    lines = in_markdown({"rounds": ROUNDS}).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_a_ratio_is_taken_within_a_round_and_told_with_its_spread() -> None:
    found = rows()
    ratio = "1.20 (1.10 to 1.30)"
    assert found["10 M, full: tokens/s over TRL's"] == ["≥ 1", ratio, ratio]
    assert found["a step of this trainer over the bare loop's"][:2] == [
        "≤ 0.5 ms",
        "0.50 ms (0.50 to 0.50)",
    ]
    share = "0.50 % of a step (0.50 to 0.50)"
    name = "metrics, state and history, model 10M, rows of 8 tokens"
    assert found[name] == ["≤ 1 % of a step", share, ""]
    assert found["time to the first loss over `trl sft`'s"][1] == "0.25 (0.25 to 0.25)"


def test_a_missed_target_is_seen() -> None:
    found = rows()
    assert found["10 M, full: tokens/s over the bare loop's"][1] == "**0.87 (0.80 to 1.10)**"
    assert found["short rows packed: peak memory over TRL's"][1] == "**1.10 (1.10 to 1.10)**"
    losses = found["10 M, full: losses differ at most from TRL's"]
    assert losses[1] == "0.0e+00 (0.0e+00 to 2.5e-01)"
    missed = [line for line in in_text({"rounds": ROUNDS}).splitlines() if "missed" in line]
    assert [line.split("  ")[0] for line in missed] == [
        "10 M, full: tokens/s over the bare loop's",
        "short rows packed: peak memory over TRL's",
    ]


def test_the_page_has_what_the_results_say() -> None:
    results = json.loads(page.RESULTS.read_text(encoding="utf-8"))
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_section(text, page.section(results)) == text, "python -m bench.train.page"
    with pytest.raises(ValueError, match="has no part between"):
        page.with_section("# A page\n", "")
