import subprocess
import sys

import pytest
from pydantic import ValidationError

from finetuning.controller.settings import MonitoringMode, Settings, variable

IMAGES = {
    variable("operator_image"): "operator:1",
    variable("trainer_image"): "trainer:1",
}


def test_only_the_images_must_be_given() -> None:
    settings = Settings.from_env(IMAGES)
    assert settings.monitoring_mode is MonitoringMode.PER_JOB
    assert settings.watch_namespaces == ()


def test_an_empty_variable_means_the_default() -> None:
    empty = {variable(field): "" for field in Settings.model_fields if "image" not in field}
    assert Settings.from_env({**empty, **IMAGES}) == Settings.from_env(IMAGES)


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("gpu_supplemental_groups", "44, 109", (44, 109)),
        ("gpu_environment", '{"HSA_ENABLE_SDMA": "0"}', {"HSA_ENABLE_SDMA": "0"}),
        ("watch_namespaces", "team-a,team-b,", ("team-a", "team-b")),
        ("image_pull_secrets", "registry", ("registry",)),
        ("monitoring_extra_labels", '{"release": "prometheus"}', {"release": "prometheus"}),
        ("monitoring_mode", "none", MonitoringMode.NONE),
        ("metrics_linger_seconds", "0", 0),
        ("http_port", "9090", 9090),
    ],
)
def test_variables_are_read_as_written_in_the_chart(
    field: str, text: str, expected: object
) -> None:
    assert getattr(Settings.from_env({**IMAGES, variable(field): text}), field) == expected


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("gpu_supplemental_groups", "render"),
        ("gpu_supplemental_groups", "0"),
        ("gpu_environment", '{"PYTHONPATH": "x"}'),
        ("gpu_environment", '{"HSA_X": "$(HF_TOKEN)"}'),
        ("gpu_seccomp_profile", "../unconfined.json"),
        ("gpu_seccomp_profile", "/etc/rocm.json"),
        ("shared_memory", "8"),
        ("watch_namespaces", "Team_A"),
        ("monitoring_extra_labels", "release=prometheus"),
        ("monitoring_extra_labels", '{"release": "two words"}'),
        ("monitoring_interval", "30"),
        ("gpu_resource_name", "gpu"),
        ("gpu_model", "H100"),
        ("image_pull_policy", "Sometimes"),
        ("log_level", "loud"),
        ("run_as_user", "0"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(field: str, text: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Settings.from_env({**IMAGES, variable(field): text})


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetuning.controller", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def test_a_missing_image_is_one_line_and_exit_code_2() -> None:
    found = run(**{variable("trainer_image"): "trainer:1", "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert found.returncode == 2
    assert found.stderr.startswith("error: FINETUNING_OPERATOR_OPERATOR_IMAGE is not set.")
    assert len(found.stderr.splitlines()) == 1


def test_a_missing_kubeconfig_is_one_line_and_exit_code_2() -> None:
    found = run("--kubeconfig", "/nowhere/config", **IMAGES)
    assert found.returncode == 2
    assert found.stderr == (
        "error: --kubeconfig /nowhere/config: no such file. "
        "Name a kubeconfig, or run inside a Pod.\n"
    )


def test_help_shows_how_to_run_it_and_loads_nothing_heavy() -> None:
    found = run("--help")
    assert found.returncode == 0
    assert "--kubeconfig .cluster/kubeconfig" in found.stdout


def test_what_the_local_runner_shares_needs_neither_kopf_nor_a_client() -> None:
    script = (
        "import sys; import finetuning.controller.desired, finetuning.controller.status; "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "heavy = {'kopf', 'kubernetes', 'aiohttp', 'torch'} & loaded; "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
