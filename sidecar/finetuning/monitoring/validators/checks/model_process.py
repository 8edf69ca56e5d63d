"""Loads the trained model in a process of its own and asks it; run with a ProbeRequest on stdin.

Only *.safetensors weights, never code from a model's folder. Its one line of output is a
ProbeReport; whatever the libraries print goes to stderr.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetuning.artifacts import ADAPTER_CONFIG
from finetuning.artifacts.foreign_code import ask_nobody
from finetuning.artifacts.spared import load, without_bitsandbytes
from finetuning.artifacts.tokenizer_settings import FILES, named_file
from finetuning.monitoring.validators.checks import machine
from finetuning.monitoring.validators.checks.adapter_settings import (
    foreign_setting,
    loaded_settings,
)
from finetuning.monitoring.validators.checks.model_failure import MACHINE
from finetuning.monitoring.validators.checks.model_in_4_bits import load_in_4_bits
from finetuning.monitoring.validators.checks.model_scoring import (
    Seen,
    difference,
    let_end,
    observe,
    reference_losses,
)
from finetuning.monitoring.validators.checks.model_settings import (
    computes_otherwise,
    generates_otherwise,
)
from finetuning.monitoring.validators.checks.model_texts import (
    RowError,
    TemplateError,
    tokenized_otherwise,
)
from finetuning.monitoring.validators.checks.probe import (
    ProbeFailure,
    ProbeReport,
    ProbeRequest,
)

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_SHOWN_TENSORS = 3
_SHOWN_CHARACTERS = 80
_SET_PARENT_DEATH_SIGNAL = 1

log = logging.getLogger(__name__)


class _StageError(Exception):
    """Something failed; names where."""

    def __init__(self, stage: str, cause: Exception) -> None:
        own = isinstance(cause, TemplateError | RowError)
        # Python's own lack of memory says nothing.
        told = [type(cause).__name__, str(cause)] if str(cause) else [type(cause).__name__]
        super().__init__(str(cause) if own else ": ".join(told))
        self.stage = stage
        self.cause = cause


class _WeightsError(Exception):
    """The files do not hold the weights that the model needs."""


def main() -> int:
    """Answer on the stream that was stdout; give libraries stderr instead."""
    _die_with_the_parent()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = ProbeRequest.model_validate_json(sys.stdin.read())
    if request.parent not in (None, os.getppid()):
        return 1  # It died before it could be watched.
    report = answer_to(request)
    answer.write(report.model_dump_json())
    answer.close()
    return 0


def _die_with_the_parent() -> None:
    """Whatever kills the validator: a model in memory must not stay behind. Linux only."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def answer_to(request: ProbeRequest) -> ProbeReport:
    """The report, also when something on the way fails."""
    started = time.monotonic()
    try:
        report = probe(request)
    except _StageError as error:
        report = ProbeReport(failure=_failure(error))
    return report.model_copy(update={"seconds": time.monotonic() - started})


def probe(request: ProbeRequest) -> ProbeReport:
    """Load, ask, and compare with the base model where there is one."""
    load("transformers.modeling_utils")
    ask_nobody()
    tokenizer = _tokenizer(request)
    if (text := _tokenized_otherwise(request, tokenizer)) is not None:
        # Both models would be asked with this tokenizer: their answers could not tell.
        return ProbeReport(failure=ProbeFailure(stage="words", message=text[:_SHOWN_CHARACTERS]))
    if request.is_adapter:
        return _probe_adapter(request, tokenizer)
    return _probe_full(request, tokenizer)


def _probe_adapter(request: ProbeRequest, tokenizer: Any) -> ProbeReport:
    """One copy of the base serves both: the adapter is switched off for the comparison."""
    told = _scored_in_4_bits(request, tokenizer)
    with _stage("base"):
        base = _load(str(request.base), request.revision, is_local=request.base_is_local)
    with _stage("adapter"):
        model = _with_adapter(base, Path(request.model_path))
    with _stage("generation"):
        tuned = observe(model, tokenizer, request)
        with model.disable_adapter():
            before = observe(model, tokenizer, request) if request.compare else None
        let_end(model, tokenizer, request, tuned, before)
        reference, base_reference = told or _scored(model, tokenizer, request)
    report = _report(model, tuned, before, reference)
    in_4_bits = told is not None
    return report.model_copy(
        update={"base_reference": base_reference, "reference_in_4_bits": in_4_bits}
    )


