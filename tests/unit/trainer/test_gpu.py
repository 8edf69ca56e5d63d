"""GPU figures: one place after the other, each with what it can say wrongly.

The numbers are made up here; what real machines have said is in test_gpu_outputs.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetuning.base import gpu_readers
from finetuning.base.gpu import GpuWatch, pci_address, states
from finetuning.base.gpu_readers import (
    AmdSmiCommand,
    AmdSmiLibrary,
    Figures,
    KernelFiles,
    by_address,
    devices_of,
    figures_of_library,
)
from finetuning.base.rank import Rank

ADDRESS = "0000:0c:00.0"
UUID = "12ff74a1-0000-1000-8012-2a5b7c9d0e1f"
LIST = [
    {"gpu": 0, "bdf": "0000:05:00.0", "uuid": "other", "partition_id": 0},
    {"gpu": 1, "bdf": "0000:0C:00.0", "uuid": UUID, "partition_id": 0},
]


def entry(gpu: int = 1, **changes: Any) -> dict[str, Any]:
    """One GPU of `amd-smi metric --json`."""
    full = {
        "gpu": gpu,
        "usage": {
            "gfx_activity": {"value": 93, "unit": "%"},
            "umc_activity": {"value": 41, "unit": "%"},
            "mm_activity": "N/A",
            "vcn_activity": [{"value": 0, "unit": "%"}, "N/A"],
        },
        "power": {"socket_power": {"value": 655, "unit": "W"}, "gfx_voltage": "N/A"},
        "temperature": {"edge": "N/A", "hotspot": {"value": 71, "unit": "C"}},
        "mem_usage": {
            "total_vram": {"value": 196592, "unit": "MB"},
            "used_vram": {"value": 120000, "unit": "MB"},
        },
        "energy": {"total_energy_consumption": {"value": 5123456.789, "unit": "J"}},
    }
    return full | changes


WANTED = Figures(93.0, 120000 << 20, 196592 << 20, 655.0, 71.0, 5123456.789, UUID)


@pytest.mark.parametrize(
    "answer", [[entry(0), entry()], {"gpu_data": [entry(0), entry()]}], ids=["rocm6", "rocm7"]
)
def test_the_command_is_understood_in_both_layouts(answer: Any) -> None:
    listed = {"gpu_data": LIST} if isinstance(answer, dict) else LIST
    assert by_address(answer, devices_of(listed))[ADDRESS] == WANTED


def test_bare_values_are_understood_too() -> None:
    plain = entry(usage={"gfx_activity": 93}, power={"current_socket_power": 655})
    assert by_address([plain], devices_of(LIST))[ADDRESS] == WANTED


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"usage": "N/A"}, {"utilization_percent"}),
        ({"usage": {"gfx_activity": "N/A"}}, {"utilization_percent"}),
        ({"usage": {"gfx_activity": {"value": 65535, "unit": "%"}}}, {"utilization_percent"}),
        ({"usage": {"gfx_activity": {"value": 250, "unit": "%"}}}, {"utilization_percent"}),
        ({"power": {"socket_power": {"value": "N/A", "unit": "W"}}}, {"power_watts"}),
        ({"power": {"socket_power": {"value": -1, "unit": "W"}}}, {"power_watts"}),
        ({"power": {"socket_power": True}}, {"power_watts"}),
        ({"power": {"socket_power": {"value": 0, "unit": "W"}}}, {"power_watts"}),
        ({"power": {"socket_power": {"value": 655, "unit": "horses"}}}, {"power_watts"}),
        ({"energy": {"total_energy_consumption": {"value": 0.0, "unit": "J"}}}, {"energy_joules"}),
        ({"temperature": {"hotspot": 4294967295}}, {"temperature_celsius"}),
        ({"mem_usage": {}}, {"memory_used_bytes", "memory_total_bytes"}),
        ({"energy": None}, {"energy_joules"}),
        ({"energy": {"total_energy_consumption": float("nan")}}, {"energy_joules"}),
    ],
)
def test_what_the_command_does_not_know_is_unknown(
    changes: dict[str, Any], unknown: set[str]
) -> None:
    found = vars(by_address([entry(**changes)], devices_of(LIST))[ADDRESS])
    assert {name for name, value in found.items() if value is None} == unknown


def test_a_value_counts_in_the_unit_beside_it() -> None:
    """A container's GPU of 192 GB is none of 192 MB."""
    other = entry(
        power={"socket_power": {"value": 655000, "unit": "mW"}},
        mem_usage={
            "total_vram": {"value": 192, "unit": "GB"},
            "used_vram": {"value": 120000 * 1024, "unit": "KB"},
        },
        energy={"total_energy_consumption": {"value": 5123.456789, "unit": "kJ"}},
    )
    found = by_address([other], devices_of(LIST))[ADDRESS]
    assert found.memory_total_bytes == 192 << 30
    assert found.memory_used_bytes == 120000 << 20
    assert found.power_watts == pytest.approx(655)
    assert found.energy_joules == pytest.approx(5123456.789)


