"""What real machines have printed, read by the trainer; the sources are named beside the files."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetuning.base.gpu import GpuWatch, pci_address
from finetuning.base.gpu_readers import (
    AmdSmiLibrary,
    Figures,
    KernelFiles,
    by_address,
    devices_of,
    figures_of_library,
)

OUTPUTS = Path(__file__).with_name("gpu_outputs")


def recorded(name: str) -> Any:
    return json.loads((OUTPUTS / name).read_text(encoding="utf-8"))


def listed(count: int) -> list[dict[str, Any]]:
    """`amd-smi list --json` of so many whole GPUs."""
    return [{"gpu": n, "bdf": f"0000:{n:02X}:00.0", "partition_id": 0} for n in range(count)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Two layouts, and a counter of energy that stands at 0: these GPUs have none.
        ("rocm6-rx6600.json", [Figures(1.0, 202 << 20, 8176 << 20, 6.0, 37.0)]),
        ("rocm6-w7700-usage.json", [Figures(42.0)]),
        (
            "rocm7-two-radeons.json",
            [
                Figures(91.0, 20450 << 20, 30576 << 20, 12.3, 63.0),
                Figures(1.0, 57 << 20, 32624 << 20, 23.4, 32.0),
            ],
        ),
        (
            "rocm7-mi300x.json",
            [
                Figures(94.0, 17153 << 20, 196592 << 20, 612.0),
                Figures(0.0, 284 << 20, 196592 << 20),
            ],
        ),
        ("rocm7-apu.json", [Figures()]),
    ],
)
def test_the_commands_answers_are_understood(name: str, expected: list[Figures]) -> None:
    found = by_address(recorded(name), devices_of(listed(len(expected))))
    assert list(found.values()) == expected


@pytest.mark.parametrize(
    ("name", "watts"), [("mi210", 40.0), ("mi200-rocm6.2", 94.0), ("mi300-rocm6.2", 717.0)]
)
def test_the_librarys_powers_are_understood(name: str, watts: float) -> None:
    power = recorded("library.json")[name]["power"]
    assert figures_of_library(None, None, power, None, None) == Figures(power_watts=watts)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rx6900xt", Figures(3.0, 668274688, 17163091968, 36.0, 59.0)),
        # One sensor only, at the edge.
        ("rx580", Figures(11.0, 536870912, 4294967296, 41.045, 44.0)),
        ("phoenix", Figures(0.0, 1272893440, 4294967296, 3.103, 25.0)),
        ("vega-node-without-hwmon", Figures(4.0, 1490378752, 8573157376)),
    ],
)
def test_the_kernels_files_are_understood(name: str, expected: Figures, tmp_path: Path) -> None:
    machine = recorded("sysfs.json")[name]
    assert KernelFiles(devices(tmp_path, **machine)).read(machine["address"]) == expected


def devices(folder: Path, address: str, files: dict[str, str]) -> Path:
    """/sys/bus/pci/devices of one GPU."""
    for name, text in files.items():
        file = folder / address / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


PARTITIONS = ("0000:01:00.0", "0000:01:00.1", "0000:01:00.2")
"""Of an MI300A in TPX, as ROCm prints them; torch gives the first to each."""
ADDRESS = pci_address(SimpleNamespace(pci_domain_id=0, pci_bus_id=1, pci_device_id=0))


def test_no_partition_is_shown_the_figures_of_another_by_the_command() -> None:
    rows = [{"gpu": n, "bdf": bdf, "uuid": f"u{n}"} for n, bdf in enumerate(PARTITIONS)]
    beside = {"gpu": 7, "bdf": "0000:02:00.0", "uuid": "whole"}
    answer = recorded("rocm7-mi300x-dpx-usage.json")
    answer["gpu_data"].append(answer["gpu_data"][0] | {"gpu": 7})
    found = by_address(answer, devices_of([*rows, beside]))
    assert found == {"0000:02:00.0": Figures(utilization_percent=0.0, uuid="whole")}


class Partitioned:
    """amdsmi's functions on that machine: the first partition tells of the whole GPU."""

    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self) -> None:
        self.amdsmi_init = lambda: None
        self.amdsmi_get_processor_handles = lambda: [0, 1, 2]
        self.amdsmi_get_gpu_device_bdf = PARTITIONS.__getitem__
        self.amdsmi_get_gpu_activity = [{"gfx_activity": 99}, {}, {}].__getitem__


def test_no_partition_is_shown_the_figures_of_another_by_library_and_kernel(
    tmp_path: Path,
) -> None:
    files = recorded("sysfs.json")["rx6900xt"]["files"]
    bus = devices(tmp_path, ADDRESS, files | {"current_compute_partition": "TPX\n"})
    watch = GpuWatch(ADDRESS, [AmdSmiLibrary(Partitioned()), KernelFiles(bus)])
    assert watch.read() == Figures()
    (tmp_path / ADDRESS / "current_compute_partition").write_text("SPX\n", encoding="utf-8")
    assert KernelFiles(bus).read(ADDRESS).utilization_percent == 3
