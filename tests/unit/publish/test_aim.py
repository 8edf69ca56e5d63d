"""The runtime profile for AIM: in the form of AIM's own, and part of the copy."""

from pathlib import Path

import pytest
import yaml
from tests.unit.publish.conftest import write_run

from finetuning.publish.__main__ import main

ASKED = ["--aim-gpu-model", "MI300X", "--aim-gpus", "2", "--aim-model-id", "team/demo"]
METADATA = {"engine", "gpu", "precision", "gpu_count", "metric", "manual_selection_only", "type"}
"""What AIM's schema of a profile requires."""


def test_a_profile_names_model_hardware_and_precision(run: Path) -> None:
    assert main(["--model-path", str(run), *ASKED, "--aim-id", "Qwen/Qwen3-32B"]) == 0
    (path,) = (run / "publish" / "aim").iterdir()
    assert path.name == "vllm-mi300x-bf16-tp2-latency.yaml"
    found = yaml.safe_load(path.read_text())
    assert (found["aim_id"], found["model_id"]) == ("Qwen/Qwen3-32B", "team/demo")
    assert set(found["metadata"]) == METADATA
    assert found["metadata"]["gpu_count"] == found["engine_args"]["tensor-parallel-size"] == 2
    assert found["engine_args"]["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ASKED[:4], "give --aim-model-id too"),
        ([*ASKED, "--aim-gpus", "9"], "invalid choice: 9"),
    ],
)
def test_a_profile_that_cannot_be_written_says_why(
    run: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model-path", str(run), *given]) == 2
    assert words in capsys.readouterr().err


def test_a_run_that_does_not_tell_its_precision_gets_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", aim_profile__json="{}")
    assert main(["--model-path", str(run), *ASKED]) == 2
    assert "drop --aim-gpu-model" in capsys.readouterr().err
