"""The arithmetic of a model against the peak of a GPU."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from finetuning.api.hyperparameters import Precision
from finetuning.base import mfu
from finetuning.base.device import Device
from finetuning.base.mfu import flop_per_token, matrix_weights, meter, peak_flops

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("architecture", "units", "name", "teraflops"),
    [
        ("gfx942:sramecc+:xnack-", 304, "AMD Instinct MI300X", 1307.4),
        ("gfx942", 38, "AMD Instinct MI300X", 163.43),
        ("gfx90a:sramecc+:xnack-", 110, "AMD Instinct MI250X", 191.5),
        ("gfx950:sramecc+:xnack-", 256, "AMD Instinct MI355X", 2516.6),
        ("gfx950:sramecc+:xnack-", 256, "AMD Instinct MI350X", 2306.9),
    ],
)
def test_peaks_are_those_of_the_data_sheets(
    architecture: str, units: int, name: str, teraflops: float
) -> None:
    for precision in (Precision.BF16, Precision.FP16):
        peak = peak_flops(architecture, units, name, precision)
        assert peak == pytest.approx(teraflops * 1e12, rel=1e-4)


def test_an_unknown_peak_is_not_guessed() -> None:
    assert peak_flops("gfx942", 304, "AMD Instinct MI300X", Precision.FP32) is None
    assert peak_flops("gfx1100", 96, "AMD Radeon RX 7900 XTX", Precision.BF16) is None
    assert peak_flops("", 132, "another card", Precision.BF16) is None


def test_frozen_weights_need_no_gradient() -> None:
    assert flop_per_token(1000, 2, 8, 5.0, trains_all=True) == 6000 + 960
    assert flop_per_token(1000, 2, 8, 5.0, trains_all=False) == 4000 + 960


def small(*, tied: bool) -> Any:
    config = Qwen2Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


@pytest.mark.parametrize("tied", [True, False])
def test_the_arithmetic_agrees_with_torchs_own_count(*, tied: bool) -> None:
    """Counted by torch in a forward and backward pass; layer norms and biases are left out."""

    model = small(tied=tied)
    model.set_attn_implementation("eager")
    ids = torch.arange(32).remainder(64).reshape(1, 32)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    expected = 32 * flop_per_token(matrix_weights(model), 2, 16, 32.0, trains_all=True)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)


def test_a_cpu_has_no_peak() -> None:

    device = Device(torch.device("cpu"), "the CPU", Precision.FP32)
    assert meter(small(tied=True), device, trains_all=True)(100, 1, 1.0) is None


def test_the_share_is_work_over_time_and_peak(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(mfu, "_peak", lambda _: 1e9)
    model = small(tied=True)
    device = Device(torch.device("cpu"), "the CPU", Precision.BF16)
    share = meter(model, device, trains_all=False)
    work = flop_per_token(matrix_weights(model), 2, 16, 50.0, trains_all=False)
    assert share(100, 2, 0.5) == pytest.approx(100 * work / 0.5 / 1e9)
    assert share(0, 0, 0.5) is None
    assert share(10**9, 10**8, 1e-3) == 1.0
