"""The end of a run: training_info.json, the profile, and the last words."""

import hashlib
import math
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from finetuning.api.hyperparameters import Method, Precision
from finetuning.artifacts import GENERATION_CONFIG, LOSS_HISTORY, RUN_INFO
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.files import write_json
from finetuning.artifacts.history import read_history
from finetuning.artifacts.manifest import sha256_of
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.artifacts.reference import Reference
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.aim_profile import ModelShape, aim_profile, kv_bytes_per_token
from finetuning.base.checkpoints import path_of
from finetuning.base.data import Data
from finetuning.base.device import Device, dtype_of
from finetuning.base.hub import local_folder, read_settings
from finetuning.base.last_words import result_of
from finetuning.base.plan import Plan
from finetuning.base.reference import reference_of
from finetuning.base.results import describe, digests_of_copies, publish
from finetuning.base.run import Run
from finetuning.base.storage import space_for

LIBRARIES = ("torch", "transformers", "peft", "safetensors")
_DTYPES = {"float32": Precision.FP32, "float16": Precision.FP16, "bfloat16": Precision.BF16}


@dataclass(frozen=True)
class Ending:
    """All that is told about a finished run."""

    run: Run
    state: TrainerState
    plan: Plan
    data: Data
    device: Device
    started_at: float


def write_result(ending: Ending, model: Any, tokenizer: Any) -> TrainingResult:
    """Put the trained model and its description in place; raises StorageFullError."""
    config, settings = ending.run.config, ending.run.settings
    precision = saved_precision(settings)
    template = None if _has_template(settings) else tokenizer.chat_template
    with _stored_in(precision, model) if config.method is Method.FULL else nullcontext():
        shape = _shape(model, config.method, precision, ending.data.limit)
        names = publish(ending.run.output, config, model, settings, template)
    reference = reference_of(model, tokenizer, ending.device, ending.data.outline.places)
    added = {"chat_template": _digest(template), "generation_config": _own_settings(ending)}
    info = training_info(ending, shape, reference, added)
    profile = aim_profile(config, info["model_id"], shape, info["results"])
    digest = describe(ending.run.output, names, info, profile)
    result = result_of(ending.state, RunState.FINISHED, path_of(ending.state.global_step))
    told = {"manifest_sha256": digest, "planned_steps": ending.plan.total_steps}
    return result.model_copy(update=told)


@contextmanager
def _stored_in(precision: Precision, model: Any) -> Iterator[None]:
    """Its weights in this format, and then in 32 bit again, with what they lost on the way.

    What a model computes by itself, such as the angles of its positions, loses nothing: whoever
    loads it computes that anew.
    """
    own = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    model.to(dtype_of(precision))
    yield
    model.float()
    for module, name, buffer in own:
        setattr(module, name, buffer)


def training_info(
    ending: Ending,
    shape: ModelShape,
    reference: Reference | None,
    added: Mapping[str, str | None],
) -> dict[str, Any]:
    """What was trained, how, on what, with which outcome.

    `added` has the digests of files that were written where the base model has none.
    """
    about = run_info(ending.run, ending.device, ending.started_at)
    base = ending.state.base_weights or BaseWeights.of(ending.run.settings)
    return {
        **about,
        "output_dir": ending.run.config.output_dir,
        "model_path": ending.run.config.output_dir,
        "dataset": about["dataset"] | {"rows": len(ending.data.rows.rows)} | ending.data.facts(),
        "results": _results(ending, shape),
        # Null and not left out: whoever validates the run knows then that nothing was lost.
        "reference": reference.model_dump() if reference else None,
        "base_weights": base.model_dump() if base else None,
        "base_files_sha256": digests_of_copies(ending.run.settings, ending.run.config.method),
        **{f"added_{name}_sha256": digest for name, digest in added.items()},
        "finished_at": time.time(),
    }


