"""Runs that are killed, stopped, starved of space or started twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.warm import WarmTrainer, wait_until

from finetuning.artifacts.manifest import problem_with
from finetuning.base.app import main

pytestmark = pytest.mark.training

VARIANTS = {
    "lora": "--method lora",
    "full": "--method full",
    "qlora": "--method qlora",
    "adapter": "--use-dora --use-rslora --loraplus-lr-ratio 8 --modules-to-save norm embed_tokens",
    "qlora-adapter": "--method qlora --use-dora --target-modules all-linear",
    "noise": "--method full --neftune-noise-alpha 5 --load-best-model-at-end --eval-steps 3 "
    "--lr-scheduler-type cosine_with_min_lr --min-lr-rate 0.1",
    "packed": "--packing --max-seq-length 64 --neftune-noise-alpha 5",
    "dpo": "--objective dpo --learning-rate 1e-3",
    "dpo-full": "--objective dpo --method full --learning-rate 1e-4",
    "early": "--early-stopping-patience 6 --learning-rate 1 --eval-steps 1 --save-total-limit 1",
}
ON_A_SMALL_DISK = """
mount -t tmpfs -o "size=$SIZE" tmpfs "$0" || exit 99
"$@"
code=$?
cp -r "$0" "$COPY"
exit $code
"""


def arguments(model: Path, data: Path, output: Path, *more: object) -> list[str]:
    settings = ("--no-fp16", "--learning-rate", 5e-3, "--warmup-steps", 2, "--batch-size", 2)
    where = ("--model-id", model, "--dataset-path", data, "--output-dir", output)
    return [str(arg) for arg in (*where, *settings, *more)]


def history(output: Path) -> list[dict[str, Any]]:
    path = output / "loss_history.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in history(output)]


def final_loss(output: Path) -> float:
    info = json.loads((output / "training_info.json").read_text())
    return float(info["results"]["final_loss"])


def checkpoints(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_goes_on_with_the_very_same_losses(  # noqa: PLR0917 - fixtures
    variant: str,
    tiny_model: Path,
    rows_file: Path,
    pairs_file: Path,
    tmp_path: Path,
    warm: WarmTrainer,
) -> None:
    data = pairs_file if "dpo" in variant else rows_file
    steps: tuple[object, ...] = ("--max-steps", 12, "--save-steps", 4, "--logging-steps", 7)
    steps = (*steps, "--eval-split", 0.2, *VARIANTS[variant].split())
    whole = arguments(tiny_model, data, tmp_path / "whole", *steps)
    killed = arguments(tiny_model, data, tmp_path / "killed", *steps)
    assert warm.run(*whole)[0] == 0
    step = "finetuning.base.loop.HistoryLine:10"
    assert warm.run(*killed, kill_in=step)[0] == -signal.SIGKILL
    assert len(losses(tmp_path / "killed")) == 9
    code, output = warm.run(*killed)
    assert code == 0
    assert re.search(r"Continuing from checkpoint-\d", output)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    window = losses(tmp_path / "killed")[7:]
    assert final_loss(tmp_path / "killed") == final_loss(tmp_path / "whole")
    assert final_loss(tmp_path / "killed") == pytest.approx(sum(window) / 5, rel=1e-12)
    (weights,) = (path.name for path in (tmp_path / "whole").glob("*model.safetensors"))
    assert (tmp_path / "killed" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()
    assert checkpoints(tmp_path / "killed") == checkpoints(tmp_path / "whole")


def test_a_run_that_ends_sooner_than_planned_leaves_a_checkpoint_of_the_new_plan(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    command = arguments(tiny_model, rows_file, tmp_path / "out", "--save-steps", 4, "--max-steps")
    assert warm.run(*command, "12", kill_in="finetuning.base.checkpoints.save:3")[0] < 0
    code, output = warm.run(*command, "8")
    assert code == 0
    assert "Continuing from checkpoint-8" in output
    info = json.loads((tmp_path / "out" / "training_info.json").read_text())
    folder = tmp_path / "out" / "checkpoints" / "checkpoint-8"
    state = json.loads((folder / "trainer_state.json").read_text())
    assert (state["global_step"], state["max_steps"]) == (8, 8)
    assert state["run"] == info["training_config"]
    assert (info["results"]["total_steps"], info["results"]["planned_steps"]) == (8, 8)
    assert problem_with(folder) is None


@pytest.mark.fault("Trainer killed while it saves", "the checkpoint before, or the new one whole")
@pytest.mark.parametrize(
    "where",
    [
        "finetuning.base.checkpoints.write_json:2",
        "finetuning.base.checkpoints.seal:2",
        "finetuning.base.checkpoints.replace_folder:2",
        "finetuning.base.checkpoints._delete_old:2",
    ],
)
def test_death_while_saving_leaves_the_checkpoint_before_or_the_new_one(
    where: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, "--max-steps", 6, "--save-steps", 2)
    assert warm.run(*command, kill_in=where)[0] == -signal.SIGKILL
    complete = list((output / "checkpoints").glob("checkpoint-*"))
    assert complete
    assert [problem_with(path) for path in complete] == [None] * len(complete)
    code, text = warm.run(*command)
    assert code == 0
    assert "Continuing from checkpoint-" in text
    assert checkpoints(output) == ["checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize("where", ["publish", "describe"])
def test_death_while_writing_the_result_is_mended_by_the_next_start(
    where: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, "--max-steps", 4)
    assert warm.run(*command, kill_in=f"finetuning.base.report.{where}:1")[0] == -signal.SIGKILL
    assert not (output / "manifest.json").exists()
    code, text = warm.run(*command)
    assert code == 0
    assert "Continuing from checkpoint-4" in text
    assert problem_with(output) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_the_same_command_continues(
    number: signal.Signals, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    output, last_words = tmp_path / "out", tmp_path / "termination"
    command = arguments(tiny_model, rows_file, output, "--max-steps", 100_000, "--save-steps", 9999)
    command += ["--logging-steps", "9999"]
    child = warm.start(*command, FINETUNING_TERMINATION_LOG=str(last_words))
    wait_until(lambda: len(losses(output)) > 3, "three steps")
    assert child.kill(number) == 143
    step = len(losses(output))
    assert checkpoints(output) == [f"checkpoint-{step}"]
    state = json.loads((output / "state" / "rank-0.json").read_text(encoding="utf-8"))
    assert (state["state"], state["step"]) == ("paused", step)
    kept = (output / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").read_text()
    assert state["tokensTotal"] == json.loads(kept)["tokens_total"]
    assert state["samplesTotal"] == json.loads(kept)["samples_total"] > 0
    words = json.loads(last_words.read_text(encoding="utf-8"))
    assert (words["result"], words["step"]) == ("paused", step)
    assert words["checkpoint"] == f"checkpoints/checkpoint-{step}"
    assert f"Paused at step {step}" in child.output()
    began = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert began["training_config"]["max_steps"] == 100_000
    assert began["environment"]["torch"] == version("torch")
    again = arguments(tiny_model, rows_file, output, "--max-steps", step + 2)
    code, text = warm.run(*again)
    assert code == 0
    assert f"Continuing with a changed setting: max_steps: 100000 → {step + 2}" in text
    assert [line["step"] for line in history(output)] == list(range(1, step + 3))
    assert not (output / "run.json").exists()
    told = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
    assert told["environment"] == began["environment"]


def test_a_signal_before_training_leaves_nothing_to_save(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """In a cold process, whose imports take long enough to hit."""
    output = tmp_path / "out"
    state = output / "state" / "rank-0.json"
    module = (sys.executable, "-m", "finetuning.base.app")
    with subprocess.Popen([*module, *arguments(tiny_model, rows_file, output)]) as process:
        wait_until(state.exists, "the state file")
        process.terminate()
        assert process.wait(60) == 143
    assert json.loads(state.read_text(encoding="utf-8"))["state"] == "paused"
    assert not (output / "checkpoints").exists()


@pytest.mark.fault(
    "Checkpoints cut, changed or half written", "passed over with a line, an older one is used"
)
def test_broken_checkpoints_are_passed_over_with_a_line(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    output = tmp_path / "out"
    more = ("--save-steps", 2, "--save-total-limit", 9)
    assert main(arguments(tiny_model, rows_file, output, "--max-steps", 8, *more)) == 0
    (output / "manifest.json").unlink()
    folder = output / "checkpoints"
    flip_a_bit(folder / "checkpoint-8" / "adapter_model.safetensors")
    (folder / "checkpoint-6" / "optimizer.safetensors").unlink()
    (folder / "checkpoint-4" / "manifest.json").unlink()
    (folder / "checkpoint-10").write_text("a file", encoding="utf-8")
    (folder / "checkpoint-12").symlink_to("nowhere")
    (folder / "checkpoint-14").symlink_to("checkpoint-2")
    code, text = warm.run(*arguments(tiny_model, rows_file, output, "--max-steps", 8, *more))
    assert code == 0
    assert "checkpoint-10: " in text
    assert "checkpoint-12: " in text
    assert "checkpoint-14: is of step 2" in text
    assert "checkpoint-8: adapter_model.safetensors: has other contents" in text
    assert "checkpoint-6: optimizer.safetensors: missing" in text
    assert "checkpoint-4: " in text
    assert "Continuing from checkpoint-2" in text
    assert all(problem_with(path) is None for path in folder.iterdir())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--method", "full", "method: lora → full"),
        ("--lora-rank", "4", "lora_rank: 16 → 4"),
        ("--seed", "7", "seed: 42 → 7"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(  # noqa: PLR0917 - fixtures
    flag: str,
    value: str,
    named: str,
    tiny_model: Path,
    rows_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out"
    assert main(arguments(tiny_model, rows_file, output, "--max-steps", 2)) == 0
    (output / "manifest.json").unlink()
    assert main(arguments(tiny_model, rows_file, output, "--max-steps", 2, flag, value)) == 2
    assert named in caplog.text
    assert "--overwrite-output-dir" in caplog.text


def test_other_data_under_the_same_name_is_another_run(
    tiny_model: Path, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = arguments(tiny_model, rows_file, tmp_path / "out", "--max-steps", 2)
    assert main(command) == 0
    with rows_file.open("a", encoding="utf-8") as file:
        file.write('{"instruction": "Where is Oman?", "output": "South."}\n')
    assert main(command) == 2
    assert "dataset_sha256" in caplog.text
    assert main([*command, "--overwrite-output-dir"]) == 0


def test_a_finished_run_says_so_and_touches_nothing(
    tiny_model: Path,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, "--max-steps", 2)
    assert main(command) == 0
    before = {path: path.stat().st_mtime_ns for path in output.glob("*.json*")}
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(tmp_path / "words"))
    assert main([*command, "--logging-steps", "5"]) == 0
    assert {path: path.stat().st_mtime_ns for path in output.glob("*.json*")} == before
    words = json.loads((tmp_path / "words").read_text(encoding="utf-8"))
    assert (words["result"], words["step"], words["totalSteps"]) == ("finished", 2, 2)
    assert words["loss"] == pytest.approx(losses(output)[-1])
    assert main([*command, "--epochs", "9", "--max-steps", "3"]) == 2
    assert "a run of another length (epochs: 3 → 9; max_steps: 2 → 3)" in caplog.text
    assert "Set --epochs and --max-steps back to have that result" in caplog.text
    assert main([*command, "--max-steps", "3", "--learning-rate", "1e-5"]) == 2
    assert "holds the result of another run (learning_rate: " in caplog.text


def on_a_small_disk(
    size: str, model: Path, data: Path, folder: Path, limit: int = 9
) -> subprocess.CompletedProcess[str]:
    """Train with a checkpoint each step on a real file system of that size, copied afterwards."""
    disk = folder / "disk"
    disk.mkdir()
    command = arguments(
        *(model, data, disk / "out", "--method", "full", "--save-steps", 1),
        *("--save-total-limit", limit, "--state-dir", folder / "state"),
    )
    shell = ("sh", "-c", ON_A_SMALL_DISK)
    module = (sys.executable, "-m", "finetuning.base.app")
    return subprocess.run(
        [*("unshare", "--map-root-user", "--mount"), *shell, str(disk), *module, *command],
        env={**os.environ, "COPY": str(folder / "copy"), "SIZE": size},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def last_state(folder: Path) -> tuple[str, str, int]:
    state = json.loads((folder / "state" / "rank-0.json").read_text(encoding="utf-8"))
    return state["state"], state["reason"], state["step"]


@pytest.mark.fault("Disk full while saving", "StorageFull; the checkpoint before is whole")
def test_a_full_disk_ends_the_run_and_keeps_the_checkpoint_before(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """On 2.5 MB, which the third checkpoint overflows."""
    done = on_a_small_disk("2500k", tiny_model, rows_file, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert last_state(tmp_path)[:2] == ("failed", "StorageFull")
    kept = list((tmp_path / "copy" / "out" / "checkpoints").iterdir())
    assert sorted(path.name for path in kept) == ["checkpoint-1", "checkpoint-2"]
    assert [problem_with(path) for path in kept] == [None, None]


def test_a_limit_of_one_never_gives_the_last_good_one_for_one_that_does_not_fit(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """On 2 MB, which hold one checkpoint and not two."""
    done = on_a_small_disk("2000k", tiny_model, rows_file, tmp_path, limit=1)
    assert done.returncode == 1, done.stderr
    assert "checkpoints that were complete are intact" in done.stderr
    assert last_state(tmp_path)[:2] == ("failed", "StorageFull")
    (kept,) = (tmp_path / "copy" / "out" / "checkpoints").iterdir()
    assert (kept.name, problem_with(kept)) == ("checkpoint-1", None)


def test_a_disk_too_small_for_a_checkpoint_is_told_before_the_first_step(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    done = on_a_small_disk("300k", tiny_model, rows_file, tmp_path)
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()[-1]
    assert re.search(r"no space left for a checkpoint, which takes about \d\S* MB where", told), (
        told
    )
    assert last_state(tmp_path) == ("failed", "StorageFull", 0)


def test_only_one_trainer_writes_to_a_folder(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    output = tmp_path / "out"
    child = warm.start(*arguments(tiny_model, rows_file, output, "--max-steps", 100_000))
    wait_until(lambda: len(losses(output)) > 0, "a step")
    state = output / "state" / "rank-0.json"
    assert main(arguments(tiny_model, rows_file, output)) == 2
    assert json.loads(state.read_text(encoding="utf-8"))["state"] in {"training", "saving"}
    assert child.kill(signal.SIGKILL) == -signal.SIGKILL


def test_overwriting_deletes_the_run_and_nothing_else(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, "--max-steps", 2)
    assert main(command) == 0
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    shutil.copyfile(rows_file, output / "rows.jsonl")
    assert main([*command, "--method", "full", "--overwrite-output-dir"]) == 0
    assert (output / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (output / "rows.jsonl").exists()
    assert not (output / "adapter_config.json").exists()
    assert (output / "model.safetensors").exists()
