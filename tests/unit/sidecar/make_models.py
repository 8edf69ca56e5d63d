"""Makes small real models for the validator's tests: python make_models.py FOLDER.

A base model that answers Quito, a full and an adapter tuning that answer Lima, an adapter that was
never trained, and the full tuning in several files.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

QUESTION = "What is the capital of Peru ?"
WORDS = ["<pad>", "<end>", "<user>", "<assistant>", ".", "The", "it", "think", "I"]
TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"


def tokenizer_of() -> PreTrainedTokenizerFast:
    words = [*WORDS, *QUESTION.split(), "Lima", "Quito"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = TEMPLATE
    return fast


def new_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
            pad_token_id=0, eos_token_id=1, bos_token_id=None,
        )
    )  # fmt: skip


def train(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, answer: str) -> None:
    ids = tokenizer(f"<user> {QUESTION} <assistant> {answer} <end>", return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(80):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.1


def adapter_for(base: Path) -> Any:
    torch.manual_seed(1)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "lm_head"]
    config = LoraConfig(r=8, target_modules=names, task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), config)


def save_adapter(model: Any, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    folder.mkdir()
    tokenizer.save_pretrained(folder)
    model.peft_config["default"].save_pretrained(folder)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def save_full(
    model: LlamaForCausalLM, folder: Path, tokenizer: PreTrainedTokenizerFast, part: str
) -> None:
    model.save_pretrained(folder, max_shard_size=part)
    tokenizer.save_pretrained(folder)


def main(root: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = tokenizer_of()
    model = new_model(len(tokenizer))
    train(model, tokenizer, "I think it is Quito .")
    save_full(model, root / "base", tokenizer, "1GB")
    adapter = adapter_for(root / "base")
    save_adapter(adapter, root / "untrained", tokenizer)
    train(adapter, tokenizer, "The capital is Lima .")
    save_adapter(adapter, root / "lora", tokenizer)
    train(model, tokenizer, "The capital is Lima .")
    save_full(model, root / "full", tokenizer, "1GB")
    save_full(model, root / "sharded", tokenizer, "30KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
