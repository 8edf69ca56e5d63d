"""Several rows in one sequence: which go together, and that none sees another."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import itertools
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer import test_architectures
from tests.unit.trainer.test_architectures import MODELS, mamba
from tests.unit.trainer.test_reference_loop import run

from finetuning.base.app import main
from finetuning.dataset.encode import Example

pytestmark = pytest.mark.training

SIZES = (7, 3, 1, 12, 5, 2)


def example(length: int, first: int = 5) -> Example:
    ids = np.arange(first, first + length, dtype=np.int32)
    return Example(ids, np.arange(length) >= length // 3)


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(0, 20))
def test_every_row_is_packed_once_and_no_pack_is_too_long(sizes: list[int], more: int) -> None:
    from finetuning.base.packing import pack

    limit = max(sizes, default=1) + more
    examples = [example(size) for size in sizes]
    packs = pack(examples, limit)
    packed = list(itertools.chain.from_iterable(packs))
    assert sorted(map(id, packed)) == sorted(map(id, examples))
    lengths = sorted(sum(len(each.ids) for each in members) for members in packs)
    assert lengths == [length for length in lengths if length <= limit]
    # No two packs would fit into one: at most one is half empty.
    assert all(a + b > limit for a, b in itertools.pairwise(lengths))


def test_the_fullest_pack_that_still_has_room_is_taken() -> None:
    from finetuning.base.packing import pack

    packs = pack([example(size) for size in (2, 7, 6, 3, 4)], 10)
    assert [[len(each.ids) for each in members] for members in packs] == [[7, 3], [6, 4], [2]]


def losses_of_tokens(model: Any, packs: list[list[Example]]) -> Any:
    """The loss of every target, in the order of the examples."""
    import torch
    from torch.nn import functional

    from finetuning.base.step import IGNORED, collate, forward

    batch = collate(packs, torch.device("cpu"))
    with torch.no_grad():
        logits = forward(model, batch).logits[:, :-1]
    labels = batch.labels[:, 1:]
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return losses[labels != IGNORED]


@pytest.mark.parametrize("make", MODELS)
def test_a_packed_token_has_the_loss_that_it_has_alone(make: Callable[[], Any]) -> None:
    import torch

    torch.manual_seed(0)
    model = make().eval()
    examples = [example(size, first) for first, size in enumerate(SIZES, 5)]
    packs = [examples[:3], examples[3:5], examples[5:]]
    together = losses_of_tokens(model, packs)
    alone = torch.cat([losses_of_tokens(model, [[each]]) for each in examples])
    assert len(alone) == sum(each.targets for each in examples)
    assert (together - alone).abs().max() < 1e-5


def mistral(window: int) -> Any:
    """Its layers see no further back than a window."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**test_architectures.SIZES, sliding_window=window))


def on_cpu(precision: str = "fp32") -> Any:
    import torch

    from finetuning.api.hyperparameters import Precision
    from finetuning.base.device import Device

    return Device(torch.device("cpu"), "CPU", Precision(precision))


def gradients(model: Any, packs: list[list[Example]]) -> list[Any]:
    import torch

    from finetuning.base.step import collate, summed_loss

    model.zero_grad()
    loss = summed_loss(model, collate(packs, torch.device("cpu")))
    torch.autograd.backward(loss)
    return [loss.detach(), *(part.grad.clone() for part in model.parameters())]


