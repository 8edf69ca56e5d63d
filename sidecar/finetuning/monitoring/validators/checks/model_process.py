"""Loads the trained model in a process of its own and asks it; run with a ProbeRequest on stdin.

Only *.safetensors weights, never code from a model's folder. Its one line of output is a
ProbeReport; whatever the libraries print goes to stderr.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.monitoring.validators.checks.probe import (
    Answer,
    ProbeFailure,
    ProbeReport,
    ProbeRequest,
)

if TYPE_CHECKING:
    import torch

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_SHOWN_TENSORS = 3
_SET_PARENT_DEATH_SIGNAL = 1


class _StageError(Exception):
    """Something failed; names where."""

    def __init__(self, stage: str, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
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
    tokenizer = _tokenizer(request)
    if request.is_adapter:
        return _probe_adapter(request, tokenizer)
    return _probe_full(request, tokenizer)


def _probe_adapter(request: ProbeRequest, tokenizer: Any) -> ProbeReport:
    """One copy of the base serves both: the adapter is switched off for the comparison."""
    with _stage("base"):
        base = _load(str(request.base), request.revision, is_local=request.base_is_local)
    with _stage("adapter"):
        model = _with_adapter(base, Path(request.model_path))
    zero = _adapter_is_zero(model)
    with _stage("generation"):
        answers, logits = _ask(model, tokenizer, request)
        with model.disable_adapter():
            base_answers, base_logits = _ask(model, tokenizer, request)
    return _report(model, answers, base_answers, _difference(logits, base_logits), zero)


def _probe_full(request: ProbeRequest, tokenizer: Any) -> ProbeReport:
    """One after the other, so that the memory of one model is enough."""
    base_answers, base_logits = None, None
    if request.base is not None:
        with _stage("base"):
            base = _load(request.base, request.revision, is_local=request.base_is_local)
        with _stage("generation"):
            base_answers, base_logits = _ask(base, tokenizer, request)
        del base
    with _stage("model"):
        model = _load(request.model_path, None, is_local=True)
    with _stage("generation"):
        answers, logits = _ask(model, tokenizer, request)
    difference = _difference(logits, base_logits) if base_logits is not None else None
    return _report(model, answers, base_answers, difference, None)


def _report(
    model: Any,
    answers: list[Answer],
    base_answers: list[Answer] | None,
    difference: float | None,
    zero: bool | None,  # noqa: FBT001 - a field of the report, not a switch
) -> ProbeReport:
    return ProbeReport(
        answers=answers,
        base_answers=base_answers,
        largest_logit_difference=difference,
        adapter_is_zero=zero,
        device=str(model.device),
    )


def _tokenizer(request: ProbeRequest) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - after the streams are sorted

    with _stage("tokenizer"):
        return AutoTokenizer.from_pretrained(
            request.model_path, local_files_only=True, trust_remote_code=False
        )


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
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    config = LoraConfig(**_adapter_settings(folder))
    model = PeftModel(base, config)
    result = set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS))
    _require_complete(sorted(name for name in result.missing_keys if "lora_" in name))
    if result.unexpected_keys:
        raise _WeightsError(f"{result.unexpected_keys[0]} does not belong to this base model")
    return model.eval()


_ADAPTER_SETTINGS = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "modules_to_save",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "task_type",
)
"""What decides how an adapter computes; the other settings name modules to import or files to
read, or say how to begin a training."""


def _adapter_settings(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    if data.get("peft_type", "LORA") != "LORA":
        raise _WeightsError(f"{ADAPTER_CONFIG}: peft_type {data['peft_type']} is not supported")
    known = {name: data[name] for name in _ADAPTER_SETTINGS if data.get(name) is not None}
    return {**known, "inference_mode": True}


def _require_complete(missing: list[str]) -> None:
    """The libraries fill what is missing with random numbers and only warn."""
    if missing:
        names = ", ".join(missing[:_SHOWN_TENSORS])
        raise _WeightsError(f"{len(missing)} tensors are missing, such as {names}")


def _adapter_is_zero(model: Any) -> bool:
    """The second matrix starts at zero: if it still is, the adapter does nothing."""
    seconds = [value for name, value in model.named_parameters() if ".lora_B." in name]
    return not any(bool(value.detach().abs().max() > 0) for value in seconds)


def _ask(
    model: Any, tokenizer: Any, request: ProbeRequest
) -> "tuple[list[Answer], list[torch.Tensor]]":
    """Answers, and the logits at the end of each prompt."""
    import torch  # noqa: PLC0415 - loaded with the model

    answers, logits = [], []
    with torch.inference_mode():
        for prompt in request.prompts:
            answer, first = _generate(model, tokenizer, prompt, request.max_new_tokens)
            answers.append(answer)
            logits.append(first)
    return answers, logits


def _generate(model: Any, tokenizer: Any, prompt: str, limit: int) -> "tuple[Answer, torch.Tensor]":
    """Greedy, so that the same model gives the same answer."""
    import torch  # noqa: PLC0415 - loaded with the model

    inputs = _encode(tokenizer, prompt).to(model.device)
    output = model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=limit,
        pad_token_id=_padding(model, tokenizer),
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[0, inputs["input_ids"].shape[1] :]
    finite = all(bool(torch.isfinite(step).all()) for step in output.logits)
    text = tokenizer.decode(new, skip_special_tokens=True).strip()
    first = output.logits[0][0].float().cpu()
    return Answer(text=text, tokens=new.tolist(), finite=finite), first


def _encode(tokenizer: Any, prompt: str) -> Any:
    """As one user message where the tokenizer knows how to write one, else as plain text."""
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
    return tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)


def _padding(model: Any, tokenizer: Any) -> int | None:
    """Without one the library prints a warning for every prompt; nothing is padded here."""
    end = model.generation_config.eos_token_id
    known = (tokenizer.pad_token_id, end[0] if isinstance(end, list) else end)
    return next((int(token) for token in known if token is not None), None)


def _difference(tuned: "list[torch.Tensor]", base: "list[torch.Tensor]") -> float | None:
    """The largest difference of any logit; None where the two cannot be compared."""
    pairs = list(zip(tuned, base, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return None
    value = max(float((one - other).abs().max()) for one, other in pairs)
    return value if value == value else None  # noqa: PLR0124 - NaN is reported as not finite


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _StageError(name, error) from error


def _failure(error: _StageError) -> ProbeFailure:
    out_of_memory = (
        isinstance(error.cause, MemoryError) or "OutOfMemory" in type(error.cause).__name__
    )
    return ProbeFailure(stage=error.stage, message=str(error)[:2000], out_of_memory=out_of_memory)


if __name__ == "__main__":
    sys.exit(main())
