"""Direct preference optimisation: to prefer one answer over another without leaving the start.

Rafailov et al. 2023, equation 7: -log sigmoid(beta * (ratio of chosen - ratio of rejected)), each
the log of the answer's probability over that by the model that the run started from.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetuning.base.distribute import undistributed
from finetuning.base.step import Batch, collate, targets_of
from finetuning.dataset.encode import Pack

DEFAULT_BETA = 0.1


@dataclass(frozen=True)
class Dpo:
    """The loss of pairs, averaged over them; a pack is a chosen and a rejected answer."""

    model: Any
    reference: Any
    """A frozen copy of the start; None where the model without its adapter is that."""
    device: torch.device
    beta: float

    def summed(self, packs: list[Pack]) -> torch.Tensor:
        batch = collate([[example] for pack in packs for example in pack], self.device)
        with torch.no_grad(), self._start() as start:
            before = sequence_logps(start, batch)
        ratios = sequence_logps(self.model, batch) - before
        chosen, rejected = ratios.view(-1, 2).unbind(dim=1)
        return -functional.logsigmoid(self.beta * (chosen - rejected)).sum()

    def weight(self, packs: Sequence[Pack]) -> int:
        return len(packs)

    def samples(self, packs: list[Pack]) -> int:
        return len(packs)

    @contextmanager
    def _start(self) -> Iterator[Any]:
        """The model of the start, without dropout or noise."""
        if self.reference is not None:
            yield self.reference
            return
        model = undistributed(self.model)
        training = model.training
        model.eval()
        with model.disable_adapter():
            yield model
        model.train(training)


def sequence_logps(model: Any, batch: Batch) -> torch.Tensor:
    """The log-probability of each row's trained tokens together, in 32 bit."""
    found = targets_of(model, batch)
    losses = functional.cross_entropy(found.logits.float(), found.labels, reduction="none")
    sums = torch.zeros(len(batch.ids), device=losses.device)
    return sums.index_add(0, found.wanted.nonzero()[:, 0], -losses)
