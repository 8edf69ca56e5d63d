"""Whether a job fits, the most that would, and the smallest changes after which it does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Method, Precision
from finetuning.estimate.formula import Host, Job, Parts, of_the_host, peak
from finetuning.estimate.gpus import GIB, PRODUCTS, Gpu, parse
from finetuning.estimate.shape import Shape

RESERVED = GIB
"""Left to the driver, the kernels and their workspaces. A margin that was chosen, not measured:
it is different with every release of ROCm."""

FRAGMENTED = 0.05
"""Share of the rest that torch's allocator may not be able to hand out; chosen as well."""

MOST_ROWS = 4096
LONGEST = 1_048_576
SHORTEST = 16
"""The limits of batchSize and maxSeqLength in the API."""


@dataclass(frozen=True)
class Verdict:
    """The answer for one GPU; sizes in bytes."""

    gpu: Gpu
    parts: Parts
    usable: int
    host: int
    """Of the host's memory, while a checkpoint is written beside the training or, with fsdp, the
    first process holds the whole model."""
    largest_batch: int
    """Most rows of maxSeqLength that fit; 0 where not even one does."""
    largest_sequence: int
    """Most tokens in a row that fit with batchSize rows and that the model has positions for; 0
    where not even the shortest fits."""
    advice: tuple[str, ...]
    smallest_gpu: str | None

    @property
    def fits(self) -> bool:
        return self.parts.total <= self.usable


def usable(gpu: Gpu) -> int:
    """Bytes of a GPU that a run can count on."""
    return int((gpu.memory - RESERVED) * (1 - FRAGMENTED))


def judge(shape: Shape, job: Job, gpu: Gpu) -> Verdict:
    """Compare the peak with the GPU; advise where it is too much."""
    parts, room = peak(shape, job, Host()), usable(gpu)

    def fits(other: Job) -> bool:
        return peak(shape, other, Host()).total <= room

    return Verdict(
        gpu=gpu,
        parts=parts,
        usable=room,
        host=of_the_host(shape, job),
        largest_batch=largest(lambda n: fits(_with(job, batch_size=n)), 1, MOST_ROWS),
        largest_sequence=largest(
            lambda n: fits(_with(job, max_seq_length=n)),
            SHORTEST,
            max(SHORTEST, min(LONGEST, shape.positions or LONGEST)),
        ),
        advice=() if parts.total <= room else tuple(_advice(job, fits)),
        smallest_gpu=_smallest(parts.total),
    )


def largest(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number for which it holds, if it holds for all below; 0 where for none."""
    if not holds(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _smallest(needed: int) -> str | None:
    by_size = sorted(map(parse, PRODUCTS), key=lambda gpu: gpu.memory)
    return next((gpu.name for gpu in by_size if usable(gpu) >= needed), None)


Change = tuple[str, Job]


def _advice(job: Job, fits: Callable[[Job], bool]) -> Iterator[str]:
    """Each line alone makes it fit; where no line does, the mildest changes together."""
    singles = list(_changes(job, fits))
    enough = [text for text, changed in singles if fits(changed)]
    yield from enough
    if not enough and (together := _together(job, fits)):
        yield together


def _changes(job: Job, fits: Callable[[Job], bool]) -> Iterator[Change]:
    settings = job.hyperparameters
    if settings.precision is Precision.FP32:
        yield "set bf16 to true", _with(job, bf16=True)
    if not settings.gradient_checkpointing:
        text, changed = "set gradientCheckpointing to true", _with(job, gradient_checkpointing=True)
        yield text, changed
        if not fits(changed):
            for more, further in _fewer_rows(changed, fits):
                yield f"{text}, {more.removeprefix('set ')}", further
    if _can_shard(job):
        yield "set fsdp to true", _with(job, fsdp=True)
    yield from _fewer_rows(job, fits)
    yield from _shorter_rows(job, fits)
    for method in _lighter(job):
        yield f"set method to {method}", replace(job, method=method)


def _fewer_rows(job: Job, fits: Callable[[Job], bool]) -> Iterator[Change]:
    """The optimizer goes on seeing as many rows per step; kept gradients take memory as well."""
    settings = job.hyperparameters
    for rows in range(settings.batch_size - 1, 0, -1):
        if settings.batch_size % rows:
            continue
        steps = settings.gradient_accumulation_steps * settings.batch_size // rows
        changed = _with(job, batch_size=rows, gradient_accumulation_steps=steps)
        if fits(changed):
            yield f"set batchSize to {rows} and gradientAccumulationSteps to {steps}", changed
            return


def _shorter_rows(job: Job, fits: Callable[[Job], bool]) -> Iterator[Change]:
    settings = job.hyperparameters
    found = largest(lambda n: fits(_with(job, max_seq_length=n)), SHORTEST, settings.max_seq_length)
    if 0 < found < settings.max_seq_length:
        yield f"set maxSeqLength to {found}", _with(job, max_seq_length=found)


def _can_shard(job: Job) -> bool:
    return job.processes > job.shards and job.method is not Method.QLORA


def _lighter(job: Job) -> list[Method]:
    """Methods that take less; 4-bit weights cannot be in shards."""
    order = [Method.FULL, Method.LORA, Method.QLORA]
    lighter = order[order.index(job.method) + 1 :]
    return [each for each in lighter if each is not Method.QLORA or not job.hyperparameters.fsdp]


def _together(job: Job, fits: Callable[[Job], bool]) -> str | None:
    """Checkpointing, 16 bit, a single row and shards first, then the lighter methods."""
    settings = job.hyperparameters
    changes: dict[str, Any] = {}
    if not settings.gradient_checkpointing:
        changes["gradient_checkpointing"] = True
    if settings.precision is Precision.FP32:
        changes["bf16"] = True
    if settings.batch_size > 1:
        changes["batch_size"] = 1
        changes["gradient_accumulation_steps"] = (
            settings.batch_size * settings.gradient_accumulation_steps
        )
    for method in (job.method, *_lighter(job)):
        shards = {"fsdp": True} if _can_shard(replace(job, method=method)) else {}
        changed = replace(_with(job, **changes, **shards), method=method)
        if fits(changed):
            return "together: " + ", ".join(_words(changes | shards, method, job.method))
    return None


def _words(changes: dict[str, Any], method: Method, before: Method) -> Iterator[str]:
    for name, value in changes.items():
        alias = Hyperparameters.model_fields[name].alias
        yield f"{alias} {str(value).lower()}"
    if method is not before:
        yield f"method {method}"


def _with(job: Job, **changes: Any) -> Job:
    return replace(job, hyperparameters=job.hyperparameters.model_copy(update=changes))
