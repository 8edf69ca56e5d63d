"""The losses of each step against TRL's trainers: same model, rows, order, seed and options.

Adapters are made by peft called plainly and begin with the same weights. The rows are given in the
order in which this trainer takes them, since the two draw their permutations differently.
"""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.conftest import PAIRS, PLACES, write_rows
from tests.unit.trainer.test_reference_loop import losses

from finetuning.base.app import main

pytestmark = [
    pytest.mark.training,
    # Those of TRL, peft and their dependencies, about themselves.
    pytest.mark.filterwarnings("ignore"),
]

STEPS = 8
SEED = 42
ROWS = [
    {"prompt": f"{place} is", "completion": f" on the map{', far away' * (n % 4)}, number {n}."}
    for n, place in enumerate(PLACES * 4)
]
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
COMMON: dict[str, Any] = {
    "learning_rate": 5e-3,
    "warmup_steps": 2,
    "max_steps": STEPS,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "gradient_accumulation_steps": 1,
}

DPO: dict[str, Any] = {"learning_rate": 1e-3, "max_steps": 5}


def flags(options: dict[str, Any]) -> list[str]:
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return [word for pair in pairs for word in pair]


def ours(model: Path, output: Path, rows: list[dict[str, str]], *more: str) -> list[float]:
    data = write_rows(output.with_suffix(".jsonl"), rows)
    command = [
        *("--model-id", str(model), "--dataset-path", str(data), "--output-dir", str(output)),
        *("--no-fp16", "--no-gradient-checkpointing", "--seed", str(SEED)),
    ]
    assert main([*command, *more]) == 0
    return losses(output)


def in_our_order(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of the first epoch."""
    order = np.random.default_rng([SEED, 1, 0]).permutation(len(rows)).tolist()
    return [rows[i] for i in order]


def plain_model(folder: Path, *, adapter: dict[str, Any] | None, quantized: bool = False) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="float32",
    )
    base = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        quantization_config=four_bit if quantized else None,
        device_map={"": "cpu"} if quantized else None,
    )
    if adapter is None:
        return base
    modules = ["k_proj", "o_proj", "q_proj", "v_proj"]
    torch.manual_seed(SEED)
    return get_peft_model(
        base, LoraConfig(target_modules=modules, task_type="CAUSAL_LM", **adapter)
    )


def trl_losses(model: Any, folder: Path, output: Path, options: dict[str, Any]) -> list[float]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    settings = SFTConfig(
        output_dir=str(output),
        use_cpu=True,
        bf16=False,
        seed=SEED,
        per_device_train_batch_size=4,
        logging_steps=1,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(in_our_order(ROWS)),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 3, "max_steps": 4},  # The last has a third.
    "cosine": {"lr_scheduler_type": "cosine", "weight_decay": 0.3, "max_grad_norm": 0.2},
    "inverse_sqrt": {"lr_scheduler_type": "inverse_sqrt", "warmup_steps": 0},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_losses_are_those_of_trl_in_32_bit(
    method: str, variant: str, tiny_model: Path, tmp_path: Path
) -> None:
    options = COMMON | VARIANTS[variant]
    adapter = LORA if method == "lora" else None
    words = ["--method", method, "--batch-size", "4", *flags(options)]
    mine = ours(tiny_model, tmp_path / "ours", ROWS, *words, *_adapter_flags(adapter))
    theirs = trl_losses(
        plain_model(tiny_model, adapter=adapter), tiny_model, tmp_path / "trl", options
    )
    assert len(theirs) == options["max_steps"]
    assert mine == pytest.approx(theirs, abs=1e-4)
    assert mine[-1] < mine[0] - 0.01


def test_what_dora_trains_decays_as_with_trl(tiny_model: Path, tmp_path: Path) -> None:
    options = COMMON | {"weight_decay": 0.9, "learning_rate": 5e-2, "max_steps": 4}
    words = ["--batch-size", "4", *flags(options), *_adapter_flags(LORA), "--use-dora"]
    mine = ours(tiny_model, tmp_path / "ours", ROWS, *words)
    model = plain_model(tiny_model, adapter={**LORA, "use_dora": True})
    assert mine == pytest.approx(trl_losses(model, tiny_model, tmp_path / "trl", options), abs=1e-4)


def test_losses_of_qlora_are_close_to_those_of_trl(tiny_model: Path, tmp_path: Path) -> None:
    """TRL trains the adapter in bfloat16; here it stays in 32 bit."""
    words = ["--method", "qlora", "--batch-size", "4", *flags(COMMON), *_adapter_flags(LORA)]
    mine = ours(tiny_model, tmp_path / "ours", ROWS, *words)
    model = plain_model(tiny_model, adapter=LORA, quantized=True)
    theirs = trl_losses(model, tiny_model, tmp_path / "trl", COMMON)
    assert mine == pytest.approx(theirs, abs=1e-2)


def trl_dpo_losses(model: Any, folder: Path, output: Path, start: Any, **more: Any) -> list[float]:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    settings = DPOConfig(
        output_dir=str(output),
        use_cpu=True,
        bf16=False,
        seed=SEED,
        beta=0.3,
        per_device_train_batch_size=4,
        logging_steps=1,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **(COMMON | DPO | more),
    )
    trainer = DPOTrainer(
        model=model,
        ref_model=start,
        args=settings,
        train_dataset=Dataset.from_list(in_our_order(PAIRS)),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_losses_of_dpo_are_those_of_trl_in_32_bit(
    method: str, tiny_model: Path, tmp_path: Path
) -> None:
    adapter = LORA if method == "lora" else None
    words = ["--method", method, "--objective", "dpo", "--beta", "0.3", "--batch-size", "4"]
    words += [*flags(COMMON | DPO), *_adapter_flags(adapter)]
    mine = ours(tiny_model, tmp_path / "ours", PAIRS, *words)
    start = None if adapter else plain_model(tiny_model, adapter=None)
    model = plain_model(tiny_model, adapter=adapter)
    theirs = trl_dpo_losses(model, tiny_model, tmp_path / "trl", start)
    assert mine == pytest.approx(theirs, abs=1e-4)
    assert mine[0] == pytest.approx(math.log(2), abs=1e-6)
    assert mine[-1] < mine[0] - 0.01


def test_losses_of_dpo_are_those_of_trl_with_more_than_an_adapter(
    tiny_model: Path, tmp_path: Path
) -> None:
    """What is compared with is the start in all of it: head, embeddings and lengths of weights."""
    options = COMMON | DPO | {"weight_decay": 0.5}
    words = ["--objective", "dpo", "--beta", "0.3", "--batch-size", "4", *flags(options)]
    words += [*_adapter_flags(LORA), "--use-dora", "--use-rslora", "--modules-to-save", "lm_head"]
    mine = ours(tiny_model, tmp_path / "ours", PAIRS, *words)
    more = {"use_dora": True, "use_rslora": True, "modules_to_save": ["lm_head"]}
    model = plain_model(tiny_model, adapter=LORA | more | {"ensure_weight_tying": True})
    theirs = trl_dpo_losses(model, tiny_model, tmp_path / "trl", None, weight_decay=0.5)
    assert mine == pytest.approx(theirs, abs=1e-4)
    assert mine[0] == pytest.approx(math.log(2), abs=1e-6)
    assert mine[-1] < mine[0] - 0.1


def _adapter_flags(adapter: dict[str, Any] | None) -> list[str]:
    names = {"r": "lora_rank"}
    return flags({names.get(name, name): value for name, value in (adapter or {}).items()})
