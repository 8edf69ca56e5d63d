"""What a run does not need is not loaded."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetuning.artifacts.spared import load, without_bitsandbytes
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


SEES = """
import gc
seen = gc.isenabled()
ring = []
ring.append(ring)
{ending}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that tells whether the collector was on when it was loaded."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "seen_by_a_test.py").write_text(SEES.format(ending=""), encoding="utf-8")
    yield "seen_by_a_test"
    sys.modules.pop("seen_by_a_test", None)
    gc.unfreeze()


def test_nothing_is_collected_while_libraries_load(module: str) -> None:
    before = gc.get_freeze_count()
    load(module)
    assert not sys.modules[module].seen
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    ring = sys.modules[module].ring
    assert all(each is not ring for each in gc.get_objects()), "the collector looks at it no more"


def test_what_is_there_is_not_frozen_again(module: str) -> None:
    load(module)
    before = gc.get_freeze_count()
    kept = [[number] for number in range(100)]
    load(module)
    assert gc.get_freeze_count() <= before, kept


@pytest.mark.usefixtures("module")
def test_a_module_that_fails_to_load_leaves_the_collector_on(tmp_path: Path) -> None:
    (tmp_path / "broken_by_a_test.py").write_text(SEES.format(ending="1 / 0"), encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        load("broken_by_a_test")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(module: str) -> None:
    gc.disable()
    try:
        load(module)
        assert not gc.isenabled()
    finally:
        gc.enable()
