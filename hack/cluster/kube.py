"""Talk to the cluster of this checkout, never to another one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from hack.cluster import paths
from hack.cluster.shell import ClusterError, attempt, run

if TYPE_CHECKING:
    import subprocess


def environment() -> dict[str, str]:
    """Point every client at this checkout's kubeconfig."""
    path = f"{paths.BIN}:{os.environ['PATH']}"
    return {"KUBECONFIG": str(paths.KUBECONFIG), "PATH": path}


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl; a failure ends the command with kubectl's own words."""
    return run(paths.BIN / "kubectl", *words, stdin=stdin, env=environment())


def try_kubectl(*words: str, timeout: float | None = 20) -> subprocess.CompletedProcess[str]:
    """Run kubectl where a failure is an answer, too."""
    return attempt(paths.BIN / "kubectl", *words, env=environment(), timeout=timeout)


def get(*words: str) -> dict[str, Any]:
    """Read one object or a list."""
    found: dict[str, Any] = json.loads(kubectl("get", *words, "--output=json"))
    return found


def api_ready() -> bool:
    """Tell whether the API server answers."""
    return try_kubectl("get", "--raw=/readyz", timeout=10).returncode == 0


def apply(text: str) -> None:
    """Apply manifests as their only owner."""
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=text)


def node_ready() -> bool:
    """Tell whether a node is Ready and offers its GPUs."""
    found = try_kubectl("get", "nodes", "--output=json")
    if found.returncode:
        return False
    return any(map(offers_work, json.loads(found.stdout)["items"]))


def offers_work(node: dict[str, Any]) -> bool:
    """Tell whether Pods that ask for a GPU can start on the node."""
    status = node.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    gpus = status.get("allocatable", {}).get("amd.com/gpu", "0")
    return conditions.get("Ready") == "True" and gpus != "0" and not node["spec"].get("taints")


def container_id(namespace: str, pod: str, container: str) -> str:
    """Find a running container's id."""
    found = get("pod", pod, f"--namespace={namespace}")
    kinds = ("containerStatuses", "initContainerStatuses")
    statuses = [status for kind in kinds for status in found["status"].get(kind, [])]
    for status in statuses:
        if status["name"] == container and "running" in status["state"]:
            return str(status["containerID"].rpartition("/")[2])
    names = ", ".join(status["name"] for status in statuses)
    raise ClusterError(
        f"no running container {container!r} in pod {namespace}/{pod} (has: {names})"
    )
