"""A job in, its children out, byte for byte; `pytest tests/golden --update-golden` rewrites."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuning.api.run_config import ENV, RunConfig
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import desired
from finetuning.controller.desired import monitoring
from finetuning.controller.settings import MonitoringMode, Settings

HERE = Path(__file__).parent
JOBS = sorted((HERE / "jobs").glob("*.yaml"))
SETTINGS = Settings(
    operator_image="registry.example.com/operator@sha256:1111",
    trainer_image="registry.example.com/trainer@sha256:2222",
)
TAILORED = SETTINGS.model_copy(
    update={
        "gpu_supplemental_groups": (44, 109),
        "gpu_environment": {"HSA_OVERRIDE_GFX_VERSION": "9.4.2"},
        "gpu_seccomp_profile": "profiles/rocm.json",
        "shared_memory": "64Gi",
        "image_pull_secrets": ("registry",),
        "image_pull_policy": "Always",
        "monitoring_interval": "5s",
        "monitoring_extra_labels": {"release": "prometheus"},
        "metrics_linger_seconds": 0,
        "run_as_user": 2000,
    }
)


def read_job(path: Path) -> FineTuningJob:
    body = yaml.safe_load(path.read_text())
    body["metadata"] = {"uid": "11111111-2222-3333-4444-555555555555", **body["metadata"]}
    return FineTuningJob.from_body(body)


def children(job: FineTuningJob, settings: Settings) -> str:
    manifests = desired.build(job, settings).manifests()
    text: str = yaml.safe_dump_all(manifests, sort_keys=False, width=100, allow_unicode=True)
    return text


def compare(text: str, path: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden", default=False):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_children_of_a_job_are_as_recorded(path: Path, request: pytest.FixtureRequest) -> None:
    compare(children(read_job(path), SETTINGS), HERE / "children" / path.name, request)


def test_settings_reach_every_child(request: pytest.FixtureRequest) -> None:
    text = children(read_job(HERE / "jobs" / "lora-with-defaults.yaml"), TAILORED)
    compare(text, HERE / "children" / "lora-with-tailored-settings.yaml", request)


def test_no_golden_file_is_left_over() -> None:
    known = {path.name for path in JOBS} | {"lora-with-tailored-settings.yaml"}
    assert {path.name for path in (HERE / "children").iterdir()} == known


def test_the_same_job_gives_the_same_bytes_in_another_process() -> None:
    job = HERE / "jobs" / "qlora-on-two-gpus.yaml"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_desired_children as t; "
        "from pathlib import Path; print(t.children(t.read_job(Path(sys.argv[2])), t.SETTINGS))"
    )
    command = [sys.executable, "-c", script, str(HERE), str(job)]
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert again.removesuffix("\n") == children(read_job(job), SETTINGS)


def test_without_monitoring_there_is_no_service() -> None:
    off = SETTINGS.model_copy(update={"monitoring_mode": MonitoringMode.NONE})
    found = desired.build(read_job(JOBS[0]), off)
    assert (found.service, found.service_monitor) == (None, None)


@pytest.mark.parametrize(
    ("mode", "name"),
    [(MonitoringMode.SHARED, "shared"), (MonitoringMode.POD_MONITOR, "pod-monitor")],
)
def test_the_one_monitor_of_all_jobs_is_as_recorded(
    mode: MonitoringMode, name: str, request: pytest.FixtureRequest
) -> None:
    settings = TAILORED.model_copy(update={"monitoring_mode": mode})
    found = monitoring.shared_monitor(settings, "33333333-4444-5555-6666-777777777777")
    text = yaml.safe_dump(found, sort_keys=False, width=100)
    compare(text, HERE / "monitors" / f"{name}.yaml", request)


def pods(path: Path) -> list[dict[str, Any]]:
    found = desired.build(read_job(path), SETTINGS)
    jobs = (found.training_job, found.validation_job, found.publishing_job)
    return [job["spec"]["template"]["spec"] for job in jobs if job is not None]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_pod_passes_the_restricted_pod_security_standard(path: Path) -> None:
    for pod in pods(path):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        volumes = {key for volume in pod["volumes"] for key in volume} - {"name"}
        assert volumes <= {"configMap", "emptyDir", "persistentVolumeClaim"}
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_no_pod_holds_an_api_token_or_lets_kubelet_expand_anything(path: Path) -> None:
    for pod in pods(path):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in containers(pod):
            words = [*container["command"], *container.get("args", [])]
            words += [each["value"] for each in container["env"] if "value" in each]
            assert not [word for word in words if "$(" in word]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_mount_has_a_volume_and_every_volume_a_mount(path: Path) -> None:
    for pod in pods(path):
        mounted = {each["name"] for one in containers(pod) for each in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_knob_of_the_job_reaches_the_trainer(path: Path) -> None:
    job = read_job(path)
    trainer = pods(path)[0]["containers"][0]
    env = {each["name"]: each.get("value") for each in trainer["env"]}
    config = RunConfig.decode(env[ENV] or "")
    assert config.hyperparameters == job.spec.hyperparameters
    assert config.lora_config == job.spec.lora
    assert config.quantization_config == job.spec.quantization
    assert (config.method, config.revision) == (job.spec.method, job.spec.base_model.revision)


def test_what_copies_a_model_gets_nothing_that_is_for_gpus() -> None:
    found = desired.build(read_job(HERE / "jobs" / "published-to-a-registry.yaml"), TAILORED)
    assert found.publishing_job is not None
    pod = found.publishing_job["spec"]["template"]["spec"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "HSA_OVERRIDE_GFX_VERSION" not in {each["name"] for each in pod["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("base", "form", "readers"),
    [
        ({}, "Adapter", {"finetuning", "validation"}),
        ({}, "Merged", {"finetuning", "validation", "publish"}),
        ({"source": "pvc://models/gemma"}, "Merged", {"finetuning"}),
    ],
)
def test_the_token_of_the_hub_is_where_something_is_read_from_it(
    base: dict[str, str], form: str, readers: set[str]
) -> None:
    """The rows are on the Hub in any case."""
    body = yaml.safe_load((HERE / "jobs" / "token-from-a-secret.yaml").read_text())
    hub = {"uri": "hf://a/b", "tokenSecretRef": {"name": "writer", "key": "token"}}
    body["spec"]["baseModel"] |= base
    body["spec"]["output"]["publish"] = {"form": form, "hub": hub}
    found = desired.build(FineTuningJob.from_body(body), SETTINGS)
    jobs = (found.training_job, found.validation_job, found.publishing_job)
    every = [each for job in jobs if job for each in containers(job["spec"]["template"]["spec"])]
    have = {each["name"] for each in every if "HF_TOKEN" in str(each["env"])}
    assert have == readers
