"""How the processes of a run hold one model: each a whole copy, or each a part of every weight.

Copies are torch's DDP, parts its FSDP2. Either way a backward pass ends with the mean gradient.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from finetuning.base.device import Device
from finetuning.base.errors import ConfigError
from finetuning.base.group import Group


def undistributed(model: Any) -> Any:
    """The model itself, without what makes its gradients travel."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def unwrapped(model: Any) -> Any:
    """The model below an adapter, if there is one."""
    model = undistributed(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def layers_of(model: Any) -> list[Any]:
    """The modules that transformers says are a piece, from the outside in: a model's layers."""
    base = unwrapped(model)
    names = set(base._no_split_modules or ())  # noqa: SLF001 - no other place says it
    return [each for each in base.modules() if type(each).__name__ in names]


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
    same_start(model, group)
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


def place_of_the_whole(device: Device, group: Group) -> Device:
    """Where a model is loaded that will be in shards: into the host's memory of rank 0 alone.

    No GPU needs room for all of it, and a machine only once; the others know its shapes.
    """
    return replace(device, device=torch.device("cpu" if group.leads else "meta"))


def sharded(model: Any, device: Device, group: Group) -> Any:
    """The same model, in place, with this process's share of every weight on its device.

    It has been loaded where `place_of_the_whole` says, and travels layer by layer. A layer's
    weights are gathered, in the format that it computes in, when it computes.

    Raises:
        ConfigError: the model has weights that cannot be shared out.
    """
    mesh = init_device_mesh(device.device.type, (group.size,))
    policy = MixedPrecisionPolicy(param_dtype=device.compute_dtype, reduce_dtype=torch.float32)
    base = unwrapped(model)
    for module in (*reversed(layers_of(base)), base):  # Inside out.
        _receive(module, device.device, group)
        try:
            fully_shard(module, mesh=mesh, mp_policy=policy)
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"--fsdp: models of the type {base.config.model_type} cannot be shared out "
                f"({error}); leave out --fsdp"
            ) from error
    return model


def form_of(model: Any) -> Any:
    """A copy without weights, which knows how a model is written that will be in shards.

    Libraries look at the modules of what they write, and in shards one process alone must not.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        bare = tensor.detach().to("meta")
        if isinstance(tensor, torch.nn.Parameter):
            bare = torch.nn.Parameter(bare, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = bare
    return copy.deepcopy(model, memo)


def _receive(module: Any, device: torch.device, group: Group) -> None:
    """Give a module the weights of rank 0, whole, but for those that are in shards already."""
    received: dict[torch.Tensor, torch.Tensor] = {}
    for part in module.modules():
        own = (part.named_parameters(recurse=False), part.named_buffers(recurse=False))
        for name, tensor in [*own[0], *own[1]]:
            if isinstance(tensor, DTensor):
                continue
            if tensor not in received:  # Tied weights stay one.
                received[tensor] = _received(tensor, device, group)
            setattr(part, name, received[tensor])


def _received(tensor: torch.Tensor, device: torch.device, group: Group) -> torch.Tensor:
    plain = tensor.detach()
    here = plain.to(device) if group.leads else torch.empty_like(plain, device=device)
    here = here.contiguous()
    group.share(here)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(here, requires_grad=tensor.requires_grad)
    return here


def is_sharded(model: Any) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from its shards, if it is in shards; all processes have to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, torch.Tensor], *, keeps: bool) -> dict[str, torch.Tensor]:
    """Copies in the host's memory, put together from their shards; empty unless this one keeps.

    All processes have to call it with the same names. What is tied stays so.
    """
    copies: dict[int, torch.Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in copies:
            full = whole(tensor.detach())
            copies[id(tensor)] = full.to("cpu", copy=True) if keeps else full.new_empty(0)
    return {name: copies[id(tensor)] for name, tensor in tensors.items()} if keeps else {}


def like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor where its parameter is, in shards if that is; scalars are everywhere the same."""
    here = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return here
    # Everyone has the whole, so nothing needs to travel.
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)
