"""What torch and the driver's own library tell about the GPU in use; unknown stays None."""

import logging
from typing import TYPE_CHECKING

from finetuning.artifacts.models import GpuState

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def gpu_states(device: "torch.device") -> list[GpuState]:
    """The figures of the device that this run computes on; a CPU has none."""
    if device.type != "cuda":
        return []
    import torch  # noqa: PLC0415 - loaded by whoever made the device

    index = device.index or 0
    free, total = torch.cuda.mem_get_info(index)
    properties = torch.cuda.get_device_properties(index)
    return [
        GpuState(
            index=index,
            name=properties.name[:128],
            uuid=str(getattr(properties, "uuid", ""))[:64] or None,
            utilization_percent=_utilization(index),
            memory_used_bytes=total - free,
            memory_total_bytes=total,
        )
    ]


_silent: set[int] = set()


def _utilization(index: int) -> float | None:
    """Percent busy from amdsmi (ROCm) or NVML; None without the library or its permission."""
    if index in _silent:
        return None
    import torch  # noqa: PLC0415 - see above

    try:
        return float(min(100, max(0, torch.cuda.utilization(index))))
    except Exception as error:  # noqa: BLE001 - amdsmi raises KeyError without its shared library.
        _silent.add(index)
        log.info("GPU utilisation stays unknown: %s", error or type(error).__name__)
        return None