def _scored_in_4_bits(
    request: ProbeRequest, tokenizer: Any
) -> tuple[list[float], list[float]] | None:
    """What `_scored` tells, on the base model as the trainer stored it; None where none can be.

    This comes first, so that the memory of one model is enough.
    """
    if request.four_bits is None:
        return None
    try:
        base = load_in_4_bits(request, request.four_bits)
        return _scored(_with_adapter(base, Path(request.model_path)), tokenizer, request)
    except Exception as error:  # noqa: BLE001 - what is at fault is seen when it loads as usual
        log.warning("The base model is not compared in 4 bits: %s", error)
        return None
    finally:
        gc.collect()  # Models refer to themselves.


def _scored(model: Any, tokenizer: Any, request: ProbeRequest) -> tuple[list[float], list[float]]:
    """Losses of the trainer's texts, of the tuned model and of its base."""
    tuned = reference_losses(model, tokenizer) if request.reference else []
    with model.disable_adapter():
        base = reference_losses(model, tokenizer) if request.base_reference else []
    return tuned, base


def _probe_full(request: ProbeRequest, tokenizer: Any) -> ProbeReport:
    """One after the other, so that the memory of one model is enough."""
    before, base_reference = None, []
    base = _base_to_compare(request)
    if base is not None:
        with _stage("generation"):
            before = observe(base, tokenizer, request)
            base_reference = reference_losses(base, tokenizer) if request.base_reference else []
    del base
    with _stage("model"):
        model = _load(request.model_path, None, is_local=True)
    with _stage("generation"):
        tuned = observe(model, tokenizer, request)
        let_end(model, tokenizer, request, tuned, before)
        reference = reference_losses(model, tokenizer) if request.reference else []
    report = _report(model, tuned, before, reference)
    told = _settings_of_others(request) if before or _is_at_hand(request) else {}
    return report.model_copy(update={"base_reference": base_reference, **told})


def _is_at_hand(request: ProbeRequest) -> bool:
    """Two small files are read, whether or not the base model is asked as well."""
    return request.base is not None and request.base_is_local


def _settings_of_others(request: ProbeRequest) -> dict[str, str]:
    """Where the base model could be loaded; a configuration that cannot be read says nothing."""
    pair = (request.model_path, str(request.base), _of_the_base(request))
    try:
        return {"computes": computes_otherwise(*pair), "generates": generates_otherwise(*pair)}
    except Exception as error:  # noqa: BLE001 - the libraries raise many kinds
        log.warning("The settings of %s are not compared with: %s", request.base, error)
        return {}


def _base_to_compare(request: ProbeRequest) -> Any | None:
    """None also where the Hub does not give it: a whole model is judged without, and it is told."""
    if request.base is None or not request.compare:
        return None
    try:
        with _stage("base"):
            return _load(request.base, request.revision, is_local=request.base_is_local)
    except _StageError as error:
        if request.base_is_local:
            raise
        log.warning("The base model %s is not compared with: %s", request.base, error)
        return None


def _report(model: Any, tuned: Seen, before: Seen | None, reference: list[float]) -> ProbeReport:
    return ProbeReport(
        answers=tuned.answers,
        base_answers=before.answers if before else None,
        held_out=tuned.losses,
        base_held_out=before.losses if before else None,
        refused=tuned.refused,
        reference=reference,
        is_quantized=getattr(model.config, "quantization_config", None) is not None,
        is_in_32_bits=str(model.dtype) == "torch.float32",
        scores=tuned.scores,
        base_scores=before.scores if before else None,
        scores_problem=(tuned.scores_problem or (before.scores_problem if before else ""))[:2000],
        largest_logit_difference=difference(tuned, before) if before else None,
        device=str(model.device),
        answering_seconds=tuned.seconds + (before.seconds if before else 0.0),
    )


