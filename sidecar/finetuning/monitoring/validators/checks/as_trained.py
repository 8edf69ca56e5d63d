"""Whether the model that is loaded computes what the trainer has seen of the one that it saved."""

from dataclasses import dataclass
from functools import cached_property

from finetuning.artifacts.models import CheckResult
from finetuning.artifacts.reference import VERSION, Reference
from finetuning.monitoring.validators.checks.probe import ProbeReport
from finetuning.monitoring.validators.outcome import Finding

_FAR, _FAR_IN_16_BITS, _FAR_IN_4_BITS = 0.02, 0.25, 2.5
"""Nats per token. Measured with 22 runs of 14 architectures on a CPU: 0.0003 in 32 bit, all of it
the rounding of what was told, and up to 0.005 in fp16, whose mantissa a GPU's TF32 has; up to 0.038
in bf16, which rounds larger logits more; 1.2 in 4 bits. Another model is several nats away."""

_OF_THE_NOISE = 2.0
"""What the 4 bits did to the base model, they do to the tuned one as well (0.9 to 1.1 times), and
less to what lies between the two (0.6 to 0.7 times) where both are shifted alike. Whichever is less
counts."""


@dataclass(frozen=True)
class AsTrained:
    """What the trainer told, beside what the loaded model does."""

    told: Reference | None
    report: ProbeReport
    method: str | None
    is_in_32_bits: bool
    """Whether the run was trained, and is stored, so."""

    @cached_property
    def distance(self) -> float | None:
        """In nats; None where the trainer told nothing, or nothing that can be compared.

        Where the trainer's base was in 4 bits and the one here is not, that of what the adapter
        changes is another measure of the same.
        """
        if self.told is None or not self.report.reference:
            return None
        found = self.told.distance(self.report.reference)
        if self.noise is None or found is None:
            return found
        change = self.told.effect_distance(self.report.reference, self.report.base_reference)
        return found if change is None else min(found, change)

    @cached_property
    def noise(self) -> float | None:
        """What the trainer's 4 bits did to the base model; None where that is not the question."""
        if self.told is None or self.method != "qlora" or self.report.is_quantized:
            return None
        return self.told.base_distance(self.report.base_reference)

    @property
    def limit(self) -> float:
        if self.noise is not None:
            return max(_OF_THE_NOISE * self.noise, _FAR_IN_16_BITS)
        if self.method == "qlora" or self.report.is_quantized:
            return _FAR_IN_4_BITS
        return _FAR if self.is_in_32_bits and self.report.is_in_32_bits else _FAR_IN_16_BITS

    def difference(self) -> Finding | None:
        """Whatever happened between the trainer's memory and this one."""
        text = "The model does not compute what the trainer has seen: its losses on fixed texts"
        if self.noise is not None and self.noise > _FAR_IN_4_BITS:
            text = "The base model is not the one that was trained on: its losses on fixed texts"
            return _too_far(text, self.noise, _FAR_IN_4_BITS)
        if self.distance is None or self.distance <= self.limit:
            return None
        return _too_far(text, self.distance, self.limit)

    def loss(self) -> Finding | None:
        """Of a run that must have a reference, and whose tokenizer is the base model's by now."""
        told = self.told
        if told is None:
            return Finding("ReferenceMissing", "training_info.json has lost its reference")
        if told.texts != VERSION:
            text = f"the trainer's texts are of version {told.texts}, those here of {VERSION}"
            return Finding("ReferenceUnknown", text, CheckResult.ERROR)
        if self.method == "qlora" and not told.base_losses:
            return Finding("ReferenceMissing", "the reference has lost the base model's losses")
        if self.distance is not None:
            return None
        count = len(told.losses.split())
        text = f"the reference has {count} tokens, the texts have {len(self.report.reference)}"
        return Finding("ReferenceMissing", text)


def _too_far(text: str, found: float, limit: float) -> Finding:
    return Finding(
        "NotAsTrained",
        f"{text} differ by {found:.3g} nats a token; {limit:.3g} is allowed",
        numbers={"distance": found, "limit": limit},
    )
