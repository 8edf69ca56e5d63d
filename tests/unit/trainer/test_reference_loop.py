"""The loop's losses against a plain loop written with nothing but torch, transformers and peft."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import ROWS, write_rows

from finetuning.base.app import main

pytestmark = pytest.mark.training

STEPS = 6
RATE = 5e-3


def losses(output: Path) -> list[float]:
    lines = (output / "loss_history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def run(model: Path, data: Path, output: Path, *more: str) -> list[float]:
    code = main(
        [
            *("--model-id", str(model), "--dataset-path", str(data), "--output-dir", str(output)),
            *("--no-fp16", "--learning-rate", str(RATE), "--max-steps", str(STEPS)),
            *("--warmup-steps", "2", "--lora-dropout", "0", "--batch-size", "2", *more),
        ]
    )
    assert code == 0
    return losses(output)


def reference_batches(model: Path, seed: int = 42) -> list[list[Any]]:
    """The same rows in the same order, tokenised and labelled by hand."""
    import numpy as np
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    order = np.random.default_rng([seed, 1, 0]).permutation(len(ROWS)).tolist()
    rows = [_labelled(tokenizer, ROWS[i]) for i in order]
    return [rows[i : i + 2] for i in range(0, STEPS * 2, 2)]


def _labelled(tokenizer: Any, row: dict[str, str]) -> tuple[list[int], list[int]]:
    question = f"<|im_start|>user\n{row['instruction']}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tokenizer(question)["input_ids"]
    answer = tokenizer(f"{row['output']}<|im_end|>")["input_ids"]
    newline = tokenizer("\n")["input_ids"]
    labels = [-100] * len(prompt) + answer + [-100] * len(newline)
    return prompt + answer + newline, labels


def reference_losses(model: Any, batches: list[list[Any]], optimizer: Any = None) -> list[float]:
    """transformers' own loss, AdamW and linear schedule, one row at a time."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, STEPS)
    found = []
    for batch in batches:
        targets = sum(sum(label != -100 for label in labels) for _, labels in batch)
        loss = torch.zeros(())
        for ids, labels in batch:
            count = sum(label != -100 for label in labels)
            out = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]))
            loss = loss + out.loss * count / targets
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def test_full_tuning_has_the_losses_of_a_plain_loop(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    ours = run(tiny_model, rows_file, tmp_path / "out", "--method", "full")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    theirs = reference_losses(model, reference_batches(tiny_model))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours[-1] < ours[0] - 0.05


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {}),
        (["--use-rslora"], {"use_rslora": True}),
        (["--use-dora"], {"use_dora": True}),
        (["--modules-to-save", "norm"], {"modules_to_save": ["norm"]}),
        (["--target-modules", "all-linear"], {"target_modules": "all-linear"}),
    ],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_has_the_losses_of_a_plain_peft_loop(
    flags: list[str], options: dict[str, Any], tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    ours = run(
        *(tiny_model, rows_file, tmp_path / "out"),
        *("--lora-rank", "4", "--lora-alpha", "8", *flags),
    )
    model = peft_model(tiny_model, **options)
    theirs = reference_losses(model, reference_batches(tiny_model))
    assert ours == pytest.approx(theirs, abs=1e-4)


def peft_model(model: Path, **options: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(42)
    modules = {"target_modules": ["k_proj", "o_proj", "q_proj", "v_proj"]}
    return get_peft_model(base, LoraConfig(r=4, lora_alpha=8, **(modules | options)))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_plus_has_the_losses_of_peft_s_own_optimizer(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    ours = run(
        *(tiny_model, rows_file, tmp_path / "out", "--lora-rank", "4", "--lora-alpha", "8"),
        *("--loraplus-lr-ratio", "8", "--use-dora"),
    )
    model = peft_model(tiny_model, use_dora=True)
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=8)
    theirs = reference_losses(model, reference_batches(tiny_model), optimizer)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_accumulated_small_batches_equal_one_large_batch(tiny_model: Path, tmp_path: Path) -> None:
    """Rows of very different lengths, so that a mean of means would differ."""
    rows = [{"instruction": f"Say {i}.", "output": "word " * (1 + 7 * (i % 3))} for i in range(24)]
    data = write_rows(tmp_path / "uneven.jsonl", rows)
    large = run(tiny_model, data, tmp_path / "a", "--method", "full", "--batch-size", "4")
    small = run(
        *(tiny_model, data, tmp_path / "b", "--method", "full", "--batch-size", "1"),
        *("--gradient-accumulation-steps", "4"),
    )
    assert small == pytest.approx(large, abs=1e-4)


def test_gradient_checkpointing_changes_no_loss(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    on = run(tiny_model, rows_file, tmp_path / "a", "--gradient-checkpointing")
    off = run(tiny_model, rows_file, tmp_path / "b", "--no-gradient-checkpointing")
    assert on == pytest.approx(off, abs=1e-6)


def test_qlora_stays_close_to_lora(tiny_model: Path, rows_file: Path, tmp_path: Path) -> None:
    lora = run(tiny_model, rows_file, tmp_path / "a")
    qlora = run(tiny_model, rows_file, tmp_path / "b", "--method", "qlora")
    assert qlora == pytest.approx(lora, abs=0.05)
    assert qlora != pytest.approx(lora, abs=1e-5)
