"""The kustomize example, built by kubectl and judged by the real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_the_kustomize_example_is_accepted(scratch: Cluster) -> None:
    built = scratch.run("kubectl", "kustomize", "examples/gitops/kustomize")
    job = next(each for each in yaml.safe_load_all(built) if each["kind"] == "FineTuningJob")
    assert (job["metadata"]["name"], job["spec"]["hyperparameters"]["epochs"]) == ("my-job-2", 5)
    here = built.replace("namespace: team-a", f"namespace: {scratch.namespace}")
    done = scratch.kubectl("apply", "--dry-run=server", "--filename", "-", stdin=here)
    assert "my-job-2 created (server dry run)" in done
    assert "my-rows created (server dry run)" in done
