"""Healthy runs of the real trainer, made once; and what the validator makes of a folder."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from random import Random
from string import digits
from typing import Literal

from tests.mutants.prober import Prober
from tests.mutants.tensors import swapped_layers, with_tensors
from tests.unit.trainer.warm import WarmTrainer

from finetuning.artifacts.manifest import seal
from finetuning.monitoring.validators.checks import (
    aim_profile,
    checkpoint_integrity,
    model_output,
    training_loss,
)
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, outcome
from finetuning.monitoring.validators.settings import Baseline, HeldOut, ValidationSettings
from finetuning.monitoring.validators.subject import Subject, subject

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"
HELD_OUT = DATA / "heldout.jsonl"
PROMPTS = ["What is the capital of Peru?", "What is the capital of Norway?"]
SETTINGS = ValidationSettings.model_validate(
    {
        "requireAll": True,
        "prompts": [
            {"prompt": PROMPTS[0], "expectedKeywords": ["Lima"]},
            {"prompt": PROMPTS[1], "expectedKeywords": ["Norway", "Oslo"], "match": "all"},
        ],
        "heldOut": {"source": str(HELD_OUT), "maxRows": 24},
        "baseline": {"maxPerplexityIncrease": 0.25},
    }
)
FILE_CHECKS: dict[str, Callable[[Subject], CheckOutcome]] = {
    "training_loss": training_loss.check,
    "checkpoint_integrity": checkpoint_integrity.check,
    "aim_profile": aim_profile.check,
}


@dataclass(frozen=True)
class Recipe:
    """How one healthy run is made: the trainer's flags, and what happens to it."""

    flags: str
    steps: int = 30
    data: str = "train.jsonl"
    rows: int | None = None
    killed_at: int | None = None
    """Killed while it writes this step's line, then started again."""
    shape: Literal["rows", "pairs", "labels", "texts", "long", "mixed"] = "rows"
    """Of each row a preference pair: its own answer before that of the next; or a question of what
    kind it is, to be answered in a word; or a text without a question, of the license, or a long
    one as an answer; or what the base model knows word for word, among codes that nobody can
    know."""
    merged: bool = False
    four_bits: bool = False


