"""What fails under a model is not the model's fault; what fails in it is."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import machine
from finetuning.monitoring.validators.checks.model_failure import finding_of
from finetuning.monitoring.validators.checks.model_process import _failure, _StageError
from finetuning.monitoring.validators.checks.model_texts import RowError, TemplateError
from finetuning.monitoring.validators.checks.weights import read_header


class AcceleratorError(RuntimeError):
    """As torch names what a device says."""


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def wrapped(inner: Exception) -> Exception:
    """As a library tells what it has caught."""
    outer = RuntimeError("the checkpoint cannot be loaded")
    outer.__cause__ = inner
    return outer


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


DEVICE = "HIP error: {}\nHIP kernel errors might be asynchronously reported"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AcceleratorError(DEVICE.format("uncorrectable ECC error encountered")), "MachineFailed"),
        (RuntimeError(DEVICE.format("no ROCm-capable device is detected")), "MachineFailed"),
        (RuntimeError("CUDA error: HIPBLAS_STATUS_INTERNAL_ERROR"), "MachineFailed"),
        (system(errno.EIO), "MachineFailed"),
        (system(errno.ENOSPC), "MachineFailed"),
        (system(errno.ESTALE), "MachineFailed"),
        (system(errno.EACCES), "MachineFailed"),
        (wrapped(system(errno.ESTALE)), "MachineFailed"),
        (Exception("Stale file handle (os error 116)"), "MachineFailed"),
        (MemoryError(), "OutOfMemory"),
        (OutOfMemoryError("HIP out of memory."), "OutOfMemory"),
        (AcceleratorError(DEVICE.format("out of memory")), "OutOfMemory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "OutOfMemory"),
        (system(errno.ENOMEM), "OutOfMemory"),
        (wrapped(MemoryError()), "OutOfMemory"),
    ],
    ids=repr,
)
def test_what_a_machine_does_is_an_error_at_every_stage(error: Exception, reason: str) -> None:
    for stage in ("base", "model", "adapter", "tokenizer", "generation"):
        found = finding_of(_failure(_StageError(stage, error)), "base")
        assert (found.reason, found.result) == (reason, CheckResult.ERROR)


@pytest.mark.parametrize(
    ("stage", "error", "reason"),
    [
        ("model", system(errno.ENOENT), "ModelLoadFailed"),
        ("model", OSError("it has no file named model.safetensors"), "ModelLoadFailed"),
        ("tokenizer", Exception("No such file or directory (os error 2)"), "ModelLoadFailed"),
        ("generation", IndexError("index out of range in self"), "ModelLoadFailed"),
        ("generation", AcceleratorError(DEVICE.format("device-side assert triggered")),
         "ModelLoadFailed"),
        ("template", TemplateError("fails: HIP error: (os error 5)"), "TemplateBroken"),
    ],
)  # fmt: skip
def test_what_a_model_does_is_its_own_fault(stage: str, error: Any, reason: str) -> None:
    found = finding_of(_failure(_StageError(stage, error)), "base")
    assert (found.reason, found.result) == (reason, CheckResult.FAIL)


def test_a_hub_that_does_not_answer_is_told_as_a_base_model_that_is_not_there() -> None:
    lost = wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
    assert finding_of(_failure(_StageError("base", lost)), "org/base").reason == "BaseModelMissing"


def test_a_row_that_speaks_of_memory_is_a_row_that_cannot_be_used() -> None:
    told = _failure(_StageError("rows", RowError("out of memory (os error 5)")))
    assert finding_of(told, "base").reason == "HeldOutUnreadable"


def test_weights_that_the_disk_does_not_give_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An I/O error cannot be asked of a disk; the library is told to have seen one."""

    def broken(*_: object, **__: object) -> None:
        raise system(errno.EIO)

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"short")
    with pytest.raises(UnreadableFileError):
        read_header(path)
    monkeypatch.setattr("safetensors.safe_open", broken)
    with pytest.raises(OSError, match="Input/output"):
        read_header(path)
    assert machine.is_its_fault(system(errno.EIO))