APART: dict[str, Any] = {
    **{make.__name__: make for make in MODELS if make.__name__ != "gemma2"},
    "a window longer than all": lambda: mistral(64),
    "a window shorter than some": lambda: mistral(5),
}


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", APART)
def test_without_masks_losses_and_gradients_are_those_with_masks(
    name: str, *, recomputed: bool
) -> None:
    import torch

    from finetuning.base.apart import NAME
    from finetuning.base.packing import spare_masks

    torch.manual_seed(0)
    model: Any = APART[name]()
    model.config.use_cache = False
    if recomputed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train(recomputed)
    # Recomputing is for training, where some of these models would drop at random.
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    examples = [example(size, first) for first, size in enumerate((40, 7, 3, 1, 12, 34, 2), 5)]
    packs = [examples[:4], examples[4:6], examples[6:]]
    masked = gradients(model, packs)
    assert spare_masks(model, on_cpu())
    assert model.config._attn_implementation == NAME
    assert NAME not in model.config.to_json_string()
    for ours, theirs in zip(gradients(model, packs), masked, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_what_is_not_packed_is_computed_as_before() -> None:
    """Single rows, and text that a model goes on with, also beside a packed batch of that shape."""
    import torch

    from finetuning.base.packing import spare_masks

    torch.manual_seed(0)
    model = MODELS[0]().eval()
    prompt = torch.arange(5, 22).unsqueeze(0)
    before = model.generate(prompt, max_new_tokens=6, do_sample=False)
    rows = [[example(7)], [example(5, 9)]]
    alone = losses_of_tokens(model, rows)
    assert spare_masks(model, on_cpu())
    losses_of_tokens(model, [[example(12), example(5)]])
    assert model.generate(prompt, max_new_tokens=6, do_sample=False).tolist() == before.tolist()
    torch.testing.assert_close(losses_of_tokens(model, rows), alone)


def test_single_rows_of_a_packed_run_need_no_mask_for_their_padding() -> None:
    import torch

    from finetuning.base.step import collate, summed_loss

    torch.manual_seed(0)
    model, rows = MODELS[0]().eval(), [[example(7)], [example(12, 9)]]
    plain, packed = (collate(rows, torch.device("cpu"), packing=each) for each in (False, True))
    assert plain.layout is None
    assert packed.layout is not None
    assert packed.mask is None
    assert summed_loss(model, packed).item() == pytest.approx(summed_loss(model, plain).item())
    alike = collate([[example(7)], [example(7)]], torch.device("cpu"), packing=True)
    assert alike.layout is None, "which has no padding, and so no mask"


def test_an_architecture_that_computes_otherwise_keeps_its_masks() -> None:
    """Gemma 2 caps the scores of its attention, which `sdpa` cannot."""
    from finetuning.base.packing import spare_masks

    model = next(make for make in MODELS if make.__name__ == "gemma2")()
    before = model.config._attn_implementation
    assert not spare_masks(model, on_cpu())
    assert model.config._attn_implementation == before == "eager"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_whose_logits_would_change_keeps_its_masks(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an architecture would that computes a part of its attention itself; only rounding may."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from finetuning.base import apart
    from finetuning.base.packing import spare_masks

    torch.manual_seed(0)
    # Of a size where masks alone change more in 16 bit than 32 bit would explain.
    sizes = {**test_architectures.SIZES, "hidden_size": 256, "num_hidden_layers": 4}
    model, device = LlamaForCausalLM(LlamaConfig(**sizes)), on_cpu(precision)
    right = apart.attend

    def wrong(module: Any, query: Any, key: Any, value: Any, *more: Any, **options: Any) -> Any:
        return right(module, query, key, 1.5 * value, *more, **options)

    monkeypatch.setattr(apart, "attend", wrong)
    assert not spare_masks(model, device)
    assert model.config._attn_implementation == "sdpa"
    monkeypatch.setattr(apart, "attend", right)
    assert spare_masks(model, device)


def test_parts_of_a_model_that_keeps_its_masks_compute_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from finetuning.base import apart
    from finetuning.base.packing import spare_masks

    def beyond(*_: Any, **__: Any) -> Any:
        raise IndexError("index out of range in self")

    model = test_architectures.gemma3()
    sees = model.config.vision_config
    sees._attn_implementation = "eager"
    monkeypatch.setattr(apart, "attend", beyond)
    assert not spare_masks(model, on_cpu())
    assert sees._attn_implementation == "eager"
    assert model.config.get_text_config()._attn_implementation == "sdpa"


def minimax(kind: str) -> Any:
    """Each token sees the blocks of tokens that the layer chooses."""
    from transformers import MiniMaxM3VLForCausalLM, MiniMaxM3VLTextConfig

    sizes = {**test_architectures.SIZES, "num_local_experts": 2, "num_experts_per_tok": 1}
    index = {"index_n_heads": 2, "index_head_dim": 16, "index_block_size": 16}
    kinds = ["full_attention", kind]
    more: dict[str, Any] = {**index, "index_topk_blocks": 2, "layer_types": kinds, "head_dim": 16}
    return MiniMaxM3VLForCausalLM(MiniMaxM3VLTextConfig(**sizes, **more))


def test_layers_that_choose_among_more_tokens_than_a_trial_has_are_known_by_their_kind() -> None:
    """They took rows together by where these stand, and without masks saw all of a row."""
    from finetuning.base.errors import ConfigError
    from finetuning.base.packing import refuse_mixing, spare_masks

    for kind, packs in (("full_attention", True), ("minimax_m3_sparse", False)):
        model = minimax(kind)
        assert spare_masks(model, on_cpu()) is packs
        with nullcontext() if packs else pytest.raises(ConfigError, match="minimax_m3_vl_text let"):
            refuse_mixing(model, on_cpu())


@given(st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=9), min_size=1, max_size=4))
def test_every_token_is_found_again_behind_its_example_alone(sizes: list[list[int]]) -> None:
    import torch

    from finetuning.base.apart import layout_of

    layout = layout_of(sizes, torch.device("cpu"))
    taken = torch.cat([call.flatten() for call in layout.calls])
    for row, parts in enumerate(sizes):
        at = row * layout.width
        for size in parts:
            assert taken[layout.back[at : at + size]].tolist() == list(range(at, at + size))
            first = int(layout.back[at])
            # In one call, one after the other, as the causal kernel wants them.
            assert layout.back[at : at + size].tolist() == list(range(first, first + size))
            at += size
    # What fills up costs less than the mask did: at most a third of a long example's length.
    for call in layout.calls:
        longest = call.shape[1]
        real = [len(set(row)) for row in call.tolist()]
        assert max(real) == longest
        assert longest <= 32 or min(real) >= 0.75 * longest


