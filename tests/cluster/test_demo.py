"""The README's first command, its hints, and what its images promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cluster.support import ROOT, STATE, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(operator: Cluster) -> Iterator[str]:
    """What `make demo` prints on a cluster that is up."""
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    yield done.stdout
    Cluster().kubectl("delete", "namespace", "finetuning-demo", "--wait=false")
    subprocess.run([sys.executable, "-m", "hack.deploy"], cwd=ROOT, check=True)


@pytest.mark.long
@pytest.mark.documented
def test_make_demo_trains_and_validates_a_model(demo: str) -> None:
    assert "$ kubectl --namespace finetuning-demo apply -f examples/finetuningjob-lora.yaml" in demo
    assert "get finetuningjobs --watch" in demo
    assert "Summary: 4/4 checks passed" in demo


@pytest.mark.long
@pytest.mark.documented
def test_make_demo_fetches_the_model_and_shows_that_it_answers_differently(demo: str) -> None:
    counted = re.search(r"before (\d+) of (\d+), after (\d+) of", demo)
    assert counted is not None
    assert "runs/fetched/tiny-lora holds tiny-lora's model" in demo
    before, asked, after = (int(number) for number in counted.groups())
    assert before == 0
    assert after > asked / 2


@pytest.mark.long
@pytest.mark.documented
def test_the_commands_it_suggests_work(demo: str) -> None:
    hints = demo.partition("Look around:")[2].replace("\r", "")
    setting, *others = [x.strip() for x in hints.splitlines() if x.startswith("  ")]
    assert setting == "export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.cluster/bin:$PATH"
    for command in (*others, "kubectl get nodes"):
        words = f"{setting} && {command}"
        subprocess.run(["bash", "-c", words], cwd=ROOT, check=True, capture_output=True)


def test_both_images_were_built_from_the_dockerfiles(scratch: Cluster) -> None:
    """The trainer's has torch, the operator's has not, and neither runs as root."""
    found = {}
    for part, image in json.loads((STATE / "images.json").read_text()).items():
        context = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        code = "import importlib.util as u; print(u.find_spec('torch') is not None)"
        container = {"name": "look", "image": image, "command": ["python3", "-c", code]}
        scratch.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"look-{part}"},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [container | {"securityContext": context}],
                },
            }
        )
        done = "--for=jsonpath={.status.phase}=Succeeded"
        scratch.kubectl("wait", done, f"pod/look-{part}", "--timeout=90s")
        found[part] = scratch.kubectl("logs", f"look-{part}").strip()
    assert found == {"operator": "False", "trainer": "True"}
