import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from finetuning.artifacts.models import RunState, TrainingState
from finetuning.monitoring.collector import Identity, SnapshotCollector
from finetuning.monitoring.endpoints import status
from finetuning.monitoring.source import FileSource, ManualSource, Origin

WriteState = Callable[[dict[str, Any]], None]
INFO = {
    "model_id": "org/model",
    "method": "lora",
    "results": {"train_loss": 0.5234, "train_runtime": 90.0, "train_samples_per_second": 3.5},
}


def info_file(tmp_path: Path) -> Path:
    path = tmp_path / "training_info.json"
    path.write_text(json.dumps(INFO))
    return path


def test_nothing_there_is_no_state_and_no_error(state_dir: Path, tmp_path: Path) -> None:
    snapshot = FileSource(state_dir, tmp_path / "training_info.json").read()
    assert snapshot.state is None
    assert snapshot.parse_errors == 0


def test_every_read_sees_the_newest_state(
    state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    source = FileSource(state_dir, None)
    for step in (1, 2, 3):
        write_state(state | {"step": step})
        read = source.read().state
        assert read is not None
        assert read.step == step


def spoil_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def spoil_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 10)


def spoil_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_symlink(path: Path) -> None:
    elsewhere = path.with_name("elsewhere.json")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def spoil_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def spoil_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def spoil_nan(path: Path) -> None:
    path.write_text('{"updatedAt": NaN, "step": 1}')


def spoil_wrong_type(path: Path) -> None:
    path.write_text('{"updatedAt": 5, "step": "many"}')


def spoil_unknown_state(path: Path) -> None:
    path.write_text('{"updatedAt": 5, "state": "dancing"}')


