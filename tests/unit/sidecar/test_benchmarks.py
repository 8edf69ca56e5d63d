"""Tasks of lm-evaluation-harness: which files are taken, and what two models' scores say."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import benchmarks
from finetuning.monitoring.validators.checks.benchmarks import compare_scores, request_of
from finetuning.monitoring.validators.checks.model_facts import Facts
from finetuning.monitoring.validators.checks.model_verdict import judge
from finetuning.monitoring.validators.checks.probe import Answer, ProbeReport, Score
from finetuning.monitoring.validators.checks.task_files import read_tasks
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.report import last_words, result_of
from finetuning.monitoring.validators.settings import Benchmarks, ValidationSettings

TASK: dict[str, Any] = {
    "task": "capitals",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def folder_with(folder: Path, task: Any) -> Path:
    (folder / "rows.jsonl").write_text(json.dumps({"question": "?", "choices": ["a"], "answer": 0}))
    (folder / "own.yaml").write_text(task if isinstance(task, str) else yaml.safe_dump(task))
    return folder


def test_a_task_is_taken_with_its_rows_beside_it(tmp_path: Path) -> None:
    (read,) = read_tasks(folder_with(tmp_path, TASK)).values()
    rows = str(tmp_path / "rows.jsonl")
    assert read == TASK | {"dataset_kwargs": {"data_files": {"test": rows}}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"process_docs": "x"}, "process_docs is not taken here"),
        ({"process_results": "x"}, "process_results is not taken here"),
        ({"custom_dataset": "x"}, "custom_dataset is not taken here"),
        ({"include": "/etc/passwd"}, "include is not taken here"),
        ({"group": "x"}, "group is not taken here"),
        ({"unsafe_code": True}, "unsafe_code is not taken here"),
        ({"use_prompt": "promptsource:x"}, "use_prompt is not taken here"),
        ({"dataset_path": "org/set"}, "dataset_path: 'org/set' is none of json"),
        ({"dataset_path": None}, "dataset_path: None is none of json"),
        ({"dataset_kwargs": {"trust_remote_code": True}}, "dataset_kwargs.trust_remote_code"),
        ({"dataset_kwargs": {"data_files": "gone.jsonl"}}, "there is no file"),
        ({"dataset_kwargs": {"data_files": "/etc/passwd"}}, "is not below the task's own folder"),
        ({"dataset_kwargs": {"data_files": {"test": "a/../../x"}}}, "is not below the task's own"),
        ({"dataset_kwargs": {"data_files": [1]}}, "must name files"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "metric_list.hf_evaluate"),
        ({"metric_list": "acc"}, "metric_list must be a list"),
        ({"generation_kwargs": {"custom_generate": "org/code"}}, "generation_kwargs.custom_gen"),
        ({"task": ["a"]}, "its name as `task`"),
    ],
)
def test_what_would_run_code_or_fetch_is_refused(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableFileError, match=r"own\.yaml") as caught:
        read_tasks(folder_with(tmp_path, TASK | change))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task: a\ndoc_to_text: !function utils.text\n", "functions are not called"),
        ("task: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("- a\n", "an object with its name"),
        ("task: [\n", "own.yaml"),
    ],
)
def test_a_file_that_is_no_plain_task_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError) as caught:
        read_tasks(folder_with(tmp_path, text))
    assert says in str(caught.value)


def test_a_mounted_configmap_is_read_though_all_in_it_are_links(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    folder_with(tmp_path / "..2026", TASK)
    (tmp_path / "..data").symlink_to("..2026")
    for name in ("own.yaml", "rows.jsonl"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert list(read_tasks(tmp_path)) == ["capitals"]


def test_rows_of_a_task_are_not_behind_a_link_to_elsewhere(tmp_path: Path) -> None:
    """What a template says of a row that it cannot use stands in the report."""
    (tmp_path / "secrets.txt").symlink_to("/proc/self/environ")
    kwargs = {"dataset_kwargs": {"data_files": "secrets.txt"}}
    with pytest.raises(UnreadableFileError, match=r"secrets\.txt is a link out of its volume"):
        read_tasks(folder_with(tmp_path, TASK | {"dataset_path": "text"} | kwargs))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="gone: there is no such folder"):
        read_tasks(tmp_path / "gone")


def test_own_tasks_win_over_those_of_the_library_and_no_path_is_a_name(tmp_path: Path) -> None:
    folder = str(folder_with(tmp_path, TASK))
    wanted = Benchmarks(tasks=["arc_easy", "capitals"], include_path=folder, limit=7)
    found = request_of(wanted)
    assert (found.names, [task["task"] for task in found.tasks]) == (["arc_easy"], ["capitals"])
    assert found.limit == 7
    for name in ("../own.yaml", "/workspace/tasks/own", "", "a b"):
        with pytest.raises(ValueError, match="tasks"):
            Benchmarks(tasks=[name])


def score(value: float, error: float | None = 0.03, **told: Any) -> Score:
    return Score(**{"task": "a", "metric": "acc", "samples": 100, **told}, score=value, error=error)


@pytest.mark.parametrize(
    ("tuned", "base", "verdict", "drop"),
    [
        (score(0.5), score(0.7), "worse", 0.2 / 0.7),
        (score(0.66), score(0.7), "same", 0.04 / 0.7),
        (score(0.9), score(0.7), "better", 0.0),
        (score(9.0, higher_is_better=False), score(7.0), "worse", 2 / 7),
        (score(5.0, higher_is_better=False), score(7.0), "better", 0.0),
        (score(0.0, 0.0), score(1.0, 0.0), "worse", 1.0),
        (score(0.0, 0.0), score(0.0, 0.0), "same", 0.0),
        (score(1.0, 0.0, higher_is_better=False), score(0.0, 0.0), "worse", math.inf),
        (score(0.1, None), score(0.9), "same", 0.8 / 0.9),
        (score(0.0, samples=4), score(1.0, samples=4), "same", 1.0),
    ],
)
def test_worse_is_what_chance_does_not_explain(
    tuned: Score, base: Score, verdict: str, drop: float
) -> None:
    (found,) = compare_scores([tuned], [base])
    assert found.verdict == verdict
    assert found.drop == pytest.approx(drop)


def test_many_tasks_share_the_five_percent() -> None:
    """2.2 standard errors are rare for one task, and not for eight."""
    one, other = score(0.7), score(0.7 - 2.2 * 0.03 * 2**0.5)
    assert compare_scores([other], [one])[0].verdict == "worse"
    names = [f"task{number}" for number in range(8)]
    tuned = [other.model_copy(update={"task": name}) for name in names]
    base = [one.model_copy(update={"task": name}) for name in names]
    assert {found.verdict for found in compare_scores(tuned, base)} == {"same"}


def judged(max_drop: float | None = None, **report: Any) -> CheckOutcome:
    answers = [Answer(text="It is Lima.", tokens=[1, 2, 3], finite=True, stopped=True)]
    told = {"answers": answers, "largest_logit_difference": 1.0, **report}
    settings = ValidationSettings(benchmarks=Benchmarks(tasks=["a"], max_drop=max_drop))
    return judge(Facts.of(ProbeReport(**told), settings, "base"))


def test_a_score_that_is_clearly_worse_fails_beyond_the_limit_and_warns_without_one() -> None:
    scores: dict[str, Any] = {"scores": [score(0.5)], "base_scores": [score(0.7)]}
    found = judged(0.05, **scores)
    assert (found.result, found.reason) == (CheckResult.FAIL, "BenchmarkWorse")
    assert "a acc 0.5 (base 0.7): worse, 28.6% for the worse; 5.0% is allowed" in found.message
    assert judged(0.3, **scores).passed
    assert judged(**scores).warned == ["BenchmarkRegressed"]


def test_a_limit_that_is_not_held_against_anything_is_no_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports: list[tuple[dict[str, Any], str]] = [
        ({"scores_problem": "FileNotFoundError: no data"}, "no data"),
        ({"scores": [score(0.7)]}, "there is no base model"),
    ]
    for report, why in reports:
        found = judged(0.05, **report)
        assert (found.result, found.reason) == (CheckResult.ERROR, "BenchmarksNotCompared")
        assert why in found.message
        free = judged(**report)
        assert free.passed
        assert "BenchmarksSkipped" in (free.warned or [])
    monkeypatch.setattr(benchmarks, "LIBRARY", "a_library_that_is_not_there")
    assert judged(0.05).message.endswith("a_library_that_is_not_there is not installed")


def test_the_scores_leave_with_the_verdict_and_never_burst_it() -> None:
    found = judged(scores=[score(0.5)], base_scores=[score(0.7)])
    result = result_of([found])
    assert result.benchmarks
    told = json.loads(last_words(result))["benchmarks"]
    (z,) = [each.pop("z") for each in told]
    assert z == pytest.approx(-0.2 / math.hypot(0.03, 0.03))
    assert told == [{"task": "a", "metric": "acc", "base": 0.7, "tuned": 0.5, "verdict": "worse"}]
    long = result.benchmarks[0].model_copy(update={"task": "x" * 128, "metric": "y" * 64})
    large = result.model_copy(update={"benchmarks": [long] * 8})
    assert len(last_words(large, 2000)) <= 2000