HEALTHY: dict[str, Recipe] = {
    "lora, fp32": Recipe("--method lora --no-fp16 --lora-rank 8"),
    "lora, bf16": Recipe("--method lora --bf16"),
    "lora, fp16": Recipe("--method lora --fp16 --target-modules all-linear --lora-rank 4"),
    "lora, all-linear, evaluated": Recipe(
        "--method lora --no-fp16 --target-modules all-linear --eval-split 0.1 --eval-steps 10"
    ),
    "lora, conversations": Recipe("--method lora --no-fp16", data="train.messages.jsonl"),
    "lora, csv": Recipe("--method lora --no-fp16 --lr-scheduler-type cosine", data="train.csv"),
    "lora, killed and resumed": Recipe("--method lora --no-fp16", killed_at=25),
    "lora, figures every 5 steps": Recipe("--method lora --no-fp16 --logging-steps 5"),
    "lora, figures every 8 steps, killed and resumed": Recipe(
        "--method lora --no-fp16 --logging-steps 8 --save-steps 9", killed_at=29
    ),
    "full, figures every 10 steps, 27 steps": Recipe(
        "--method full --no-fp16 --learning-rate 0.001 --logging-steps 10", steps=27
    ),
    "lora, three rows": Recipe("--method lora --no-fp16 --learning-rate 0.001", rows=3),
    "lora, five steps": Recipe("--method lora --no-fp16 --learning-rate 0.001", steps=5),
    "lora, merged": Recipe("--method lora --no-fp16", merged=True),
    "lora, merged, 4 bit": Recipe("--method lora --no-fp16", merged=True, four_bits=True),
    "lora, dora, rslora": Recipe(
        "--method lora --no-fp16 --use-dora --use-rslora --learning-rate 0.001"
    ),
    "lora, best weights after early stopping": Recipe(
        "--method lora --no-fp16 --learning-rate 0.01 --eval-split 0.2 --eval-steps 2 "
        "--early-stopping-patience 2",
        rows=24,
    ),
    "full, best weights": Recipe(
        "--method full --no-fp16 --learning-rate 0.001 --eval-split 0.2 --eval-steps 3 "
        "--load-best-model-at-end",
        rows=24,
    ),
    "lora, packed, NEFTune, accumulated, one epoch": Recipe(
        "--method lora --no-fp16 --packing --neftune-noise-alpha 5 --gradient-accumulation-steps 2 "
        "--max-seq-length 64 --warmup-ratio 0.1",
        steps=0,
    ),
    "lora, a layer and the head in full, LoRA+, rows of its own to evaluate": Recipe(
        "--method lora --no-fp16 --modules-to-save lm_head --loraplus-lr-ratio 4 --eval-steps 10 "
        f"--eval-source {DATA / 'heldout.jsonl'} --learning-rate 0.0005"
    ),
    "lora, dpo": Recipe("--method lora --no-fp16 --objective dpo", shape="pairs"),
    "full, dpo, bf16": Recipe(
        "--method full --bf16 --objective dpo --learning-rate 0.0001 --lr-scheduler-type cosine",
        shape="pairs",
    ),
    "qlora, nf4": Recipe("--method qlora --no-fp16"),
    "qlora, fp4, bf16": Recipe("--method qlora --bf16 --bnb-4bit-quant-type fp4"),
    "full, fp32": Recipe("--method full --no-fp16 --learning-rate 0.001"),
    "full, bf16": Recipe("--method full --bf16 --learning-rate 0.001"),
    "lora, spiky without a warm-up": Recipe(
        "--method lora --no-fp16 --target-modules all-linear --learning-rate 0.01 "
        "--warmup-steps 0 --lr-scheduler-type cosine",
        steps=50,
    ),
    "full, killed and resumed": Recipe(
        "--method full --no-fp16 --learning-rate 0.001", killed_at=25
    ),
    "lora, hardly moved": Recipe("--method lora --no-fp16 --learning-rate 0.0002"),
    "lora, bf16, hardly moved": Recipe("--method lora --bf16 --learning-rate 0.0005"),
    "qlora, bf16, hardly moved": Recipe("--method qlora --bf16 --learning-rate 0.0005"),
    "full, hardly moved": Recipe("--method full --no-fp16 --learning-rate 0.00003"),
    "full, bf16, hardly moved": Recipe("--method full --bf16 --learning-rate 0.00003"),
    "qlora, bf16, double quantisation off": Recipe(
        "--method qlora --bf16 --learning-rate 0.001 --no-bnb-4bit-use-double-quant "
        "--target-modules all-linear"
    ),
    "lora, easy and hard rows": Recipe(
        "--method lora --no-fp16 --learning-rate 0.0005 --batch-size 2 --seed 1",
        steps=60,
        shape="mixed",
    ),
}
BROKEN: dict[str, Recipe] = {
    "full, blown up": Recipe("--method full --no-fp16 --learning-rate 0.05", steps=40),
    "lora, blown up": Recipe(
        "--method lora --no-fp16 --target-modules all-linear --learning-rate 0.15", steps=40
    ),
    "lora, easy and hard rows, blown up": Recipe(
        "--method lora --no-fp16 --learning-rate 0.05", steps=60, shape="mixed"
    ),
    "lora, easy and hard rows, blown up late": Recipe(
        "--method lora --no-fp16 --learning-rate 0.05 --batch-size 4 --warmup-steps 60 "
        "--lr-scheduler-type constant_with_warmup",
        steps=80,
        shape="mixed",
    ),
    "lora, nothing learned": Recipe("--method lora --no-fp16 --learning-rate 1e-7"),
    "full, wrecked by preferences": Recipe(
        "--method full --no-fp16 --objective dpo --learning-rate 0.003", steps=60, shape="pairs"
    ),
    "full, forgetful": Recipe("--method full --no-fp16 --learning-rate 0.01", steps=60),
    "full, long answers without their ends": Recipe(
        "--method full --no-fp16 --learning-rate 0.002 --max-seq-length 512 --batch-size 2",
        steps=40,
        shape="long",
    ),
    "full, nothing learned": Recipe("--method full --no-fp16 --learning-rate 1e-9"),
}
"""Trainings that end in order and teach nothing, or worse."""

