"""Which device computes, and in which number format, given what was wished for."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning.api.hyperparameters import Precision
from finetuning.base import gpu_access
from finetuning.base.errors import ConfigError
from finetuning.base.rank import Rank

if TYPE_CHECKING:
    import torch

AMD_DRIVER = Path("/dev/kfd")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """The device, the format that it computes in, and why that is not the one wished for."""

    device: "torch.device"
    name: str
    precision: Precision
    note: str = ""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def computes(self) -> bool:
        """False of one that knows the shapes of tensors and has no memory for them."""
        return self.device.type != "meta"

    @property
    def compute_dtype(self) -> "torch.dtype":
        return dtype_of(self.precision)


def dtype_of(precision: Precision) -> "torch.dtype":
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded

    return {
        Precision.FP32: torch.float32,
        Precision.FP16: torch.float16,
        Precision.BF16: torch.bfloat16,
    }[precision]


def choose(
    wish: Precision,
    rank: Rank = Rank(),  # noqa: B008 - it is frozen
    *,
    shards: bool = False,
) -> Device:
    """This process's GPU (torch calls ROCm's `cuda` too), else the CPU.

    Raises:
        ConfigError: there are more processes than GPUs, or a GPU that may not be opened.
    """
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded

    if torch.cuda.is_available():
        _refuse_sharing(rank, torch.cuda.device_count())
        # Libraries that are not told a device take the current one.
        torch.cuda.set_device(rank.local)
        name = torch.cuda.get_device_name(rank.local) + _others(rank, torch.cuda.device_count())
        precision, note = on_gpu(wish, bf16=torch.cuda.is_bf16_supported(), shards=shards)
        return Device(torch.device("cuda", rank.local), name, precision, note)
    if torch.version.hip is not None:
        gpu_access.require(os.environ)
    if warning := unused_gpu(driver=AMD_DRIVER.exists(), rocm=torch.version.hip is not None):
        log.warning("%s", warning)
    precision, note = on_cpu(wish)
    return Device(torch.device("cpu"), "the CPU", precision, note)


def _refuse_sharing(rank: Rank, gpus: int) -> None:
    """RCCL does not work between two processes on one GPU."""
    if rank.local_of > gpus:
        raise ConfigError(
            f"{rank.local_of} processes on a machine with {gpus} GPUs: start as many processes as "
            "there are GPUs (torchrun --nproc-per-node)"
        )


def _others(rank: Rank, gpus: int) -> str:
    return f", the first of {gpus} GPUs" if rank.alone and gpus > 1 else ""


def unused_gpu(*, driver: bool, rocm: bool) -> str | None:
    """Why an AMD GPU of this machine goes unused: a costly thing to find out late."""
    if not driver:
        return None
    if not rocm:
        return (
            f"An AMD GPU is here ({AMD_DRIVER}), but this torch was built without ROCm: training "
            "on the CPU. Use an image with ROCm's own torch."
        )
    return (
        f"An AMD GPU is here ({AMD_DRIVER}), but torch cannot use it: training on the CPU. Check "
        "HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES and HSA_OVERRIDE_GFX_VERSION."
    )


def on_gpu(wish: Precision, *, bf16: bool, shards: bool = False) -> tuple[Precision, str]:
    """Torch's scaling of a loss in fp16 looks at each process's own part of the gradients only."""
    if shards and wish is not Precision.FP32:
        given = Precision.BF16 if bf16 else Precision.FP32
        why = "fsdp does not go with fp16" if wish is Precision.FP16 else "this GPU has no bf16"
        return given, "" if given is wish else why
    if wish is Precision.BF16 and not bf16:
        return Precision.FP16, "this GPU has no bf16"
    return wish, ""


def on_cpu(wish: Precision) -> tuple[Precision, str]:
    """No CPU gains by fp16, and its loss scaling is made for GPUs."""
    if wish is Precision.FP16:
        return Precision.FP32, "fp16 needs a GPU, and none was found"
    return wish, ""
