"""What a tokenizer is made of lies in its model's folder, whatever its settings say."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.tokenizer_settings import FILES, named_file

SECRETS = "/proc/self/environ"


def named(folder: Path, settings: Any, file: str = FILES[0]) -> str:
    (folder / file).write_text(json.dumps(settings))
    return named_file(folder / name for name in FILES)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "settings",
    [
        {"vocab": SECRETS},
        {"merges_file": os.path.relpath(SECRETS)},
        {"init_inputs": [SECRETS]},
        {"sp_model_kwargs": {"model_file": SECRETS}},
        {"vocab": "/dev/stdin"},
        {"vocab": "/proc/self/task/0/environ"},  # Of a thread that is not there yet.
    ],
)
def test_a_file_of_somebody_elses_is_told(tmp_path: Path, settings: Any, file: str) -> None:
    (name,) = settings
    assert named(tmp_path, settings, file).startswith(f"{file}: {name} names the file ")


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab_file": "vocab.txt", "name_or_path": ".", "eos_token": "</s>"},
        {"tokenizer_file": SECRETS, "special_tokens_map_file": SECRETS},
        {"vocab": {"a": 0}, "model_max_length": 8, "bos_token": {"content": "<s>"}},
        {"chat_template": "x" * 5000, "vocab": "x" * 5000, "merges": "\0"},
        ["/proc/self/environ"],
    ],
)
def test_other_settings_are_left_alone(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocab.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    assert named(tmp_path, settings) == ""


def test_the_models_own_name_may_be_a_link_to_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocab.txt").symlink_to(SECRETS)
    monkeypatch.chdir(tmp_path)
    assert named(tmp_path, {"vocab": "vocab.txt"}) != ""


def test_what_is_no_json_is_not_judged_here(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).write_text("{")
    (tmp_path / FILES[1]).write_bytes(b"\xff")
    assert named_file(tmp_path / name for name in FILES) == ""
