"""Which cluster a client speaks to, and as whom."""

from pathlib import Path

import pytest
import yaml
from tests.unit.client.server import Api
from tests.unit.controller.objects import job_body

from finetuning.client import (
    AsyncFineTuningClient,
    ClusterError,
    FineTuningClient,
    InvalidJobError,
    NoClusterError,
)


def test_two_namespaces_contradict_each_other(api: Api, kubeconfig: Path) -> None:
    with (
        FineTuningClient(kubeconfig=kubeconfig, namespace="mine") as client,
        pytest.raises(InvalidJobError, match="the namespace mine was asked for"),
    ):
        client.submit(job_body())
    assert api.requests == []


async def test_a_kubeconfig_is_a_path_too(api: Api, kubeconfig: Path) -> None:
    async with await AsyncFineTuningClient.connect(kubeconfig=kubeconfig) as asking:
        assert await asking.list() == []


def test_another_context_has_its_own_namespace(api: Api, kubeconfig: Path) -> None:
    with FineTuningClient(kubeconfig=kubeconfig, context="other") as client:
        assert (client.context, client.namespace) == ("other", "default")
    with pytest.raises(ClusterError, match='no context "x"; it has lab, other'):
        FineTuningClient(kubeconfig=kubeconfig, context="x")


@pytest.mark.parametrize("program", ["/nowhere/login", "false"])
def test_a_login_that_cannot_be_had_is_told(api: Api, kubeconfig: Path, program: str) -> None:
    """The library goes on without one, and the answer is that of somebody else."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": program}
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    with pytest.raises(NoClusterError, match="the program that logs in"):
        FineTuningClient(kubeconfig=kubeconfig)
    assert api.requests == []


async def test_it_works_where_a_loop_runs_already(api: Api, kubeconfig: Path) -> None:
    """As in a notebook's cell."""
    api.keep()
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        assert client.get("demo").metadata.name == "demo"
    client.close()
