"""docs/python.md as it stands: its code is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.unit.client.server import Api, pod
from tests.unit.client.test_client import ENDED, TRAINED

from finetuning.client import FineTuningClient

PAGE = Path(__file__).resolve().parents[3] / "docs" / "python.md"


def test_the_examples_run(api: Api, kubeconfig: Path) -> None:
    """The job is over as soon as it is submitted; waiting has tests of its own."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    told = {**TRAINED, "validation": {"phase": "Passed", "attempt": 1, "report": "4/4"}}
    api.on_create = {"status": told}
    api.pods = [pod("p", "my-job", "training", "finetuning", ENDED)]
    api.logs["p"] = "bye\n"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks).replace("team-a", "team")],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Succeeded ", "4/4", "bye", "", "{'my-job': <Phase.SUCCEEDED: 'Succeeded'>}",
    ]  # fmt: skip


def test_every_call_is_documented() -> None:
    calls = {name for name in vars(FineTuningClient) if not name.startswith("_")}
    named = set(re.findall(r"`(\w+)\(", PAGE.read_text()))
    assert calls - named == {"close", "namespace", "context"}
