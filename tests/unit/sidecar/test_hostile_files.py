"""Whatever stands in a run's files: a check passes or fails, it never breaks off."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.models import ValidationResult, render_report
from finetuning.monitoring.validators.checks import (
    aim_profile,
    checkpoint_integrity,
    training_loss,
)
from finetuning.monitoring.validators.report import html_text, json_text, last_words
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

RunOf = Callable[[str], Path]
Reseal = Callable[[Path], None]

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1e308, "", "x", "\ud800", "../../etc", [], [[1]], {}, {"a": {}},
)  # fmt: skip
FILES = {
    "lora": (
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_info.json",
        "aim_profile.json",
        "checkpoints/checkpoint-40/trainer_state.json",
    ),
    "sharded": ("config.json", "model.safetensors.index.json", "generation_config.json"),
}


def judge(folder: Path, base: Path) -> int:
    """How many checks came to an end and could be written down."""
    settings = ValidationSettings(base_model_path=str(base))
    what = subject(folder / "training_info.json", folder, None, None, settings)
    checks = (training_loss.check, checkpoint_integrity.check, aim_profile.check)
    outcomes = [check(what) for check in checks]
    result = ValidationResult(checks=list(outcomes))
    assert html_text(result, outcomes).encode()
    assert render_report(result).encode()
    assert last_words(result)
    return len(json.loads(json_text(result, outcomes).encode())["checks"])


def places(value: Any, depth: int = 2) -> Iterator[tuple[str, ...]]:
    """Paths of keys, down to where the files become lists of tokens."""
    for key in list(value)[:40] if isinstance(value, dict) and depth else ():
        yield (key,)
        yield from ((key, *rest) for rest in places(value[key], depth - 1))


def with_value(data: Any, place: tuple[str, ...], value: Any) -> Any:
    first, *rest = place
    inner = with_value(data[first], tuple(rest), value) if rest else value
    return {**data, first: inner}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in FILES.items() for name in names]
)
def test_no_value_of_any_field_breaks_a_check(
    run_of: RunOf, models: Path, reseal: Reseal, kind: str, name: str
) -> None:
    folder = run_of(kind)
    path = folder / name
    good = json.loads(path.read_text())
    for number, place in enumerate(places(good)):
        # In turn half of the values for a field of the file's own; below those, a third.
        one_in = 2 if len(place) == 1 else 3
        for value in VALUES[number % one_in :: one_in]:
            path.write_text(json.dumps(with_value(good, place, value)))
            reseal(path.parent)
            assert judge(folder, models / "base") == 3, (place, value)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", [name for names in FILES.values() for name in names])
def test_no_whole_file_breaks_a_check(
    run_of: RunOf, models: Path, reseal: Reseal, name: str, value: Any
) -> None:
    folder = run_of("lora" if name in FILES["lora"] else "sharded")
    (folder / name).write_text(json.dumps(value))
    reseal((folder / name).parent)
    assert judge(folder, models / "base") == 3


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1e400, "loss": 1}',
        '{"step": 1, "epoch": 0, "loss": 1e400, "learning_rate": 0, "tokens": 0}',
        '{"step": 99999999999999999999, "epoch": 0, "loss": 1, "learning_rate": 0, "tokens": 0}',
        '{"step": 1, "epoch": 0, "loss": 1, "learning_rate": 0, "tokens": 0, "eval_loss": -1e308}',
        "[" * 10_000,
        "\x00",
    ],
)
def test_no_line_of_the_history_breaks_a_check(run_of: RunOf, models: Path, line: str) -> None:
    folder = run_of("lora")
    (folder / "loss_history.jsonl").write_text(f"{line}\n" * 5)
    assert judge(folder, models / "base") == 3
