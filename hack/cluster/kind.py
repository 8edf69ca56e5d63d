"""The cluster as a kind node in Docker: one per checkout, so that none has to make room."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from hack.cluster import kube, paths, tools
from hack.cluster.shell import attempt, locked, run, say, step, wait_until, write

NODE_PORT = 30909
GPU_PATCH = '[{"op": "add", "path": "/status/capacity/amd.com~1gpu", "value": "8"}]'


def cluster_name(checkout: Path) -> str:
    """Name the cluster after the checkout."""
    return f"finetuning-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}"


NAME = cluster_name(paths.ROOT)
NODE = f"{NAME}-control-plane"


def settings(policy: Path, audit: Path) -> dict[str, Any]:
    """Ask kind for a node with an audit log and one port for Prometheus."""
    inside, log = "/etc/kubernetes/audit-policy.yaml", "/var/log/audit"
    flags = {"audit-policy-file": inside, "audit-log-path": f"{log}/audit.log"}
    volumes = [
        {"name": "policy", "hostPath": inside, "mountPath": inside, "readOnly": True},
        {"name": "audit", "hostPath": log, "mountPath": log, "readOnly": False},
    ]
    patch = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": [{"name": name, "value": value} for name, value in flags.items()],
            "extraVolumes": volumes,
        },
    }
    # A changed Secret or ConfigMap reaches its pods within seconds, not within a minute.
    kubelet = {"kind": "KubeletConfiguration", "syncFrequency": "5s"}
    node = {
        "role": "control-plane",
        "extraMounts": [
            {"hostPath": str(policy), "containerPath": inside, "readOnly": True},
            {"hostPath": str(audit), "containerPath": log},
        ],
        "extraPortMappings": [{"containerPort": NODE_PORT, "listenAddress": "127.0.0.1"}],
        "kubeadmConfigPatches": [json.dumps(patch), json.dumps(kubelet)],
    }
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}


def up() -> None:
    """Bring the cluster of this checkout up; a second call finds the first."""
    programs = tools.build_all((*tools.COMMON, tools.KIND))
    tools.link(programs, ("kubectl", "helm", "kind"))
    with locked(paths.cache() / "locks" / NAME, "waiting: another start or stop is under way"):
        remove_orphans(programs["kind"])
        if NAME in clusters(programs["kind"]) and not revive():
            say("the node of an earlier start does not answer; starting afresh")
            delete(programs["kind"], NAME)
        if NAME not in clusters(programs["kind"]):
            with step("starting Kubernetes in Docker"):
                create(programs["kind"])
        offer_gpus()
        wait_until("the node", kube.node_ready, 180, f"`docker logs {NODE}`")


def clusters(kind: Path) -> list[str]:
    """List kind's clusters."""
    return run(kind, "get", "clusters", "--quiet").split()


def revive() -> bool:
    """Start the node again after a reboot and tell whether the API answers."""
    attempt("docker", "start", NODE)
    try:
        wait_until("the API server", kube.api_ready, 60)
    except Exception:  # noqa: BLE001  Whatever is wrong with it, a new one follows.
        return False
    return True


def create(kind: Path) -> None:
    """Create the node; the user's own kubeconfig is not touched."""
    audit, policy = paths.STATE / "audit", paths.STATE / "audit-policy.yaml"
    audit.mkdir(parents=True, exist_ok=True)
    # The API server runs as root and would make a log that only root reads.
    write(audit / "audit.log", "")
    paths.AUDIT_LOG.unlink(missing_ok=True)
    paths.AUDIT_LOG.symlink_to(audit / "audit.log")
    write(policy, (paths.MANIFESTS / "audit-policy.yaml").read_text())
    write(owner_file(NAME), str(paths.ROOT))
    config = paths.STATE / "kind.json"
    write(config, json.dumps(settings(policy, audit)))
    words = ["--name", NAME, "--config", str(config), "--wait", "3m"]
    run(kind, "create", "cluster", *words, "--kubeconfig", paths.KUBECONFIG)


def offer_gpus() -> None:
    """Show GPUs on the node; the scheduler counts them like real ones."""
    kube.kubectl("patch", "node", NODE, "--subresource=status", "--type=json", f"-p={GPU_PATCH}")


def owner_file(name: str) -> Path:
    """Find where a cluster's checkout is on record."""
    return paths.cache() / "kind" / name


def remove_orphans(kind: Path) -> None:
    """Remove clusters whose checkout has been deleted."""
    for name in clusters(kind):
        file = owner_file(name)
        if file.exists() and not Path(file.read_text()).exists():
            say(f"removing the cluster of {file.read_text()}, which is gone")
            delete(kind, name)


def delete(kind: Path, name: str) -> None:
    """Delete a cluster and its record."""
    run(kind, "delete", "cluster", "--name", name, "--kubeconfig", paths.KUBECONFIG)
    owner_file(name).unlink(missing_ok=True)


def down() -> None:
    """Remove this checkout's cluster and state."""
    kind = tools.build_all([tools.KIND])["kind"]
    if NAME in clusters(kind):
        delete(kind, NAME)
    shutil.rmtree(paths.STATE, ignore_errors=True)
    say("the cluster is gone")


def load_image(name: str) -> None:
    """Copy an image from Docker into the node, under both of its names."""
    kind = tools.target(tools.KIND)
    names = [name, f"{name.rpartition(':')[0]}:dev"]
    if name not in node_images():
        with step(f"loading {name}"):
            run(kind, "load", "docker-image", "--name", NAME, *names)


def load_archive(archive: Path) -> None:
    """Import an archive into the node."""
    run(tools.target(tools.KIND), "load", "image-archive", "--name", NAME, archive)


def node_images() -> set[str]:
    """Name the images that the node has."""
    listed = run("docker", "exec", NODE, "crictl", "images", "--output", "json")
    return {name for image in json.loads(listed)["images"] for name in image["repoTags"]}


def remove_images(names: list[str]) -> None:
    """Remove images from the node."""
    if names:
        attempt("docker", "exec", NODE, "crictl", "rmi", *names)


def kill(container_id: str) -> int:
    """Kill a container's first process from the node and give its pid there."""
    template = ["--output", "go-template", "--template", "{{.info.pid}}"]
    pid = run("docker", "exec", NODE, "crictl", "inspect", *template, container_id).strip()
    run("docker", "exec", NODE, "kill", "-9", pid)
    return int(pid)


def node_port() -> str:
    """Give the host's address of the node's one open port."""
    return run("docker", "port", NODE, f"{NODE_PORT}/tcp").split()[0]
