"""The page on the trainer shows what --check-data says of the example data."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "trainer.md"


PATTERN = r"^```console\n\$ python3 (-m finetuning.base.app --check-data .*?)```"
SHOWN = re.findall(PATTERN, PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.training
@pytest.mark.parametrize("shown", SHOWN, ids=["a share", "a source of its own"])
def test_the_documented_check_says_what_the_page_shows(
    shown: str, model: Path, tmp_path: Path
) -> None:
    command, said = re.split(r"(?<!\\)\n", shown, maxsplit=1)
    argv = shlex.split(command.replace("\\\n", " "))
    argv[argv.index("--model-id") + 1] = str(model)
    done = subprocess.run(
        [sys.executable, *argv, "--output-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == said
