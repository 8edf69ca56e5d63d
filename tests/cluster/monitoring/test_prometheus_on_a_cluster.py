"""The fourteen metrics through a real Prometheus that found them by the job's ServiceMonitor."""

from __future__ import annotations

import contextlib
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.agreement import WITHOUT_A_GPU, disagreements, misnamed
from tests.cluster.dashboards import firing, unhealthy_rules, without_answer
from tests.cluster.jobs import (
    condition,
    ended,
    example,
    judged,
    long_run,
    reached_step,
    running,
    status,
    with_spec,
)
from tests.cluster.monitoring.conftest import monitor_the_operator
from tests.cluster.scraping import query, renew
from tests.cluster.support import STATE, Cluster, kill_container

from finetuning.cli.__main__ import main
from finetuning.monitoring import catalog

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(1200)]

SPECIFIED = (
    "finetuning_job_status",
    "finetuning_job_duration_seconds_count",
    "finetuning_training_epoch",
    "finetuning_training_step",
    "finetuning_training_progress",
    "finetuning_train_loss",
    "finetuning_learning_rate",
    "finetuning_samples_per_second",
    "finetuning_tokens_per_second",
    "finetuning_checkpoints_total",
    "finetuning_checkpoint_size_bytes_count",
)
NEED_A_GPU = (
    "finetuning_gpu_utilization_percent",
    "finetuning_gpu_memory_used_bytes",
    "finetuning_gpu_memory_total_bytes",
)


NOT_YET = {catalog.EVAL_LOSS, catalog.ESTIMATED_COMPLETION}
"""Metrics that a run which goes on may not have told by then."""


WRITER = """
import pathlib, time
from finetuning.artifacts.models import GpuState, RunState, TrainingState
gib = 1 << 30
for step in range(1, 100_000):
    gpu = GpuState(index=0, uuid="abc", utilization_percent=87.0, memory_used_bytes=50 * gib,
                   memory_total_bytes=192 * gib, peak_memory_bytes=60 * gib, power_watts=500.0,
                   temperature_celsius=70.0, energy_joules=500.0 * step)
    state = TrainingState(updated_at=time.time(), state=RunState.TRAINING, step=step, gpus=[gpu])
    new = pathlib.Path("/workspace/output/state/rank-0.json.new")
    new.parent.mkdir(exist_ok=True)
    new.write_text(state.model_dump_json(by_alias=True, exclude_none=True))
    new.rename(new.with_suffix(""))
    time.sleep(1)
"""


def pod_with_a_plain_sidecar(image: str) -> dict[str, Any]:
    """A pod of the user's own making with the sidecar as the documentation shows it."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    output = [{"name": "output", "mountPath": "/workspace/output"}]
    training = {"name": "finetuning", "command": ["python3", "-c", WRITER]}
    sidecar = {
        "name": "metrics",
        "command": ["python3", "-m", "finetuning.monitoring.metrics_server"],
        "args": [
            "--port", "8000", "--job-name", "my-job", "--model-id", "Qwen/Qwen2.5-7B-Instruct",
            "--method", "lora", "--training-info", "/workspace/output/training_info.json",
        ],
        "ports": [{"containerPort": 8000, "name": "metrics"}],
    }  # fmt: skip
    shared = {"image": image, "securityContext": restricted, "volumeMounts": output}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "by-hand", "labels": {"app": "finetuning-metrics"}},
        "spec": {
            "containers": [training | shared, sidecar | shared],
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "output", "emptyDir": {}}],
        },
    }


BY_HAND = """
apiVersion: v1
kind: Service
metadata:
  name: finetuning-metrics
  labels: {app: finetuning-metrics}
