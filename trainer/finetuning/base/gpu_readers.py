"""Figures of an AMD GPU from three places: amdsmi's library, its command, the kernel's files.

Each knows the device by its PCI address, since the numbers that they give to GPUs differ from each
other and from those inside a container. What a place does not know, or says with a marker for
unknown (0xFFFF, "N/A"), is None here.

A partition (DPX, CPX) is no PCI device: torch gives the address of its GPU, amd-smi a made-up
function behind it, and the kernel's files are the whole GPU's. Nothing tells which partition of the
one is which of the other, so nothing is told of them here.
"""

import json
import logging
import math
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

MIB = 1 << 20
COMMAND_SECONDS = 15.0
"""The command takes up to a second of CPU: it runs beside the training, and not often."""
COMMAND_TIMEOUT = 10.0
COMMAND_LONGEST_PAUSE = 600.0
UNKNOWN = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""What the driver's tables hold where the device has no such sensor."""
SCALES = {
    "%": 1.0,
    "C": 1.0,
    "mW": 1e-3,
    "W": 1.0,
    "kW": 1e3,
    "mJ": 1e-3,
    "J": 1.0,
    "kJ": 1e3,
    "B": 1 / MIB,
    "KB": 1 / 1024,
    "MB": 1.0,
    "GB": 1024.0,
}
"""By the unit that stands beside a value: what it counts in %, degrees, W, J or MiB.

A value in any other unit is unknown. amd-smi's MB are MiB.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figures:
    """One look at one GPU."""

    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None
    energy_joules: float | None = None
    uuid: str | None = None
    """As AMD's exporter names the device."""

    def completed(self, other: "Figures") -> "Figures":
        """These, and `other` where they are unknown."""
        mine, theirs = vars(self), vars(other)
        return Figures(**{n: theirs[n] if v is None else v for n, v in mine.items()})

    @property
    def complete(self) -> bool:
        return all(getattr(self, field.name) is not None for field in fields(self))


class Reader(Protocol):
    """One place to ask."""

    def read(self, address: str) -> Figures:
        """Present figures of the GPU at a PCI address such as 0000:0c:00.0.

        Any exception means that this place cannot be asked.
        """


class AmdSmiLibrary:
    """The Python package amdsmi, which ROCm installs with its library."""

    def __init__(self, library: Any) -> None:
        """Take the module; raises whatever it raises where there is no driver."""
        library.amdsmi_init()
        self._library = library
        self._handles = whole(
            (library.amdsmi_get_gpu_device_bdf(handle), handle)
            for handle in library.amdsmi_get_processor_handles()
        )

    def read(self, address: str) -> Figures:
        """Raises LookupError where there is no such GPU, or it is partitioned."""
        if address not in self._handles:
            raise LookupError(f"no whole GPU at {address}")
        library, handle = self._library, self._handles[address]
        hottest = (
            handle,
            library.AmdSmiTemperatureType.HOTSPOT,
            library.AmdSmiTemperatureMetric.CURRENT,
        )
        figures = figures_of_library(
            _asked(library.amdsmi_get_gpu_activity, handle),
            _asked(library.amdsmi_get_gpu_vram_usage, handle),
            _asked(library.amdsmi_get_power_info, handle),
            _asked(library.amdsmi_get_energy_count, handle),
            _asked(library.amdsmi_get_temp_metric, *hottest),
        )
        return replace(figures, uuid=_asked(library.amdsmi_get_gpu_device_uuid, handle))


T = TypeVar("T")


def whole(found: Iterable[tuple[str, T]]) -> dict[str, T]:
    """By PCI address what is alone on its device; several are the partitions of one GPU."""
    devices: dict[str, list[T]] = {}
    for address, item in found:
        devices.setdefault(address.lower().rpartition(".")[0], []).append(item)
    return {f"{device}.0": items[0] for device, items in devices.items() if len(items) == 1}


def _asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """None for a sensor that this device does not have."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - amdsmi's own exceptions share no base with Python's.
        return None


def figures_of_library(
    activity: Any, memory: Any, power: Any, energy: Any, temperature: Any
) -> Figures:
    """From what amdsmi's functions return, ROCm 6.0 to 7.

    Memory is in MiB. The energy counter is `power` up to ROCm 6.3 and `energy_accumulator` since,
    in units of `counter_resolution` microjoules; one that stands at 0 is none. MI200 has an average
    power, MI300 a present one.
    """
    counter = _first(energy, "energy_accumulator", "power")
    resolution = _first(energy, "counter_resolution")
    microjoules = counter * resolution if counter is not None and resolution is not None else None
    return Figures(
        utilization_percent=_within(_first(activity, "gfx_activity"), 100),
        memory_used_bytes=_whole(_first(memory, "vram_used"), MIB),
        memory_total_bytes=_whole(_first(memory, "vram_total"), MIB),
        power_watts=_power(power),
        temperature_celsius=_within(_number(temperature), 200),
        energy_joules=None if not microjoules else microjoules / 1e6,
    )


class AmdSmiCommand:
    """`amd-smi`, asked now and then by a thread of its own."""

    def __init__(self, program: str = "amd-smi") -> None:
        """Raises FileNotFoundError where there is no such program."""
        found = shutil.which(program)
        if found is None:
            raise FileNotFoundError(f"no {program}")
        self._program = found
        self._seen: dict[str, Figures] = {}
        threading.Thread(target=self._watch, daemon=True, name="amd-smi").start()

    def read(self, address: str) -> Figures:
        """The newest answer; everything unknown before the first."""
        return self._seen.get(address, Figures())

    def _watch(self) -> None:
        """Ask for ever; a command that fails is left alone for ever longer, and asked again."""
        pause, failures, devices = threading.Event(), 0, Devices()
        while True:
            try:
                devices = devices or self._devices()
                self._seen = by_address(self._ask("metric"), devices)
                failures = 0
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self._seen, devices = {}, Devices()
                if not failures:
                    log.info("%s is of no use for now: %s", self._program, error)
                failures += 1
            pause.wait(pause_after(failures))

    def _devices(self) -> "Devices":
        """Raises ValueError when there are none."""
        if found := devices_of(self._ask("list")):
            return found
        raise ValueError("it lists no whole GPU")

    def _ask(self, what: str) -> Any:
        done = subprocess.run(
            [self._program, what, "--json"],
            capture_output=True,
            timeout=COMMAND_TIMEOUT,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return json.loads(done.stdout)


def pause_after(failures: int) -> float:
    """Seconds until the command is asked again; a timeout may have been the node's bad hour."""
    return min(COMMAND_SECONDS * 2.0**failures, COMMAND_LONGEST_PAUSE)


