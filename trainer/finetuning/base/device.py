"""Which device computes, and in which number format, given what was wished for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetuning.api.hyperparameters import Precision

if TYPE_CHECKING:
    import torch


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
    def compute_dtype(self) -> "torch.dtype":
        return dtype_of(self.precision)


def dtype_of(precision: Precision) -> "torch.dtype":
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded

    return {
        Precision.FP32: torch.float32,
        Precision.FP16: torch.float16,
        Precision.BF16: torch.bfloat16,
    }[precision]


def choose(wish: Precision) -> Device:
    """The first GPU (torch calls ROCm's `cuda` too), else the CPU."""
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded

    if torch.cuda.is_available():
        device = torch.device("cuda", 0)
        precision, note = on_gpu(wish, bf16=torch.cuda.is_bf16_supported())
        return Device(device, torch.cuda.get_device_name(0), precision, note)
    precision, note = on_cpu(wish)
    return Device(torch.device("cpu"), "the CPU", precision, note)


def on_gpu(wish: Precision, *, bf16: bool) -> tuple[Precision, str]:
    if wish is Precision.BF16 and not bf16:
        return Precision.FP16, "this GPU has no bf16"
    return wish, ""


def on_cpu(wish: Precision) -> tuple[Precision, str]:
    """No CPU gains by fp16, and its loss scaling is made for GPUs."""
    if wish is Precision.FP16:
        return Precision.FP32, "fp16 needs a GPU, and none was found"
    return wish, ""