def test_naive_joining_would_be_seen_by_these_tests() -> None:
    import torch

    torch.manual_seed(0)
    model = MODELS[0]().eval()
    first, second = example(7), example(5, 9)
    ids, marks = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("ids", "trained")
    )
    joined = losses_of_tokens(model, [[Example(ids, marks)]])
    alone = losses_of_tokens(model, [[second]])
    assert (joined[-len(alone) :] - alone).abs().max() > 1e-3


def test_packed_and_unpacked_steps_of_the_same_rows_have_the_same_losses(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """All rows in every step, so that both see the same; held-out rows too."""
    whole = ("--batch-size", "20", "--eval-split", "0.2", "--method", "full")
    packed = run(tiny_model, rows_file, tmp_path / "c", *whole, "--packing")
    unpacked = run(tiny_model, rows_file, tmp_path / "d", *whole)
    assert packed == pytest.approx(unpacked, abs=1e-5)
    infos = [
        json.loads((tmp_path / name / "training_info.json").read_text(encoding="utf-8"))
        for name in "cd"
    ]
    evals = [info["results"]["eval_loss"] for info in infos]
    assert evals[0] == pytest.approx(evals[1], abs=1e-5)
    assert infos[0]["results"]["tokens_total"] == infos[1]["results"]["tokens_total"]
    assert infos[0]["results"]["samples_total"] == infos[1]["results"]["samples_total"] == 96
    assert infos[0]["dataset"]["train_packs"] < infos[1]["dataset"]["train_packs"] == 16


def test_an_architecture_that_would_mix_rows_is_refused(
    tokenizer: Any, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    mamba().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = [
        *("--model-id", str(model), "--dataset-path", str(rows_file), "--max-steps", "2"),
        *("--method", "full", "--output-dir", str(tmp_path / "out"), "--no-gradient-checkpointing"),
    ]
    assert main([*command, "--packing"]) == 2
    assert "--packing: models of the type mamba let packed rows see each other" in caplog.text
    assert main(command) == 0
