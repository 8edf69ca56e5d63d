"""Where the time of a whole validation goes, for the model of the demo.

Usage: python -m bench.validate.whole [--rounds N]

Makes the demo's base model, tunes an adapter for it in a few steps, and validates the run by the
command line, in a process of its own each round. The median round counts: loading a model is the
largest part, and the whole is to be little more than that.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "examples" / "data" / "train.jsonl"
HELD_OUT = ROOT / "examples" / "data" / "heldout.jsonl"
GOAL = 0.5
"""The share that loading libraries and model must at least have."""


def make_run(root: Path) -> tuple[Path, Path]:
    """The base model and a finished run of it."""
    base, output = root / "base", root / "output"
    maker = ROOT / "examples" / "tiny-model" / "make_model.py"
    _python(maker, "--output", base)
    flags = ["--method", "lora", "--max-steps", 30, "--batch-size", 8, "--learning-rate", 0.003]
    places = ["--model-id", base, "--dataset-path", ROWS, "--output-dir", output]
    _python("-m", "finetuning.base.app", *places, *flags)
    return base, output


def _python(*arguments: Any) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def validate(base: Path, output: Path) -> dict[str, float]:
    """Seconds of the parts, and of the whole."""
    began = time.perf_counter()
    paths = ["--training-info", output / "training_info.json", "--model-path", output]
    asked = ["--prompt", "What is the capital of Peru?", "--held-out", HELD_OUT]
    module = "finetuning.monitoring.validate_job"
    text = _python("-m", module, *paths, *asked, "--base-model", base, "--json")
    whole = time.perf_counter() - began
    checks = {check["name"]: check for check in json.loads(text)["checks"]}
    model = checks.pop("model_output")
    load, answers = model["details"]["loadSeconds"], model["details"]["answerSeconds"]
    files = sum(check["seconds"] for check in checks.values())
    rest = whole - load - answers - files
    return {"load": load, "answers": answers, "files": files, "rest": rest, "whole": whole}


def main() -> int:
    """Exit code 1 when loading is not the largest part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        base, output = make_run(Path(folder))
        found = [validate(base, output) for _ in range(rounds)]
    median = sorted(found, key=lambda each: each["whole"])[rounds // 2]
    return report(median)


def report(seconds: dict[str, float]) -> int:
    names = {
        "load": "libraries and model loaded",
        "answers": "prompts and rows, both models",
        "files": "the three checks of files",
        "rest": "Python started, report written",
        "whole": "whole validation",
    }
    for name, text in names.items():
        print(f"{text:<32} {seconds[name]:6.2f} s  {seconds[name] / seconds['whole']:4.0%}")
    share = seconds["load"] / seconds["whole"]
    print(f"share of loading: {share:.2f} (goal {GOAL})")
    return int(share < GOAL)


if __name__ == "__main__":
    sys.exit(main())