def test_an_apu_of_which_the_command_knows_nothing_shows_nothing() -> None:
    """As reported for ROCm 7: a bare list again, with a time, and a marker for every figure."""
    nothing: dict[str, Any] = {
        "timestamp": 1769014607,
        "usage": "N/A",
        "power": {"socket_power": "N/A", "gfx_voltage": "N/A", "throttle_status": "N/A"},
        "temperature": {"edge": "N/A", "hotspot": "N/A", "mem": "N/A"},
        "mem_usage": {"total_vram": "N/A", "used_vram": "N/A"},
        "energy": "N/A",
    }
    assert by_address([entry(**nothing)], devices_of(LIST))[ADDRESS] == Figures(uuid=UUID)


@pytest.mark.parametrize("answer", [None, 7, "N/A", [], {}, {"gpu_data": None}, [None, 3], [{}]])
def test_an_answer_of_another_form_tells_nothing(answer: Any) -> None:
    assert devices_of(answer) == {}
    assert by_address(answer, devices_of(LIST)) == {}


@pytest.mark.parametrize(
    ("power", "energy"),
    [
        (
            {"current_socket_power": "N/A", "average_socket_power": 655, "gfx_voltage": "N/A"},
            {"power": 335788650000, "counter_resolution": 15.259, "timestamp": 1},
        ),
        (
            {"current_socket_power": 655, "average_socket_power": 0xFFFF},
            {"energy_accumulator": 335788650000, "counter_resolution": 15.259, "timestamp": 1},
        ),
        (
            {"socket_power": 655, "current_socket_power": 655, "average_socket_power": "N/A"},
            {"energy_accumulator": 335788650000, "counter_resolution": 15.259, "timestamp": 1},
        ),
    ],
    ids=["rocm6.0-mi200", "rocm6.4-mi300", "rocm7-mi300"],
)
def test_the_library_is_understood_in_every_version(
    power: dict[str, Any], energy: dict[str, Any]
) -> None:
    activity = {"gfx_activity": 93, "umc_activity": 41, "mm_activity": "N/A"}
    memory = {"vram_total": 196592, "vram_used": 120000}
    found = figures_of_library(activity, memory, power, energy, 71)
    assert found.energy_joules == pytest.approx(335788650000 * 15.259e-6)
    assert found == Figures(93.0, 120000 << 20, 196592 << 20, 655.0, 71.0, found.energy_joules)


class Recorded:
    """amdsmi's functions with their answers written down; one sensor is missing."""

    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self) -> None:
        self.amdsmi_init = lambda: None
        self.amdsmi_get_processor_handles = lambda: ["a", "b"]
        self.amdsmi_get_gpu_device_bdf = {"a": "0000:05:00.0", "b": "0000:0C:00.0"}.__getitem__
        self.amdsmi_get_gpu_device_uuid = {"b": UUID}.__getitem__
        self.amdsmi_get_gpu_activity = {"b": {"gfx_activity": 93}}.__getitem__
        self.amdsmi_get_gpu_vram_usage = {"b": {"vram_total": 9, "vram_used": 5}}.__getitem__
        self.amdsmi_get_power_info = {"b": {"socket_power": 655}}.__getitem__
        self.amdsmi_get_temp_metric = lambda handle, *_: {"b": 71}[handle]

    def amdsmi_get_energy_count(self, handle: str) -> None:
        raise RuntimeError(f"AMDSMI_STATUS_NOT_SUPPORTED {handle}")


