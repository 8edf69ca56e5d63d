"""The commands of docs/trainer.md train; model and data are small ones, the steps a few."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tests.ports import free_port

from finetuning.base.app import main

pytestmark = pytest.mark.training

PAGE = Path(__file__).resolve().parents[3] / "docs" / "trainer.md"
START = "python3 -m finetuning.base.app "


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line) for line in lines if line.startswith(START)]


def test_each_method_is_shown() -> None:
    text = " ".join(commands())
    assert all(f"--method {method} " in text for method in ("lora", "qlora", "full"))


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_trains(
    command: str, tiny_model: Path, rows_file: Path, pairs_file: Path, tmp_path: Path
) -> None:
    argv = shlex.split(command.removeprefix(START))
    if "--enable-metrics" in argv:
        argv[argv.index("--metrics-port") + 1] = str(free_port())
    data = pairs_file if "dpo" in argv else rows_file
    small = ["--model-id", str(tiny_model), "--dataset-path", str(data), "--max-steps", "3"]
    output = tmp_path / "out"
    assert main([*argv, *small, "--eval-steps", "2", "--output-dir", str(output)]) == 0
    info = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
    assert info["results"]["global_step"] == 3
