"""Merges, quantises and asks models; one process for all, because torch takes long to load.

Run as a script it reads one order a line, JSON, and answers each with one line.
"""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from finetuning.monitoring.validators.checks.probe import ProbeReport, ProbeRequest


class Prober:
    """The other side of the pipe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()

    def probe(self, request: ProbeRequest) -> ProbeReport:
        return ProbeReport.model_validate_json(self._order(probe=request.model_dump()))

    def merge(self, base: Path, adapter: Path, target: Path, *, four_bits: bool) -> None:
        told = {"base": str(base), "adapter": str(adapter), "target": str(target)}
        assert self._order(merge={**told, "four_bits": four_bits}) == "done"

    def _order(self, **order: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from finetuning.monitoring.validators.checks.model_process import answer_to

    for line in sys.stdin:
        order = json.loads(line)
        if "probe" in order:
            text = answer_to(ProbeRequest.model_validate(order["probe"])).model_dump_json()
        else:
            text = _merge(**order["merge"])
        answers.write(text + "\n")
        answers.flush()


def _merge(base: str, adapter: str, target: str, *, four_bits: bool) -> str:
    """The adapter folded into its base, as a whole model; stored in 4 bit if wished."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(target)
    if four_bits:
        small = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        whole = AutoModelForCausalLM.from_pretrained(target, quantization_config=small)
        whole.save_pretrained(target)
    return "done"


if __name__ == "__main__":
    _serve()
