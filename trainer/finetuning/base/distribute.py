"""How the processes of a run hold one model: each a whole copy, whose gradients are summed."""

import warnings
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from finetuning.base.device import Device
from finetuning.base.group import Group


def same_start(model: Any, group: Group) -> None:
    """Trained weights as rank 0 has them; all read the same files, but adapters begin at random."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                group.share(parameter.data)


def distributed(model: Any, device: Device, group: Group) -> Any:
    """The model for forward passes; a backward pass then gives the mean gradient of all."""
    if group.rank.alone:
        return model
    with warnings.catch_warnings():
        # Its successor is not known to the torch that images for ROCm have.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=[device.device] if device.on_gpu else None,
            # Frozen weights are the same everywhere: sending them would take as long as loading.
            init_sync=False,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
