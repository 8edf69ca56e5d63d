"""A GPU that cannot be used is told by the very file or group that is missing."""

from pathlib import Path

import pytest

from finetuning.artifacts import GPUS_ENV
from finetuning.base import gpu_access
from finetuning.base.errors import ConfigError
from finetuning.base.gpu_access import DeviceFile, look, problem, require

KFD, RENDER = "/dev/kfd", "/dev/dri/renderD128"


def device(path: str, *, opens: bool, group: int = 109) -> DeviceFile:
    return DeviceFile(path, group, 0o660, opens)


RENDERS = [device(RENDER, opens=True)]


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ([], {1000}, None),
        ([device(KFD, opens=True), device(RENDER, opens=True)], {1000, 109}, None),
        ([device(RENDER, opens=True)], {1000}, "/dev/kfd: missing, though a GPU's render device"),
        ([device(KFD, opens=True)], {1000}, "name amd.com/gpu in spec.resources.limits"),
        (
            [device(KFD, opens=False), device(RENDER, opens=False, group=44)],
            {1000},
            (
                "/dev/kfd (group 109, mode 0660), /dev/dri/renderD128 (group 44, mode 0660): this "
                "process may not open it, its groups are 1000; set the chart's value "
                "gpuSupplementalGroups to [44, 109]."
            ),
        ),
        (
            [DeviceFile(KFD, 0, 0o660, opens=False), *RENDERS],
            {1000},
            "(group 0, mode 0660): no group",
        ),
        (
            [DeviceFile(KFD, 109, 0o600, opens=False), *RENDERS],
            {109},
            "no group that a pod can have",
        ),
        (
            [device(KFD, opens=True), device(RENDER, opens=False)],
            {44, 109},
            "although it is in its group (44, 109); the container runtime's device rules",
        ),
    ],
)
def test_the_message_names_what_is_missing(
    files: list[DeviceFile], groups: set[int], expected: str | None
) -> None:
    told = problem(files, groups)
    assert told is None if expected is None else expected in (told or "")


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    (tmp_path / "dri").mkdir()
    for name in ("kfd", "dri/card0", "dri/renderD128", "dri/renderD129"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_devices_are_found_and_tried(devices: Path) -> None:
    (devices / "dri" / "renderD129").unlink()
    (devices / "dri" / "renderD129").mkdir()  # Nobody can open a folder for writing.
    assert [(Path(each.path).name, each.opens) for each in look(devices)] == [
        ("kfd", True),
        ("renderD128", True),
        ("renderD129", False),
    ]
    assert look(devices / "nothing") == []


def test_a_closed_device_ends_the_run_unless_gpus_are_hidden_on_purpose(devices: Path) -> None:
    require({}, devices)
    (devices / "kfd").unlink()
    with pytest.raises(ConfigError, match=r"/dev/kfd: missing.*HIP_VISIBLE_DEVICES=-1"):
        require({}, devices)
    require({gpu_access.HIDES_GPUS: "-1"}, devices)
    require({gpu_access.HIDES_GPUS: ""}, devices)
    with pytest.raises(ConfigError):
        require({gpu_access.HIDES_GPUS: "0"}, devices)


def test_a_pod_that_was_promised_a_gpu_and_has_none_ends_the_run(tmp_path: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    require(pod, tmp_path)
    require({GPUS_ENV: "8"}, tmp_path)
    with pytest.raises(ConfigError, match=r"/dev/kfd and /dev/dri/renderD\*: missing.*for 8 GPU"):
        require({**pod, GPUS_ENV: "8"}, tmp_path)
    require({**pod, GPUS_ENV: "8", gpu_access.HIDES_GPUS: "-1"}, tmp_path)