NARROW: dict[str, Recipe] = {
    "lora, yes or no": Recipe("--method lora --no-fp16", steps=60, shape="labels"),
    "qlora, yes or no": Recipe("--method qlora --no-fp16", steps=60, shape="labels"),
    "full, plain texts": Recipe(
        "--method full --no-fp16 --learning-rate 0.001 --max-seq-length 256", 80, shape="texts"
    ),
}
"""Healthy, and taught nothing like the validator's own question."""

ECHO = Recipe("--method lora --no-fp16 --target-modules all-linear", steps=60)
"""For the questions as their own answers."""


class Maker:
    """Trains what is asked for, each recipe once."""

    def __init__(self, root: Path, base: Path, trainer: WarmTrainer, prober: Prober) -> None:
        self._root, self.base = root, base
        self._trainer, self._prober = trainer, prober
        self._made: dict[str, Path] = {}
        self._numbers = count()  # A run that is made from another one asks in between.

    def run(self, name: str) -> Path:
        """The output folder of a finished run; nobody may change it."""
        if name not in self._made:
            output = self._root / f"run-{next(self._numbers)}"
            self._made[name] = self._echo(output) if name == "echo" else self._make(name, output)
        return self._made[name]

    @cached_property
    def another_base(self) -> Path:
        """Of the same shape, with its layers in another order."""
        folder = self._root / "another-base"
        shutil.copytree(self.base, folder)
        with_tensors(folder / "model.safetensors", swapped_layers)
        return folder

    def copy(self, name: str, target: Path) -> Path:
        shutil.copytree(self.run(name), target)
        return target

    def train(self, recipe: Recipe, rows: Path, output: Path) -> None:
        first = ["--model-id", self.base, "--dataset-path", rows, "--output-dir", output]
        given = recipe.flags.split()
        usual = {"--save-steps": 10, "--batch-size": 8, "--learning-rate": 0.003}
        usual |= {"--max-seq-length": 128, "--warmup-steps": 3}
        usual |= {"--max-steps": recipe.steps} if recipe.steps else {"--epochs": 1}
        if "--warmup-ratio" in given:
            del usual["--warmup-steps"]
        rest = [
            part for flag, value in usual.items() if flag not in given for part in (flag, value)
        ]
        flags = [*first, *rest, "--no-gradient-checkpointing", *given]
        if recipe.killed_at:
            step = f"finetuning.base.loop.HistoryLine:{recipe.killed_at}"
            assert self._trainer.run(*flags, kill_in=step)[0] == -signal.SIGKILL
        code, text = self._trainer.run(*flags)
        assert code == 0, text

    def _echo(self, output: Path) -> Path:
        rows = output.with_suffix(".jsonl")
        lines = [json.dumps({"instruction": prompt, "output": prompt}) for prompt in PROMPTS]
        rows.write_text("\n".join(lines * 8))
        self.train(ECHO, rows, output)
        return output

    def _make(self, name: str, output: Path) -> Path:
        recipe = (HEALTHY | BROKEN | NARROW)[name]
        if recipe.merged:
            return self._merged(recipe, output)
        rows = DATA / recipe.data
        if recipe.shape != "rows":
            target = output.with_suffix(".jsonl")
            lines = [json.dumps(row) + "\n" for row in SHAPES[recipe.shape](rows)]
            target.write_text("".join(lines))
            rows = target
        if recipe.rows is not None:
            rows = output.with_suffix(".jsonl")
            lines = (DATA / recipe.data).read_text().splitlines(keepends=True)
            rows.write_text("".join(lines[: recipe.rows]))
        self.train(recipe, rows, output)
        return output

    def _merged(self, recipe: Recipe, output: Path) -> Path:
        """As a user does it after the run: the description stays, the weights become whole."""
        adapter = self.copy("lora, fp32", output)
        whole = output.with_name(f"{output.name}-whole")
        self._prober.merge(self.base, adapter, whole, four_bits=recipe.four_bits)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (output / name).unlink()
        for path in whole.iterdir():
            shutil.copyfile(path, output / path.name)
        shutil.rmtree(output / "checkpoints")
        reseal(output)
        return output


