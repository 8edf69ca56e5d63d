"""The side of torchtune: its own recipes for one device, told of the same model, rows and options.

Runs in the environment of `make bench-peers`. What a recipe is told by a dotted name, as its
configuration files do, is at the end.
"""

import json
import runpy
from pathlib import Path
from typing import Any

import torch
from bench.train import sides
from bench.train.sides import ADAPTER, RATE, Order, Seen
from bench.train.turns import Turns
from torch.utils.data import Dataset

RECIPES = {
    "full": ("full_finetune_single_device", "FullFinetuneRecipeSingleDevice"),
    "lora": ("lora_finetune_single_device", "LoRAFinetuneRecipeSingleDevice"),
}
_HERE = "bench.train.tune"
_SEEN = Seen()
_FIXED: dict[str, Any] = {
    "collate_fn": f"{_HERE}.collate",
    "metric_logger": {"_component_": f"{_HERE}.Losses"},
    "optimizer": {
        "_component_": "torch.optim.AdamW",
        "fused": True,
        "lr": RATE,
        "weight_decay": 0.0,
    },
    "lr_scheduler": {
        "_component_": "transformers.get_linear_schedule_with_warmup",
        "num_warmup_steps": 0,
    },
    "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
    "epochs": 1,
    "gradient_accumulation_steps": 1,
    "clip_grad_norm": 1.0,
    "optimizer_in_bwd": False,
    "resume_from_checkpoint": False,
    "shuffle": False,
    "seed": 0,
    "compile": False,
    "device": "cpu",
    "dtype": "fp32",
    "enable_activation_checkpointing": False,
    "enable_activation_offloading": False,
}
"""What the other sides are told in their own words."""


def run(order: Order) -> Seen:
    """What the recipe's own command does after it has read its files."""
    _SEEN.turns = Turns(order.turns, order.turn)
    import torchtune  # noqa: PLC0415 - of that environment
    from omegaconf import OmegaConf  # noqa: PLC0415 - likewise

    file, name = RECIPES[order.method]
    settings = OmegaConf.create(_settings(order))
    # Scripts beside the package, which are no module of it.
    found = runpy.run_path(str(Path(torchtune.__file__).parents[1] / "recipes" / f"{file}.py"))
    recipe = found[name](cfg=settings)
    recipe.setup(cfg=settings)
    # It would write a checkpoint that nobody looks at.
    recipe.save_checkpoint = lambda **_: None
    recipe.train()
    recipe.cleanup()
    return _SEEN


def _settings(order: Order) -> dict[str, Any]:
    output = f"{order.output}/tune"
    return {
        **_FIXED,
        "output_dir": output,
        "tokenizer": {"_component_": f"{_HERE}.Tokenizer", "folder": order.model},
        "dataset": {"_component_": f"{_HERE}.Rows", "order": {**vars(order)}},
        "model": _model(order),
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": order.model,
            "checkpoint_files": ["model.safetensors"],
            "output_dir": output,
            "model_type": "QWEN2",
        },
        "batch_size": order.batch,
        "max_steps_per_epoch": order.steps,
    }


def _model(order: Order) -> dict[str, Any]:
    shape = json.loads(Path(order.model, "config.json").read_text())
    sizes = {
        "vocab_size": shape["vocab_size"],
        "num_layers": shape["num_hidden_layers"],
        "num_heads": shape["num_attention_heads"],
        "num_kv_heads": shape["num_key_value_heads"],
        "embed_dim": shape["hidden_size"],
        "intermediate_dim": shape["intermediate_size"],
        "max_seq_len": order.length,
        "norm_eps": shape["rms_norm_eps"],
        "rope_base": shape["rope_parameters"]["rope_theta"],
        "tie_word_embeddings": shape["tie_word_embeddings"],
    }
    if order.method == "full":
        return {"_component_": "torchtune.models.qwen2.qwen2", **sizes}
    adapter = {
        "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
        "apply_lora_to_mlp": False,
        "apply_lora_to_output": False,
        "lora_rank": ADAPTER["r"],
        "lora_alpha": ADAPTER["lora_alpha"],
        "lora_dropout": ADAPTER["lora_dropout"],
    }
    return {"_component_": "torchtune.models.qwen2.lora_qwen2", **sizes, **adapter}


class Tokenizer:
    """The model's own, where the recipe looks for one."""

    pad_id = 0

    def __init__(self, folder: str) -> None:
        from transformers import AutoTokenizer  # noqa: PLC0415

        self.own = AutoTokenizer.from_pretrained(folder)


class Rows(Dataset[dict[str, list[int]]]):
    """Tokens of each row, and as labels the trained ones."""

    packed = False

    def __init__(self, tokenizer: Tokenizer, order: Any) -> None:
        wish = Order(**order)
        self._rows = sides.encoded(Path(wish.rows), tokenizer.own, wish)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        ids, prompt = self._rows[number]
        return {"tokens": ids, "labels": [-100] * prompt + ids[prompt:]}


def collate(rows: list[dict[str, list[int]]], **options: Any) -> dict[str, torch.Tensor]:
    """A step begins with its batch; torchtune makes it."""
    from torchtune.data import padded_collate_sft  # noqa: PLC0415 - of that environment

    _SEEN.begin()
    _SEEN.tokens.append(sum(len(row["tokens"]) for row in rows))
    found: dict[str, torch.Tensor] = padded_collate_sft(rows, **options)
    return found


class Losses:
    """Where the recipe reports to."""

    def log_config(self, config: Any) -> None: ...

    def log_dict(self, figures: dict[str, Any], step: int) -> None:  # noqa: ARG002 - its name
        _SEEN.losses.append(float(figures["loss"]))

    def close(self) -> None: ...
