"""The real cluster of `make cluster-up`, with the images and the operator of this checkout."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hack.cluster import tools
from tests.cluster.support import OPERATOR_NAMESPACE, Cluster, make_namespace
from tests.unit import s3_server

from finetuning.api.crd import NAME as CRD_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.controlplane import ControlPlane
    from tests.unit.s3_server import Server


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Cluster:
    """The API server with the resource definition, whether or not the operator runs."""
    cluster = Cluster()
    if request.config.getoption("--kubernetes"):
        cluster = reached(request.getfixturevalue("plane"))
    elif not cluster.kubeconfig.exists():
        pytest.fail("no cluster: type `make cluster-up`, or run the tests with `make test-cluster`")
    cluster.run("kubectl", "apply", "--server-side", "--force-conflicts", "--filename", "crds")
    cluster.wait_for_definitions(f"crd/{CRD_NAME}")
    return cluster


def reached(plane: ControlPlane) -> Cluster:
    """A control plane of the tests' own, by kubectl."""
    tools.link(tools.build_all((tools.KUBECTL,)), ["kubectl"])
    return Cluster(kubeconfig=plane.kubeconfig("admin"))


@pytest.fixture(scope="session")
def operator(api: Cluster) -> Cluster:
    """The operator as Helm installed it, ready."""
    system = Cluster(OPERATOR_NAMESPACE)
    system.kubectl("rollout", "status", "deployment/finetuning-operator", "--timeout=120s")
    return system


@pytest.fixture(scope="session")
def suffix(worker_id: str) -> str:
    """What keeps the namespaces of tests that run side by side apart."""
    return "" if worker_id == "master" else f"-{worker_id}"


@pytest.fixture(scope="session")
def workspace(operator: Cluster, suffix: str) -> Iterator[Cluster]:
    """A namespace with the small model in a claim and the example data in a ConfigMap."""
    cluster = make_namespace(f"e2e{suffix}")
    cluster.run("bash", "examples/tiny-model/load.sh", cluster.namespace)
    data = cluster.kubectl(
        "create", "configmap", "finetuning-demo-data", "--dry-run=client", "--output", "yaml",
        "--from-file=examples/data/train.jsonl",
        "--from-file=examples/data/heldout.jsonl",
        "--from-file=examples/data/train.preferences.jsonl",
        "--from-file=broken.jsonl=examples/data/bad/broken-line-17.jsonl",
        "--from-file=empty.jsonl=examples/data/bad/empty.jsonl",
    )  # fmt: skip
    cluster.kubectl("apply", "--server-side", "--filename", "-", stdin=data)
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=true", "--timeout=180s")


@pytest.fixture(scope="session")
def scratch(api: Cluster, suffix: str) -> Iterator[Cluster]:
    """An empty namespace that forbids everything the restricted profile forbids."""
    cluster = make_namespace(f"e2e-scratch{suffix}")
    yield cluster
    cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def node_address(api: Cluster) -> str:
    """By which pods reach servers of the tests, where the node is this machine."""
    (node, *_) = api.get("nodes")
    addresses = {each["type"]: each["address"] for each in node["status"]["addresses"]}
    try:
        with socket.create_server((addresses["InternalIP"], 0)):
            return str(addresses["InternalIP"])
    except OSError:
        pytest.skip("the node is another machine: pods cannot reach a server of the tests")


@pytest.fixture
def store(node_address: str, tmp_path: Path) -> Iterator[Server]:
    with s3_server.running(tmp_path, node_address) as server:
        yield server
