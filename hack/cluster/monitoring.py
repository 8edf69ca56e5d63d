"""Real Prometheus in the cluster, found through ServiceMonitors; on and off as tests need it."""

from __future__ import annotations

import platform
import shutil
import tempfile
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hack import deploy
from hack.cluster import kube, paths, tools
from hack.cluster.shell import locked, step, wait_until
from hack.images.oci import ScratchImage, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = "monitoring"
NODE_PORT = 30909
CRD_GROUP = "monitoring.coreos.com"
BINDINGS = ("monitoring-operator", "monitoring-prometheus")


def image(tool: tools.Tool) -> ScratchImage:
    """Wrap one static program; the tag follows from its bytes' key in the cache."""
    file = tools.target(tool)
    tag = file.parent.name.rpartition("-")[2]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return ScratchImage(
        name=f"localhost/finetuning-{tool.name}:{tag}",
        files={f"/bin/{tool.name}": file},
        entrypoint=(f"/bin/{tool.name}",),
        writable=("/prometheus", "/tmp"),  # noqa: S108  A path in the image.
        architecture=machine,
    )


def images() -> dict[str, ScratchImage]:
    """Give the images that run inside, by program."""
    return {tool.name: image(tool) for tool in tools.MONITORING if tool.in_cluster}


def on(present: set[str], load_archive: Callable[[Path], None]) -> None:
    """Install the definitions, the operator and one Prometheus that selects everything."""
    tools.link(tools.build_all(tools.MONITORING), ("promtool",))
    with step("switching monitoring on"):
        for wanted in images().values():
            if wanted.name not in present:
                load(wanted, load_archive)
        words = ("apply", "--server-side", "--force-conflicts")
        kube.kubectl(*words, *(f"--filename={file}" for file in crds()))
        names = [f"crd/{file.stem.partition('_')[2]}.{CRD_GROUP}" for file in crds()]
        wait_until("the definitions of monitoring are served", partial(_served, names), 60)
        kube.apply(manifests())


def _served(names: list[str]) -> bool:
    """False also where one has no condition yet, as in its first moment: kubectl ends there."""
    done = kube.try_kubectl("wait", "--for=condition=Established", "--timeout=10s", *names)
    return done.returncode == 0


def load(wanted: ScratchImage, load_archive: Callable[[Path], None]) -> None:
    """Hand one image to the node."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        write_archive(wanted, archive.file)
        archive.flush()
        load_archive(Path(archive.name))


def crds() -> list[Path]:
    """Give the definitions that belong to the pinned operator, kept beside its program."""
    operator = next(tool for tool in tools.MONITORING if tool.name == "prometheus-operator")
    folder = tools.target(operator).parent / "crds"
    with locked(paths.cache() / "locks" / "crds"):
        if not folder.exists():
            source = tools.module_folder(tools.OPERATOR_MODULE, operator.module)
            draft = folder.with_name(".crds")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source / "example" / "prometheus-operator-crd", draft)
            draft.replace(folder)
    return sorted(folder.glob("monitoring.coreos.com_*.yaml"))


def manifests() -> str:
    """Fill the images' names into the manifests."""
    text = (paths.MANIFESTS / "monitoring.yaml").read_text()
    version = tools.module_version("prometheus", "github.com/prometheus/prometheus")
    # The module counts v0.316 where the release is called v3.16.
    major, minor = divmod(int(version.split(".")[1]), 100)
    text = text.replace("PROMETHEUS_VERSION", f"v{major}.{minor}.{version.split('.')[2]}")
    for name, wanted in images().items():
        text = text.replace(f"IMAGE:{name}", wanted.name)
    return text


def wait_ready(url: str) -> None:
    """Wait until Prometheus serves and has read its configuration."""
    wait_until("Prometheus", lambda: answers(f"{url}/-/ready"), 180, f"pods of {NAMESPACE}")


def answers(url: str) -> bool:
    """Tell whether a page is served."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310  Our own address.
            return bool(reply.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def is_on() -> bool:
    """Tell whether the Prometheus object is there."""
    words = ("get", "prometheus", "main", f"--namespace={NAMESPACE}")
    return kube.try_kubectl(*words).returncode == 0


def off() -> None:
    """Take Prometheus, its operator and every definition of its group away."""
    with step("switching monitoring off"):
        deploy.forget_monitors()
        gone = ("--ignore-not-found", "--wait", "--timeout=90s")
        kube.kubectl("delete", "namespace", NAMESPACE, *gone)
        kube.kubectl("delete", "clusterrolebinding", *BINDINGS, *gone)
        found = kube.kubectl("get", "crd", "--output=name").split()
        ours = [name for name in found if name.endswith(f".{CRD_GROUP}")]
        if ours:
            kube.kubectl("delete", *ours, *gone)
