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

_SAME_BASE = 0.1
"""Nats by which the base model may differ from that of the training and only be rounded otherwise:
0.0003 in 32 bit, 0.001 to 0.047 in 16 bits; without its 4 bits that of the examples is 0.25
away."""

_OF_THE_EFFECT, _OF_THE_EFFECT_WITHOUT_ITS_BITS = 0.15, 0.4
"""What a training changes may be another by this share of itself, on the base model that it was
trained on and on one without the 4 bits of the training. In 93 healthy runs of 17 architectures it
is at most 0.57, and two thirds, of what is allowed. Half the scale is half the effect."""

_LEAST, _LEAST_IN_16_BITS, _LEAST_WITHOUT_ITS_BITS = 0.001, 0.02, 0.06
"""Nats by which it may differ however little it changes: what rounding does."""

_LEAST_OF_A_WHOLE, _LEAST_OF_A_WHOLE_IN_16_BITS = 0.005, 0.06
"""The same of a whole model, where no base model's noise tells what rounding does. Healthy ones are
0.0003 away in 32 bit, and up to 0.038 where 16 bits were computed with or merged into."""

_OF_THE_EFFECT_MERGED = 0.3
"""Merging rounds what an adapter changes once more: 0.14 of the least effect that was measured."""


@dataclass(frozen=True)
class AsTrained:
    """What the trainer told, beside what the loaded model does."""

    told: Reference | None
    report: ProbeReport
    method: str | None
    is_in_32_bits: bool
    """Whether the run was trained, and is stored, so."""
    is_adapter: bool = False
    """Not one that was merged: merging rounds what it changes, by how much nobody has told."""

    @cached_property
    def distance(self) -> float | None:
        """In nats; None where the trainer told nothing, or nothing that can be compared.

        Where the trainer's base was in 4 bits and the one here is not, that of what the adapter
        changes is another measure of the same.
        """
        if self.told is None or not self.report.reference:
            return None
        found = self.told.distance(self.report.reference)
        in_4_bits = self.noise is not None and self._was_in_4_bits
        return self.change if in_4_bits and self.change is not None else found

    @cached_property
    def change(self) -> float | None:
        """That of the losses or of what the adapter makes different in them, whichever is less."""
        if self.told is None or self.noise is None:
            return None
        found = self.told.distance(self.report.reference)
        change = self.told.effect_distance(self.report.reference, self.report.base_reference)
        return None if found is None or change is None else min(found, change)

    @cached_property
    def noise(self) -> float | None:
        """How far the base model is from the trainer's; None where it was not asked."""
        return self.told.base_distance(self.report.base_reference) if self.told else None

    @cached_property
    def effect(self) -> float | None:
        """What the training changed of its base's losses; None where nobody has asked the base.

        The trainer tells it of an adapter. Of a model that was trained as a whole it is what it
        told, beside the base that is loaded here.
        """
        if self.told is None:
            return None
        if self.method == "full":
            return self.told.distance(self.report.base_reference)
        return self.told.effect

    @property
    def _is_exact(self) -> bool:
        """Whether trainer and validator both computed in 32 bit with what is stored."""
        told = self.told is not None and self.told.in_32_bits
        as_stored = told and (self.is_adapter or self.method == "full")
        return (self.is_in_32_bits or as_stored) and self.report.is_in_32_bits

    @property
    def _was_in_4_bits(self) -> bool:
        return self.method == "qlora" and not self.report.is_quantized

    @property
    def limit(self) -> float:
        if self.noise is not None and self._was_in_4_bits:
            return max(_OF_THE_NOISE * self.noise, _FAR_IN_16_BITS)
        if self.method == "qlora" or self.report.is_quantized:
            return _FAR_IN_4_BITS
        return _FAR if self._is_exact else _FAR_IN_16_BITS

    @property
    def change_limit(self) -> float | None:
        """Held against what the training changed at all: a small change is soon lost altogether."""
        if self.effect is None:
            return None
        if not self.is_adapter:
            return self._whole_limit(self.effect)
        if self.noise is None:
            return None
        if self.noise > _SAME_BASE:
            return max(_LEAST_WITHOUT_ITS_BITS, _OF_THE_EFFECT_WITHOUT_ITS_BITS * self.effect)
        least = max(_OF_THE_NOISE * self.noise, _LEAST if self._is_exact else _LEAST_IN_16_BITS)
        return max(least, _OF_THE_EFFECT * self.effect)

    def _whole_limit(self, effect: float) -> float | None:
        """None where the 4 bits are of one side only: of the base trained on, or of the result."""
        if self.method == "qlora" or self.report.is_quantized:
            return None
        least = _LEAST_OF_A_WHOLE if self._is_exact else _LEAST_OF_A_WHOLE_IN_16_BITS
        share = _OF_THE_EFFECT if self.method == "full" else _OF_THE_EFFECT_MERGED
        return max(least, share * effect)

    def difference(self) -> Finding | None:
        """Whatever happened between the trainer's memory and this one."""
        text = "The model does not compute what the trainer has seen: its losses on fixed texts"
        if self._was_in_4_bits and self.noise is not None and self.noise > _FAR_IN_4_BITS:
            text = "The base model is not the one that was trained on: its losses on fixed texts"
            return _too_far(text, self.noise, _FAR_IN_4_BITS)
        if self.distance is not None and self.distance > self.limit:
            return _too_far(text, self.distance, self.limit)
        change = self.change if self.is_adapter else self.distance
        if change is None or self.change_limit is None or change <= self.change_limit:
            return None
        what = "adapter" if self.is_adapter else "model"
        text = f"The {what} does not change of its base model what the trainer has seen: the losses"
        return _too_far(text, change, self.change_limit)

    def loss(self) -> Finding | None:
        """Of a run that must have a reference, and whose tokenizer is the base model's by now."""
        told = self.told
        if told is None:
            return Finding("ReferenceMissing", "training_info.json has lost its reference")
        if told.texts != VERSION:
            text = f"the trainer's texts are of version {told.texts}, those here of {VERSION}"
            return Finding("ReferenceUnknown", text, CheckResult.ERROR)
        if (self.is_adapter or self.method == "qlora") and not told.base_losses:
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
