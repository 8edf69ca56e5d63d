"""MLflow: a run on the server that MLFLOW_TRACKING_URI names."""

import os
import time
from collections.abc import Sequence
from typing import Any

from finetuning.artifacts.history import HistoryLine
from finetuning.base.trackers.figures import as_texts, figures
from finetuning.base.trackers.memory import Memory
from finetuning.base.trackers.order import Order, Outcome

EXPERIMENT = "finetuning"
ID_TAG, STEP_TAG = "finetuning.run_id", "finetuning.step"
DEFAULTS = {
    # The server is asked again by whoever calls: nothing is gained by waiting for minutes here.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_STATUS = {Outcome.FINISHED: "FINISHED", Outcome.PAUSED: "KILLED", Outcome.FAILED: "FAILED"}


class Mlflow:
    """Finds its run by a tag, so that a crash between any two calls leaves no second one."""

    def open(self, order: Order, memory: Memory) -> int:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - only when asked for

        self._client: Any = MlflowClient()
        run = self._found(memory.run_id) or self._created(order, memory.run_id)
        self._run_id = run.info.run_id
        if not run.data.params:
            self._log_params(order)
        self._client.update_run(self._run_id, status="RUNNING")
        return int(run.data.tags.get(STEP_TAG, 0))

    def log(self, lines: Sequence[HistoryLine]) -> None:
        """Figures and the step that they reach in one call, which the server takes whole."""
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415 - only when asked for

        now = int(time.time() * 1000)
        metrics = [
            Metric(tag, value, now, line.step)
            for line in lines
            for tag, value in figures(line).items()
        ]
        reached = RunTag(STEP_TAG, str(lines[-1].step))
        self._client.log_batch(self._run_id, metrics=metrics, tags=[reached])

    def close(self, outcome: Outcome) -> None:
        self._client.set_terminated(self._run_id, _STATUS[outcome])

    def _found(self, run_id: str) -> Any:
        self._experiment = self._experiment_id()
        found = self._client.search_runs([self._experiment], f"tags.`{ID_TAG}` = '{run_id}'")
        return found[0] if found else None

    def _experiment_id(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known else self._client.create_experiment(name))

    def _created(self, order: Order, run_id: str) -> Any:
        tags = {ID_TAG: run_id}
        return self._client.create_run(self._experiment, tags=tags, run_name=order.job_name)

    def _log_params(self, order: Order) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 - only when asked for

        params = [Param(name, text) for name, text in as_texts(order.params).items()]
        self._client.log_batch(self._run_id, params=params)
