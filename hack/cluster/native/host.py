"""What the native node changes on the machine, each with its way back."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from hack.cluster import paths
from hack.cluster.native.config import CGROUP, NODE_IP, POD_CIDR
from hack.cluster.shell import attempt, run

TABLE = "finetuning_cluster"
CGROUPS = Path("/sys/fs/cgroup")
# The kubelet and kube-proxy set these and leave them; `down` puts the old values back.
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
# Fixed places outside our own that the components create where they are missing.
FOREIGN = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/usr/libexec/kubernetes",
    "/var/run/netns",
    "/run/containerd",
    "/etc/kubernetes",
)


def sysctl_file(name: str) -> Path:
    """Find a kernel setting's file."""
    return Path("/proc/sys", *name.split("."))


def read_sysctls() -> dict[str, str]:
    """Read the settings that will be changed."""
    attempt("modprobe", "nf_conntrack")  # Before it is there, its settings are not.
    files = {name: sysctl_file(name) for name in SYSCTLS}
    return {name: file.read_text().strip() for name, file in files.items() if file.exists()}


def restore_sysctls(old: dict[str, str]) -> None:
    """Put back what `read_sysctls` saw."""
    for name, value in old.items():
        file = sysctl_file(name)
        if name in SYSCTLS and file.exists() and file.read_text().strip() != value:
            file.write_text(value)


def missing_foreign() -> tuple[str, ...]:
    """Name the fixed places that do not exist yet: those are ours to remove."""
    return tuple(path for path in FOREIGN if not Path(path).exists())


def remove_foreign(created: tuple[str, ...]) -> None:
    """Remove what the components created, and nothing that anybody else has filled since."""
    for path in created:
        if path in FOREIGN and not any(mounts_below(path)):
            shutil.rmtree(path, ignore_errors=True)


def open_network() -> None:
    """Give the node its address and let pods out."""
    run("ip", "address", "replace", f"{NODE_IP}/32", "dev", "lo")
    sysctl_file("net.ipv4.ip_forward").write_text("1")
    rule = f"ip saddr {POD_CIDR} ip daddr != {POD_CIDR} fib daddr type != local masquerade"
    chain = f"chain out {{ type nat hook postrouting priority 100; {rule}; }};"
    attempt("nft", "delete", "table", "ip", TABLE)
    run("nft", "-f", "-", stdin=f"table ip {TABLE} {{ {chain} }}")
    forget_unanswered_calls()
    if "-P FORWARD DROP" in attempt("iptables", "-S", "FORWARD").stdout:
        for accepted in forward_rules():
            if attempt("iptables", "-C", *accepted).returncode:
                run("iptables", "-I", *accepted)


def forget_unanswered_calls() -> None:
    """Keep what came too early for seconds, not minutes.

    The kernel remembers a call to a Service that had no pod yet, and would send any later one
    from the same port the same way, to nobody.
    """
    file = sysctl_file("net.netfilter.nf_conntrack_tcp_timeout_syn_sent")
    if file.exists():
        file.write_text("2")


def forward_rules() -> list[list[str]]:
    """Let pods' traffic pass where another program, such as Docker, drops what it forwards."""
    mark = ["-m", "comment", "--comment", TABLE, "-j", "ACCEPT"]
    return [["FORWARD", side, POD_CIDR, *mark] for side in ("-s", "-d")]


def close_network() -> None:
    """Remove the address, our rules and the tables that kube-proxy leaves."""
    attempt("ip", "address", "del", f"{NODE_IP}/32", "dev", "lo")
    attempt("nft", "delete", "table", "ip", TABLE)
    for family in ("ip", "ip6"):
        attempt("nft", "delete", "table", family, "kube-proxy")
    for accepted in forward_rules():
        if attempt("iptables", "-C", *accepted).returncode == 0:
            attempt("iptables", "-D", *accepted)


def cgroup_controllers() -> list[Path]:
    """List the hierarchies: one for version 2, one per controller for version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def make_cgroups() -> None:
    """Give the node a cgroup of its own: what runs in it is ours to end."""
    for controller in cgroup_controllers():
        group = controller / CGROUP
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            inherited = controller / file
            if inherited.exists():
                (group / file).write_text(inherited.read_text())
    if (CGROUPS / "cgroup.controllers").exists():
        delegate_controllers()


def delegate_controllers() -> None:
    """Hand every controller of version 2 down that the kernel lets us hand down."""
    wanted = (CGROUPS / "cgroup.controllers").read_text().split()
    for group in (CGROUPS, CGROUPS / CGROUP):
        for name in wanted:
            with contextlib.suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{name}")


def cgroup_pids() -> set[int]:
    """List every process in the node's cgroup: containers that nobody else would end."""
    found: set[int] = set()
    for controller in cgroup_controllers():
        # A group may go while this looks: os.walk passes over what it cannot list.
        for folder, _, _ in os.walk(controller / CGROUP):
            with contextlib.suppress(OSError):
                text = Path(folder, "cgroup.procs").read_text()
                found.update(int(pid) for pid in text.split())
    return found


def remove_cgroups() -> None:
    """Remove the node's cgroup, the deepest folders first."""
    for controller in cgroup_controllers():
        top = controller / CGROUP
        folders = [path for path in top.rglob("*") if path.is_dir()] if top.exists() else []
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            folder.rmdir()
        if top.exists():
            top.rmdir()


def mounts_below(*folders: str | Path) -> list[str]:
    """List mount points at or below the folders, the newest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    tops = tuple(str(folder) for folder in folders)
    inside = [p for p in points if any(p == top or p.startswith(f"{top}/") for top in tops)]
    return inside[::-1]


def unmount_below(*folders: str | Path) -> None:
    """Unmount everything under the folders; what is busy goes as soon as it is not."""
    for point in mounts_below(*folders):
        if attempt("umount", point).returncode:
            attempt("umount", "--lazy", point)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours, never across a mount."""
    unmount_below(folder)
    if mounts_below(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)


def clear_own_folders() -> None:
    """Remove the node's state from the machine."""
    for folder in (paths.NODE, paths.RUN):
        remove_tree(folder)