def test_the_library_asks_the_device_at_the_address_and_survives_a_missing_sensor() -> None:
    found = AmdSmiLibrary(Recorded()).read(ADDRESS)
    assert found == Figures(93.0, 5 << 20, 9 << 20, 655.0, 71.0, None, UUID)
    with pytest.raises(LookupError, match="no whole GPU at 0000:ff"):
        AmdSmiLibrary(Recorded()).read("0000:ff:00.0")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Files as the amdgpu driver has them, for two GPUs, found through links as in /sys."""
    for address, busy in (("0000:05:00.0", 3), (ADDRESS, 93)):
        device = tmp_path / "devices" / address
        sensors = device / "hwmon" / "hwmon7"
        sensors.mkdir(parents=True)
        (device / "gpu_busy_percent").write_text(f"{busy}\n")
        (device / "mem_info_vram_used").write_text("125829120000\n")
        (device / "mem_info_vram_total").write_text("206141652992\n")
        (sensors / "power1_average").write_text("655000000\n")
        for number, label, degrees in ((1, "edge", 50), (2, "junction", 71), (3, "mem", 60)):
            (sensors / f"temp{number}_label").write_text(f"{label}\n")
            (sensors / f"temp{number}_input").write_text(f"{degrees}000\n")
    bus = tmp_path / "bus"
    bus.mkdir()
    for device in (tmp_path / "devices").iterdir():
        (bus / device.name).symlink_to(device)
    return bus


def test_the_kernels_files_tell_of_the_device_at_the_address_alone(kernel: Path) -> None:
    found = KernelFiles(kernel).read(ADDRESS)
    assert found == Figures(93.0, 125829120000, 206141652992, 655.0, 71.0)
    assert KernelFiles(kernel).read("0000:05:00.0").utilization_percent == 3


def test_files_that_are_missing_or_hold_nonsense_are_unknown(kernel: Path) -> None:
    (kernel / ADDRESS / "gpu_busy_percent").write_text("N/A")
    (kernel / ADDRESS / "mem_info_vram_used").write_bytes(b"\xff\xfe")
    for number in (1, 2):
        (kernel / ADDRESS / "hwmon" / "hwmon7" / f"temp{number}_label").unlink()
    sensors = kernel / ADDRESS / "hwmon" / "hwmon7"
    (sensors / "power1_average").rename(sensors / "power1_input")
    assert KernelFiles(kernel).read(ADDRESS) == Figures(
        memory_total_bytes=206141652992, power_watts=655.0
    )
    with pytest.raises(FileNotFoundError):
        KernelFiles(kernel).read("0000:ff:00.0")


class Place:
    def __init__(self, *answers: Figures | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def read(self, address: str) -> Figures:  # noqa: ARG002
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_later_place_is_asked_only_for_what_is_unknown() -> None:
    full = Figures(1.0, 2, 3, 4.0, 5.0, 6.0, "a")
    first, second, third = Place(Figures(power_watts=9.0)), Place(full), Place(full)
    assert GpuWatch(ADDRESS, [first, second, third]).read() == Figures(
        1.0, 2, 3, 9.0, 5.0, 6.0, "a"
    )
    assert third.asked == 0


def test_a_place_that_fails_is_told_once_and_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    broken, sound = Place(RuntimeError("no driver")), Place(Figures(power_watts=9.0))
    watch = GpuWatch(ADDRESS, [broken, sound])
    assert [watch.read().power_watts for _ in range(3)] == [9.0, 9.0, 9.0]
    assert (broken.asked, sound.asked) == (1, 3)
    assert caplog.text.count("no driver") == 1


def program(folder: Path, body: str) -> str:
    """An amd-smi on the path; the real one needs the driver."""
    file = folder / "amd-smi"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_the_command_is_run_in_the_background(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(json.dumps(LIST))
    (tmp_path / "metric").write_text(json.dumps({"gpu_data": [entry()]}))
    reader = AmdSmiCommand(program(tmp_path, f'test "$2" = --json && cat {tmp_path}/"$1"'))
    assert until(lambda: reader.read(ADDRESS) == WANTED)


@pytest.mark.parametrize("body", ["exit 1", "echo no json", "echo '[1, {}]'", "kill -9 $$"])
def test_a_command_that_does_not_work_tells_nothing_and_says_so_once(
    tmp_path: Path, body: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(gpu_readers, "COMMAND_SECONDS", 0.01)
    reader = AmdSmiCommand(program(tmp_path, f"echo >>{tmp_path}/asked\n{body}"))
    asked = tmp_path / "asked"
    assert until(lambda: asked.exists() and asked.read_text().count("\n") > 2)
    assert reader.read(ADDRESS) == Figures()
    assert caplog.text.count("is of no use for now") == 1


def test_a_command_that_hung_once_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(gpu_readers, "COMMAND_SECONDS", 0.01)
    monkeypatch.setattr(gpu_readers, "COMMAND_TIMEOUT", 0.5)
    (tmp_path / "list").write_text(json.dumps(LIST))
    (tmp_path / "metric").write_text(json.dumps([entry()]))
    hangs = tmp_path / "hangs"
    body = f'test ! -e {hangs} || exec sleep 60\ncat {tmp_path}/"$1"'
    reader = AmdSmiCommand(program(tmp_path, body))
    assert until(lambda: reader.read(ADDRESS) == WANTED)
    hangs.touch()
    # What was seen before the silence is no present figure.
    assert until(lambda: reader.read(ADDRESS) == Figures())
    assert until(lambda: "timed out" in caplog.text)
    hangs.unlink()
    assert until(lambda: reader.read(ADDRESS) == WANTED)


def test_the_pauses_grow_and_stay_bounded() -> None:
    pauses = [gpu_readers.pause_after(failures) for failures in range(9)]
    assert pauses[:3] == [15, 30, 60]
    assert max(pauses) == pauses[-1] == 600


def test_without_the_command_there_is_no_such_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(FileNotFoundError):
        AmdSmiCommand()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A torch for ROCm that sees two GPUs, and amdsmi; filled with the devices that need memory."""
    torch = pytest.importorskip("torch")
    touched: list[int] = []

    def memory(index: int) -> tuple[int, int]:
        touched.append(index)
        return 4 << 20, 9 << 20

    def peak(index: int) -> int:
        touched.append(index)
        return 7

    devices = [
        SimpleNamespace(name="MI300X", uuid=f"u{n}", pci_domain_id=0, pci_bus_id=n, pci_device_id=0)
        for n in (5, 12)
    ]
    library = Recorded()
    for name in ("uuid", "activity", "vram_usage"):
        one = {"uuid": UUID, "activity": {"gfx_activity": 93}, "vram_usage": {"vram_used": 5}}[name]
        full = f"amdsmi_get_gpu_{name}".replace("gpu_uuid", "gpu_device_uuid")
        setattr(library, full, {"a": one, "b": one}.__getitem__)
    monkeypatch.setitem(sys.modules, "amdsmi", library)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", devices.__getitem__)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    monkeypatch.setattr(torch.cuda, "utilization", lambda _: 50)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", peak)
    return touched


