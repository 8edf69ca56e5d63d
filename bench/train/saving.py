"""What a checkpoint costs the training: steps timed with the writing beside them, and in their way.

Usage: python -m bench.train.saving [--rounds N]. Full tuning of a model of 10 M parameters, 4 x 256
tokens, a checkpoint of 120 MB every 8 of 32 steps, on the disk of $TMPDIR.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

STEPS, SAVE_STEPS = 32, 8


def make_model(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - takes seconds
    from transformers import (  # noqa: PLC0415 - takes seconds
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=letters[0], pad_token=letters[1]
    ).save_pretrained(folder)
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": "ab" * 200}) + "\n" for _ in range(32)))
    return folder


@contextmanager
def timed(*, beside: bool) -> Iterator[list[float]]:
    """Collects when each step begins; without `beside`, training waits for the disk."""
    from finetuning.base import saver, step  # noqa: PLC0415 - takes seconds

    began: list[float] = []
    real, free = step.Stepper.step, saver.free_memory

    def stepping(self: Any, *args: Any) -> Any:
        began.append(time.perf_counter())
        return real(self, *args)

    step.Stepper.step = stepping  # type: ignore[method-assign]
    saver.free_memory = free if beside else (lambda: 1)
    try:
        yield began
    finally:
        step.Stepper.step = real  # type: ignore[method-assign]
        saver.free_memory = free


def intervals(model: Path, *, beside: bool) -> dict[str, float]:
    """Seconds: an ordinary step, a step with its save, and the whole run's steps."""
    from finetuning.base.app import main  # noqa: PLC0415 - takes seconds

    with tempfile.TemporaryDirectory() as output, timed(beside=beside) as began:
        where = (
            "--model-id",
            model,
            "--dataset-path",
            model / "rows.jsonl",
            "--output-dir",
            output,
        )
        steps = ("--max-steps", STEPS, "--save-steps", SAVE_STEPS, "--batch-size", 4)
        more = ("--max-seq-length", 256, "--method", "full", "--no-fp16")
        if main([str(arg) for arg in (*where, *steps, *more)]):
            raise SystemExit(1)
    gaps = [after - before for before, after in pairwise(began)]
    saving = [gap for n, gap in enumerate(gaps, 1) if n % SAVE_STEPS == 0]
    behind = [gap for n, gap in enumerate(gaps, 1) if n % SAVE_STEPS in {1, 2} and n > SAVE_STEPS]
    plain = [gap for n, gap in enumerate(gaps, 1) if n % SAVE_STEPS > 3 or 1 < n < SAVE_STEPS]  # noqa: PLR2004
    return {
        "plain": statistics.median(plain),
        "saving": statistics.median(saving),
        "after": statistics.median(behind),
        "all": began[-1] - began[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder))
        found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for _ in range(rounds):
            for beside in (False, True):
                found[beside].append(intervals(model, beside=beside))
    logging.shutdown()
    print(f"{'':<10}{'step':>10}{'with save':>12}{'two after':>12}{'31 steps':>12}   (seconds)")
    for beside, runs in found.items():
        figures = [statistics.median(run[key] for run in runs) for key in runs[0]]
        name = "beside" if beside else "waiting"
        print(
            f"{name:<10}"
            + "".join(
                f"{value:>{w}.3f}" for value, w in zip(figures, (10, 12, 12, 12), strict=True)
            )
        )


if __name__ == "__main__":
    main()
