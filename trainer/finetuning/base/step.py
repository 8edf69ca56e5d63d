"""One optimizer step and one evaluation: the only arithmetic with tensors in the loop."""

import inspect
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from finetuning.api.hyperparameters import Method, Precision
from finetuning.api.run_config import RunConfig
from finetuning.base.apart import Layout, laid_out, layout_of
from finetuning.base.device import Device
from finetuning.base.distribute import undistributed, unwrapped, whole
from finetuning.base.group import Group, SharedStop
from finetuning.base.rank import Rank
from finetuning.dataset.encode import Pack

LOSS_ROWS = 2048
"""Rows of the vocabulary-wide loss computed at once in 32 bit."""

IGNORED = -100

_DORA = "lora_magnitude_vector"
"""Part of the name that peft gives the lengths that DoRA trains."""

Batched = TypeVar("Batched")


@dataclass(frozen=True)
class Batch:
    """Padded sequences of one forward pass."""

    ids: torch.Tensor
    mask: torch.Tensor | None
    """None where `positions` tell the sequences of a row apart."""
    positions: torch.Tensor | None
    labels: torch.Tensor
    first_target: int
    """No sequence has a target before this position, so no logits are needed before it."""
    layout: Layout | None = None
    """Where the examples of packed rows stand."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    loss: float
    """Nats per trained token, or per pair of answers."""
    grad_norm: float | None
    tokens: int
    samples: int
    applied: bool
    """False when the loss or the gradient was no number, and the weights stayed as they were."""


def collate(packs: list[Pack], device: torch.device, *, packing: bool = False) -> Batch:
    """One row for each pack, padded at the end.

    The attention mask hides the padding, so its id does not matter. Where several examples share a
    row, positions that begin anew stand in for the mask, and each token of padding is a sequence;
    with `packing` also where single ones are padded, so that these are computed without a mask too.
    """
    sizes = [sum(len(example.ids) for example in pack) for pack in packs]
    ids = np.zeros((len(packs), max(sizes)), dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    positions = np.zeros_like(ids)
    for row, pack in enumerate(packs):
        at = 0
        for example in pack:
            n = len(example.ids)
            ids[row, at : at + n] = example.ids
            labels[row, at + 1 : at + n] = np.where(example.trained, example.ids, IGNORED)[1:]
            positions[row, at : at + n] = np.arange(n)
            at += n
    columns = np.flatnonzero((labels != IGNORED).any(axis=0))
    first = int(columns[0]) if len(columns) else ids.shape[1]
    padded = len(set(sizes)) > 1
    packed = (packing and padded) or any(len(pack) > 1 for pack in packs)
    mask = (np.arange(ids.shape[1]) < np.array(sizes)[:, None]).astype(np.int64)
    return Batch(
        torch.from_numpy(ids).to(device),
        None if packed else torch.from_numpy(mask).to(device),
        torch.from_numpy(positions).to(device) if packed else None,
        torch.from_numpy(labels).to(device),
        first,
        layout_of([[len(example.ids) for example in pack] for pack in packs], device)
        if packed
        else None,
    )


def forward(model: Any, batch: Batch, **options: Any) -> Any:
    """The model's output for a batch."""
    where = (
        {"attention_mask": batch.mask}
        if batch.positions is None
        else {"position_ids": batch.positions}
    )
    with laid_out(batch.layout):
        return model(input_ids=batch.ids, use_cache=False, **where, **options)


@dataclass(frozen=True)
class Targets:
    """What the model says where something is trained, and what it should say."""

    logits: torch.Tensor
    labels: torch.Tensor
    wanted: torch.Tensor
    """Where in the batch they stand: a row of the batch, a column of what has logits."""


def targets_of(model: Any, batch: Batch) -> Targets:
    """One forward pass; logits that nothing is compared with are left out where the model can."""
    keep = batch.ids.shape[1] - (batch.first_target - 1)
    options = {"logits_to_keep": keep} if _can_be_short(type(unwrapped(model)).forward) else {}
    logits = forward(model, batch, **options).logits[:, -keep:-1]
    labels = batch.labels[:, batch.first_target :]
    wanted = labels != IGNORED
    return Targets(logits[wanted], labels[wanted], wanted)


