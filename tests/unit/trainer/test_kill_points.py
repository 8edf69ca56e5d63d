"""A run that is killed again and again ends as the one that never was: bit by bit, on the CPU."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import random
import signal
from pathlib import Path

import pytest
from tests.unit.trainer.warm import WarmTrainer, wait_until

from finetuning.artifacts.manifest import problem_with

pytestmark = pytest.mark.training

STEPS, SAVE_STEPS = 30, 3
DICE = random.Random(20261127)

IN_A_CHECKPOINT = {
    "before the weights": "finetuning.base.results._write_adapter:1",
    "between weights and state": "finetuning.base.checkpoints.write_json:1",
    "between the last file and the manifest": "finetuning.base.checkpoints.seal:2",
    "between manifest and rename": "finetuning.base.checkpoints.replace_folder:1",
    "just after the rename": "finetuning.base.checkpoints._delete_old:2",
}
"""The function and the number of its call, in one life of the process, that SIGKILL comes in."""


def at_a_step() -> str:
    return f"finetuning.base.step.collate:{DICE.randint(2, 2 * SAVE_STEPS)}"


POINTS = {
    "lora": [point for where in IN_A_CHECKPOINT.values() for point in (at_a_step(), where)],
    "qlora": [at_a_step(), IN_A_CHECKPOINT["between the last file and the manifest"]],
    "full": [at_a_step(), IN_A_CHECKPOINT["just after the rename"]],
}


@pytest.mark.parametrize("method", [pytest.param("lora", marks=pytest.mark.long), "qlora", "full"])
def test_the_losses_are_those_of_the_run_that_nothing_killed(
    method: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert warm.run(*command(method, tiny_model, rows_file, whole))[0] == 0
    argv = command(method, tiny_model, rows_file, killed)
    for where in POINTS[method]:
        code, output = warm.run(*argv, kill_in=where)
        assert code == -signal.SIGKILL, f"{where}: {output}"
        complete = list((killed / "checkpoints").glob("checkpoint-*"))
        assert [problem_with(path) for path in complete] == [None] * len(complete)
    code, output = warm.run(*argv)
    assert code == 0
    assert "Continuing from checkpoint-" in output
    same(killed, whole)


@pytest.mark.long
def test_a_kill_while_the_bytes_are_written_costs_no_more(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """At whatever byte the signal finds the files, three times."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert warm.run(*command("full", tiny_model, rows_file, whole))[0] == 0
    argv = command("full", tiny_model, rows_file, killed)
    for _ in range(3):
        child = warm.start(*argv)
        wait_until(lambda: any((killed / "checkpoints").glob(".tmp-*")), "a write")
        assert child.kill(signal.SIGKILL) in {-signal.SIGKILL, 0}
    assert warm.run(*argv)[0] == 0
    same(killed, whole)


def command(method: str, model: Path, data: Path, output: Path) -> list[object]:
    where = ("--model-id", model, "--dataset-path", data, "--output-dir", output)
    steps = ("--max-steps", STEPS, "--save-steps", SAVE_STEPS, "--warmup-steps", 3)
    return [*where, *steps, "--method", method, "--no-fp16", "--batch-size", 2]


def same(one: Path, other: Path) -> None:
    """Losses, rates and norms of every step, and the weights."""
    histories = [(run / "loss_history.jsonl").read_bytes() for run in (one, other)]
    assert len(histories[0].splitlines()) == STEPS
    assert histories[0] == histories[1]
    (name,) = (path.name for path in other.glob("*model.safetensors"))
    assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_merged_weights_answer_as_the_adapter_does(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    output, merged = tmp_path / "out", tmp_path / "merged"
    argv = command("lora", tiny_model, rows_file, output)
    more = ("--learning-rate", 1e-2, "--target-modules", "all-linear")
    assert warm.run(*argv, *more)[0] == 0
    ids = torch.arange(3, 67).reshape(2, 32)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        before = base(input_ids=ids).logits
        tuned = PeftModel.from_pretrained(base, output)
        adapter = tuned(input_ids=ids).logits
        tuned.merge_and_unload().save_pretrained(merged)
        again = AutoModelForCausalLM.from_pretrained(merged)(input_ids=ids).logits
    assert float((adapter - before).abs().max()) > 0.1
    assert float((again - adapter).abs().max()) < 1e-4
    assert "target_modules" in json.loads((output / "adapter_config.json").read_bytes())