def run_info(run: Run, device: Device, started_at: float) -> dict[str, Any]:
    """What is known of a run before its model is loaded."""
    config = run.config
    evaluation = config.dataset.eval_source
    return {
        "model_id": run.facts["model_id"],
        # The id alone may be nothing that can be found again.
        **({"base_model_path": str(local_folder(config))} if config.model_path else {}),
        "job_name": config.job_name,
        "method": config.method.value,
        "training_config": run.facts,
        "dataset": {
            "path": config.dataset.path,
            "sha256": run.facts["dataset_sha256"],
            "rows": len(run.rows.train.rows.rows),
            **({"eval_path": evaluation} if evaluation else {}),
        },
        "environment": {
            "device": device.name,
            "precision": device.precision.value,
            "python": platform.python_version(),
            **{name: _version_of(name) for name in LIBRARIES},
        },
        "started_at": started_at,
    }


def write_run_info(run: Run, device: Device, started_at: float) -> None:
    """For whoever looks at a run that has not finished, or never will."""
    with space_for(RUN_INFO, run.output):
        write_json(run.output / RUN_INFO, run_info(run, device, started_at))


def _results(ending: Ending, shape: ModelShape) -> dict[str, Any]:
    """train_loss is transformers' mean over the run, final_loss that of the last logging window."""
    state, config = ending.state, ending.run.config
    seconds = state.train_seconds
    result: dict[str, Any] = {
        "train_loss": _mean_loss(ending.run.output),
        "final_loss": state.loss,
        "eval_loss": state.eval_loss,
        "best_eval_loss": state.best_metric,
        "best_global_step": state.best_global_step,
        "train_runtime": round(seconds, 3),
        "train_samples_per_second": round(state.samples_total / seconds, 3),
        "train_steps_per_second": round(state.global_step / seconds, 3),
        "train_tokens_per_second": round(state.tokens_total / seconds, 3),
        "tokens_total": state.tokens_total,
        "samples_total": state.samples_total,
        "nonfinite_losses": state.nonfinite_losses,
        "checkpoints_total": state.checkpoints_total,
        "checkpoint_sizes_bytes": state.checkpoint_sizes_bytes,
        "global_step": state.global_step,
        "total_steps": state.max_steps,
        "planned_steps": ending.plan.total_steps,
        "epoch": state.epoch,
        "total_epochs": ending.plan.total_epochs,
        "parameters": shape.parameters,
        "trained_parameters": shape.adapter_parameters or shape.parameters,
        "model_path": config.output_dir,
        "method": config.method.value,
    }
    if config.method is Method.QLORA:
        result["quantization"] = config.quantization_config.model_dump(mode="json")
    return {key: _finite(value) for key, value in result.items()}


def saved_precision(settings: Path) -> Precision:
    """The format of the base checkpoint, in which a fully tuned model is saved again."""
    data = read_settings(settings, "config.json")
    name = str(data.get("dtype") or data.get("torch_dtype") or "float32")
    return _DTYPES.get(name, Precision.BF16)


def _shape(model: Any, method: Method, precision: Precision, context: int) -> ModelShape:
    adapter = 0
    if method is Method.FULL:
        total = sum(parameter.numel() for parameter in model.parameters())
    else:
        adapter, both = model.get_nb_trainable_parameters()
        total = both - adapter
    kv_bytes = kv_bytes_per_token(model.config, precision)
    return ModelShape(total, adapter, precision.value, kv_bytes, context)


def _has_template(settings: Path) -> bool:
    """Whether the base model's own files hold a chat template."""
    if any((settings / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(read_settings(settings, "tokenizer_config.json").get("chat_template"))


def _digest(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _own_settings(ending: Ending) -> str | None:
    """Of what transformers writes of a whole model for whose base nobody has written it."""
    if ending.run.config.method is not Method.FULL:
        return None
    path = ending.run.output / GENERATION_CONFIG
    is_own = path.is_file() and not (ending.run.settings / GENERATION_CONFIG).is_file()
    return sha256_of(path) if is_own else None


def _mean_loss(output: Path) -> float | None:
    losses = [line.loss for line in read_history(output / LOSS_HISTORY)]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else None


def _finite(value: Any) -> Any:
    """JSON has no NaN; what is not a number is not known."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
