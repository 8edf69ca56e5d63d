"""The trained model and the files that describe it, put in place so that none is half there."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from finetuning.api.hyperparameters import Method, ReportTo
from finetuning.api.run_config import RunConfig
from finetuning.artifacts import (
    ADAPTER_CONFIG,
    AIM_PROFILE,
    CHAT_TEMPLATE,
    CHECKPOINT_PREFIX,
    CHECKPOINTS_DIR,
    DATA_REPORT,
    GENERATION_CONFIG,
    GPUS_FILE,
    LOSS_HISTORY,
    MANIFEST,
    MODEL_CONFIG,
    PERFORMANCE_HISTORY,
    RUN_INFO,
    SAMPLES,
    STATE_DIR,
    STATE_FILE,
    TOKENIZER_FILES,
    TRACKING_DIR,
    TRAINING_INFO,
)
from finetuning.artifacts.files import (
    UnreadableFileError,
    read_json,
    sync_directory,
    write_atomic,
    write_json,
)
from finetuning.artifacts.manifest import read_manifest, seal, sha256_of
from finetuning.base.hub import base_name
from finetuning.base.storage import finish_files, space_for

STAGING = ".tmp-result"
WEIGHT_PATTERNS = (
    "model*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
)
_ABOUT_THE_RUN = (TRAINING_INFO, AIM_PROFILE, LOSS_HISTORY, PERFORMANCE_HISTORY, DATA_REPORT)
CONFIG_NAMES = (MODEL_CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG)


def write_weights(model: Any, config: RunConfig, folder: Path) -> None:
    """The trained weights and their configuration: an adapter, or the whole model."""
    weights_writer(model, config, copied=False)(folder)


def weights_writer(
    model: Any, config: RunConfig, *, copied: bool, state: dict[str, Any] | None = None
) -> Callable[[Path], None]:
    """What writes them into a folder; a copied one keeps the weights as they are now.

    `state` has the trained weights of a model that holds only its part of them.
    """
    if config.method is Method.FULL:
        if state is None and copied:
            state = _copy_of(model.state_dict())
        return partial(model.save_pretrained, state_dict=state)
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - the model is peft's already

    tensors = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    # A head that is tied to the embeddings shares their memory, which the format has no words for.
    apart = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}
    return partial(_write_adapter, apart, _adapter_config(model, config))


def _write_adapter(tensors: dict[str, Any], settings: Any, folder: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 - loads torch

    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    write_json(folder / ADAPTER_CONFIG, settings)


def _copy_of(state: dict[str, Any]) -> dict[str, Any]:
    """On the host; what shares memory goes on sharing it, so that it is written once."""
    copies: dict[Any, Any] = {}
    for tensor in state.values():
        key = tensor.data_ptr(), tensor.shape
        if key not in copies:
            copies[key] = tensor.detach().to("cpu", copy=True)
    return {name: copies[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def publish(
    output: Path,
    config: RunConfig,
    model: Any,
    base: Path,
    chat_template: str | None,
) -> list[str]:
    """Write model and tokenizer beside the output, then move them in; the names of the files.

    Raises:
        StorageFullError: an earlier result is untouched then.
    """
    staging = output / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with space_for("the trained model", output):
            staging.mkdir()
            write_weights(model, config, staging)
            _copy_from_base(base, staging, config.method)
            if chat_template is not None:
                write_atomic(staging / CHAT_TEMPLATE, chat_template.encode())
            names = finish_files(staging)
            (output / MANIFEST).unlink(missing_ok=True)
            for name in names:
                (staging / name).replace(output / name)
            sync_directory(output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return names


def describe(
    output: Path, names: Iterable[str], info: dict[str, Any], profile: dict[str, Any]
) -> str:
    """Write training_info and profile, then seal it all; the manifest's sha256."""
    with space_for(TRAINING_INFO, output):
        write_json(output / TRAINING_INFO, info)
        write_json(output / AIM_PROFILE, profile)
        (output / RUN_INFO).unlink(missing_ok=True)
        asked = {SAMPLES} if (output / SAMPLES).is_file() else set()
        path = seal(output, {*names, *_ABOUT_THE_RUN, *asked})
    return sha256_of(path)


def finished_info(output: Path) -> dict[str, Any] | None:
    """training_info.json of a finished run in this folder, or None when there is none."""
    try:
        manifest = read_manifest(output)
        complete = all(
            (output / name).is_file() and (output / name).stat().st_size == entry.size
            for name, entry in manifest.files.items()
        )
        info = read_json(output / TRAINING_INFO)
    except (OSError, UnreadableFileError):
        return None
    return info if complete and isinstance(info, dict) else None


def remove_run(output: Path) -> None:
    """Delete what an earlier run wrote here, and nothing else.

    Files of a common name, such as config.json, are a run's own only where its manifest says so,
    or where its history shows that a run was stopped while it wrote them.
    """
    try:
        own = list(read_manifest(output).files)
    except (OSError, UnreadableFileError):
        own = _result_files(output) if (output / LOSS_HISTORY).exists() else []
    shutil.rmtree(output / STAGING, ignore_errors=True)
    _remove_tracking(output / TRACKING_DIR)
    for checkpoint in (output / CHECKPOINTS_DIR).glob(f"*{CHECKPOINT_PREFIX}*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    live = (f"{STATE_DIR}/{name}" for name in (STATE_FILE, GPUS_FILE))
    for name in (*own, MANIFEST, RUN_INFO, *_ABOUT_THE_RUN, SAMPLES, *live):
        (output / name).unlink(missing_ok=True)


def _remove_tracking(folder: Path) -> None:
    """What the trackers wrote, each beside the file that says so."""
    for name in ReportTo:
        if (folder / f"{name}.json").is_file():
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f"{name}.json").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def foreign_files(output: Path) -> list[str]:
    """Names that the result would take and that no earlier run's manifest owns."""
    if (output / MANIFEST).exists() or (output / LOSS_HISTORY).exists():
        return []
    return _result_files(output)


def _result_files(output: Path) -> list[str]:
    patterns = (*CONFIG_NAMES, *TOKENIZER_FILES, *WEIGHT_PATTERNS)
    return sorted(path.name for pattern in patterns for path in output.glob(pattern))


def _copy_from_base(source: Path, target: Path, method: Method) -> None:
    """Byte for byte: what this version of transformers writes does not load in older ones."""
    for name in _of_the_base(source, method):
        shutil.copyfile(source / name, target / name)


def _of_the_base(source: Path, method: Method) -> list[str]:
    whole = (GENERATION_CONFIG,) if method is Method.FULL else ()
    return [name for name in (*TOKENIZER_FILES, *whole) if (source / name).is_file()]


def digests_of_copies(source: Path, method: Method) -> dict[str, str]:
    """sha256 of each file that a result has from its base model."""
    return {name: sha256_of(source / name) for name in _of_the_base(source, method)}


def _adapter_config(model: Any, config: RunConfig) -> Any:
    """Sorted, so that the same run writes the same bytes."""
    settings = model.peft_config["default"].to_dict()
    settings |= {
        "base_model_name_or_path": base_name(config),
        "revision": config.revision,
        "inference_mode": True,
    }
    plain = {
        key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()
    }
    return json.loads(json.dumps(plain, sort_keys=True))