spec:
  selector: {app: finetuning-metrics}
  ports: [{name: metrics, port: 8000, targetPort: metrics}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: finetuning-metrics
spec:
  selector:
    matchLabels:
      app: finetuning-metrics
  endpoints:
    - port: metrics
      interval: 30s
"""


BY_HANDS_POOL = "serviceMonitor/e2e-scratch/finetuning-metrics/0"


@pytest.fixture(scope="module")
def by_hand(scratch: Cluster, operator: Cluster, prometheus: str) -> None:
    """The node has no GPU, so a state file as a trainer on one writes it stands in for the run."""
    monitor_the_operator(operator)
    image = json.loads((STATE / "images.json").read_text())["operator"]
    scratch.apply(pod_with_a_plain_sidecar(image))
    scratch.apply(BY_HAND)


def test_prometheus_finds_every_metric_of_a_running_job(
    workspace: Cluster, prometheus: str, by_hand: None, tmp_path: Path
) -> None:
    rows = {"source": "configmap:finetuning-demo-data:heldout.jsonl", "maxRows": 8}
    # Long enough for a first scrape by a Prometheus that begins anew meanwhile.
    long_enough = with_spec(example("lora", "shown"), hyperparameters={"epochs": 30})
    validated = with_spec(long_enough, validation={"heldOut": rows})
    mortal = with_spec(long_run("lora", "killed", "300m"), backoffLimit=0)
    with (
        running(workspace, mortal) as killed,
        running(workspace, validated) as shown,
        running(workspace, long_run("lora", "watched", "300m")) as name,
    ):
        own = (f"serviceMonitor/e2e/{each}-metrics/0" for each in (name, killed, shown))
        renew(BY_HANDS_POOL, *own)
        reached_step(workspace, name, 25)
        assert workspace.get("servicemonitor", f"{name}-metrics")["spec"]["endpoints"]
        of_the_job = partial(series, prometheus, name)
        for metric in SPECIFIED:
            workspace.wait(f"{metric} in Prometheus", partial(of_the_job, metric), 180)
        assert of_the_job("finetuning_job_status")[0]["value"][1] == "1"
        step = partial(value, prometheus, name, "finetuning_training_step")
        workspace.wait("step 25 in Prometheus", lambda: (step() or 0) >= 25, 60)
        (loss,) = of_the_job("finetuning_train_loss")
        assert float(loss["value"][1]) > 0
        assert loss["metric"]["epoch"].isdigit()
        assert condition(status(workspace, name), "MonitoringReady")["status"] == "True"
        assert misnamed(prometheus, name, missing=WITHOUT_A_GPU | NOT_YET) == []
        what_somebody_deletes_comes_back(workspace, name)
        a_killed_trainer_is_seen(workspace, prometheus, killed)
        what_it_left_is_fetched(workspace, killed, tmp_path)
        assert judged(workspace, shown)["validation"]["baseline"]["rows"] == 8
        the_result_says_the_same(workspace, prometheus, shown, tmp_path)
        for over in (shown, killed):
            workspace.wait(f"the end of {over}'s monitor", partial(no_monitor, workspace, over), 30)
        every_panel_and_every_rule_works(workspace, prometheus)
        figures_outlive_the_pods(workspace, prometheus, shown)


def test_a_monitor_and_a_sidecar_made_by_hand_give_all_fourteen(
    scratch: Cluster, prometheus: str, by_hand: None
) -> None:
    def in_prometheus(metric: str) -> list[dict[str, Any]]:
        return query(prometheus, f'{metric}{{job_name="my-job"}}')

    for metric in ("finetuning_job_status", "finetuning_training_step", *NEED_A_GPU):
        scratch.wait(f"{metric} in Prometheus", partial(in_prometheus, metric), 180)
    (used,) = in_prometheus("finetuning_gpu_memory_used_bytes")
    assert float(used["value"][1]) == 50 * 2**30
    assert used["metric"]["gpu_id"] == "0"
    scratch.wait("the GPU panels", lambda: not without_answer(prometheus, of_gpus=True), 120)


def what_somebody_deletes_comes_back(workspace: Cluster, job: str) -> None:
    name, kinds = f"{job}-metrics", ("servicemonitor", "service")
    before = {kind: workspace.get(kind, name)["metadata"]["uid"] for kind in kinds}
    workspace.kubectl("delete", "servicemonitor,service", name)

    def back() -> bool:
        found = [(kind, workspace.get(kind, name)) for kind in kinds]
        return all(each and each["metadata"]["uid"] != before[kind] for kind, each in found)

    workspace.wait(f"{name} again", back, 60)


def no_monitor(workspace: Cluster, job: str) -> bool:
    return workspace.get("servicemonitor", f"{job}-metrics") is None


def series(prometheus: str, job: str, metric: str) -> list[dict[str, Any]]:
    return query(prometheus, f'{metric}{{job_name="{job}",namespace="e2e"}}')


def value(prometheus: str, job: str, metric: str) -> float | None:
    found = series(prometheus, job, metric)
    return float(found[0]["value"][1]) if found else None


def pods_of(workspace: Cluster, job: str) -> list[dict[str, Any]]:
    return list(workspace.get("pods", "", f"--selector=finetuning.aim.amd.com/job-name={job}"))


def a_killed_trainer_is_seen(workspace: Cluster, prometheus: str, job: str) -> None:
    """The sidecar waits for this scrape before it goes as well."""
    seen = partial(value, prometheus, job, "finetuning_job_status")
    workspace.wait(f"{job} in Prometheus", lambda: seen() == 1, 60)
    kill_container(pods_of(workspace, job)[0], "finetuning")
    workspace.wait(f"status 3 of {job}", lambda: seen() == 3, 60)
    assert ended(workspace, job, 60)["phase"] == "Failed"


def what_it_left_is_fetched(workspace: Cluster, job: str, folder: Path) -> None:
    """Its curves are those that somebody wants to see most."""
    workspace.run("bash", "examples/fetch.sh", job, str(folder / job), workspace.namespace)
    page = folder / "killed.html"
    assert main(["report", str(folder / job), "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Training failed" in text
    assert "Loss, nats per token" in text


def the_result_says_the_same(workspace: Cluster, prometheus: str, job: str, folder: Path) -> None:
    """The sidecar waited for the scrape of the end, so the last samples are of the whole run."""
    workspace.run("bash", "examples/fetch.sh", job, str(folder / job), workspace.namespace)
    info = json.loads((folder / job / "training_info.json").read_text(encoding="utf-8"))
    assert disagreements(prometheus, job, info) == []


def figures_outlive_the_pods(workspace: Cluster, prometheus: str, job: str) -> None:
    """By the operator, weeks after; a scrape after the pods are gone stands for them."""
    told = status(workspace, job)
    workspace.kubectl("delete", "pods", f"--selector=finetuning.aim.amd.com/job-name={job}")
    assert pods_of(workspace, job) == []
    gone = time.time()
    of_the_job = partial(value, prometheus, job)

    def scraped_since() -> bool:
        found = query(prometheus, "timestamp(finetuning_operator_leader)")
        return bool(found) and float(found[0]["value"][1]) > gone

    workspace.wait("a scrape of the operator", scraped_since, 60)
    workspace.wait("its series' end", lambda: of_the_job("finetuning_job_status") is None, 60)
    assert of_the_job("finetuning_operator_job_final_train_loss") == told["trainLoss"]
    assert of_the_job("finetuning_operator_validation_passed") == 1
    began, ended_at, used = (
        of_the_job(f"finetuning_operator_job_{each}")
        for each in (
            "started_timestamp_seconds",
            "completed_timestamp_seconds",
            "gpu_seconds_total",
        )
    )
    assert began is not None
    assert ended_at is not None
    assert used is not None
    assert used == told["usage"]["gpuSeconds"]
    # The pod is closed a little after its trainer has ended.
    assert 0 < used <= ended_at - began


def every_panel_and_every_rule_works(workspace: Cluster, prometheus: str) -> None:
    """While one job runs, one is validated and one has failed."""

    def complaints() -> list[Any]:
        missing = {("FineTuningJobFailed", "killed")} - firing(prometheus)
        return [*without_answer(prometheus), *unhealthy_rules(prometheus), *missing]

    with contextlib.suppress(AssertionError):
        workspace.wait("data in every panel", lambda: not complaints(), 150)
    assert complaints() == []
    assert {alert for alert, _ in firing(prometheus)} == {"FineTuningJobFailed"}
