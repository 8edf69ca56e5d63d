"""What each command does, on either kind of cluster."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from hack.cluster import kind, kube, machine, monitoring, paths, tools
from hack.cluster.machine import Way
from hack.cluster.native import config, containers, owner, prerequisites
from hack.cluster.native import up as native
from hack.cluster.shell import ClusterError, say, write
from hack.images import make, transfer
from hack.images.builder import Builder

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

WAY_FILE = paths.STATE / "way"


def run(chosen: argparse.Namespace) -> None:
    """Run the chosen command."""
    match chosen.command:
        case "up":
            up(with_monitoring=chosen.monitoring)
        case "down":
            down(anybody=chosen.any)
        case "status":
            status(as_json=chosen.json)
        case "images":
            build_images([chosen.only] if chosen.only else list(make.RECIPES))
        case "load":
            load(chosen.image)
        case "monitoring":
            monitoring_on() if chosen.switch == "on" else monitoring.off()
        case "doctor":
            doctor()
        case "kill-process":
            kill_process(chosen.namespace, chosen.pod, chosen.container)
        case other:
            raise ClusterError(f"unknown command {other}")


def up(*, with_monitoring: bool) -> None:
    """Start or find the cluster and say how to use it."""
    way = machine.find_way()
    match way:
        case Way.KIND:
            kind.up()
        case Way.NATIVE:
            native.up()
    write(WAY_FILE, way)
    if with_monitoring:
        monitoring_on()
    say(f"ready ({way}): export KUBECONFIG={paths.KUBECONFIG} PATH={paths.BIN}:$PATH")


def running_way() -> Way:
    """Give the kind of this checkout's running cluster."""
    if not WAY_FILE.exists() or not paths.KUBECONFIG.exists():
        raise ClusterError("this checkout has no cluster: type `make cluster-up` first")
    return Way(WAY_FILE.read_text().strip())


def down(*, anybody: bool) -> None:
    """Remove the cluster, of whichever kind it is."""
    way = Way(WAY_FILE.read_text().strip()) if WAY_FILE.exists() else machine.find_way()
    match way:
        case Way.KIND:
            kind.down()
        case Way.NATIVE:
            prerequisites.extend_path()
            native.down(anybody=anybody)


def build_images(wanted: list[str]) -> None:
    """Build the images and hand them to the cluster."""
    match running_way():
        case Way.KIND:
            make.make(wanted, Builder.DOCKER, kind.load_image, kind.remove_images)
        case Way.NATIVE:
            prerequisites.need_builder()
            make.make(wanted, Builder.BUILDAH, transfer.deliver, containers.remove)


def load(names: list[str]) -> None:
    """Load images by name."""
    deliver = kind.load_image if running_way() is Way.KIND else transfer.deliver
    for name in names:
        deliver(name)


def monitoring_on() -> None:
    """Switch monitoring on and wait until Prometheus answers."""
    native_node = running_way() is Way.NATIVE
    present = containers.images() if native_node else kind.node_images()
    monitoring.on(present, containers.load_archive if native_node else kind.load_archive)
    monitoring.wait_ready(prometheus_url())
    say(f"Prometheus: {prometheus_url()}")


def prometheus_url() -> str:
    """Give Prometheus's address as this machine reaches it."""
    match running_way():
        case Way.KIND:
            return f"http://{kind.node_port()}"
        case Way.NATIVE:
            return f"http://{config.NODE_IP}:{monitoring.NODE_PORT}"


def facts() -> dict[str, Any]:
    """Collect what people and tests ask for."""
    way = running_way()
    ready = kube.node_ready()
    return {
        "kind": str(way),
        "ready": ready,
        "kubeconfig": str(paths.KUBECONFIG),
        "bin": str(paths.BIN),
        "audit_log": str(paths.AUDIT_LOG),
        "prometheus": prometheus_url() if ready and monitoring.is_on() else None,
        "images": json.loads(read(paths.IMAGES_FILE) or "{}"),
    }


def read(file: Path) -> str:
    """Read a file that may not be there."""
    return file.read_text() if file.exists() else ""


def status(*, as_json: bool) -> None:
    """Print the facts."""
    found = facts()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name + ':':12}{value}")


def doctor() -> None:
    """Say what this machine offers, without changing it."""
    docker, here = machine.docker_refusal(), prerequisites.refusal()
    print(f"kind in Docker:   {docker or 'yes'}")
    print(f"plain processes:  {here or 'yes'}")
    if not here:
        missing = [*prerequisites.missing_packages(), *prerequisites.missing_builders()]
        print(f"to be installed:  {' '.join(missing) or 'nothing'}")
    unbuilt = [tool.name for tool in tools.NATIVE if not tools.target(tool).exists()]
    print(f"to be built:      {' '.join(unbuilt) or 'nothing'}")
    found = owner.load() if not here else None
    print(f"running:          {'the cluster of ' + found.checkout if found else 'nothing'}")
    print(f"cache:            {paths.cache()}")


def kill_process(namespace: str, pod: str, container: str) -> None:
    """Kill like a crash: from outside, where process 1 is not protected."""
    name = kube.container_id(namespace, pod, container)
    match running_way():
        case Way.KIND:
            pid = kind.kill(name)
        case Way.NATIVE:
            pid = containers.main_pid(name)
            if not pid:
                raise ClusterError(f"the process of {namespace}/{pod}/{container} ended by itself")
            os.kill(pid, signal.SIGKILL)
    say(f"killed process {pid} of {namespace}/{pod}/{container}")
