"""What a run does not need is not loaded."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import importlib.util
import sys
from pathlib import Path

import pytest

from finetuning.artifacts.spared import without_bitsandbytes
from finetuning.base.app import main


def test_bitsandbytes_is_absent_in_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.import_utils import is_bnb_available

    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with without_bitsandbytes():
        assert importlib.util.find_spec("bitsandbytes") is None
        assert not is_bnb_available()
    assert importlib.util.find_spec("bitsandbytes") is not None
    assert is_bnb_available()


def test_what_is_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", sys)
    with without_bitsandbytes():
        assert sys.modules["bitsandbytes"] is sys
    assert sys.modules["bitsandbytes"] is sys


@pytest.mark.training
def test_a_run_without_4_bit_weights_does_not_load_bitsandbytes(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    words = ["--model-id", str(tiny_model), "--dataset-path", str(rows_file), "--max-steps", "1"]
    assert main([*words, "--output-dir", str(tmp_path / "out"), "--no-fp16"]) == 0
    assert "bitsandbytes" not in sys.modules
