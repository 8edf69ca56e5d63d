"""model_output: an adapter changes of its base model what the trainer saw, however little."""

import random

import pytest

from finetuning.artifacts.reference import Reference
from finetuning.monitoring.validators.checks.as_trained import AsTrained
from finetuning.monitoring.validators.checks.probe import ProbeReport

RANDOM = random.Random(0)
BASE = [RANDOM.uniform(0, 8) for _ in range(200)]
SHIFT = [RANDOM.gauss(0, 1) for _ in BASE]
"""What an adapter does at a scale of one nat."""


def moved(scale: float) -> list[float]:
    return [before + scale * by for before, by in zip(BASE, SHIFT, strict=True)]


def rounded(losses: list[float], by: float) -> list[float]:
    return [loss + RANDOM.gauss(0, by) for loss in losses]


def reason(
    scale: float,
    found: list[float],
    base: list[float],
    *,
    exact: bool = False,
    is_adapter: bool = True,
    method: str = "lora",
) -> str:
    told = Reference.of(moved(scale), BASE if method != "full" else ())
    report = ProbeReport(reference=found, base_reference=base, is_in_32_bits=exact)
    finding = AsTrained(told, report, method, exact, is_adapter).difference()
    return finding.reason if finding else ""


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.2, 1.0, 4.0])
@pytest.mark.parametrize(("rounding", "exact"), [(0.0, True), (0.0003, True), (0.02, False)])
def test_what_rounding_does_is_no_fault(scale: float, rounding: float, *, exact: bool) -> None:
    found = rounded(moved(scale), rounding)
    assert reason(scale, found, rounded(BASE, rounding), exact=exact) == ""


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 1.3, -1.0])
@pytest.mark.parametrize(
    ("scale", "rounding", "exact"), [(0.01, 0.0003, True), (0.07, 0.0003, True), (0.2, 0.02, False)]
)
def test_another_scale_is_one_however_small_the_change(
    share: float, scale: float, rounding: float, *, exact: bool
) -> None:
    found = rounded(moved(share * scale), rounding)
    assert reason(scale, found, rounded(BASE, rounding), exact=exact) == "NotAsTrained"


@pytest.mark.parametrize(("share", "expected"), [(1.0, ""), (0.85, ""), (0.5, "NotAsTrained")])
def test_on_a_base_without_its_4_bits_more_is_allowed(share: float, expected: str) -> None:
    shift = [RANDOM.gauss(0, 0.25) for _ in BASE]
    base = [before + by for before, by in zip(BASE, shift, strict=True)]
    found = [loss + by for loss, by in zip(moved(share * 0.2), shift, strict=True)]
    assert reason(0.2, found, base, method="qlora") == expected


def test_a_merged_adapter_was_rounded_once_more() -> None:
    found = rounded(moved(0.07), 0.03)
    assert reason(0.07, found, [], is_adapter=False) == ""
    assert reason(0.07, found, BASE) == "NotAsTrained"
    assert reason(0.2, rounded(moved(0.1), 0.02), [], is_adapter=False) == "NotAsTrained"
    assert reason(0.07, rounded(moved(0.035), 0.0003), [], is_adapter=False, exact=True) != ""


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.2, 1.0, 4.0])
@pytest.mark.parametrize(("rounding", "exact"), [(0.0003, True), (0.02, False), (0.038, False)])
def test_what_rounding_does_to_a_whole_model_is_no_fault(
    scale: float, rounding: float, *, exact: bool
) -> None:
    found = rounded(moved(scale), rounding)
    assert reason(scale, found, BASE, exact=exact, is_adapter=False, method="full") == ""


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75, 1.3, -1.0])
@pytest.mark.parametrize(("scale", "exact"), [(0.04, True), (0.2, True), (0.5, False)])
def test_a_whole_model_has_what_the_training_changed(
    share: float, scale: float, *, exact: bool
) -> None:
    found = rounded(moved(share * scale), 0.0003 if exact else 0.02)
    told = reason(scale, found, BASE, exact=exact, is_adapter=False, method="full")
    assert told == "NotAsTrained"


def test_a_reference_in_32_bits_is_exact_whatever_the_training_was_in() -> None:
    told = Reference.of(moved(0.04), in_32_bits=True)
    report = ProbeReport(reference=moved(0.02), base_reference=BASE, is_in_32_bits=True)
    assert AsTrained(told, report, "full", is_in_32_bits=False).difference() is not None
    on_a_gpu = report.model_copy(update={"is_in_32_bits": False})
    assert AsTrained(told, on_a_gpu, "full", is_in_32_bits=False).difference() is None


def test_an_adapters_figures_without_its_base_models_are_lost() -> None:
    told = Reference.of(moved(1.0))
    report = ProbeReport(reference=moved(1.0), base_reference=BASE)
    finding = AsTrained(told, report, "lora", is_in_32_bits=True, is_adapter=True).loss()
    assert finding is not None
    assert finding.reason == "ReferenceMissing"
    assert AsTrained(told, report, "full", is_in_32_bits=True).loss() is None
