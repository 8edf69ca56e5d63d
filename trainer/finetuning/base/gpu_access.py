"""Why a process cannot use the AMD GPU beside it: which device file is missing, or which group."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetuning.artifacts import GPUS_ENV
from finetuning.base.errors import ConfigError

DEVICES = Path("/dev")
HIDES_GPUS = "HIP_VISIBLE_DEVICES"
_NONE = {"", "-1"}
_SHARED = 0o060
_POD = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True)
class DeviceFile:
    """A file through which a process reaches a GPU."""

    path: str
    group: int
    mode: int
    opens: bool
    """Whether this process may read and write it."""

    @property
    def opens_to_its_group(self) -> bool:
        """Of which a pod can be a member: no pod is one of root's."""
        return self.group != 0 and self.mode & _SHARED == _SHARED


def require(environ: Mapping[str, str], devices: Path = DEVICES) -> None:
    """A GPU that the pod was given and the process cannot open is no reason to use the CPU.

    Raises:
        ConfigError: there is an AMD GPU that this process may not use; says what is missing.
    """
    if environ.get(HIDES_GPUS) in _NONE:
        return
    files = look(devices)
    found = problem(files, {os.getgid(), *os.getgroups()}) or _nothing(files, environ)
    if found:
        raise ConfigError(f"{found} To train on the CPU all the same, set {HIDES_GPUS}=-1")


def look(devices: Path = DEVICES) -> list[DeviceFile]:
    """The driver's own file and those that compute; display outputs (card*) matter to nobody."""
    paths = [devices / "kfd", *sorted((devices / "dri").glob("renderD*"))]
    return [_file(path) for path in paths if path.exists()]


def _file(path: Path) -> DeviceFile:
    facts = path.stat()
    return DeviceFile(str(path), facts.st_gid, facts.st_mode & 0o777, _opens(path))


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def problem(files: Iterable[DeviceFile], groups: set[int]) -> str | None:
    """What stands between a process with these groups and its GPU; None when nothing does."""
    found = list(files)
    driver = [each for each in found if each.path.endswith("/kfd")]
    if not found:
        return None
    if not driver:
        return (
            "/dev/kfd: missing, though a GPU's render device is here; the device plugin or the "
            "container runtime passed in half of the GPU: see docs/hardware.md."
        )
    if len(driver) == len(found):
        return (
            "/dev/dri/renderD*: missing, though /dev/kfd is here; the pod was given no GPU: name "
            "amd.com/gpu in spec.resources.limits."
        )
    return _closed([each for each in found if not each.opens], groups)


def _nothing(files: list[DeviceFile], environ: Mapping[str, str]) -> str | None:
    """Outside of a pod nobody has promised a GPU."""
    promised = environ.get(GPUS_ENV)
    if files or not promised or _POD not in environ:
        return None
    return (
        f"/dev/kfd and /dev/dri/renderD*: missing, though the pod asked for {promised} GPU(s); the "
        "device plugin or the container runtime passed none in: see docs/hardware.md."
    )


def _closed(files: list[DeviceFile], groups: set[int]) -> str | None:
    if not files:
        return None
    told = ", ".join(f"{each.path} (group {each.group}, mode {each.mode:04o})" for each in files)
    if any(not each.opens_to_its_group for each in files):
        return (
            f"{told}: no group that a pod can have may open it; on the node give these devices a "
            "group of their own and the mode 0660, by a udev rule: see docs/hardware.md."
        )
    missing = sorted({each.group for each in files} - groups)
    own = ", ".join(map(str, sorted(groups)))
    if not missing:
        return (
            f"{told}: this process may not open it although it is in its group ({own}); the "
            "container runtime's device rules forbid it: see docs/hardware.md."
        )
    wanted = ", ".join(map(str, missing))
    return (
        f"{told}: this process may not open it, its groups are {own}; set the chart's value "
        f"gpuSupplementalGroups to [{wanted}]."
    )
