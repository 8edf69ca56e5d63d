"""Small parts: devices, layers, environment, loss in pieces, what the console says."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetuning.api.hyperparameters import ComputeDtype, Precision
from finetuning.api.run_config import RunConfig
from finetuning.base.aim_profile import kv_bytes_per_token, readable_count
from finetuning.base.console import Figures, duration
from finetuning.base.device import Device, on_cpu, on_gpu, unused_gpu
from finetuning.base.environment import cpu_limit
from finetuning.base.errors import ConfigError, InterruptedRun
from finetuning.base.facts import differences
from finetuning.base.model import four_bit_dtype, refuse_both, target_modules
from finetuning.base.rank import Rank
from finetuning.base.stop import Stop
from finetuning.dataset.encode import Example

THERE = {"q_proj", "v_proj", "down_proj"}


@pytest.mark.parametrize(
    ("wish", "given", "told"),
    [
        (Precision.FP16, Precision.FP32, True),
        (Precision.BF16, Precision.BF16, False),
        (Precision.FP32, Precision.FP32, False),
    ],
)
def test_a_cpu_trains_in_what_it_can(wish: Precision, given: Precision, told: bool) -> None:  # noqa: FBT001
    precision, note = on_cpu(wish)
    assert (precision, bool(note)) == (given, told)


@pytest.mark.parametrize(
    ("wish", "bf16", "given"),
    [
        (Precision.BF16, True, Precision.BF16),
        (Precision.BF16, False, Precision.FP16),
        (Precision.FP16, True, Precision.FP16),
        (Precision.FP32, False, Precision.FP32),
    ],
)
def test_a_gpu_trains_in_what_was_wished_if_it_can(
    wish: Precision,
    bf16: bool,  # noqa: FBT001
    given: Precision,
) -> None:
    precision, note = on_gpu(wish, bf16=bf16)
    assert (precision, bool(note)) == (given, given is not wish)


@pytest.mark.parametrize(
    ("wish", "bf16", "given", "note"),
    [
        (Precision.BF16, True, Precision.BF16, ""),
        (Precision.FP16, True, Precision.BF16, "fsdp does not go with fp16"),
        (Precision.FP16, False, Precision.FP32, "fsdp does not go with fp16"),
        (Precision.BF16, False, Precision.FP32, "this GPU has no bf16"),
        (Precision.FP32, True, Precision.FP32, ""),
    ],
)
def test_shards_are_never_trained_in_fp16(
    wish: Precision,
    bf16: bool,  # noqa: FBT001
    given: Precision,
    note: str,
) -> None:
    assert on_gpu(wish, bf16=bf16, shards=True) == (given, note)


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (["q_proj"], ["q_proj"]),
        (["v_proj", "q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (["all-linear"], ["down_proj", "q_proj", "v_proj"]),
        (["self_attn.q_proj"], ["self_attn.q_proj"]),
    ],
)
def test_layers_are_chosen_by_the_end_of_their_names(wish: list[str], found: list[str]) -> None:
    assert target_modules(wish, THERE) == found


def test_one_layer_that_is_not_there_is_one_too_many() -> None:
    with pytest.raises(ConfigError, match=r"no linear layer named x_proj; it has down_proj, q_pro"):
        target_modules(["q_proj", "x_proj"], THERE)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("max 100000\n", None), ("200000 100000\n", 2), ("50000 100000\n", 1), ("", None)],
)
def test_threads_follow_the_containers_share_of_cpus(
    text: str, limit: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text, encoding="ascii")
    assert cpu_limit(path) == limit
    assert cpu_limit(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0s"), (59.6, "1m00s"), (200, "3m20s"), (7290, "2h01m")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_has_all_the_figures() -> None:
    line = Figures(3, 10, 0.25, 1.23456, 2e-4, 999.6, 65).line()
    assert line == "step 3/10  epoch 0.25  loss 1.2346  lr 2.00e-04  1000 tokens/s  ETA 1m05s"


@pytest.mark.parametrize(
    ("number", "text"),
    [(7_615_616_512, "7.6B"), (140_544, "140.5K"), (1_500_000, "1.5M"), (12, "12")],
)
def test_parameters_are_counted_readably(number: int, text: str) -> None:
    assert readable_count(number) == text


class _Config:
    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def to_dict(self) -> dict[str, Any]:
        return self._settings


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        # Qwen2.5-7B: 28 layers, 4 key-value heads of 128, two bytes each, keys and values.
        ({"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}, 57344),
        ({"num_hidden_layers": 28, "num_attention_heads": 28, "head_dim": 64}, 200704),
        ({}, 0),
    ],
)
def test_the_cache_is_sized_by_the_models_own_figures(settings: dict[str, int], size: int) -> None:
    assert kv_bytes_per_token(_Config(hidden_size=3584, **settings), "bf16") == size


@pytest.mark.training
def test_the_loss_in_pieces_is_the_loss_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from finetuning.base import step

    torch.manual_seed(0)
    targets = torch.randint(0, 11, (10,))
    found = []
    for rows in (100, 3):
        monkeypatch.setattr(step, "LOSS_ROWS", rows)
        torch.manual_seed(1)
        logits = torch.randn(10, 11, requires_grad=True)
        loss = step._cross_entropy(logits, targets)
        torch.autograd.backward(loss)
        assert logits.grad is not None
        found.append((loss.item(), logits.grad))
    assert found[0][0] == pytest.approx(found[1][0])
    assert torch.allclose(found[0][1], found[1][1])


@pytest.mark.training
def test_padding_changes_no_loss(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from finetuning.base.step import collate, summed_loss

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    rows = [[example(5, 3)], [example(17, 2)], [example(9, 8)]]
    device = torch.device("cpu")
    with torch.no_grad():
        together = summed_loss(model, collate(rows, device)).item()
        alone = [summed_loss(model, collate([row], device)).item() for row in rows]
    assert together == pytest.approx(sum(alone), rel=1e-5)


def example(length: int, first: int) -> Example:
    ids = np.arange(10, 10 + length, dtype=np.int32)
    return Example(ids, np.arange(length) >= first)


@pytest.mark.training
@pytest.mark.parametrize(
    ("kind", "precision", "wish", "given", "words"),
    [
        ("cpu", "fp32", "float16", "float32", "float16 needs a GPU, and none was found"),
        ("cpu", "bf16", "bfloat16", "bfloat16", ""),
        ("cuda", "bf16", "float16", "float16", "set bnb4bitComputeDtype"),
        ("cuda", "bf16", "bfloat16", "bfloat16", ""),
        ("cuda", "fp16", "float16", "float16", ""),
    ],
)
def test_what_4_bit_weights_are_multiplied_in_is_told_where_it_is_not_as_wished_or_wise(
    kind: str, precision: str, wish: str, given: str, words: str
) -> None:
    import torch

    device = Device(torch.device(kind), "a device", Precision(precision))
    found, note = four_bit_dtype(ComputeDtype(wish), device)
    assert found == given
    assert words in note
    assert bool(words) is bool(note)


def test_fp16_beside_bf16_makes_no_other_run() -> None:
    both, one = {"bf16": True, "fp16": True}, {"bf16": True, "fp16": False}
    assert differences(both, one) == []
    assert differences(both, {"bf16": False, "fp16": True}) == ["bf16: True → False"]
    assert differences({"fp16": True}, {"fp16": False}) == ["fp16: True → False"]


@pytest.mark.parametrize(
    "hangs", [{"early_stopping_patience": 2}, {"load_best_model_at_end": True}]
)
def test_when_to_evaluate_counts_where_the_result_hangs_on_it(hangs: dict[str, object]) -> None:
    often, seldom = {"eval_steps": 5}, {"eval_steps": 50}
    assert differences(often, seldom) == []
    assert differences(hangs | often, hangs | seldom) == ["eval_steps: 5 → 50"]


def test_without_a_gpu_there_are_no_gpu_figures_and_no_invented_ones() -> None:
    import torch

    from finetuning.base import gpu

    assert gpu.states(torch.device("cpu"), Rank())() == []
    assert gpu.TorchReader(0, asks_vendor=True)._utilization() is None


@pytest.mark.parametrize(
    ("driver", "rocm", "words"),
    [
        (False, False, None),
        (False, True, None),
        (True, False, "built without ROCm"),
        (True, True, "HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_goes_unused_is_told(driver: bool, rocm: bool, words: str | None) -> None:  # noqa: FBT001
    warning = unused_gpu(driver=driver, rocm=rocm)
    assert warning is None if words is None else words in str(warning)


def test_the_first_signal_asks_and_the_second_ctrl_c_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = Stop()
    with stop.handling():
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_interrupts_what_has_nothing_to_save_and_only_once() -> None:
    stop = Stop()
    with stop.handling():
        with pytest.raises(InterruptedRun), stop.interrupting():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested


@pytest.mark.training
def test_a_wish_to_stop_drops_the_half_step_and_the_evaluation(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from finetuning.base.group import Group, SharedStop
    from finetuning.base.step import Sft, Stepper, make_optimizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    device = Device(torch.device("cpu"), "the CPU", Precision.FP32)
    config = RunConfig.model_validate({"model_id": "m", "method": "full", "dataset": {"path": "d"}})
    stepper = Stepper(Sft(model, device.device), make_optimizer(model, config), device, 1.0)
    asked = Stop()
    asked.requested = True
    stop = SharedStop(asked, Group(Rank(), device.device))
    rows = [[[example(5, 3)]], [[example(9, 2)]]]
    assert stepper.step(rows, 1.0, stop) is None
    assert stepper.evaluate([pack for (pack,) in rows], 1, stop) is None
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert stepper.step(rows[:1], 1.0, stop) is not None
    assert not torch.equal(before["lm_head.weight"], model.state_dict()["lm_head.weight"])


@pytest.mark.parametrize("whole", ["q_proj", "self_attn.q_proj"])
def test_a_layer_is_not_both_adapted_and_trained_in_full(whole: str) -> None:
    modules = ["model.layers.0.self_attn", "model.layers.0.self_attn.q_proj", "model.norm"]
    with pytest.raises(ConfigError, match=r"both name model\.layers\.0\.self_attn\.q_proj"):
        refuse_both([whole], ["k_proj", "q_proj"], modules)
    refuse_both(["norm"], ["q_proj"], modules)
