"""docs/tutorial.md from the training to the hand-over, typed as it stands there.

What comes before, the installation, and a cluster's own data have tests of their own; so has
`examples/ask.py`, which takes longer than the training.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.cluster.jobs import judged, status
from tests.cluster.support import ROOT, STATE
from tests.documented import commands
from tests.unit import s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.support import Cluster
    from tests.unit.s3_server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

JOB = "tiny-lora"
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
TAKEN = ("--watch", "examples/ask.py")
"""What never ends, and what asks two models 75 questions."""

Typed = list[tuple[str, str]]


def typed() -> list[str]:
    """The commands of the steps from the training on."""
    steps = PAGE[PAGE.index("## 3. ") : PAGE.index("## Where to go")]
    return [each for each in commands(steps) if not any(sign in each for sign in TAKEN)]


def manifest(place: str) -> str:
    """publish.yaml of the page, with a store that is there."""
    (block,) = (
        each
        for each in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        if "serve:" in each
    )
    found = yaml.safe_load(block)
    found["spec"]["output"]["publish"]["s3"]["endpoint"] = place
    return yaml.safe_dump(found)


@pytest.fixture
def shell(
    workspace: Cluster, store: Server, tmp_path: Path
) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Runs a line as bash does, in a copy of the checkout; `default` is the test's namespace."""
    for name in ("examples", ".venv", ".cluster"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "publish.yaml").write_text(manifest(store.url))
    config = json.loads(workspace.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = workspace.namespace
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    path = f"{tmp_path / '.venv' / 'bin'}:{STATE / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PATH": path}

    def run(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    secret = ("secret", "store-writer", "--ignore-not-found")
    workspace.kubectl("delete", *secret)
    yield run
    workspace.kubectl("delete", "ftj", JOB, "--ignore-not-found", "--wait=true")
    workspace.kubectl("delete", *secret)


def meant(command: str, namespace: str) -> str:
    """With this namespace and these keys in place of the reader's."""
    command = command.replace("namespaces/default/", f"namespaces/{namespace}/")
    command = re.sub(r" default$", f" {namespace}", command)
    for name, value in s3_server.KEYS.items():
        command = command.replace(f"{name}=…", f"{name}={value}")
    return command


def until_it_trains(run: Callable[[str], tuple[int, str]], line: str) -> tuple[int, str]:
    """What a pod answers whose training has a step, and not before."""
    end = time.monotonic() + 120
    while "finetuning_training_step{" not in (answer := run(line))[1] and time.monotonic() < end:
        time.sleep(1)
    return answer


def test_a_reader_comes_from_a_job_to_a_model_in_a_store_and_what_serves_it(
    workspace: Cluster, shell: Callable[[str], tuple[int, str]], store: Server, tmp_path: Path
) -> None:
    store.client().create_dir("models")
    said: dict[str, str] = {}
    for command in typed():
        line = meant(command, workspace.namespace)
        code, told = until_it_trains(shell, line) if "get --raw" in line else shell(line)
        assert code == 0, f"{line}: {told}\n{workspace.describe()}"
        said[command] = told
    assert judged(workspace, JOB)["validation"]["result"] == "4/4"

    def of(sign: str) -> str:
        (found,) = (told for command, told in said.items() if sign in command)
        return found

    assert "finetuning_training_step{" in of("get --raw")
    assert "Summary: 4/4 checks passed" in of("validation.report")
    assert "holds tiny-lora's model" in of("fetch.sh")
    assert (tmp_path / "tiny-lora.html").stat().st_size > 50_000
    assert of("publish.copies") == "s3://models/tiny-lora"
    model, service = yaml.safe_load_all(of("status.serving"))
    assert (model["kind"], service["kind"]) == ("AIMModel", "AIMService")
    (source,) = model["spec"]["modelSources"]
    assert source["sourceUri"] == "s3://models/tiny-lora"
    with store.client().open_input_stream("models/tiny-lora/publication.json") as stream:
        sealed = json.loads(bytes(stream.read()))
    assert sealed["complete"] is True
    assert {"model.safetensors", "README.md", "tokenizer.json"} <= set(sealed["files"])
    assert status(workspace, JOB)["publish"]["phase"] == "Published"
