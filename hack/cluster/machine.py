"""Which way to a cluster this machine offers."""

from __future__ import annotations

import shutil
from enum import StrEnum

from hack.cluster.native import prerequisites
from hack.cluster.shell import ClusterError, attempt

# Any small image does; kind's own node image is taken where it is there already.
PROBE_IMAGE = "hello-world:linux"
PROBE_TIMEOUT_S = 90.0


class Way(StrEnum):
    """The two ways; the same chart, images and tests run on both."""

    KIND = "kind"
    NATIVE = "native"


def choose(refused_by_docker: str, refused_by_machine: str) -> Way | None:
    """Prefer Docker: it keeps the cluster apart from the machine."""
    if not refused_by_docker:
        return Way.KIND
    return None if refused_by_machine else Way.NATIVE


def docker_refusal() -> str:
    """Say why Docker cannot carry kind's nodes; a client alone, or no privileges, is not enough."""
    if not shutil.which("docker"):
        return "docker is not installed"
    if attempt("docker", "version", "--format", "{{.Server.Version}}", timeout=15).returncode:
        return "the Docker daemon does not answer"
    there = attempt("docker", "images", "--quiet", "kindest/node", timeout=15).stdout.split()
    image = ["--entrypoint", "true", there[0]] if there else [PROBE_IMAGE]
    tried = attempt("docker", "run", "--rm", "--privileged", *image, timeout=PROBE_TIMEOUT_S)
    last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"Docker cannot run a privileged container ({last})" if tried.returncode else ""


def find_way() -> Way:
    """Give the machine's way to a cluster, or say in one line why there is none."""
    docker, machine = docker_refusal(), prerequisites.refusal()
    way = choose(docker, machine)
    if way is None:
        raise ClusterError(f"{machine} ({docker})")
    return way


def why_no_cluster() -> str:
    """Say why this machine can have no cluster; empty where it can."""
    docker, machine = docker_refusal(), prerequisites.refusal()
    return f"{machine} ({docker})" if choose(docker, machine) is None else ""
