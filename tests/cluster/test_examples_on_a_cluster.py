"""The examples that no other test here takes for its own, on the real cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from tests.cluster.jobs import EXAMPLES, example, judged, running, status
from tests.cluster.jobs import with_spec as changed

from finetuning.controller import naming

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_preferences_are_learned_and_nothing_is_forgotten(workspace: Cluster) -> None:
    pairs = {"source": "configmap:finetuning-demo-data:train.preferences.jsonl"}
    with running(workspace, changed(example("dpo", "by-pairs"), dataset=pairs)) as name:
        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert seen["validation"]["result"] == "4/4", seen["validation"]
        assert seen["evalLoss"] < 0.6931, "of a model that prefers neither answer"


def test_a_job_of_a_queue_waits_for_kueue(workspace: Cluster) -> None:
    manifest = yaml.safe_load((EXAMPLES / "kueue" / "job.yaml").read_text())
    with running(workspace, manifest) as name:
        workspace.wait(
            "it is queued", lambda: status(workspace, name).get("reason") == "Queued", 60
        )
        job = workspace.get("job", naming.names(name).training)
        assert job["spec"]["suspend"] is True
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_private_model_waits_for_the_secret_with_its_token(workspace: Cluster) -> None:
    small = {"limits": {"amd.com/gpu": 1}, "requests": {"cpu": "100m", "memory": "64Mi"}}
    manifest = changed(example("private", "without-a-token"))
    manifest["spec"]["resources"] = small
    with running(workspace, manifest) as name:

        def told() -> bool:
            return status(workspace, name).get("reason") == "ContainerConfigError"

        workspace.wait("it says what is missing", told, 90)
        assert '"hub" not found' in status(workspace, name)["message"]