@pytest.mark.training
@pytest.mark.parametrize(
    ("rank", "own", "told"),
    [
        (Rank(), 0, [(0, 93, 7)]),
        (Rank(0, 2, 0, 2), 0, [(0, 93, 7), (1, 93, None)]),
        (Rank(1, 2, 1, 2), 1, [(1, 93, 7)]),
    ],
    ids=["alone", "first of two", "second of two"],
)
def test_the_first_process_tells_of_all_gpus_and_takes_memory_on_its_own_alone(
    two_gpus: list[int], rank: Rank, own: int, told: list[tuple[int, int, int | None]]
) -> None:
    torch = pytest.importorskip("torch")
    ask = states(torch.device("cuda", own), rank)
    while not (found := ask()):  # A busy machine takes longer than a step waits.
        time.sleep(0.01)
    assert [(gpu.index, gpu.utilization_percent, gpu.peak_memory_bytes) for gpu in found] == told
    assert [gpu.pci_address for gpu in found] == [
        ("0000:05:00.0", ADDRESS)[gpu.index] for gpu in found
    ]
    assert set(two_gpus) == {own}


def test_a_device_is_named_by_its_pci_address() -> None:
    told = SimpleNamespace(pci_domain_id=0, pci_bus_id=12, pci_device_id=0)
    assert pci_address(told) == ADDRESS
    assert pci_address(SimpleNamespace()) == ""
