"""Tasks of lm-evaluation-harness: what is asked for, and the tuned model against its base."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist

from finetuning.monitoring.validators.checks.held_out import FEWEST_ROWS
from finetuning.monitoring.validators.checks.probe import BenchmarkRequest, Score
from finetuning.monitoring.validators.checks.task_files import read_tasks
from finetuning.monitoring.validators.settings import Benchmarks

LIBRARY = "lm_eval"
_BY_CHANCE = 0.05
"""How often some task of a model that is as good as its base may look worse or better."""


@dataclass(frozen=True)
class Compared:
    """One task's first metric for both models; without a base model only the score is known."""

    task: str
    metric: str
    samples: int
    tuned: float
    base: float | None
    z: float | None
    """Of tuned less base; None where a spread is unknown, or is zero for both."""
    verdict: str
    """better, same or worse; empty without a base model."""
    drop: float = 0.0
    """For the worse, as a share of the base model's score; infinite where that is zero."""


def missing_library() -> str:
    """Why no task can be run here; empty where they can."""
    return "" if find_spec(LIBRARY) else f"{LIBRARY} is not installed"


def request_of(wanted: Benchmarks) -> BenchmarkRequest:
    """What the process with the model is told.

    Raises:
        UnreadableFileError: a file of `includePath` is no task that may be run.
    """
    own = read_tasks(Path(wanted.include_path)) if wanted.include_path else {}
    return BenchmarkRequest(
        names=[name for name in wanted.tasks if name not in own],
        tasks=[own[name] for name in wanted.tasks if name in own],
        limit=wanted.limit,
        num_fewshot=wanted.num_fewshot,
        apply_chat_template=wanted.apply_chat_template,
    )


def compare_scores(tuned: Sequence[Score], base: Sequence[Score] | None) -> list[Compared]:
    """The harness's own z-test, from both standard errors, by task."""
    before = {score.task: score for score in base or ()}
    limit = NormalDist().inv_cdf(1 - _BY_CHANCE / 2 / max(1, len(tuned)))
    return [_compared(score, before.get(score.task), limit) for score in tuned]


def _compared(tuned: Score, base: Score | None, limit: float) -> Compared:
    told = (tuned.task, tuned.metric, tuned.samples, tuned.score)
    if base is None:
        return Compared(*told, None, None, "")
    difference = tuned.score - base.score
    error = _error_of(tuned, base)
    for_the_worse = -difference if tuned.higher_is_better else difference
    far = error is not None and abs(difference) > limit * error
    verdict = "same" if not far else "worse" if for_the_worse > 0 else "better"
    return Compared(
        *told,
        base.score,
        difference / error if error else None,
        verdict,
        _share(for_the_worse, base.score),
    )


def _error_of(tuned: Score, base: Score) -> float | None:
    """Standard error of the difference; None where there is none to tell chance by.

    Both models see the same questions, so that it is an upper bound: it blames too little.
    """
    if tuned.error is None or base.error is None or tuned.samples < FEWEST_ROWS:
        return None
    return math.hypot(tuned.error, base.error)


def _share(drop: float, score: float) -> float:
    if drop <= 0:
        return 0.0
    return drop / abs(score) if score else math.inf
