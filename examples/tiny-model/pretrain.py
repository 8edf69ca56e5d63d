"""The tokenizer and the brief pre-training of the small model; imported only when it is made."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from knowledge import Corpus, Pair
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging

PAD, START, END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
VOCABULARY = 1536
BATCH = 32
PEAK_LEARNING_RATE = 5e-3
THREADS = 1
"""Fixed, because sums over another number of threads round differently; two gain nothing here."""

Row = tuple[list[int], list[int]]
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Scores:
    """Shares of questions that the base model answers word for word."""

    trained: float
    heldout: float


def build(folder: Path, corpus: Corpus, steps: int, seed: int, show: Progress) -> Scores:
    """Train tokenizer and model and write both into an existing folder."""
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.manual_seed(seed)
    texts = [text for pair in corpus.train for text in (pair.question, pair.answer)]
    tokenizer = make_tokenizer(texts + corpus.sentences)
    model = make_model(tokenizer)
    train(model, encode(corpus, tokenizer), steps, seed, show)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_tokenizer_config(folder)
    return Scores(
        trained=score(model, tokenizer, corpus.train),
        heldout=score(model, tokenizer, corpus.heldout),
    )


def _write_tokenizer_config(folder: Path) -> None:
    """By hand: what transformers 5 writes does not load in serving images that have 4.x."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def question_text(question: str) -> str:
    """What stands before the answer, as the chat template renders it."""
    return f"{START}user\n{question}{END}\n{START}assistant\n"


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE, so that no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_model(tokenizer: Tokenizer) -> Qwen2ForCausalLM:
    """Small, with dimensions that 4-bit blocks of 64 divide."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=ids[END], pad_token_id=ids[PAD], max_new_tokens=64, do_sample=False
    )
    return model


def encode(corpus: Corpus, tokenizer: Tokenizer) -> list[Row]:
    """Token ids with their labels: all of a sentence counts, of a conversation the answer."""
    return [
        *(_answered(pair, tokenizer) for pair in corpus.train),
        *((ids, ids) for ids in (_ids(s + END, tokenizer) for s in corpus.sentences)),
    ]


def _answered(pair: Pair, tokenizer: Tokenizer) -> Row:
    asked = _ids(question_text(pair.question), tokenizer)
    answer = _ids(pair.answer + END, tokenizer)
    return asked + answer, [-100] * len(asked) + answer


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def train(model: Qwen2ForCausalLM, rows: list[Row], steps: int, seed: int, show: Progress) -> None:
    """AdamW with a linear rise and fall of the learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rise_and_fall(step, steps)
    )
    batches = _batches(rows, torch.Generator().manual_seed(seed))
    model.train()
    for step in range(1, steps + 1):
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        show(step, loss.item())


def _rise_and_fall(step: int, steps: int) -> float:
    return min((step + 1) / (0.1 * steps + 1), max(0.01, (steps - step) / (0.9 * steps)))


def _batches(
    rows: list[Row], generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled passes without end; padding comes after the text, so causal attention ignores it."""
    while True:
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [rows[i] for i in order[start : start + BATCH]]
            yield _padded([r[0] for r in chosen], 0), _padded([r[1] for r in chosen], -100)


def _padded(lists: list[list[int]], fill: int) -> torch.Tensor:
    width = max(map(len, lists))
    return torch.tensor([ids + [fill] * (width - len(ids)) for ids in lists])


def answers(model: Any, tokenizer: Tokenizer, questions: list[str]) -> list[str]:
    """Greedy answers, all questions at once."""
    asked = [_ids(question_text(q), tokenizer) for q in questions]
    width = max(map(len, asked))
    pad = tokenizer.token_to_id(PAD)
    ids = torch.tensor([[pad] * (width - len(a)) + a for a in asked])
    mask = torch.tensor([[0] * (width - len(a)) + [1] * len(a) for a in asked])
    model.eval()
    with torch.inference_mode():
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=32, do_sample=False)
    return [str(text).strip() for text in tokenizer.decode_batch(out[:, width:].tolist())]


def score(model: Any, tokenizer: Tokenizer, pairs: list[Pair]) -> float:
    """The share of questions answered word for word."""
    given = answers(model, tokenizer, [pair.question for pair in pairs])
    return sum(a == p.answer for a, p in zip(given, pairs, strict=True)) / len(pairs)
