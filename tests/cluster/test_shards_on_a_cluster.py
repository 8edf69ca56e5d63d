"""Two pods hold a half of every weight each, and what they train is a whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.cluster.jobs import condition, example, judged, reached_step, running
from tests.cluster.jobs import with_spec as changed

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_two_pods_share_out_a_model_that_passes_validation(workspace: Cluster) -> None:
    steps = {"fsdp": True, "batchSize": 4, "epochs": 5, "learningRate": 0.001, "evalSteps": 80}
    manifest = changed(example("full", "shards"), workers=2, hyperparameters=steps)
    with running(workspace, manifest) as name:
        reached_step(workspace, name)
        said = workspace.kubectl("logs", f"job/{name}-train", "--all-pods", "--prefix")
        assert "with 2 processes, each with a part of the model," in said
        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert seen["currentStep"] == seen["totalSteps"]
        assert seen.get("restarts", 0) == 0
        assert workspace.get("job", f"{name}-train")["status"]["succeeded"] == 2
        assert condition(seen, "Validated")["status"] == "True", seen["validation"]
        assert "Summary: 4/4 checks passed" in seen["validation"]["report"]
