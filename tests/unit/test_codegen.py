"""Derived files: in the repository as the code says, and a stale one is found."""

import subprocess
import sys
from pathlib import Path

import pytest

from finetuning import codegen


def test_every_generated_file_is_as_the_code_says() -> None:
    assert codegen.stale(codegen.ROOT) == {}


def test_rendering_twice_gives_the_same_bytes() -> None:
    assert [r() for r in codegen.TARGETS.values()] == [r() for r in codegen.TARGETS.values()]


def test_every_generated_file_says_so() -> None:
    """But for JSON, which has no comments."""
    texts = {path: render() for path, render in codegen.TARGETS.items() if ".json" not in path}
    assert [path for path, text in texts.items() if codegen.MARK not in text] == []


def test_the_check_names_a_stale_file_and_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / codegen.CHART).mkdir(parents=True)
    (tmp_path / codegen.MATRIX).parent.mkdir()
    for path in (
        "pyproject.toml",
        codegen.MATRIX,
        codegen.SOAK,
        codegen.RECORD,
        f"{codegen.CHART}/README.md",
        f"{codegen.CHART}/values.yaml",
        f"{codegen.CHART}/values.schema.json",
    ):
        (tmp_path / path).write_text((codegen.ROOT / path).read_text())
    monkeypatch.setattr(codegen, "ROOT", tmp_path)
    assert codegen.main([]) == 0
    assert codegen.main(["--check"]) == 0
    capsys.readouterr()

    crd = tmp_path / "crds" / "finetuningjobs.aim.amd.com.yaml"
    crd.write_text(crd.read_text().replace("maximum: 4096", "maximum: 4097"))
    assert codegen.main(["--check"]) == 1
    told = capsys.readouterr()
    assert told.out == "stale: crds/finetuningjobs.aim.amd.com.yaml\n"
    assert "make generate" in told.err

    assert codegen.main([]) == 0
    assert codegen.stale(tmp_path) == {}


def test_generation_needs_neither_a_cluster_client_nor_torch() -> None:
    heavy = {"kopf", "kubernetes", "torch", "transformers", "aiohttp"}
    script = f"import sys, finetuning.codegen; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_no_right_to_read_secrets_or_to_enter_pods() -> None:
    rules = codegen.chart_rules()
    words = ("secrets", "configmaps", "pods/exec", "pods/log", "'*'", "escalate", "impersonate")
    assert [word for word in words if word in rules] == []