@cache
def _can_be_short(function: Any) -> bool:
    return "logits_to_keep" in inspect.signature(function).parameters


def summed_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Sum of the cross entropy over the batch's targets, in 32 bit."""
    found = targets_of(model, batch)
    return _cross_entropy(found.logits, found.labels)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """In pieces that are recomputed in the backward pass, so that only one is held in 32 bit."""
    if len(targets) <= LOSS_ROWS:
        return _piece(logits, targets)
    pieces = zip(torch.split(logits, LOSS_ROWS), torch.split(targets, LOSS_ROWS), strict=True)
    sums = [checkpoint(_piece, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack(sums).sum()


def _piece(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), targets, reduction="sum")


class Objective(Protocol):
    """The loss of one batch, summed, and what it is averaged over in a step."""

    @property
    def model(self) -> Any: ...
    def summed(self, packs: list[Pack]) -> torch.Tensor: ...
    def weight(self, packs: Sequence[Pack]) -> int: ...
    def samples(self, packs: list[Pack]) -> int: ...


@dataclass(frozen=True)
class Sft:
    """Cross entropy, averaged over the trained tokens."""

    model: Any
    device: torch.device
    packing: bool = False

    def summed(self, packs: list[Pack]) -> torch.Tensor:
        return summed_loss(self.model, collate(packs, self.device, packing=self.packing))

    def weight(self, packs: Sequence[Pack]) -> int:
        return sum(example.targets for pack in packs for example in pack)

    def samples(self, packs: list[Pack]) -> int:
        return sum(map(len, packs))


class Stepper:
    """Takes optimizer steps on one model, together with the other processes of the run."""

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        device: Device,
        max_grad_norm: float,
        group: Group | None = None,
    ) -> None:
        self.model = undistributed(objective.model)
        self.optimizer = optimizer
        self.device = device
        self.group = group or Group(Rank(), device.device)
        self._objective = objective
        self._clip = max_grad_norm or math.inf
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        scaled = device.on_gpu and device.precision is Precision.FP16
        self.scaler = torch.amp.GradScaler(device.device.type, enabled=scaled)

    def step(
        self, micro_batches: list[list[Pack]], rate: float, stop: SharedStop
    ) -> StepResult | None:
        """Every token (or pair) of the step weighs the same, however the packs are batched.

        `micro_batches` are those of all processes, and so are the figures of the result. None when
        a wish to stop came before the last forward pass: nothing was changed then.
        """
        weight = sum(map(self._objective.weight, micro_batches))
        total = torch.zeros((), device=self.device.device)
        own = shared_out(micro_batches, self.group.rank)
        for packs, counts in own:
            last = packs is own[-1][0]
            with self._quiet_unless(last=last):
                with autocast(self.device):
                    part = self._objective.summed(packs) / weight
                if not counts:
                    part = part * 0
                # Gradients arrive as the mean over the processes; what is wanted is their sum.
                share = part if self.group.rank.alone else part * self.group.size
                torch.autograd.backward(self.scaler.scale(share))
            total += part.detach()
            if stop.requested and not last:
                self.optimizer.zero_grad(set_to_none=True)
                return None
        # The one wait for the device, after all of its work is queued.
        loss, votes = self.group.totals(total.item(), stop.vote)
        stop.hear(votes)
        applied, norm = self._apply(rate) if math.isfinite(loss) else (False, None)
        self.optimizer.zero_grad(set_to_none=True)
        samples = sum(map(self._objective.samples, micro_batches))
        tokens = sum(
            len(example.ids) for packs in micro_batches for pack in packs for example in pack
        )
        return StepResult(loss, norm, tokens, samples, applied)

    def evaluate(self, packs: Sequence[Pack], size: int, stop: SharedStop | None) -> float | None:
        """The loss over the held-out examples, `size` packs at once; None when a stop came between.

        Packs may lie on the disk: no more of them are held than are computed.
        """
        self.model.eval()
        starts = range(0, len(packs), size)
        total = 0.0
        with torch.no_grad(), autocast(self.device):
            for start, counts in shared_out(starts, self.group.rank):
                if stop is not None and stop.requested:
                    break
                part = self._objective.summed(list(packs[start : start + size])).item() * counts
                everywhere, votes = self.group.totals(part, stop.vote if stop else 0.0)
                total += everywhere
                if stop is not None:
                    stop.hear(votes)
        self.model.train()
        if stop is not None and stop.requested:
            return None
        return total / self._objective.weight(packs)

    def _quiet_unless(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel once per step, with the last forward pass.

        Those of shards travel with each: nobody has room for all of them.
        """
        model = self._objective.model
        if isinstance(model, DistributedDataParallel) and not last:
            return model.no_sync()
        return nullcontext()

    def scaler_state(self) -> dict[str, float]:
        return {key: float(value) for key, value in self.scaler.state_dict().items()}

    def load_scaler(self, state: dict[str, float]) -> None:
        if state and self.scaler.is_enabled():
            counts = ("growth_interval", "_growth_tracker")
            self.scaler.load_state_dict(
                {key: int(value) if key in counts else value for key, value in state.items()}
            )

    def _apply(self, rate: float) -> tuple[bool, float | None]:
        """Update the weights, unless the gradient is no number; the gradient's norm, if it is."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        self.scaler.unscale_(self.optimizer)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            return False, None
        self.scaler.step(self.optimizer)  # Skips by itself while it searches its scale.
        self.scaler.update()
        return True, norm if math.isfinite(norm) else None


def autocast(device: Device) -> AbstractContextManager[Any]:
    """Computes in the device's precision, where that is not 32 bit."""
    if device.precision is Precision.FP32:
        return nullcontext()
    return torch.autocast(device.device.type, dtype=device.compute_dtype)


def shared_out(batches: Sequence[Batched], rank: Rank) -> list[tuple[Batched, int]]:
    """This process's part, each batch with the factor that its loss counts by: 1, or 0.

    All processes have the same number, or some would wait for the others for ever: where none is
    left for this one, it computes the first once more, for nothing.
    """
    own = batches[rank.number :: rank.of]
    spare = math.ceil(len(batches) / rank.of) - len(own)
    return [*((packs, 1) for packs in own), *((batches[0], 0) for _ in range(spare))]


def make_optimizer(model: Any, config: RunConfig) -> torch.optim.AdamW:
    """AdamW; as is usual, biases and norms (one-dimensional weights) do not decay.

    The lengths that DoRA trains are neither, and do, as with transformers' Trainer.
    Each group's rate is the run's rate times its `lr_scale`.
    """
    weight_decay, ratio = config.hyperparameters.weight_decay, config.lora_config.loraplus_lr_ratio
    if config.method is not Method.FULL and ratio is not None:
        return _loraplus(model, weight_decay, ratio)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decays = [p.dim() > 1 or _DORA in name for name, p in trained]
    groups = [
        {
            "params": [p for (_, p), yes in zip(trained, decays, strict=True) if yes is wish],
            "weight_decay": weight_decay if wish else 0.0,
        }
        for wish in (True, False)
    ]
    filled = [{**group, "lr_scale": 1.0} for group in groups if group["params"]]
    return torch.optim.AdamW(filled, fused=True)


def _loraplus(model: Any, weight_decay: float, ratio: float) -> torch.optim.AdamW:
    """The groups of peft, at a rate of 1 so that each one's rate is its scale."""
    from peft.optimizers import create_loraplus_optimizer  # noqa: PLC0415 - takes seconds

    optimizer: torch.optim.AdamW = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=1.0,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=weight_decay,
        fused=True,
    )
    for group in optimizer.param_groups:
        group["lr_scale"] = group["lr"]
    return optimizer


def checkpoint_bytes(model: Any) -> int:
    """Size of a checkpoint: the trained weights, and AdamW's two moments of each."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return 3 * sum(int(p.numel()) * int(p.element_size()) for p in trained)