Devices = dict[int, tuple[str, str | None]]
"""PCI address and uuid by the command's own number."""


def devices_of(listed: Any) -> Devices:
    """Of each whole GPU, from `amd-smi list --json`."""
    found = whole(
        (entry["bdf"], (entry["gpu"], _name(entry.get("uuid"))))
        for entry in _entries(listed)
        if isinstance(entry.get("bdf"), str) and isinstance(entry.get("gpu"), int)
    )
    return {number: (address, uuid) for address, (number, uuid) in found.items()}


def by_address(metrics: Any, devices: Devices) -> dict[str, Figures]:
    """Figures by PCI address, from `amd-smi metric --json`."""
    found = {}
    for entry in _entries(metrics):
        if isinstance(entry.get("gpu"), int) and entry["gpu"] in devices:
            address, uuid = devices[entry["gpu"]]
            found[address] = replace(figures_of_command(entry), uuid=uuid)
    return found


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value != "N/A" else None


def _entries(answer: Any) -> Iterator[dict[str, Any]]:
    """One per GPU: ROCm 6 gives a list, ROCm 7 an object with the list in `gpu_data`."""
    found = answer.get("gpu_data") if isinstance(answer, dict) else answer
    if isinstance(found, list):
        yield from (entry for entry in found if isinstance(entry, dict))


def figures_of_command(entry: Mapping[str, Any]) -> Figures:
    """From one GPU's part of the answer: a value with its unit, a bare value, or "N/A"."""
    memory, power = entry.get("mem_usage"), entry.get("power")
    return Figures(
        utilization_percent=_within(_first(entry.get("usage"), "gfx_activity"), 100),
        memory_used_bytes=_whole(_first(memory, "used_vram"), MIB),
        memory_total_bytes=_whole(_first(memory, "total_vram"), MIB),
        power_watts=_power(power),
        temperature_celsius=_within(_first(entry.get("temperature"), "hotspot", "edge"), 200),
        energy_joules=_first(entry.get("energy"), "total_energy_consumption") or None,
    )


def _power(table: Any) -> float | None:
    """Watts; a GPU that draws none is one that does not measure it, as MI250's second die."""
    names = ("socket_power", "current_socket_power", "average_socket_power")
    return _within(_first(table, *names), 1e4) or None


class KernelFiles:
    """The amdgpu driver's files below /sys, which show every GPU of the node in every container."""

    def __init__(self, devices: Path = Path("/sys/bus/pci/devices")) -> None:
        self._devices = devices

    def read(self, address: str) -> Figures:
        """Raises FileNotFoundError where there is no such device, LookupError if partitioned."""
        device = (self._devices / address).resolve(strict=True)
        if _text(device / "current_compute_partition") not in ("", "SPX"):
            raise LookupError(f"the GPU at {address} is partitioned")
        sensors = next(iter(sorted(device.glob("hwmon/hwmon*"))), device)
        microwatts = _file(sensors / "power1_average", sensors / "power1_input")
        return Figures(
            utilization_percent=_within(_file(device / "gpu_busy_percent"), 100),
            memory_used_bytes=_whole(_file(device / "mem_info_vram_used"), 1),
            memory_total_bytes=_whole(_file(device / "mem_info_vram_total"), 1),
            power_watts=_within(microwatts / 1e6, 1e4) if microwatts else None,
            temperature_celsius=_within(_hottest(sensors), 200),
        )


def _hottest(sensors: Path) -> float | None:
    """Degrees of the hottest spot, or at the edge where no more is measured.

    The files are in thousandths.
    """
    labels = {_text(label): label for label in sensors.glob("temp*_label")}
    label = labels.get("junction") or labels.get("edge")
    value = _file(label.with_name(label.name.replace("_label", "_input"))) if label else None
    return None if value is None else value / 1000


def _file(*candidates: Path) -> float | None:
    """The number in the first of these files that has one."""
    for path in candidates:
        text = _text(path)
        if text.isdecimal():
            return _number(int(text))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def _first(table: Any, *names: str) -> float | None:
    """The first of these entries that is known."""
    if not isinstance(table, dict):
        return None
    found = (_number(table.get(name)) for name in names)
    return next((value for value in found if value is not None), None)


def _number(value: Any) -> float | None:
    """A finite number that is none of the markers for unknown, in the unit that belongs to it."""
    scale: float | None = 1.0
    if isinstance(value, dict):
        scale = SCALES.get(str(value.get("unit", "%")))
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or scale is None:
        return None
    if value in UNKNOWN or value < 0 or not math.isfinite(value):
        return None
    return value if scale == 1 else value * scale


def _within(value: float | None, highest: float) -> float | None:
    return None if value is None or value > highest else float(value)


def _whole(value: float | None, unit: int) -> int | None:
    return None if value is None else int(value * unit)
