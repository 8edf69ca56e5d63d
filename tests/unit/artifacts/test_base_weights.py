"""A base model is known again by some bytes of its tensors, however it is divided into files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetuning.artifacts.base_weights import BaseWeights

Tensors = dict[str, np.ndarray[Any, Any]]


def tensors(kind: type = np.float32) -> Tensors:
    random = np.random.default_rng(0)
    return {f"layer.{n}": random.normal(size=(40, 30)).astype(kind) for n in range(4)}


def single(folder: Path, held: Tensors) -> BaseWeights:
    folder.mkdir(exist_ok=True)
    save_file(held, folder / "model.safetensors")
    found = BaseWeights.of(folder)
    assert found is not None
    return found


def divided(folder: Path, held: Tensors) -> BaseWeights | None:
    folder.mkdir()
    where = {name: f"model-{n % 2}.safetensors" for n, name in enumerate(held)}
    for part in set(where.values()):
        save_file({n: held[n] for n in held if where[n] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return BaseWeights.of(folder)


def test_the_same_tensors_are_the_same_model_in_one_file_or_in_parts(tmp_path: Path) -> None:
    told = single(tmp_path / "one", tensors())
    assert divided(tmp_path / "two", tensors()) == told
    save_file(tensors(), tmp_path / "one" / "consolidated.safetensors")
    assert BaseWeights.of(tmp_path / "one") == told


def test_a_trained_copy_a_renamed_and_a_missing_tensor_are_another_model(tmp_path: Path) -> None:
    told = single(tmp_path / "base", tensors())
    trained = {name: value + np.float32(1e-4) for name, value in tensors().items()}
    renamed = {name.replace("layer.3", "layer.4"): value for name, value in tensors().items()}
    fewer = {name: value for name, value in tensors().items() if name != "layer.3"}
    swapped = tensors() | {"layer.0": tensors()["layer.1"], "layer.1": tensors()["layer.0"]}
    for other in (trained, renamed, fewer, swapped):
        assert told.is_another(single(tmp_path / "other", other))


def test_what_is_stored_in_another_type_or_not_there_is_no_proof(tmp_path: Path) -> None:
    told = single(tmp_path / "base", tensors())
    assert not told.is_another(single(tmp_path / "half", tensors(np.float16)))
    assert not told.is_another(None)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x04" + bytes(7) + b"nope"]
)
def test_what_cannot_be_read_has_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    assert BaseWeights.of(tmp_path) is None
    assert BaseWeights.of(tmp_path / "nowhere") is None


def test_links_as_in_a_cache_of_the_hub_are_followed(tmp_path: Path) -> None:
    told = single(tmp_path / "blobs", tensors())
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blobs/model.safetensors")
    assert BaseWeights.of(tmp_path / "snapshot") == told


def test_a_model_of_links_with_a_large_index_is_known_again(tmp_path: Path) -> None:
    """As the Hub's cache keeps one of many experts."""
    told = divided(tmp_path / "files", tensors())
    index = tmp_path / "files" / "model.safetensors.index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"metadata": {"x": "x" * 2**20}}))
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "files").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert told is not None
    assert BaseWeights.of(tmp_path / "snapshot") == told
