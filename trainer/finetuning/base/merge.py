"""The base model with a run's adapter in it: a complete model, which any server loads."""

import logging
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.artifacts import MANIFEST, TOKENIZER_FILES
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.failures import first_line
from finetuning.artifacts.files import UnreadableFileError, read_json, write_json
from finetuning.artifacts.manifest import problem_with, seal, sha256_of
from finetuning.artifacts.spared import load
from finetuning.base.errors import ModelError
from finetuning.base.hub import CONFIG_FILES, read_settings, weights_folder
from finetuning.base.model import load_whole
from finetuning.base.storage import finish_files, replace_folder, space_for

MERGE_INFO = "merge_info.json"
SHARD_SIZE = "5GB"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """Where the base model is: a folder, or an id and perhaps a revision on the Hub."""

    model_id: str
    revision: str | None = None
    model_path: str | None = None
    weights: BaseWeights | None = None
    """Those that the adapter was trained on, where that is known."""


def merge(run: Path, target: Path, base: Base) -> None:
    """Write the merged model to `target`, sealed; one that is there already is kept.

    The weights keep the base model's format, its settings are copied byte for byte.

    Raises:
        ModelError: the base cannot be found or loaded, or the adapter is not for it.
        StorageFullError: no space left; nothing half done is left.
    """
    made_of = {
        "adapter_manifest_sha256": sha256_of(run / MANIFEST),
        "base_model": base.model_id,
        "base_revision": base.revision,
    }
    if _is_there(target, made_of):
        log.info("%s has the merged model already.", target)
        return
    began = time.monotonic()
    temporary = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with space_for("the merged model", target.parent):
            temporary.mkdir(parents=True)
            _write(run, temporary, base)
            write_json(temporary / MERGE_INFO, made_of)
            seal(temporary, finish_files(temporary))
            replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("Merged in %.0f s.", time.monotonic() - began)


def _is_there(target: Path, made_of: dict[str, Any]) -> bool:
    try:
        return read_json(target / MERGE_INFO) == made_of and problem_with(target) is None
    except UnreadableFileError:
        return False


def _write(run: Path, folder: Path, base: Base) -> None:
    load("transformers.modeling_utils", "peft")
    source = weights_folder(base)
    _refuse_quantized(source)
    _refuse_others(source, base)
    model = _merged(run, load_whole(source))
    model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    # What this version of transformers writes does not load in older ones.
    for name in CONFIG_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    for name in TOKENIZER_FILES:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)


def _refuse_quantized(source: Path) -> None:
    """Raises ModelError where the sum of weights and adapter could not be stored as the base is."""
    if read_settings(source, "config.json").get("quantization_config"):
        raise ModelError(
            f"{source}: its weights are quantised already, so that no adapter can be merged into "
            "them; give the model in 16 bit that it was made of with --base-model"
        )


def _refuse_others(source: Path, base: Base) -> None:
    """Raises ModelError for weights that the adapter was not trained on, nor anybody judged."""
    if base.weights is not None and base.weights.is_another(BaseWeights.of(source)):
        raise ModelError(
            f"{source}: has other weights than the run was trained on; put those back, or name "
            "them with --base-model (and --base-revision)"
        )


def _merged(run: Path, model: Any) -> Any:
    from peft import PeftModel  # noqa: PLC0415 - takes seconds

    try:
        with warnings.catch_warnings():
            # peft asks for an attribute that transformers renames.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            tuned = PeftModel.from_pretrained(model, run, torch_device="cpu")
        return tuned.merge_and_unload(safe_merge=True)
    except Exception as error:
        raise ModelError(
            f"{run}: its adapter cannot be merged: {first_line(error)}; check that the base model "
            "is the one that it was trained on"
        ) from error
