"""Panels that join series, put by promtool to made-up ones that a single small cluster never has.

Two clusters with jobs of the same names, AMD's device metrics exporter in the forms in which
Prometheus may have it, a job whose pod was replaced.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hack import prometheus as ask
from hack.cluster.shell import attempt

from finetuning.observability.boards import DASHBOARDS

pytestmark = pytest.mark.timeout(900)  # The first test may have to build promtool.

JOB = {"namespace": "ml", "job_name": "llama"}
EAST, WEST = {"cluster": "east", **JOB}, {"cluster": "west", **JOB}
Labels = dict[str, str]
Series = tuple[str, str]
Found = list[tuple[Labels, float]]


def series(name: str, labels: Labels, values: str, **more: str) -> Series:
    words = ",".join(f'{key}="{value}"' for key, value in {**labels, **more}.items())
    return f"{name}{{{words}}}", values


def panel(board: str, title: str, query: int = 0) -> str:
    """The query of a panel with every variable set to all and two hours chosen."""
    (of_it,) = (each for each in DASHBOARDS if each.uid == f"finetuning-{board}")
    (found,) = (each for each in of_it.panels if each.title == title)
    return ask.filled(found.queries[query].expr, 7200)


@dataclass(frozen=True)
class Case:
    """What is stored, and what a query finds in it at a minute."""

    name: str
    series: tuple[Series, ...]
    expr: str
    finds: Found
    minute: int = 10


def of_a_cluster(job: Labels, phase: str, passed: int, loss: float) -> Iterable[Series]:
    """What sidecar and operator tell of the one job of a cluster."""
    told = {
        "job_gpu_seconds_total": "36000x20",
        "validation_passed": f"{passed}x20",
        "job_created_timestamp_seconds": "0x20",
        "job_final_train_loss": f"{loss}x20",
    }
    for name, values in told.items():
        yield series(f"finetuning_operator_{name}", job, values)
    for each in ("Running", "Failed"):
        is_it = int(each == phase)
        yield series("finetuning_operator_job_phase", job, f"{is_it}x20", phase=each)
    about = {"model_id": "m", "method": "lora", "gpus": "8"}
    yield series("finetuning_operator_job_info", job, "1x20", **about)
    sidecar = {**job, "pod": "llama-train-x", "model_id": "m"}
    yield series("finetuning_train_loss", sidecar, f"{loss}x20", epoch="1")
    for metric, value in (("gpu_utilization_percent", 90), ("gpu_energy_joules_total", 1)):
        yield series(f"finetuning_{metric}", {**sidecar, "gpu_id": "0"}, f"{value}x20")


TWO_CLUSTERS = (
    *of_a_cluster(EAST, "Running", 1, 0.5),
    *of_a_cluster(WEST, "Failed", 0, 2.5),
)
ABOUT = {"model_id": "m", "method": "lora", "gpus": "8"}
CLUSTERS: tuple[tuple[str, str, Found], ...] = (
    ("all jobs", panel("fleet", "All jobs"), [
        ({**EAST, **ABOUT, "phase": "Running"}, 1), ({**WEST, **ABOUT, "phase": "Failed"}, 1)]),
    ("the losses of all jobs", panel("fleet", "All jobs", 2), [(EAST, 0.5), (WEST, 2.5)]),
    ("jobs by phase", panel("fleet", "Jobs by phase"), [
        ({"phase": "Running"}, 1), ({"phase": "Failed"}, 1)]),
    ("validated models", panel("fleet", "Validated models"), [({}, 0.5)]),
    ("GPU hours", panel("fleet", "GPU hours"), [({}, 20)]),
    ("GPU hours by namespace", panel("fleet", "GPU hours by namespace"), [
        ({"cluster": "east", "namespace": "ml"}, 10),
        ({"cluster": "west", "namespace": "ml"}, 10)]),
    ("new jobs", panel("fleet", "New jobs"), [({}, 2)]),
    ("models that did not pass", panel("validation", "Not passed"), [({}, 1)]),
    ("a job's loss", panel("job", "Loss"), [(EAST, 0.5), (WEST, 2.5)]),
    ("a GPU's load", panel("gpu", "Utilization"), [
        ({**EAST, "gpu_id": "0"}, 90), ({**WEST, "gpu_id": "0"}, 90)]),
)  # fmt: skip


TEMPERATURE = panel("gpu", "Junction temperature")
OTHER = {"namespace": "ml", "job_name": "qwen"}


def exported(gpu_id: str, pod: str, value: int, *, honored: bool = True, **more: str) -> Series:
    """One GPU of a node, as the exporter tells it by default and Prometheus labels it."""
    own = {"gpu_id": gpu_id, "serial_number": f"PCB{gpu_id}", "hostname": "n1"}
    workload = {"pod": pod, "namespace": "ml"}
    if not honored:
        workload = {f"exported_{name}": label for name, label in workload.items()}
        workload |= {"pod": "exporter-1", "namespace": "gpu-operator"}
    return series("gpu_junction_temperature", own | workload, f"{value}x20", **more)


def sidecar(job: Labels, pod: str, uuid: str = "", **more: str) -> tuple[Series, Series]:
    of_the_pod = {**job, "pod": pod, "model_id": "m", **more}
    about = {"gpu_id": "0", "gpu_uuid": uuid, "gpu_name": "AMD Instinct MI300X"}
    return (
        series("finetuning_training_info", of_the_pod, "1x20", precision="bf16"),
        series("finetuning_gpu_info", of_the_pod, "1x20", **about),
    )


TWO_JOBS = (*sidecar(JOB, "llama-train-x"), *sidecar(OTHER, "qwen-train-x"))
EACH_ITS_OWN: Found = [
    ({**JOB, "pod": "llama-train-x", "gpu_id": "3"}, 50),
    ({**OTHER, "pod": "qwen-train-x", "gpu_id": "5"}, 95),
]
EXPORTERS = (
    Case("the exporter's pods", (
        *TWO_JOBS, exported("3", "llama-train-x", 50), exported("5", "qwen-train-x", 95)),
        TEMPERATURE, EACH_ITS_OWN),
    Case("pods renamed by Prometheus", (
        *TWO_JOBS, exported("3", "llama-train-x", 50, honored=False),
        exported("5", "qwen-train-x", 95, honored=False)), TEMPERATURE, EACH_ITS_OWN),
    Case("uuids that only the trainers know", (
        *sidecar(JOB, "llama-train-x", "GPU-a"), *sidecar(OTHER, "qwen-train-x", "GPU-b"),
        exported("3", "llama-train-x", 50), exported("5", "qwen-train-x", 95)),
        TEMPERATURE, EACH_ITS_OWN),
    Case("uuids on both sides", (
        *sidecar(JOB, "llama-train-x", "GPU-a"),
        exported("3", "llama-train-x", 50, gpu_uuid="GPU-a"),
        exported("4", "", 80, gpu_uuid="GPU-c")), TEMPERATURE, [
        ({**JOB, "gpu_id": "0", "gpu_uuid": "GPU-a"}, 50)]),
    Case("uuids without a pod, as outside Kubernetes", (
        *sidecar({"job_name": "llama"}, "", "GPU-a"),
        series("gpu_junction_temperature", {"gpu_id": "3", "hostname": "n1"}, "50x20",
               gpu_uuid="GPU-a")), TEMPERATURE, [
        ({"job_name": "llama", "gpu_id": "0", "gpu_uuid": "GPU-a"}, 50)]),
    Case("pods of the same name in two clusters", (
        *sidecar(EAST, "llama-train-x"), *sidecar(WEST, "llama-train-x"),
        exported("3", "llama-train-x", 50, cluster="east"),
        exported("3", "llama-train-x", 70, cluster="west")), TEMPERATURE, [
        ({**EAST, "pod": "llama-train-x", "gpu_id": "3"}, 50),
        ({**WEST, "pod": "llama-train-x", "gpu_id": "3"}, 70)]),
    Case("a GPU that no job of ours has", (
        *TWO_JOBS, exported("3", "someone-elses", 50)), TEMPERATURE, []),
)  # fmt: skip

STEP = panel("job", "Seconds per step")
FIRST, SECOND = {**JOB, "pod": "x", "model_id": "m"}, {**JOB, "pod": "y", "model_id": "m"}
RESTARTS = (
    Case("the energy of a GPU over a restart", (
        series("finetuning_gpu_energy_joules_total", FIRST, "1000000+6000x60 stale", gpu_id="0"),
        series("finetuning_gpu_energy_joules_total", SECOND, "_x62 1400000+6000x60", gpu_id="0")),
        panel("gpu", "Energy"), [({**JOB, "gpu_id": "0"}, 714000 / 3.6e6)], 122),
    *(
        Case(f"seconds per step {when}", (
            series("finetuning_training_step", FIRST, "100x10 130+30x10 100+30x10 400x20"),
            series("finetuning_training_state", FIRST, "0x10 1x30 0x20", state="training")),
            STEP, [(JOB, 2)] if steady else [], minute)
        for when, minute, steady in (
            ("while it starts", 8, False), ("while it trains", 18, True),
            ("just after it fell back", 22, False), ("soon after", 26, True),
            ("after the end", 45, False))
    ),
)  # fmt: skip
LAST = "finetuning_last_update_timestamp_seconds"
INFO = {"model_id": "m", "method": "lora"}
AGAIN = (  # Deleted when it was done, and created again by the same name.
    series(LAST, FIRST, "0+60x10 600x5 stale"), series(LAST, SECOND, "_x20 1200+60x10"),
    series("finetuning_training_progress", FIRST, "0+10x10 100x5 stale"),
    series("finetuning_training_progress", SECOND, "_x20 0+1x10"),
    series("finetuning_tokens_total", FIRST, "0+5000x15 stale"),
    series("finetuning_tokens_total", SECOND, "_x20 0+7x10"),
    series("finetuning_training_info", FIRST, "1x15 stale", **INFO, precision="bf16"),
    series("finetuning_training_info", SECOND, "_x20 1x2 stale", **INFO, precision=""),
    series("finetuning_training_info", SECOND, "_x23 1x10", **INFO, precision="fp32"),
    series("finetuning_training_progress", {**JOB, "job_name": "old", "pod": "z"}, "7x9 stale"),
    series(LAST, {**JOB, "job_name": "old", "pod": "z"}, "0x9 stale"),
)  # fmt: skip
REPLACED = (  # Killed at the tenth minute; Prometheus forgets the pod at the twelfth.
    series(LAST, FIRST, "0+60x10 600 stale"), series(LAST, SECOND, "_x11 660+60x20"),
    series("finetuning_job_status", FIRST, "1x9 3 3 stale"),
    series("finetuning_job_status", SECOND, "_x11 1x20"),
    series("finetuning_train_loss", FIRST, "0.5x11 stale", epoch="3"),
    series("finetuning_train_loss", SECOND, "_x11 0.7x20", epoch="2"),
)  # fmt: skip
RERUNS = (
    *(Case(f"the status {when}", REPLACED, panel("job", "Status"), [(JOB, value)], minute)
      for when, minute, value in (
          ("while it trains", 5, 1), ("when it was killed", 10, 3),
          ("as soon as its next pod tells anything", 11, 1))),
    Case("the loss of the next pod", REPLACED, panel("job", "Loss"), [(JOB, 0.7)], 11),
    Case("the progress of a job by the name of an earlier one", AGAIN, panel("job", "Progress"),
         [(JOB, 5), ({**JOB, "job_name": "old"}, 7)], 25),
    Case("the same in the list", AGAIN, panel("fleet", "All jobs", 1),
         [(JOB, 5), ({**JOB, "job_name": "old"}, 7)], 25),
    Case("its tokens", AGAIN, panel("job", "Tokens"), [(JOB, 35)], 25),
    Case("its settings", AGAIN, panel("job", "Settings"),
         [({**JOB, **INFO, "precision": "fp32"}, 1)], 25),
    Case("its settings while it starts", AGAIN, panel("job", "Settings"),
         [({**JOB, **INFO}, 1)], 21),
)  # fmt: skip
CASES = (
    *RERUNS,
    *(Case(name, TWO_CLUSTERS, expr, finds) for name, expr, finds in CLUSTERS),
    *EXPORTERS,
    *RESTARTS,
)


def as_test(case: Case) -> dict[str, object]:
    samples = [
        {"labels": "".join(series("", labels, "")), "value": value} for labels, value in case.finds
    ]
    test = {"expr": case.expr, "eval_time": f"{case.minute}m", "exp_samples": samples}
    return {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series],
        "promql_expr_test": [test],
    }


@pytest.fixture
def promtool_says(promtool: Path, tmp_path: Path) -> Callable[[Case], str]:
    """What promtool finds that was not expected; empty when all is as it should be."""

    def run(case: Case) -> str:
        file = tmp_path / "case.yaml"
        words = {"rule_files": [], "evaluation_interval": "1m", "fuzzy_compare": True}
        file.write_text(json.dumps(words | {"tests": [as_test(case)]}))
        done = attempt(promtool, "test", "rules", file)
        return done.stdout + done.stderr if done.returncode else ""

    return run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_panel_finds_what_belongs_together(
    promtool_says: Callable[[Case], str], case: Case
) -> None:
    assert promtool_says(case) == ""


def test_what_does_not_belong_together_is_told(promtool_says: Callable[[Case], str]) -> None:
    """The test above could not fail if promtool skipped what it does not understand."""
    swapped = [({**labels, **other}, value) for (labels, value), other in zip(
        EACH_ITS_OWN, (OTHER, JOB), strict=True)]  # fmt: skip
    assert "got:" in promtool_says(Case("swapped", EXPORTERS[0].series, TEMPERATURE, swapped))
