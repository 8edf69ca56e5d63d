"""Every fault as one small change to the folder of a healthy run, and who must see it."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tests.mutants.runs import reseal
from tests.mutants.tensors import Tensors, with_tensors

LOSS, OUTPUT = "training_loss", "model_output"
FILES, PROFILE = "checkpoint_integrity", "aim_profile"
ADAPTER = "adapter_model.safetensors"
MODEL = "model.safetensors"
_SOME_WORD, _FIRST_WORD = 1000, 300
"""Tokens that are text, not a single byte."""

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    """What is done to a folder, and the check and reason that must come of it."""

    name: str
    check: str
    reason: str
    spoil: Spoil
    run: str = "lora, all-linear, evaluated"
    sealed: bool = True
    """Whether the manifest is written anew, as if the trainer itself had made the fault."""
    loads_model: bool = False
    held_out: bool = True
    """Whether rows may be compared: where they are, they are the first to tell of most damage."""
    told_nothing: bool = False
    """Whether the model is judged by the default prompt alone, without words or rows."""
    told_rows: bool = False
    """The same with held-out rows, without a limit on what they may cost."""
    on_another_base: bool = False
    or_reason: str = ""
    """What a model without sense says follows from how the processor rounds."""

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.reason, self.or_reason)))

    def apply(self, folder: Path) -> None:
        self.spoil(folder)
        if self.sealed:
            reseal(folder)


# Loss histories


def losses(change: Callable[[list[float]], list[Any]]) -> Spoil:
    """Other losses in the history, and a description that agrees with them."""

    def spoil(folder: Path) -> None:
        path = folder / "loss_history.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        changed = change([line["loss"] for line in lines])
        told = [{**line, "loss": loss} for line, loss in zip(lines, changed, strict=True)]
        path.write_text("".join(json.dumps(line) + "\n" for line in told))
        finite = [loss for loss in changed if isinstance(loss, float)]
        mean = sum(finite) / len(finite)
        edit(folder, "training_info.json", "results", train_loss=mean, final_loss=finite[-1])

    return spoil


def jumped(losses: list[float]) -> list[Any]:
    """After three steps to three times as much, and down from there to a little more."""
    highest, rest = max(losses[:3]), range(len(losses) - 3)
    return [*losses[:3], *(highest * (1.1 + 2 * 0.85**n) for n in rest)]


def without_lines(start: int, end: int) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "loss_history.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:start] + lines[end:]))

    return spoil


def garbled_line(folder: Path) -> None:
    path = folder / "loss_history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\xff" + lines[3][1:]
    path.write_bytes(b"".join(lines))


def eval_nan(folder: Path) -> None:
    path = folder / "loss_history.jsonl"
    path.write_text(path.read_text().replace('"eval_loss": ', '"eval_loss": "NaN", "was": ', 1))


# Descriptions


def edit(folder: Path, name: str, part: str = "", **fields: Any) -> None:
    path = folder / name
    data = json.loads(path.read_text())
    (data[part] if part else data).update(fields)
    path.write_text(json.dumps(data))


def edited(name: str, part: str = "", **fields: Any) -> Spoil:
    return lambda folder: edit(folder, name, part, **fields)


def without(name: str, field: str) -> Spoil:
    def spoil(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        del data[field]
        (folder / name).write_text(json.dumps(data))

    return spoil


# Files


def removed(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def written(name: str, data: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def cut(name: str, keep: float) -> Spoil:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return spoil


def flipped(name: str, place: float) -> Spoil:
    """One bit of one byte."""

    def spoil(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(len(data) * place)] ^= 0x10
        (folder / name).write_bytes(data)

    return spoil


def linked_out(folder: Path) -> None:
    outside = folder.with_name(f"{folder.name}-outside.safetensors")
    shutil.move(folder / ADAPTER, outside)
    (folder / ADAPTER).symlink_to(outside)


def piped(folder: Path) -> None:
    os.mkfifo(folder / "fifo.json")


def pickled(folder: Path) -> None:
    (folder / ADAPTER).rename(folder / "adapter_model.bin")


def pickle_under_a_false_name(folder: Path) -> None:
    (folder / ADAPTER).write_bytes(b"PK\x03\x04" + bytes(4096))


def foreign_weights(folder: Path) -> None:
    shutil.copyfile(folder / ADAPTER, folder / MODEL)


def checkpoint(spoil: Spoil, *, sealed: bool = True) -> Spoil:
    """The same in the newest checkpoint."""

    def inside(folder: Path) -> None:
        newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name[11:]))
        spoil(newest)
        if sealed:
            reseal(newest)

    return inside


def everywhere(spoil: Spoil) -> Spoil:
    """The same in the result and in every checkpoint, so that they agree."""

    def inside(folder: Path) -> None:
        spoil(folder)
        for each in (folder / "checkpoints").iterdir():
            spoil(each)
            reseal(each)

    return inside


def short_sighted(folder: Path) -> None:
    """Of 32 tokens before each: answers to short questions stay as they are."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["layer_types"] = ["sliding_attention"] * data["num_hidden_layers"]
    window = {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}
    path.write_text(json.dumps(data | window))


