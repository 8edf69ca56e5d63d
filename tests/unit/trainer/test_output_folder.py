"""A folder with somebody else's files is neither emptied nor written over."""

import shutil
from pathlib import Path

import pytest

from finetuning.artifacts import LOSS_HISTORY, MANIFEST
from finetuning.artifacts.manifest import seal
from finetuning.base.plan import warmup_for
from finetuning.base.results import foreign_files, remove_run


def test_files_that_no_run_wrote_are_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert foreign_files(tmp_path) == ["config.json"]
    remove_run(tmp_path)
    assert (tmp_path / "config.json").exists()


def test_what_a_runs_manifest_lists_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("kept")
    seal(tmp_path, {"config.json"})
    assert foreign_files(tmp_path) == []
    remove_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
    assert not (tmp_path / MANIFEST).exists()


def test_a_run_stopped_while_it_wrote_its_result_can_be_removed(tmp_path: Path) -> None:
    for name in (LOSS_HISTORY, "adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("")
    remove_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_the_trackers_files_those_of_the_run_are_removed(tmp_path: Path) -> None:
    tracking = tmp_path / "tracking"
    for name in ("tensorboard", "mine"):
        (tracking / name).mkdir(parents=True)
        (tracking / name / "events").write_text("")
    (tracking / "tensorboard.json").write_text("{}")
    remove_run(tmp_path)
    assert [path.name for path in tracking.iterdir()] == ["mine"]
    shutil.rmtree(tracking / "mine")
    remove_run(tmp_path)
    assert not tracking.exists()


@pytest.mark.parametrize(("total", "expected"), [(1, 0), (2, 1), (36, 4), (101, 100)])
def test_a_run_is_never_all_warm_up(total: int, expected: int) -> None:
    assert warmup_for(100, total) == expected
