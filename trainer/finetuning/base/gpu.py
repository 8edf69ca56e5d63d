"""The figures of the GPU that this process owns; what nobody knows stays None."""

import importlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from finetuning.artifacts.models import GpuState
from finetuning.base.gpu_readers import (
    AmdSmiCommand,
    AmdSmiLibrary,
    Figures,
    KernelFiles,
    Reader,
)
from finetuning.base.rank import Rank

if TYPE_CHECKING:
    import torch

PATIENCE = 0.05
"""Seconds that a step waits for the driver, which mostly answers in some thousandths."""

log = logging.getLogger(__name__)


class Beside:
    """Figures that a thread of its own asks for: a driver that is slow or hangs holds up nobody."""

    def __init__(self, ask: Callable[[], list[GpuState]]) -> None:
        self._ask = ask
        self._found: list[GpuState] = []
        self._error: Exception | None = None
        self._wish, self._told = threading.Event(), threading.Event()
        self._late = False
        threading.Thread(target=self._answer, daemon=True, name="gpu-figures").start()

    def __call__(self) -> list[GpuState]:
        """Those of now, or of the last time where they take longer than PATIENCE.

        Raises:
            Exception: what the driver raised the last time.
        """
        self._told.clear()
        self._wish.set()
        if not self._late:
            self._late = not self._told.wait(PATIENCE)
        if self._error is not None:
            raise self._error
        return self._found

    def _answer(self) -> None:
        while self._wish.wait():
            self._wish.clear()
            try:
                self._found, self._error = self._ask(), None
            except Exception as error:  # noqa: BLE001 - raised again where they are asked for
                self._error = error
            self._late = False
            self._told.set()


class GpuWatch:
    """Asks several places in turn, each for what those before did not know."""

    def __init__(self, address: str, readers: list[Reader]) -> None:
        self.address = address
        self._readers = list(readers)

    def read(self) -> Figures:
        figures = Figures()
        for reader in self._readers:
            if figures.complete:
                break
            figures = figures.completed(self._asked(reader))
        return figures

    def _asked(self, reader: Reader) -> Figures:
        """A place that fails is not asked again: such failures last."""
        try:
            return reader.read(self.address)
        except Exception as error:  # noqa: BLE001 - drivers fail in ways of their own
            # A new list: the thread that looks while a step stands may have the same failure.
            self._readers = [each for each in self._readers if each is not reader]
            _useless(type(reader).__name__, error)
            return Figures()


def states(device: "torch.device", rank: Rank) -> Callable[[], list[GpuState]]:
    """A function that tells the figures of the devices that this machine's processes compute on.

    The first process tells those of the others too, as far as that needs no memory on them.
    """
    if device.type != "cuda":
        return list
    import torch  # noqa: PLC0415 - loaded by whoever made the device

    own, rocm = device.index or 0, torch.version.hip is not None
    amd = _amd_readers() if rocm else []
    watches = {own: _watch(own, [*amd, TorchReader(own, asks_vendor=not rocm)])}
    if rank.leads:
        others = set(range(rank.local_of)) - {own}
        watches |= {index: _watch(index, amd) for index in others}
    return Beside(
        lambda: [_state(index, watch, own=index == own) for index, watch in sorted(watches.items())]
    )


def _watch(index: int, readers: list[Reader]) -> GpuWatch:
    import torch  # noqa: PLC0415 - see above

    return GpuWatch(pci_address(torch.cuda.get_device_properties(index)), readers)


def pci_address(properties: object) -> str:
    """Such as 0000:0c:00.0; empty where torch is too old to tell."""
    try:
        domain, bus, device = (
            int(getattr(properties, f"pci_{part}_id")) for part in ("domain", "bus", "device")
        )
    except AttributeError:
        return ""
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def _amd_readers() -> list[Reader]:
    """The library, or the command where there is none; the kernel's files after either."""
    for make in (lambda: AmdSmiLibrary(importlib.import_module("amdsmi")), AmdSmiCommand):
        try:
            return [make(), KernelFiles()]
        except Exception as error:  # noqa: BLE001 - amdsmi raises KeyError without its library.
            _useless("amdsmi", error)
    return [KernelFiles()]


class TorchReader:
    """What torch itself knows: memory always, the rest from the vendor's library."""

    def __init__(self, index: int, *, asks_vendor: bool) -> None:
        """Whether to ask the vendor's library too: on ROCm that goes by numbers, which differ."""
        self._index = index
        self._silent = not asks_vendor

    def read(self, address: str) -> Figures:  # noqa: ARG002 - torch counts by itself
        import torch  # noqa: PLC0415 - see above

        free, total = torch.cuda.mem_get_info(self._index)
        return Figures(
            utilization_percent=self._utilization(),
            memory_used_bytes=total - free,
            memory_total_bytes=total,
        )

    def _utilization(self) -> float | None:
        """Percent busy from NVML; None without the library or its permission."""
        if self._silent:
            return None
        import torch  # noqa: PLC0415 - see above

        try:
            return float(min(100, max(0, torch.cuda.utilization(self._index))))
        except Exception as error:  # noqa: BLE001 - see _amd_readers
            self._silent = True
            _useless("GPU utilisation by torch", error)
            return None


def _state(index: int, watch: GpuWatch, *, own: bool) -> GpuState:
    import torch  # noqa: PLC0415 - see above

    properties = torch.cuda.get_device_properties(index)
    figures = watch.read()
    uuid = figures.uuid or str(getattr(properties, "uuid", ""))
    return GpuState(
        index=index,
        name=properties.name[:128],
        pci_address=watch.address or None,
        peak_memory_bytes=torch.cuda.max_memory_reserved(index) if own else None,
        **(vars(figures) | {"uuid": uuid[:64] or None}),
    )


def _useless(what: str, error: Exception) -> None:
    log.info("%s cannot be asked: %s", what, error or type(error).__name__)
