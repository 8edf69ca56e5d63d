"""The Python client against the real API server, operator and kubelet."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from tests import notebook
from tests.cluster.jobs import brief, example, long_run
from tests.cluster.support import STATE

from finetuning.api.v1alpha1 import Phase
from finetuning.client import (
    AsyncFineTuningClient,
    FineTuningClient,
    InvalidJobError,
    JobExistsError,
    JobNotFoundError,
    LogOf,
    Until,
    WrongStateError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def client(workspace: Cluster) -> Iterator[FineTuningClient]:
    where = workspace.namespace
    with FineTuningClient(kubeconfig=STATE / "kubeconfig", namespace=where) as found:
        yield found


@pytest.mark.long
@pytest.mark.documented
def test_the_notebook_trains_a_model(workspace: Cluster) -> None:
    config = workspace.kubectl("config", "view", "--raw", "--minify", "--output", "json")
    here = json.loads(config)
    here["contexts"][0]["context"]["namespace"] = workspace.namespace
    with tempfile.NamedTemporaryFile("w", suffix=".json") as kubeconfig:
        json.dump(here, kubeconfig)
        kubeconfig.flush()
        shown = workspace.run(
            "env", f"KUBECONFIG={kubeconfig.name}", sys.executable, "-c", notebook.program()
        )
    assert "Summary: 4/4 checks passed" in shown
    assert workspace.get("ftj", "from-a-notebook") is None


@pytest.mark.long
def test_from_a_manifest_to_a_verdict(client: FineTuningClient, workspace: Cluster) -> None:
    manifest = brief("lora", "by-client")
    client.submit(manifest, dry_run=True)
    assert workspace.get("ftj", "by-client") is None
    client.submit(manifest)
    try:
        with pytest.raises(JobExistsError, match="already exists"):
            client.submit(manifest)
        followed = "".join(client.log("by-client", follow=True))
        assert "by-client" in [job.metadata.name for job in client.list()]
        job = client.wait("by-client", timeout=300)
        assert job.status.phase is Phase.SUCCEEDED
        assert job.status.validation is not None
        assert job.status.validation.summary == "4/4 checks passed"
        assert f"{job.status.total_steps}" in followed
        assert "4/4 checks passed" in "".join(client.log("by-client", LogOf.VALIDATION))
        assert "".join(client.log("by-client", LogOf.SIDECAR, tail=1)).count("\n") == 1
        again = client.revalidate("by-client", timeout=300)
        assert again.status.validation is not None
        assert again.status.validation.attempt == 2
        with pytest.raises(WrongStateError, match="nothing to pause"):
            client.pause("by-client")
    finally:
        client.delete("by-client")
    with pytest.raises(JobNotFoundError):
        client.get("by-client")


@pytest.mark.long
def test_a_pause_saves_and_a_resume_goes_on(client: FineTuningClient, workspace: Cluster) -> None:
    client.submit(long_run("lora", "paused-by-client"))
    try:
        client.wait("paused-by-client", lambda job: (job.status.current_step or 0) > 0, timeout=240)
        client.pause("paused-by-client")
        job = client.wait("paused-by-client", Until.PAUSED, timeout=120)
        assert job.status.phase is Phase.PAUSED
        saved = job.status.current_step or 0
        client.resume("paused-by-client")
        client.wait(
            "paused-by-client",
            lambda job: (
                job.status.phase is Phase.RUNNING and (job.status.current_step or 0) > saved
            ),
            timeout=240,
        )
    finally:
        client.delete("paused-by-client")


def test_the_api_server_judges_what_the_models_cannot(client: FineTuningClient) -> None:
    """A label's syntax is no matter of ours."""
    manifest: dict[str, Any] = example("lora", "labelled")
    manifest["metadata"]["labels"] = {"team": "not a label"}
    with pytest.raises(InvalidJobError, match="not a label"):
        client.submit(manifest, dry_run=True)


def test_asyncio_has_the_same(workspace: Cluster) -> None:
    async def names() -> list[str]:
        path = str(STATE / "kubeconfig")
        async with await AsyncFineTuningClient.connect(kubeconfig=path) as found:
            return [job.metadata.namespace for job in await found.list(all_namespaces=True)]

    assert isinstance(asyncio.run(names()), list)
