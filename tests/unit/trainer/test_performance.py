"""The lines about speed and memory: when they come, and what they say."""

from pathlib import Path

import pytest

from finetuning.artifacts.history import PerformanceLine, read_lines
from finetuning.artifacts.models import GpuState
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.performance import PerformanceLog


def state(step: int, seconds: float, tokens: int) -> TrainerState:
    return TrainerState(
        global_step=step, train_seconds=seconds, tokens_total=tokens, samples_total=2 * step
    )


def lines(output: Path) -> list[PerformanceLine]:
    return list(read_lines(output / "performance_history.jsonl", PerformanceLine))


def test_a_line_has_the_means_since_the_one_before(tmp_path: Path) -> None:
    log = PerformanceLog.open(tmp_path, TrainerState())
    gpus = [GpuState(index=0, memory_used_bytes=5), GpuState(index=1)]
    for each in (state(1, 0.4, 100), state(2, 2.0, 400), state(3, 2.5, 1000)):
        log.tell(each, gpus, last=False)
    log.tell(state(4, 4.0, 1400), [], last=True)
    log.close()
    found = [(x.step, x.tokens_per_second, x.samples_per_second) for x in lines(tmp_path)]
    assert found == [(2, 200.0, 2.0), (4, 500.0, 2.0)]
    assert [x.gpu_memory_bytes for x in lines(tmp_path)] == [5, None]


def test_a_run_that_goes_on_measures_from_where_it_began_again(tmp_path: Path) -> None:
    log = PerformanceLog.open(tmp_path, TrainerState())
    for step in (10, 20, 30):
        log.tell(state(step, step, 10 * step), [], last=False)
    log.close()
    log = PerformanceLog.open(tmp_path, state(20, 20.0, 200))
    log.tell(state(25, 21.0, 300), [], last=False)
    log.close()
    found = [(x.step, x.tokens_per_second) for x in lines(tmp_path)]
    assert found == [(10, 10.0), (20, 10.0), (25, 100.0)]


@pytest.mark.parametrize(("days", "at_most"), [(1, 3_200), (30, 4_900)])
def test_a_long_run_has_few_lines(days: int, at_most: int, tmp_path: Path) -> None:
    log = PerformanceLog.open(tmp_path, TrainerState())
    for step in range(1, days * 1440 + 1):
        log.tell(state(step, 60.0 * step, step), [], last=False)
    log.close()
    assert 500 < len(lines(tmp_path)) < at_most
