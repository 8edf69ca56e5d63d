"""What the native node needs from the machine, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from hack.cluster.shell import ClusterError, attempt, run, step

# Program -> Debian package. The CNI plugins are no program on the PATH and are looked up apart.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
}
CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
FOREIGN_NODES = (Path("/etc/kubernetes/kubelet.conf"), Path("/var/lib/rancher/k3s/agent"))
SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def check() -> None:
    """Refuse in one line what cannot work; install what Debian carries."""
    extend_path()
    reason = refusal()
    if reason:
        raise ClusterError(reason)
    install(missing_packages(), "the node's programs")


def refusal() -> str:
    """Say why no native node is possible here; empty where it is."""
    marks = [mark for mark in FOREIGN_NODES if mark.exists()]
    return refuse(platform.system(), os.geteuid(), marks)


def refuse(system: str, user: int, marks: list[Path]) -> str:
    """Name the first obstacle and its remedy."""
    if system != "Linux":
        return f"no cluster is possible here: on {system} it takes Docker, so start or install it"
    if user != 0:
        return (
            "no cluster is possible here: install Docker (and join its group), "
            "or run as root for one made of plain processes"
        )
    if marks:
        return f"this machine is a node of another cluster ({marks[0]} exists); use another machine"
    return ""


def missing_packages() -> list[str]:
    """Name the Debian packages of what is not there."""
    absent = {package for program, package in PROGRAMS.items() if not shutil.which(program)}
    if not any((folder / "ptp").exists() for folder in CNI_FOLDERS):
        absent.add(CNI_PACKAGE)
    return sorted(absent)


def missing_builders() -> list[str]:
    """Name the packages that building images without Docker needs."""
    return [name for name in ("buildah", "debootstrap") if not shutil.which(name)]


def need_builder() -> None:
    """Get what builds images without Docker."""
    extend_path()
    install(missing_builders(), "the images' tools")


def install(packages: list[str], what: str) -> None:
    """Install Debian packages, or name them where apt is not at hand."""
    if not packages:
        return
    names = " ".join(packages)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise ClusterError(f"{what} missing: install the packages {names}")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    with step(f"installing {names}"):
        if attempt(*command, env=env).returncode:
            run("apt-get", "update", env=env)
            run(*command, env=env)


def cni_folder() -> Path:
    """Find where the system keeps its CNI plugins."""
    return next(folder for folder in CNI_FOLDERS if (folder / "ptp").exists())


def extend_path() -> None:
    """Find system programs also where the user's PATH leaves them out."""
    parts = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join([*parts, *(p for p in SYSTEM_PATH if p not in parts)])
