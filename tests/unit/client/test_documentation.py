"""docs/python.md as it stands: its code is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests import notebook
from tests.unit.client.server import Api, pod
from tests.unit.client.test_client import ENDED, TRAINED

from finetuning.client import FineTuningClient

PAGE = Path(__file__).resolve().parents[3] / "docs" / "python.md"


def output_of(program: str, kubeconfig: Path) -> str:
    """In a process of its own, as a user would run it."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_run(api: Api, kubeconfig: Path) -> None:
    """The job is over as soon as it is submitted; waiting has tests of its own."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    told = {**TRAINED, "validation": {"phase": "Passed", "attempt": 1, "report": "4/4"}}
    api.on_create = {"status": told}
    api.pods = [pod("p", "my-job", "training", "finetuning", ENDED)]
    api.logs["p"] = "bye\n"
    shown = output_of("\n".join(blocks).replace("team-a", "team"), kubeconfig)
    assert shown.splitlines() == [
        "Succeeded ", "4/4", "bye", "", "{'my-job': <Phase.SUCCEEDED: 'Succeeded'>}",
    ]  # fmt: skip


def test_the_notebook_runs_and_holds_no_output_of_anybody(api: Api, kubeconfig: Path) -> None:
    told = {**TRAINED, "trainLoss": 0.5, "evalLoss": 0.25, "modelPath": "pvc://c"}
    verdict = {"phase": "Passed", "attempt": 1, "report": "Summary: 4/4 checks passed"}
    api.on_create = {"status": told | {"validation": verdict}}
    api.pods = [pod("p", "from-a-notebook", "training", "finetuning", ENDED)]
    steps = (f"12:00:0{n} step {n}/3  epoch 0.{n}  loss {3 - n}.5000  lr 1e-3\n" for n in (1, 2, 3))
    api.logs["p"] = "".join(steps) + "12:00:04 step 3  eval loss 0.2500\n"
    shown = output_of(notebook.program(), kubeconfig)
    assert "\nSucceeded 0.5 0.25\n[2.5, 1.5, 0.5] [2.5, 1.5, 0.5]\n" in shown
    assert "Summary: 4/4 checks passed\npvc://c" in shown
    assert api.jobs == {}, "the last cell deletes it"
    kept = notebook.contents()
    assert (kept["nbformat"], kept["metadata"]["kernelspec"]["language"]) == (4, "python")
    assert not any(each.get("outputs") or each.get("execution_count") for each in kept["cells"])


def test_every_call_is_documented() -> None:
    calls = {name for name in vars(FineTuningClient) if not name.startswith("_")}
    named = set(re.findall(r"`(\w+)\(", PAGE.read_text()))
    assert calls - named == {"close", "namespace", "context"}