def _tokenizer(request: ProbeRequest) -> Any:
    """As the training had it: what an adapter's folder lacks, its base's architecture decides."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - after the streams are sorted

    config = _base_config(request) if request.is_adapter else _own_config(request)
    with _stage("tokenizer"):
        _refuse_named_files(request.model_path, local_files_only=True)
        return AutoTokenizer.from_pretrained(
            request.model_path, config=config, local_files_only=True, trust_remote_code=False
        )


def _refuse_named_files(place: str, **where: Any) -> None:
    """Raises ValueError where the tokenizer would be read from files that its settings name."""
    from transformers.utils.hub import cached_file  # noqa: PLC0415 - after the streams are sorted

    missing = {"_raise_exceptions_for_missing_entries": False}
    found = (cached_file(place, name, **missing, **where) for name in FILES)
    if named := named_file(Path(path) for path in found if path):
        raise ValueError(named)


def _base_config(request: ProbeRequest) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415 - after the streams are sorted

    with _stage("base"):
        return AutoConfig.from_pretrained(request.base, **_of_the_base(request))


def _own_config(request: ProbeRequest) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415 - after the streams are sorted

    with _stage("model"):
        return AutoConfig.from_pretrained(
            request.model_path, local_files_only=True, trust_remote_code=False
        )


def _of_the_base(request: ProbeRequest) -> dict[str, Any]:
    return {**_where_the_base_is(request), "trust_remote_code": False}


def _where_the_base_is(request: ProbeRequest) -> dict[str, Any]:
    return {"revision": request.revision or "main", "local_files_only": request.base_is_local}


def _tokenized_otherwise(request: ProbeRequest, tokenizer: Any) -> str | None:
    """Compared where the base model has a tokenizer that loads; it is not on trial."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - after the streams are sorted

    if request.base is None or not request.compare:
        return None
    try:
        _refuse_named_files(request.base, **_where_the_base_is(request))
        before = AutoTokenizer.from_pretrained(request.base, **_of_the_base(request))
    except Exception:  # noqa: BLE001 - the libraries raise many kinds
        return None
    with _stage("tokenizer"):
        return tokenized_otherwise(tokenizer, before, request)


def _load(path: str, revision: str | None, *, is_local: bool) -> Any:
    """In the checkpoint's own type on a GPU, in 32 bit on a CPU, which is slow in the others."""
    import torch  # noqa: PLC0415 - this process exists to load it
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    on_gpu = torch.cuda.is_available()
    model, report = AutoModelForCausalLM.from_pretrained(
        path,
        revision=revision or "main",
        dtype="auto" if on_gpu else torch.float32,
        device_map="auto" if on_gpu else None,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=is_local,
        output_loading_info=True,
    )
    _require_complete(sorted(report.get("missing_keys", ())))
    return model.eval()


def _with_adapter(base: Any, folder: Path) -> Any:
    """Build the adapter from its plain settings and fill it; peft's own loader would unpickle."""
    four_bit = getattr(base.config, "quantization_config", None) is not None
    with contextlib.nullcontext() if four_bit else without_bitsandbytes():
        load("peft")
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    config = LoraConfig(**_adapter_settings(folder))
    model = PeftModel(base, config)
    result = set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS))
    _require_complete(sorted(name for name in result.missing_keys if "lora_" in name))
    if result.unexpected_keys:
        raise _WeightsError(f"{result.unexpected_keys[0]} does not belong to this base model")
    return model.eval()


def _adapter_settings(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if problem := foreign_setting(data):
        raise _WeightsError(f"{ADAPTER_CONFIG}: {problem}")
    return {**loaded_settings(data), "inference_mode": True}


def _require_complete(missing: list[str]) -> None:
    """The libraries fill what is missing with random numbers and only warn."""
    if missing:
        names = ", ".join(missing[:_SHOWN_TENSORS])
        raise _WeightsError(f"{len(missing)} tensors are missing, such as {names}")


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    try:
        yield
    except TemplateError as error:
        raise _StageError("template", error) from error
    except RowError as error:
        raise _StageError("rows", error) from error
    except Exception as error:
        raise _StageError(name, error) from error


def _failure(error: _StageError) -> ProbeFailure:
    failure = ProbeFailure(stage=error.stage, message=str(error)[:2000])
    if isinstance(error.cause, TemplateError | RowError):
        return failure  # Its words are those of a template or a row, which may say anything.
    stage = MACHINE if machine.is_its_fault(error.cause) else error.stage
    return failure.model_copy(
        update={"stage": stage, "out_of_memory": machine.lacks_memory(error.cause)}
    )


if __name__ == "__main__":
    sys.exit(main())