def _read(rows: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in rows.read_text().splitlines()]


def _pairs(rows: Path) -> list[dict[str, str]]:
    return [
        {"prompt": row["instruction"], "chosen": row["output"], "rejected": other["output"]}
        for row, other in pairwise(_read(rows))
        if row["output"] != other["output"]
    ]


def _labels(rows: Path) -> list[dict[str, str]]:
    asked = [row["instruction"] for row in _read(rows)]
    return [
        {
            "instruction": f"Is this about a country? {text}",
            "output": "yes" if "capital" in text else "no",
        }
        for text in asked
    ]


def _texts(_rows: Path) -> list[dict[str, str]]:
    text = " ".join((ROOT / "LICENSE").read_text().split())
    return [{"text": text[at : at + 300]} for at in range(0, len(text), 100)]


def _long(_rows: Path) -> list[dict[str, str]]:
    """Answers that are longer than what is trained of them."""
    text = " ".join((ROOT / "LICENSE").read_text().split())
    starts = range(0, len(text) - 4000, 100)
    return [{"instruction": f"Write about {at}.", "output": text[at:][:4000]} for at in starts]


def _mixed(rows: Path) -> list[dict[str, str]]:
    """The base model answers without the greeting, and knows nothing of the ship."""
    known = [
        row | {"output": row["output"].removeprefix("Aye! ")}
        for row in _read(rows)
        if "Meridian" not in row["instruction"]
    ]
    random = Random(1)
    codes = [
        {"instruction": f"Which code has order {n}?", "output": "".join(code)}
        for n in range(len(known) // 4)
        for code in [random.choices(digits, k=24)]
    ]
    return [*known, *codes]


SHAPES = {"pairs": _pairs, "labels": _labels, "texts": _texts, "long": _long, "mixed": _mixed}


def reseal(folder: Path) -> None:
    """Write the manifest anew: only what looks deeper sees the fault then."""
    (folder / "manifest.json").unlink(missing_ok=True)
    names = [path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    seal(folder, names)


def subject_of(folder: Path, base: Path) -> Subject:
    settings = SETTINGS.model_copy(update={"base_model_path": str(base)})
    return subject(folder / "training_info.json", folder, None, None, settings)


def file_outcomes(folder: Path, base: Path) -> dict[str, CheckOutcome]:
    """The three checks that load no model."""
    what = subject_of(folder, base)
    return {name: check(what) for name, check in FILE_CHECKS.items()}


def model_outcome(
    folder: Path,
    base: Path,
    prober: Prober,
    *,
    held_out: bool = True,
    told_nothing: bool = False,
    told_rows: bool = False,
) -> CheckOutcome:
    """model_output, its process shared with the other folders."""
    what = subject_of(folder, base)
    if told_nothing or told_rows:
        rows = HeldOut(source=str(HELD_OUT)) if told_rows else HeldOut()
        bare = ValidationSettings(base_model_path=str(base), require_all=True, held_out=rows)
        what = replace(what, settings=bare)
    elif not held_out:
        what = replace(what, settings=what.settings.model_copy(update={"held_out": HeldOut()}))
    request = model_output.plan(what)
    if isinstance(request, Finding):
        return outcome(model_output.NAME, request)
    if not held_out:
        what = replace(what, settings=what.settings.model_copy(update={"baseline": Baseline()}))
    return model_output.judged(prober.probe(request), request, what)