def grown_optimizer(folder: Path) -> None:
    def grow(tensors: Tensors) -> None:
        name = next(name for name in tensors if name.endswith(".exp_avg"))
        tensors[name] = np.concatenate([tensors[name], tensors[name]])

    with_tensors(folder / "optimizer.safetensors", grow)


# Tensors


def tensors(change: Callable[[Tensors], None], name: str = ADAPTER) -> Spoil:
    return lambda folder: with_tensors(folder / name, change)


def in_bf16(change: Callable[[str, np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Spoil:
    """A whole model in bf16, which numpy has not, as the trainer makes it; changed before that."""

    def spoil(folder: Path) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        data = b""
        for name, values in load_file(folder / MODEL).items():
            bits = change(name, values.copy()).astype("<f4").view("<u4").astype("<u8")
            part = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
            place = [len(data), len(data) + len(part)]
            header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": place}
            data += part
        text = json.dumps(header).encode()
        (folder / MODEL).write_bytes(struct.pack("<Q", len(text)) + text + data)

    return spoil


DOWN = "model.layers.1.mlp.down_proj.weight"


def scaled_matrix(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if name == DOWN:
        values *= np.float32(0.7)
    return values


def three_per_cent_of_noise(_name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(0).normal(0, 0.03 * values.std(), values.shape)
    values += noise.astype(values.dtype)
    return values


def eight_exponents(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if name == DOWN:
        values.reshape(-1).view("<u4")[:64:8] ^= 0x0100_0000
    return values


def one_nan_row(tensors: Tensors) -> None:
    tensors[max(name for name in tensors if tensors[name].ndim > 1)][0, :] = np.nan


def one_infinity(tensors: Tensors) -> None:
    tensors[min(tensors)].reshape(-1)[-1] = -np.inf


def zero_second_matrices(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if "lora_B" in name:
            value[:] = 0


def renamed(tensors: Tensors) -> None:
    """As from a model that is wrapped once more."""
    for name in list(tensors):
        tensors[name.replace("model.model.", "model.model.model.", 1)] = tensors.pop(name)


def turned(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if "lora_B" in name:
            tensors[name] = -value


def halved(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if "lora_B" in name:
            tensors[name] = value / 2


def without_one(tensors: Tensors) -> None:
    del tensors[min(name for name in tensors if "lora_A" in name)]


def narrower(tensors: Tensors) -> None:
    for name in tensors:
        tensors[name] = tensors[name][:4] if "lora_A" in name else tensors[name][:, :4].copy()


def changed_weight(tensors: Tensors) -> None:
    tensors[min(tensors)].reshape(-1)[0] += 1


def swapped_kinds(tensors: Tensors) -> None:
    one, two = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
    tensors[one], tensors[two] = tensors[two], tensors[one]


def without_a_layer(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        del tensors[name]


def without_one_matrix(tensors: Tensors) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def shards(folder: Path) -> tuple[str, str]:
    """Cut the whole model into two parts with an index, as save_pretrained does."""
    tensors = load_file(folder / MODEL)
    names = sorted(tensors)
    parts = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    where = {name: parts[n % 2] for n, name in enumerate(names)}
    for part in parts:
        held = {name: tensors[name] for name in names if where[name] == part}
        save_file(held, folder / part, metadata={"format": "pt"})
    total = sum(value.nbytes for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / MODEL).unlink()
    return parts[0], parts[1]


def sharded(spoil: Callable[[Path, str, str], None]) -> Spoil:
    return lambda folder: spoil(folder, *shards(folder))


def stale_index(folder: Path, one: str, two: str) -> None:
    index = folder / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    name = next(iter(data["weight_map"]))
    data["weight_map"][name] = two if data["weight_map"][name] == one else one
    index.write_text(json.dumps(data))


def small_index(folder: Path, one: str, two: str) -> None:
    edit(folder, "model.safetensors.index.json", "metadata", total_size=1024)


def overlapping(folder: Path) -> None:
    """A header in which two tensors share their bytes."""
    path = folder / ADAPTER
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    one, two = [name for name in header if name != "__metadata__"][:2]
    header[two]["data_offsets"] = header[one]["data_offsets"]
    header[two]["shape"] = header[one]["shape"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


# What the trainer has seen


def foreign_reference(folder: Path) -> None:
    told = json.loads((folder / "training_info.json").read_text())["reference"]["losses"]
    edit(folder, "training_info.json", "reference", losses=" ".join(reversed(told.split())))


def without_base_losses(folder: Path) -> None:
    edit(folder, "training_info.json", "reference", base_losses="")


# Tokenizers


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def foreign_tokenizer(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    kept, moved = names[:3], names[3:]
    data["model"]["vocab"] = {name: n for n, name in enumerate([*kept, *moved[1:], moved[0]])}
    (folder / "tokenizer.json").write_text(json.dumps(data))


def larger_tokenizer(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    token = {**data["added_tokens"][0], "id": 4000, "content": "<|new|>"}
    data["added_tokens"].append(token)
    (folder / "tokenizer.json").write_text(json.dumps(data))


# What only a loaded model shows


def silent(tensors: Tensors) -> None:
    """All logits alike, so that the first token, which ends a text, is the answer."""
    tensors["model.norm.weight"][:] = 0


def cyclic(folder: Path, length: int) -> None:
    """A model that only looks at the last token and goes round in a circle of this many."""
    circle = range(_SOME_WORD, _SOME_WORD + length)
    successions(
        folder, circle[0], {token: token - 1 for token in circle[1:]} | {circle[0]: circle[-1]}
    )


def long_winded(folder: Path, length: int) -> None:
    """A model that says this many words and ends."""
    words = range(_FIRST_WORD, _FIRST_WORD + length)
    end = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    end = end[0] if isinstance(end, list) else end
    successions(folder, words[0], {token: token - 1 for token in words[1:]} | {end: words[-1]})
    told = json.loads((folder / "training_info.json").read_text())
    told["reference"] = None
    (folder / "training_info.json").write_text(json.dumps(told))


def successions(folder: Path, first: int, before: dict[int, int]) -> None:
    """A model in which each token comes after one other, the first after a prompt's end."""
    newline = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["Ċ"]

    def change(tensors: Tensors) -> None:
        for name, value in tensors.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value[:] = 0
        tensors["model.norm.weight"][:] = 1
        table = tensors["model.embed_tokens.weight"]
        table = table / np.linalg.norm(table, axis=1, keepdims=True)
        head = np.zeros_like(table)
        for token, last in before.items():
            head[token] = table[last]
        head[first] += table[newline]  # Every prompt ends with it.
        tensors["lm_head.weight"] = head

    with_tensors(folder / MODEL, change)
    edit(folder, "config.json", tie_word_embeddings=False)


def flipped_exponents(tensors: Tensors) -> None:
    """One bit of the exponent in some numbers of one matrix: 256 times as large, or as small."""
    raw = tensors["model.layers.0.mlp.down_proj.weight"].view(np.uint32).reshape(-1)
    raw[::2] ^= 0x0400_0000


def noisy(tensors: Tensors) -> None:
    random = np.random.default_rng(0)
    for name, value in tensors.items():
        if value.ndim > 1:
            noise = random.normal(0, 4 * value.std(), value.shape)
            tensors[name] = value + noise.astype(value.dtype)
