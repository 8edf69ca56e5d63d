"""Tasks of lm-evaluation-harness on a loaded model; used by model_process where any are asked."""

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from finetuning.artifacts.archives import unpack_no_links
from finetuning.monitoring.validators.checks.probe import BenchmarkRequest, Score

_BATCH = 8
_BOOTSTRAPS = 1000
"""Draws for the error of what is no mean; the library's 100 000 take minutes of every processor."""


class BenchmarkError(Exception):
    """The tasks could not be run; says why."""


def run_tasks(model: Any, tokenizer: Any, wanted: BenchmarkRequest) -> list[Score]:
    """One score for each task, or group of tasks, in the order of the request.

    Raises:
        BenchmarkError: a task is unknown, its data cannot be had, or it does not run.
    """
    try:
        told = _evaluated(model, tokenizer, wanted)
        return [_score(name, told) for name in _names(wanted)]
    except BenchmarkError:
        raise
    except Exception as error:
        raise BenchmarkError(f"{type(error).__name__}: {error}") from error


def _names(wanted: BenchmarkRequest) -> list[str]:
    return [*(str(task["task"]) for task in wanted.tasks), *wanted.names]


def _evaluated(model: Any, tokenizer: Any, wanted: BenchmarkRequest) -> Mapping[str, Any]:
    from lm_eval import simple_evaluate  # noqa: PLC0415 - takes seconds, and may not be there
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415

    _run_no_code(wanted)
    told: Mapping[str, Any] | None = simple_evaluate(
        # It sets padding as it needs it.
        model=HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=_BATCH),
        tasks=[*wanted.tasks, *wanted.names],
        task_manager=_all_tasks() if wanted.names else _no_tasks(),
        num_fewshot=wanted.num_fewshot,
        limit=wanted.limit,
        apply_chat_template=wanted.apply_chat_template,
        bootstrap_iters=_BOOTSTRAPS,
        log_samples=False,
    )
    if told is None:
        raise BenchmarkError("the library gives no results")
    return told


@cache
def _all_tasks() -> Any:
    """Fourteen thousand files are read to know all names: once for both models."""
    from lm_eval.tasks import TaskManager  # noqa: PLC0415 - takes seconds, and may not be there

    return TaskManager()


def _no_tasks() -> Any:
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    return TaskManager(include_defaults=False)


def _run_no_code(wanted: BenchmarkRequest) -> None:
    """Templates of a task can reach all of Python, and a metric by an unknown name is a program."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
    from lm_eval import utils  # noqa: PLC0415
    from lm_eval.api import metrics, registry  # noqa: PLC0415

    unpack_no_links()
    known = registry.metric_registry if metrics else {}
    named = [each["metric"] for task in wanted.tasks for each in task.get("metric_list") or ()]
    if strange := next((name for name in named if name not in known), None):
        raise BenchmarkError(f"the metric {strange!r} is none of the library's own")
    undefined = utils.env.undefined
    walled = ImmutableSandboxedEnvironment(undefined=undefined, keep_trailing_newline=True)
    walled.filters.update(utils.env.filters)
    utils.env = walled


def _score(name: str, told: Mapping[str, Any]) -> Score:
    """The first metric that the task names."""
    found = told["results"].get(name) or (told.get("groups") or {}).get(name) or {}
    metrics = [key for key in found if "," in key and "_stderr," not in key]
    key = next((key for key in metrics if _number(found[key]) is not None), None)
    if key is None:
        raise BenchmarkError(f"{name} gives no figure for the whole of it; name its parts instead")
    metric, _, kind = key.partition(",")
    directions = (told.get("higher_is_better") or {}).get(name) or {}
    return Score(
        task=name,
        metric=metric,
        score=float(found[key]),
        error=_number(found.get(f"{metric}_stderr,{kind}")),
        samples=_samples(name, told),
        higher_is_better=directions.get(metric) is not False,
    )


def _samples(name: str, told: Mapping[str, Any]) -> int:
    counts = told.get("n-samples") or {}
    parts = (told.get("group_subtasks") or {}).get(name) or [name]
    return sum(int((counts.get(part) or {}).get("effective", 0)) for part in parts)


def _number(value: Any) -> float | None:
    """None for "N/A", and for what is not finite."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None
