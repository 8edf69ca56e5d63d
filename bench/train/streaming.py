"""Reading and encoding a data set that stays on the disk, beside the same one in memory.

Usage: python -m bench.train.streaming [--megabytes N] [--rounds N]. The whole data check of the
trainer (`--check-data`) in a process of its own each; peak memory above that of a check of few rows
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORDS = "Where is the capital of Peru? It is Lima, far away by the sea. "


def write_rows(path: Path, size: int) -> Path:
    """Rows of about 0.8 kB that all differ."""
    row = 12 * len(WORDS)
    rows = ({"prompt": f"{n} {6 * WORDS}", "completion": 6 * WORDS} for n in range(size // row))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in rows)
    return path


def check(model: Path, rows: Path, *, stored: bool) -> dict[str, float]:
    """Megabytes at most, processor seconds and seconds of one check."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "bench.train.streaming", "--one", str(model), str(rows)]
    done = subprocess.run(
        [*command, "stored" if stored else "memory"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"wall": time.perf_counter() - began}


def one(model: str, data: str, where: str) -> None:
    """What the process of `check` does."""
    from bench.train.sides import peak_rss  # noqa: PLC0415

    # What loads here is measured.
    from finetuning.base.app import main as trainer  # noqa: PLC0415
    from finetuning.dataset import files  # noqa: PLC0415

    files.IN_MEMORY_BYTES = -1 if where == "stored" else 1 << 60
    with tempfile.TemporaryDirectory() as output:
        words = ["--model-id", model, "--dataset-path", data, "--output-dir", output]
        if trainer([*words, "--check-data"]):
            raise SystemExit(1)
    print(json.dumps({"memory": peak_rss() / 1e6, "cpu": time.process_time()}))


def table(found: dict[bool, list[dict[str, float]]], floor: float, size: float) -> None:
    print(f"{size:.0f} MB of rows; above a check of ten rows ({floor:.0f} MB)")
    print(f"{'':<10}{'peak MB':>10}{'of file':>10}{'CPU s':>10}{'s':>10}")
    for stored, runs in found.items():
        median: dict[str, Any] = {
            key: statistics.median(run[key] for run in runs) for key in runs[0]
        }
        more = median["memory"] - floor
        name = "on disk" if stored else "in memory"
        print(
            f"{name:<10}{more:>10.0f}{more / size:>10.2f}{median['cpu']:>10.1f}"
            f"{median['wall']:>10.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one", nargs=3, metavar="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        command = [sys.executable, "-m", "bench.train.material", folder, "tiny"]
        subprocess.run(command, check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
        few = write_rows(root / "few.jsonl", 9000)
        many = write_rows(root / "many.jsonl", options.megabytes * 1_000_000)
        floor = check(root / "tiny", few, stored=False)["memory"]
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(options.rounds):
            for stored in (False, True):
                found[stored].append(check(root / "tiny", many, stored=stored))
        table(found, floor, many.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
