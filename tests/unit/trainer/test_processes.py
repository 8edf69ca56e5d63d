"""Several processes train what one would have trained, and end together whatever happens."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ports import free_port
from tests.unit.trainer.conftest import Pair
from tests.unit.trainer.test_resume import arguments, checkpoints, history, losses
from tests.unit.trainer.warm import WarmTrainer, wait_until

from finetuning.artifacts.manifest import problem_with
from finetuning.base.errors import ConfigError, InterruptedRun
from finetuning.base.launch import exit_code, reachable
from finetuning.base.rank import Rank
from finetuning.base.stop import Stop

SPAN = ("--max-steps", 8, "--save-steps", 3, "--eval-split", 0.25, "--eval-steps", 3)
VARIANTS = {
    "full": "--method full",
    "lora": "--lora-dropout 0",
    "qlora": "--method qlora --lora-dropout 0",
    "modules": "--lora-dropout 0 --modules-to-save lm_head --use-dora",
    "packed": "--method full --packing --max-seq-length 64",
    "dpo": "--objective dpo --learning-rate 1e-3 --lora-dropout 0",
    "dpo-full": "--objective dpo --method full --learning-rate 1e-4",
    "accumulated": "--method full --gradient-accumulation-steps 2",
    "shards-full": "--method full --gradient-accumulation-steps 2 --fsdp --sample-generations 2"
    " --sample-max-new-tokens 4",
    "shards-lora": "--lora-dropout 0 --modules-to-save lm_head --use-dora --fsdp"
    " --sample-generations 1 --sample-max-new-tokens 4",
    "shards-dpo": "--objective dpo --learning-rate 1e-3 --lora-dropout 0 --modules-to-save lm_head"
    " --fsdp",
    "shards-dpo-full": "--objective dpo --method full --learning-rate 1e-4 --fsdp",
    "shards-best": "--method full --early-stopping-patience 1 --learning-rate 0.5 --eval-steps 1"
    " --packing --max-seq-length 64 --fsdp",
    "best": "--method full --early-stopping-patience 1 --learning-rate 0.5 --eval-steps 1",
}
"""None has noise of its own: each process draws another one."""

QUICK = ("lora", "packed", "dpo", "shards-full")
"""The others take minutes together."""


def same_losses(one: Path, two: Path) -> None:
    before, after = history(one), history(two)
    assert [line["step"] for line in before] == [line["step"] for line in after]
    for name in ("loss", "eval_loss", "tokens", "learning_rate", "epoch"):
        assert [line.get(name) for line in after] == pytest.approx(
            [line.get(name) for line in before], abs=1e-4
        ), name


def same_form(one: Path, two: Path) -> None:
    """The same files, with tensors of the same names, sizes and types in them."""
    assert files(one) == files(two)
    for name in [each for each in files(one) if each.endswith(".safetensors")]:
        headers = [safe_header(folder / name) for folder in (one, two)]
        assert headers[0] == headers[1], name
    for name in [each for each in files(one) if each.endswith("config.json")]:
        texts = [(folder / name).read_text(encoding="utf-8") for folder in (one, two)]
        assert texts[0] == texts[1], name
    assert answers(one) == answers(two)


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != "state")


def safe_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    return {name: {**entry, "data_offsets": None} for name, entry in header.items()}


def answers(folder: Path) -> list[str]:
    path = folder / "samples.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.mark.training
@pytest.mark.parametrize(
    "variant",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in VARIANTS],
)
def test_two_processes_train_what_one_trains_with_twice_the_batch(  # noqa: PLR0917 - fixtures
    variant: str,
    tiny_model: Path,
    rows_file: Path,
    pairs_file: Path,
    tmp_path: Path,
    warm: WarmTrainer,
    pair: Pair,
) -> None:
    data = pairs_file if "dpo" in variant else rows_file
    options = (*SPAN, *VARIANTS[variant].split(), "--batch-size")
    one = arguments(tiny_model, data, tmp_path / "one", *options, 4)
    two = arguments(tiny_model, data, tmp_path / "two", *options, 2)
    assert warm.run(*one)[0] == 0
    codes, words = pair(*two)
    assert codes == [0, 0], words
    same_losses(tmp_path / "one", tmp_path / "two")
    same_form(tmp_path / "one", tmp_path / "two")
    assert problem_with(tmp_path / "two") is None
    info = json.loads((tmp_path / "two" / "training_info.json").read_text(encoding="utf-8"))
    assert info["training_config"]["processes"] == 2
    assert "Training on the CPU" not in words[1], "only the first process reports"


@pytest.mark.training
def test_another_number_of_processes_continues_where_a_step_has_as_many_rows(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer, pair: Pair
) -> None:
    steps = ("--method", "full", *SPAN, "--batch-size")
    one = arguments(tiny_model, rows_file, tmp_path / "one", *steps, 4)
    assert warm.run(*one)[0] == 0

    def two(size: int) -> list[str]:
        return arguments(tiny_model, rows_file, tmp_path / "two", *steps, size)

    codes, words = pair(*two(2), kill_in="finetuning.base.step.collate:9")
    assert codes[1] == -signal.SIGKILL
    assert codes[0] == 1
    assert "another process of the run was lost (" in words[0]
    assert "pair.cc" not in words[0]
    assert checkpoints(tmp_path / "two") == ["checkpoint-3"]

    code, said = warm.run(*two(2))
    assert code == 2
    assert "batch_size" not in said
    assert "processes: 2 → 1" in said, "half the rows per step is another run"
    assert warm.run(*two(4))[0] == 0
    same_losses(tmp_path / "one", tmp_path / "two")


@pytest.mark.training
@pytest.mark.long
@pytest.mark.parametrize("variant", ["shards-full", "shards-lora"])
def test_shards_that_were_killed_go_on_bit_by_bit_and_as_a_whole(  # noqa: PLR0917 - fixtures
    variant: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer, pair: Pair
) -> None:
    def command(name: str, *more: object, size: int = 2) -> list[str]:
        options = (*SPAN, *VARIANTS[variant].split(), "--batch-size", size)
        return arguments(tiny_model, rows_file, tmp_path / name, *options, *more)

    assert pair(*command("whole"))[0] == [0, 0]
    codes, words = pair(*command("killed"), kill_in="finetuning.base.loop.HistoryLine:5")
    assert codes == [1, -signal.SIGKILL]
    assert "another process of the run was lost" in words[0]
    shutil.copytree(tmp_path / "killed", tmp_path / "alone")

    codes, words = pair(*command("killed"))
    assert codes == [0, 0]
    assert "Continuing from checkpoint-3" in words[0]
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    for name in [each for each in files(tmp_path / "whole") if each.endswith(".safetensors")]:
        same = [(tmp_path / folder / name).read_bytes() for folder in ("killed", "whole")]
        assert same[0] == same[1], name

    code, said = warm.run(*command("alone", "--no-fsdp", size=4))
    assert code == 0
    assert "Continuing from checkpoint-3" in said
    same_losses(tmp_path / "whole", tmp_path / "alone")


def launcher(*argv: object, index: int = 0, **environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "finetuning.base.torchrun", *map(str, argv)],
        env={**os.environ, "JOB_COMPLETION_INDEX": str(index), **environ},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def ended(*processes: "subprocess.Popen[str]") -> Iterator[list[tuple[int, str]]]:
    """Exit codes and words, filled when the block ends; what hangs is killed and fails the test."""
    found: list[tuple[int, str]] = []
    with ExitStack() as stack:
        for process in processes:
            stack.callback(_reap, process)
        yield found
        for process in processes:
            words = process.communicate(timeout=START)[1]
            found.append((process.returncode, words))


def _reap(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(number) for number in listed.split()]


def runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


START = 900
"""Seconds that several processes may take to load torch, on a machine that others use as well."""

LONG = ("--method", "full", "--max-steps", 4000, "--save-steps", 2, "--batch-size", 1)


@pytest.mark.training
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_torchrun_survives_a_killed_worker_and_a_wish_to_stop(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output, last = tmp_path / "out", tmp_path / "last-words"
    argv = ("--nproc-per-node", 2, *arguments(tiny_model, rows_file, output, *LONG))

    first = launcher(*argv)
    with ended(first) as outcome:
        wait_until(lambda: len(losses(output)) > 4, "steps", START)
        os.kill(max(workers_of(first)), signal.SIGKILL)
    assert outcome[0][0] == 128 + signal.SIGKILL, outcome
    reached = max(int(name.rpartition("-")[2]) for name in checkpoints(output))

    last.write_text('{"result": "failed"}', encoding="utf-8")
    second = launcher(*argv, FINETUNING_TERMINATION_LOG=str(last))
    with ended(second) as outcome:
        wait_until(lambda: len(losses(output)) > reached + 4, "steps after the restart", START)
        second.send_signal(signal.SIGTERM)
    assert outcome[0][0] == 143, outcome
    assert f"Continuing from checkpoint-{reached}" in outcome[0][1]
    words = json.loads(last.read_text(encoding="utf-8"))
    assert words["result"] == "paused"
    assert words["checkpoint"] == f"checkpoints/checkpoint-{len(losses(output))}"
    assert [line["step"] for line in history(output)] == [*range(1, len(losses(output)) + 1)]

    done = len(losses(output))
    third = launcher(*argv)
    with ended(third):
        wait_until(lambda: len(losses(output)) > done + 1, "steps after the pause", START)
        workers = workers_of(third)
        third.kill()
    wait_until(lambda: not any(map(runs, workers)), "the end of the orphans")
    assert f"checkpoint-{len(losses(output))}" in checkpoints(output)


@pytest.mark.long
@pytest.mark.training
@pytest.mark.timeout(3000)
@pytest.mark.documented
def test_a_wish_to_stop_on_one_machine_stops_both_with_their_work_saved(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    where = ("--nnodes", 2, "--rdzv-endpoint", f"localhost:{free_port()}")
    argv = (*where, *arguments(tiny_model, rows_file, output, *LONG, "--fsdp"))
    nodes = [launcher(*argv, index=index) for index in (0, 1)]
    with ended(*nodes) as outcome:
        wait_until(lambda: len(losses(output)) > 4, "steps of both", START)
        nodes[1].send_signal(signal.SIGTERM)
    assert [code for code, _ in outcome] == [143, 143], outcome
    saved = f"checkpoint-{len(losses(output))}"
    assert saved in checkpoints(output)
    assert problem_with(output / "checkpoints" / saved) is None


@pytest.mark.training
@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_machine_that_waits_for_the_others_leaves_when_told(
    index: int, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    where = ("--nnodes", 2, "--rdzv-endpoint", endpoint)
    argv = (*where, *arguments(tiny_model, rows_file, tmp_path / "out", *LONG))
    waits = launcher(*argv, index=index)
    with ended(waits) as outcome:
        if index == 0:
            wait_until(lambda: reachable(endpoint, 0.1), "its meeting point", START)
        else:
            wait_until(lambda: hears_sigterm(waits.pid), "an answer to SIGTERM")
        waits.send_signal(signal.SIGTERM)
    assert outcome[0][0] == 143, outcome


def hears_sigterm(pid: int) -> bool:
    """As process 1 of a container, which is not killed by what it does not answer."""
    return has_sigterm(pid, "SigCgt")


def has_sigterm(pid: int, mask: str) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (found,) = (line for line in status.splitlines() if line.startswith(f"{mask}:"))
    return bool(int(found.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.training
@pytest.mark.fault(
    "Pod of a group evicted before its first step",
    "all leave by the code that counts as no failure, and the next ones begin",
)
@pytest.mark.parametrize("where", ["load_tokenizer", "Loop"])
def test_one_that_is_told_to_stop_before_the_first_step_takes_the_others_along(
    where: str, tiny_model: Path, rows_file: Path, tmp_path: Path, pair: Pair
) -> None:
    command = arguments(tiny_model, rows_file, tmp_path / "out", "--max-steps", 2)
    codes, words = pair(*command, kill_in=f"finetuning.base.train.{where}:1:SIGTERM")
    assert codes == [143, 143], words
    assert pair(*command)[0] == [0, 0]


@pytest.mark.training
@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("index", [0, 1])
def test_a_machine_that_leaves_before_all_have_met_takes_the_others_along(
    index: int, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """torch's agents do not meet anew with one that takes its place."""
    where = ("--nnodes", 2, "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    argv = (*where, *arguments(tiny_model, rows_file, tmp_path / "out", *LONG))
    nodes = [launcher(*argv, index=each) for each in (0, 1)]
    with ended(*nodes) as outcome:
        wait_until(lambda: bool(workers_of(nodes[index])), "its process", START)
        (worker,) = workers_of(nodes[index])
        wait_until(lambda: blocks_sigterm(worker), "its first line")
        nodes[index].send_signal(signal.SIGTERM)
    assert [code for code, _ in outcome] == [143, 143], outcome


def blocks_sigterm(pid: int) -> bool:
    """Until it can tell the others; what is not the trainer yet has its launcher's signals."""
    begun = b"finetuning.base.app" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return begun and (has_sigterm(pid, "SigBlk") or hears_sigterm(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
@pytest.mark.parametrize(("there", "code"), [(True, 0), (False, -signal.SIGTERM)])
def test_a_process_whose_launcher_is_gone_before_its_first_line_is_told_to_stop(
    *, there: bool, code: int
) -> None:
    """As one that is started at the moment in which its launcher is told to stop."""
    line = "from finetuning.base.environment import end_with_launcher; end_with_launcher()"
    process = subprocess.run(
        [sys.executable, "-c", line],
        env={**os.environ, "FINETUNING_LAUNCHER": str(os.getpid() if there else 0)},
        check=False,
    )
    assert process.returncode == code


def test_who_is_told_to_stop_waits_for_the_others_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("finetuning.base.stop.PATIENCE", 1)
    stop = Stop(launched=True)
    before = signal.getsignal(signal.SIGALRM)

    def load() -> None:
        with stop.interrupting():
            stop.waits = True
            signal.raise_signal(signal.SIGTERM)
            time.sleep(20)

    with stop.handling(), pytest.raises(InterruptedRun):
        load()
    signal.signal(signal.SIGALRM, before)
    assert stop.requested


@pytest.mark.training
def test_wrong_data_ends_all_with_the_code_that_forbids_another_try(
    tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": \n', encoding="utf-8")
    argv = ("--nproc-per-node", 2, *arguments(tiny_model, broken, tmp_path / "out"))
    last = tmp_path / "last-words"
    with ended(launcher(*argv, FINETUNING_TERMINATION_LOG=str(last))) as outcome:
        pass
    assert outcome[0][0] == 2, outcome
    assert json.loads(last.read_text(encoding="utf-8"))["reason"] == "DatasetInvalid"


@pytest.mark.training
def test_the_first_process_keeps_what_another_one_has_said(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """The launcher stops it because the other one has failed, which is no pause."""
    output, last = tmp_path / "out", tmp_path / "last-words"
    failure = {"result": "failed", "reason": "DatasetInvalid", "message": "line 2 is broken"}
    last.write_text(json.dumps(failure), encoding="utf-8")
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    alone |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    child = warm.start(
        *arguments(tiny_model, rows_file, output), **alone, FINETUNING_TERMINATION_LOG=str(last)
    )
    wait_until(child.log.exists, "its log")
    wait_until(lambda: "2 processes" in child.output(), "its wait for the other one")
    assert child.kill(signal.SIGTERM) == 143, child.output()
    assert json.loads(last.read_text(encoding="utf-8")) == failure
    state = json.loads((output / "state" / "rank-0.json").read_text(encoding="utf-8"))
    assert (state["state"], state["reason"]) == ("failed", "DatasetInvalid")
    assert state["message"] == "line 2 is broken"


@pytest.mark.training
def test_a_machine_that_comes_back_after_the_end_needs_no_others(
    tiny_model: Path, rows_file: Path, tmp_path: Path, pair: Pair
) -> None:
    argv = arguments(tiny_model, rows_file, tmp_path / "out", "--max-steps", 2)
    assert pair(*argv)[0] == [0, 0]
    with ended(launcher("--nnodes", 2, "--rdzv-endpoint", "nowhere:1", *argv, index=1)) as outcome:
        pass
    assert outcome[0][0] == 0
    assert "nothing to do" in outcome[0][1]


@pytest.mark.parametrize(
    ("codes", "one"),
    [
        ([2, 143], 2),
        ([143, 2], 2),
        ([-9, 143], 137),
        ([143, -9, 1], 137),
        ([1, -15], 1),
        ([143, -15], 143),
        ([-15], 143),
    ],
)
def test_the_exit_codes_of_many_become_the_one_that_decides(codes: list[int], one: int) -> None:
    assert exit_code(codes) == one


def test_a_machine_that_never_listens_is_given_up() -> None:
    assert not reachable(f"127.0.0.1:{free_port()}", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reachable(f"127.0.0.1:{server.getsockname()[1]}", 5)


@pytest.mark.parametrize(
    "told",
    [
        {"RANK": "0"},
        {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        {"RANK": "one", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"},
    ],
)
def test_half_of_what_torchrun_sets_is_refused(told: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"not what torchrun sets; start the processes with"):
        Rank.read(told)
    assert Rank.read({}).alone


@given(st.integers(1, 40), st.integers(1, 9))
def test_every_batch_is_computed_for_good_by_one_process(batches: int, processes: int) -> None:
    from finetuning.base.step import shared_out  # noqa: PLC0415 - loads torch

    marked: Any = [[[number]] for number in range(batches)]
    shares = [shared_out(marked, Rank(number, processes)) for number in range(processes)]
    assert len({len(share) for share in shares}) == 1, "all take part as often"
    counted = [packs for share in shares for packs, counts in share if counts]
    assert sorted(counted) == marked
