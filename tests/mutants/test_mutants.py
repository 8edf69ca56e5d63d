"""Every fault is seen by the check that must see it, for its reason; no healthy run is blamed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.mutants.faults import Fault, in_bf16, long_winded
from tests.mutants.hostile import changed, reversed_merges
from tests.mutants.matrix import BEGIN, END, PAGE, Matrix, blamed, in_the_docs
from tests.mutants.prober import Prober
from tests.mutants.runs import (
    HEALTHY,
    NARROW,
    Maker,
    file_outcomes,
    model_outcome,
    reseal,
    subject_of,
)
from tests.mutants.table import FAULTS

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import checkpoint_integrity

pytestmark = [pytest.mark.training, pytest.mark.long]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check}: {fault.name}")
def test_a_damaged_run_is_caught(
    fault: Fault, maker: Maker, prober: Prober, matrix: Matrix, tmp_path: Path
) -> None:
    folder = maker.copy(fault.run, tmp_path / "run")
    (tmp_path / "base").symlink_to(maker.base)
    fault.apply(folder)
    base = maker.another_base if fault.on_another_base else maker.base
    outcomes = file_outcomes(folder, base)
    if fault.loads_model:
        outcomes[fault.check] = model_outcome(
            folder,
            base,
            prober,
            held_out=fault.held_out,
            told_nothing=fault.told_nothing,
            told_rows=fault.told_rows,
        )
    matrix.add(fault, outcomes)
    found = outcomes[fault.check]
    assert found.result is CheckResult.FAIL, found.message
    assert found.reason in fault.reasons, found.message
    assert found.remedy


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_not_blamed(
    name: str, maker: Maker, prober: Prober, matrix: Matrix
) -> None:
    folder = maker.run(name)
    outcomes = file_outcomes(folder, maker.base)
    outcomes["model_output"] = model_outcome(folder, maker.base, prober)
    bare = model_outcome(folder, maker.base, prober, told_nothing=True)
    assert "NothingExpected" not in (bare.warned or [])
    rows = model_outcome(folder, maker.base, prober, told_rows=True)
    others = {"model_output, told nothing": bare, "model_output, told rows": rows}
    matrix.healthy[name] = blamed(outcomes) | blamed(others)
    assert matrix.healthy[name] == {}, {check: x.message for check, x in outcomes.items()}


@pytest.mark.parametrize("name", ["lora, fp32", "full, fp32"])
def test_a_base_model_of_links_is_as_good_as_its_files(
    name: str, maker: Maker, tmp_path: Path
) -> None:
    """As the Hub's cache keeps its models."""
    base = tmp_path / "snapshot"
    base.mkdir()
    for path in maker.base.iterdir():
        (base / path.name).symlink_to(path)
    folder = maker.copy(name, tmp_path / "run")
    assert blamed(file_outcomes(folder, base)) == {}
    changed("tokenizer.json", reversed_merges)(folder)
    reseal(folder)
    found = file_outcomes(folder, base)["checkpoint_integrity"]
    assert found.reason == "TokenizerMismatch", found.message


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_model_is_not_blamed(
    name: str, maker: Maker, prober: Prober, matrix: Matrix
) -> None:
    """Nobody has said what to ask it; a classifier may have nothing to say to a request."""
    folder = maker.run(name)
    outcomes = file_outcomes(folder, maker.base)
    outcomes["model_output"] = model_outcome(folder, maker.base, prober, told_nothing=True)
    matrix.healthy[name] = blamed(outcomes)
    assert matrix.healthy[name] == {}, {check: x.message for check, x in outcomes.items()}


def test_a_result_that_was_rounded_to_16_bits_is_its_checkpoint(
    maker: Maker, tmp_path: Path
) -> None:
    folder = maker.copy("full, fp32", tmp_path / "run")
    in_bf16(lambda _name, values: values)(folder)
    reseal(folder)
    found = file_outcomes(folder, maker.base)["checkpoint_integrity"]
    assert found.passed, found.message


def test_a_checkpoint_of_a_run_that_differs_in_a_rate_alone_is_told(
    maker: Maker, tmp_path: Path
) -> None:
    """Given by --checkpoint-path; of the same shapes, names, rows and steps."""
    others = maker.run("lora, hardly moved") / "checkpoints"
    folder = maker.run("lora, figures every 5 steps")
    shutil.copytree(others / "checkpoint-20", tmp_path / "checkpoint-20")
    judged = replace(subject_of(folder, maker.base), checkpoint_path=tmp_path)
    found = checkpoint_integrity.check(judged)
    assert found.reason == "CheckpointMismatch", found.message
    assert "loss is" in found.message
    own = folder / "checkpoints" / "checkpoint-20"
    assert checkpoint_integrity.check(replace(judged, checkpoint_path=own)).passed


def test_a_long_answer_that_ends_is_no_fault(maker: Maker, prober: Prober, tmp_path: Path) -> None:
    """Where the base model ends all its answers within the first limit."""
    folder = maker.copy("full, fp32", tmp_path / "run")
    long_winded(folder, 150)
    reseal(folder)
    found = model_outcome(folder, maker.base, prober, told_nothing=True)
    assert found.passed, found.message
    assert found.details["answers"][0]["stopped"] is True
    long_winded(folder, 1200)
    reseal(folder)
    found = model_outcome(folder, maker.base, prober, told_nothing=True)
    assert found.reason == "AnswerDoesNotStop", found.message


def test_the_documented_matrix_is_this_one(matrix: Matrix) -> None:
    """Runs last; `make mutants` writes it."""
    if os.environ.get("MUTANTS") == "write":
        pytest.skip("it is being written")
    if len(matrix.mutants) < len(FAULTS) or len(matrix.healthy) < len(HEALTHY | NARROW):
        pytest.skip("only a part was run")
    page = PAGE.read_text()
    assert BEGIN in page
    assert END in page
    assert in_the_docs(page, matrix.markdown()) == page
