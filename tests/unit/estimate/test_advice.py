"""The advice of an estimate, carried out."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.estimate.conftest import job_of

from finetuning.api.hyperparameters import Method
from finetuning.estimate import known
from finetuning.estimate.advice import judge, largest, usable
from finetuning.estimate.formula import Host, Job, peak
from finetuning.estimate.gpus import GIB, Gpu, parse
from finetuning.estimate.shape import Shape

FIELDS = {
    "batchSize": "batch_size",
    "bf16": "bf16",
    "fsdp": "fsdp",
    "gradientAccumulationSteps": "gradient_accumulation_steps",
    "gradientCheckpointing": "gradient_checkpointing",
    "maxSeqLength": "max_seq_length",
}


@pytest.fixture
def shape() -> Shape:
    found = known.shape_of("Qwen/Qwen2.5-7B")
    assert found is not None
    return found


def carried_out(job: Job, advice: str) -> Job:
    changes: dict[str, Any] = {}
    for name, value in re.findall(r"(\w+) (?:to )?(true|\d+)", advice):
        changes[FIELDS[name]] = value == "true" or int(value)
    method = re.search(r"method (?:to )?(\w+)", advice)
    return replace(
        job,
        hyperparameters=job.hyperparameters.model_copy(update=changes),
        method=Method(method[1]) if method else job.method,
    )


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("gpu", ["MI210", "MI300X", "MI300X-CPX", "MI308X-DPX"])
@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize(
    "checkpointing", ["--gradient-checkpointing", "--no-gradient-checkpointing"]
)
def test_every_advice_makes_it_fit(
    method: Method, checkpointing: str, gpu: str, processes: int, shape: Shape
) -> None:
    job = job_of("--method", method, checkpointing, "--batch-size", "24", processes=processes)
    verdict = judge(shape, job, parse(gpu))
    assert not (verdict.fits and verdict.advice)
    for advice in verdict.advice:
        changed = carried_out(job, advice)
        assert peak(shape, changed, Host()).total <= verdict.usable
        before, after = job.hyperparameters, changed.hyperparameters
        assert (
            after.batch_size * after.gradient_accumulation_steps
            == before.batch_size * before.gradient_accumulation_steps
        )


def test_the_largest_batch_and_sequence_fit_and_one_more_does_not(shape: Shape) -> None:
    job, gpu = job_of("--bf16", "--no-gradient-checkpointing"), parse("MI300X")
    verdict = judge(shape, job, gpu)
    for flag, most in (
        ("--batch-size", verdict.largest_batch),
        ("--max-seq-length", verdict.largest_sequence),
    ):
        argv = ["--bf16", "--no-gradient-checkpointing", flag]
        sizes = [peak(shape, job_of(*argv, str(n)), Host()).total for n in (most, most + 1)]
        assert sizes[0] <= usable(gpu) < sizes[1]


def test_no_row_is_proposed_that_the_model_has_no_positions_for(shape: Shape) -> None:
    short = replace(shape, positions=512)
    assert judge(short, job_of("--bf16"), parse("MI300X")).largest_sequence == 512


def test_a_model_that_no_gpu_holds_is_said_to_be_too_large() -> None:
    shape = known.shape_of("meta-llama/Llama-3.1-405B")
    assert shape is not None
    verdict = judge(shape, job_of("--method", "full", "--bf16"), parse("MI355X"))
    assert not verdict.fits
    assert verdict.smallest_gpu is None
    assert (verdict.largest_batch, verdict.largest_sequence) == (0, 0)
    assert verdict.advice == ("set method to qlora",)


def test_a_model_that_one_gpu_does_not_hold_is_shared_out() -> None:
    shape = known.shape_of("meta-llama/Llama-3.1-70B")
    assert shape is not None
    settings = ("--method", "full", "--bf16", "--batch-size", "1")
    verdict = judge(shape, job_of(*settings, processes=8), parse("MI300X"))
    assert "set fsdp to true" in verdict.advice
    shards = judge(shape, job_of(*settings, "--fsdp", processes=8), parse("MI300X"))
    assert shards.fits
    assert shards.parts.optimizer == pytest.approx(verdict.parts.optimizer / 8)
    alone = judge(shape, job_of(*settings, "--fsdp"), parse("MI300X"))
    assert alone.parts == judge(shape, job_of(*settings), parse("MI300X")).parts


@pytest.mark.parametrize("gpu", ["MI210", "MI300X"])
@pytest.mark.parametrize("fsdp", ["--fsdp", "--no-fsdp"])
@pytest.mark.parametrize("method", [Method.LORA, Method.FULL])
def test_shards_of_4_bit_weights_are_never_advised(method: Method, fsdp: str, gpu: str) -> None:
    shape = known.shape_of("meta-llama/Llama-3.1-70B")
    assert shape is not None
    job = job_of("--method", method, fsdp, "--batch-size", "64", processes=8)
    changed = [carried_out(job, each) for each in judge(shape, job, parse(gpu)).advice]
    assert changed
    assert not any(job.method is Method.QLORA and job.hyperparameters.fsdp for job in changed)


def test_the_margin_is_taken_off() -> None:
    assert usable(Gpu("x", 21 * GIB)) == 19 * GIB


def test_largest_finds_the_border() -> None:
    assert largest(lambda n: n <= 37, 1, 100) == 37
    assert largest(lambda _: True, 1, 100) == 100
    assert largest(lambda _: False, 1, 100) == 0