def spoil_deep(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.fault(
    "State file of the trainer cut, binary, huge, a link",
    "the last good values stay, the error is counted",
)
@pytest.mark.parametrize(
    "spoil",
    [
        spoil_truncated,
        spoil_binary,
        spoil_huge,
        spoil_empty,
        spoil_symlink,
        spoil_folder,
        spoil_fifo,
        spoil_nan,
        spoil_wrong_type,
        spoil_unknown_state,
        spoil_deep,
    ],
)
def test_a_spoilt_file_leaves_the_last_good_values_and_is_counted(
    spoil: Callable[[Path], None],
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    source = FileSource(state_dir, None)
    write_state(state)
    source.read()
    spoil(state_dir / "rank-0.json")
    snapshot = source.read()
    assert snapshot.state is not None
    assert snapshot.state.step == state["step"]
    assert snapshot.parse_errors == 1


def test_a_file_that_vanished_is_no_error(
    state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    source = FileSource(state_dir, None)
    write_state(state)
    source.read()
    (state_dir / "rank-0.json").unlink()
    snapshot = source.read()
    assert snapshot.state is not None
    assert snapshot.parse_errors == 0


def test_a_spoilt_file_that_heals_is_read_again(
    state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    source = FileSource(state_dir, None)
    write_state(state)
    source.read()
    spoil_truncated(state_dir / "rank-0.json")
    source.read()
    write_state(state | {"step": 38})
    snapshot = source.read()
    assert snapshot.state is not None
    assert snapshot.state.step == 38


def test_training_info_that_appears_gives_the_final_values(state_dir: Path, tmp_path: Path) -> None:
    source = FileSource(state_dir, tmp_path / "training_info.json")
    assert source.read().state is None
    info_file(tmp_path)
    state = source.read().state
    assert state is not None
    assert state.state is RunState.FINISHED
    assert state.loss == 0.5234
    assert state.samples_per_second == 3.5
    assert state.finished_at is not None
    assert state.started_at == pytest.approx(state.finished_at - 90)


def test_a_copied_training_info_tells_its_own_times_and_precision(
    state_dir: Path, tmp_path: Path
) -> None:
    path = info_file(tmp_path)
    times = {"started_at": 1000.0, "finished_at": 1100.5, "environment": {"precision": "bf16"}}
    path.write_text(json.dumps(INFO | times))
    state = FileSource(state_dir, path).read().state
    assert state is not None
    assert (state.started_at, state.finished_at, state.precision) == (1000.0, 1100.5, "bf16")
    path.write_text(json.dumps(INFO | times | {"environment": {"precision": "<odd>"}}))
    spoilt = FileSource(state_dir, path).read().state
    assert spoilt is not None
    assert spoilt.precision == ""


def test_training_info_that_does_not_tell_the_step_leaves_it_unknown(
    state_dir: Path, tmp_path: Path
) -> None:
    snapshot = FileSource(state_dir, info_file(tmp_path)).read()
    text = generate_latest(SnapshotCollector(snapshot, Identity())).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "finetuning_train_loss" in names
    assert "finetuning_training_step" not in names
    assert "finetuning_checkpoints" not in names


def test_the_state_file_outweighs_training_info(
    state_dir: Path, tmp_path: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    read = FileSource(state_dir, info_file(tmp_path)).read().state
    assert read is not None
    assert read.state is RunState.TRAINING


def test_training_info_of_an_earlier_run_is_not_taken_for_the_result(
    state_dir: Path, tmp_path: Path
) -> None:
    path = info_file(tmp_path)
    source = FileSource(state_dir, path, ignore_old_info=True)
    assert source.read().state is None
    fresh = path.with_name("fresh.json")
    fresh.write_text(path.read_text())
    fresh.replace(path)
    assert source.read().state is not None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"results": {"train_loss": "low"}}', '{"results": {"train_runtime": -1}}']
)
def test_a_spoilt_training_info_is_counted(text: str, state_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "training_info.json"
    path.write_text(text)
    snapshot = FileSource(state_dir, path).read()
    assert snapshot.state is None
    assert snapshot.parse_errors == 1


def test_a_trainer_that_left_without_a_last_word_has_failed(
    state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    source = FileSource(state_dir, None)
    source.trainer_gone()
    snapshot = source.read()
    assert snapshot.is_final
    assert snapshot.state is not None
    assert snapshot.state.state is RunState.FAILED
    assert snapshot.state.reason == "TrainerGone"
    assert snapshot.state.finished_at == pytest.approx(time.time(), abs=60)


def test_a_trainer_that_left_without_a_word_has_failed(state_dir: Path) -> None:
    source = FileSource(state_dir, None)
    assert source.read().state is None
    source.trainer_gone()
    snapshot = source.read()
    assert snapshot.state is not None
    assert snapshot.state.message == "the trainer ended before it told anything"
    # Of its progress nothing is known, and an earlier pod's is not taken back.
    assert snapshot.origin is Origin.END
    assert status(snapshot).status == 503


def test_what_a_finished_run_left_is_shown_without_its_live_state(
    state_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "training_info.json"
    results = {
        "final_loss": 0.5, "eval_loss": 0.7, "train_runtime": 60, "tokens_total": 12345,
        "samples_total": 148, "nonfinite_losses": 2, "total_epochs": 3, "checkpoints_total": 2,
        "checkpoint_sizes_bytes": [2000, 3000],
    }  # fmt: skip
    path.write_text(json.dumps({"results": results}))
    state = FileSource(state_dir, path).read().state
    assert state is not None
    assert {name: getattr(state, name) for name in results if name in state.model_fields_set} == {
        name: results[name] for name in results if not name.startswith(("final", "train"))
    }


@pytest.mark.parametrize("final", ["finished", "failed", "paused"])
def test_a_last_word_is_believed_after_the_trainer_left(
    final: str, state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state | {"state": final})
    source = FileSource(state_dir, None)
    source.trainer_gone()
    read = source.read().state
    assert read is not None
    assert read.state == final
    assert read.reason == ""


def test_a_trainer_that_still_writes_is_alive(
    state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    source = FileSource(state_dir, None)
    source.trainer_gone()
    write_state(state | {"seq": state["seq"] + 1, "state": "saving"})
    read = source.read().state
    assert read is not None
    assert read.state is RunState.SAVING


def test_values_set_by_hand_add_up() -> None:
    source = ManualSource()
    assert source.read().state is None
    source.update({"step": 1, "total_steps": 10})
    source.update({"loss": 0.5, "state": RunState.SAVING})
    read = source.read().state
    assert read is not None
    assert (read.step, read.total_steps, read.loss) == (1, 10, 0.5)
    assert read.state is RunState.SAVING


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_program_that_says_it_has_ended_has_a_duration(state: str) -> None:
    source = ManualSource()
    source.update({"step": 1})
    source.update({"state": state})
    text = generate_latest(SnapshotCollector(source.read(), Identity())).decode()
    (count,) = [line for line in text.splitlines() if "duration_seconds_count" in line]
    assert count.endswith(" 1.0")


def test_counts_that_a_program_never_tells_are_not_there_at_any_time() -> None:
    source = ManualSource()
    shown = []
    for values in (None, {"step": 1}, {"tokens_total": 5}):
        if values:
            source.update(values)
        text = generate_latest(SnapshotCollector(source.read(), Identity())).decode()
        shown.append([name for name in ("samples_total", "tokens_total") if name in text])
    assert shown == [[], [], ["tokens_total"]]


@pytest.mark.parametrize(
    ("values", "named"),
    [({"stepp": 1}, "stepp"), ({"step": -1}, "step"), ({"loss": "low"}, "loss")],
)
def test_a_wrong_value_set_by_hand_is_named(values: dict[str, Any], named: str) -> None:
    source = ManualSource()
    with pytest.raises(ValueError, match=named):
        source.update(values)
    assert source.read().state is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "training", "finished"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = [field.alias or name for name, field in TrainingState.model_fields.items()]
GPU_KEYS = ["index", "utilizationPercent", "memoryUsedBytes", "memoryTotalBytes", "name", "uuid"]
gpus = st.lists(st.dictionaries(st.sampled_from(GPU_KEYS), json_values), max_size=3)
states = st.fixed_dictionaries(
    {"updatedAt": st.floats(min_value=0) | json_values, "gpus": gpus},
    optional={key: json_values for key in KEYS if key not in ("updatedAt", "gpus")},
)


@pytest.mark.fault("Any bytes in the state file", "the pages are served")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300) | states.map(lambda value: json.dumps(value).encode()))
def test_whatever_stands_in_the_file_the_pages_are_served(content: bytes, state_dir: Path) -> None:
    (state_dir / "rank-0.json").write_bytes(content)
    snapshot = FileSource(state_dir, None).read()
    assert (snapshot.state is None) == (snapshot.parse_errors == 1)
    text = generate_latest(SnapshotCollector(snapshot, Identity())).decode()
    assert list(text_string_to_metric_families(text))
    json.loads(status(snapshot).body)


def test_the_end_of_a_trainer_without_a_word_is_told_without_figures(state_dir: Path) -> None:
    source = FileSource(state_dir, None)
    source.trainer_gone()
    text = generate_latest(SnapshotCollector(source.read(), Identity())).decode()
    assert 'finetuning_job_status{job_name="finetuning",method="",model_id=""} 3.0' in text
    assert "finetuning_checkpoints_total" not in text
