"""The answer of `finetuning estimate`: a table for people, JSON for scripts."""

from collections.abc import Iterator
from typing import Any

from finetuning.estimate.advice import MOST_ROWS, Verdict
from finetuning.estimate.formula import Job, Parts
from finetuning.estimate.gpus import GIB

BILLION = 1_000_000_000
_LABELS = {
    "weights": "base weights",
    "reference": "reference weights (dpo)",
    "trained": "adapter",
    "optimizer": "optimizer (AdamW)",
    "gradients": "gradients",
    "casts": "16-bit copies",
    "gathered": "gathered layers (fsdp)",
    "activations": "activations",
    "loss": "logits and loss",
}


def in_json(name: str, model: str, parameters: int, verdict: Verdict) -> dict[str, Any]:
    """Sizes in bytes, in the field names of the API."""
    return {
        "job": name,
        "model": model,
        "parameters": parameters,
        "gpu": verdict.gpu.name,
        "gpuMemoryBytes": verdict.gpu.memory,
        "usableBytes": verdict.usable,
        "peakBytes": verdict.parts.total,
        "peakAt": verdict.parts.moment,
        "partsBytes": dict(_sizes(verdict.parts)),
        "hostBytes": verdict.host,
        "fits": verdict.fits,
        "largestBatchSize": verdict.largest_batch,
        "largestMaxSeqLength": verdict.largest_sequence,
        "smallestGpu": verdict.smallest_gpu,
        "advice": list(verdict.advice),
    }


def in_text(name: str, model: str, parameters: int, job: Job, verdict: Verdict) -> str:
    """Lines for a terminal."""
    settings = job.hyperparameters
    lines = [
        f"{name}: {job.method} of {model} ({_count(parameters)} parameters), "
        f"{settings.precision}, {settings.batch_size} x {settings.max_seq_length} tokens"
        + (", gradient checkpointing" if settings.gradient_checkpointing else "")
        + (f", {_spread(job)} {job.processes} GPUs" if job.processes > 1 else ""),
        "",
        *(f"  {_LABELS[key]:<25}{gib(size):>12}" for key, size in _sizes(verdict.parts)),
        f"  {'peak':<25}{gib(verdict.parts.total):>12}   in the {_moment(verdict.parts)}",
        f"  {verdict.gpu.name:<25}{gib(verdict.usable):>12}   of {gib(verdict.gpu.memory)}",
        f"  {'host, while saving':<25}{gib(verdict.host):>12}   {_of_the_host(job)}",
        "",
        *_outcome(job, verdict),
    ]
    return "\n".join(lines)


def sentence(verdict: Verdict) -> str:
    """The same in a line, for a condition."""
    needs = (
        f"The run needs about {gib(verdict.parts.total)} at its peak; one {verdict.gpu.name} has "
        f"{gib(verdict.usable)} to use."
    )
    if verdict.fits:
        return needs
    return f"{needs} {_remedy(verdict)}"


def gib(size: int) -> str:
    """Of a small model there would be nothing to see in GiB."""
    if 0 < size < GIB // 10:
        return f"{size / (1 << 20):,.1f} MiB"
    return f"{size / GIB:,.1f} GiB"


def _count(parameters: int) -> str:
    if parameters < BILLION // 10:
        return f"{parameters / 1e6:,.2f} M"
    return f"{parameters / BILLION:,.2f} B"


def _spread(job: Job) -> str:
    return "on each of" if job.shards == 1 else "shared out over"


def _of_the_host(job: Job) -> str:
    if job.shards == 1:
        return "for a checkpoint's copy"
    return "for the whole model or a checkpoint's copy, in the first pod"


def _outcome(job: Job, verdict: Verdict) -> Iterator[str]:
    settings = job.hyperparameters
    yield "It fits." if verdict.fits else "It does not fit."
    if verdict.largest_batch:
        most = f"{verdict.largest_batch}" + (" or more" * (verdict.largest_batch == MOST_ROWS))
        yield f"Largest batchSize at maxSeqLength {settings.max_seq_length}: {most}"
    if verdict.largest_sequence:
        yield f"Largest maxSeqLength at batchSize {settings.batch_size}: {verdict.largest_sequence}"
    if not verdict.fits:
        yield "To make it fit, one of these:" if verdict.advice else _remedy(verdict)
    yield from (f"  - {line}" for line in verdict.advice)
    if verdict.smallest_gpu and (not verdict.fits or verdict.smallest_gpu != verdict.gpu.name):
        yield f"Smallest GPU for it as it is: {verdict.smallest_gpu}"


def _remedy(verdict: Verdict) -> str:
    if verdict.advice:
        return f"To make it fit, {'; or '.join(verdict.advice)}."
    if verdict.smallest_gpu:
        return f"It needs a {verdict.smallest_gpu}."
    return "No single GPU holds it: take a smaller model, or more GPUs with fsdp."


def _sizes(parts: Parts) -> Iterator[tuple[str, int]]:
    for key in _LABELS:
        if size := getattr(parts, key):
            yield key, size


def _moment(parts: Parts) -> str:
    return "loss" if parts.moment == "loss" else parts.moment
