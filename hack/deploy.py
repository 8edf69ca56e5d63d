"""Install or upgrade the operator with Helm, with the images that `make images` built.

Usage: python -m hack.deploy [HELM-ARGUMENT ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".cluster"
NAMESPACE = "finetuning-system"
RELEASE = "finetuning-operator"


def environment() -> dict[str, str]:
    """The caller's environment with this checkout's cluster and its tools."""
    return {
        **os.environ,
        "KUBECONFIG": str(STATE / "kubeconfig"),
        "PATH": f"{STATE / 'bin'}:{os.environ['PATH']}",
    }


def helm_command(images: dict[str, str], extra: list[str]) -> list[str]:
    """The command that an admin would type, with this checkout's images."""
    return [
        "helm", "upgrade", "--install", RELEASE, "charts/finetuning-operator",
        "--namespace", NAMESPACE, "--create-namespace",
        "--set", f"image.operator={images['operator']}",
        "--set", f"image.trainer={images['trainer']}",
        # A definition that `kubectl apply` or a test put there first becomes the release's.
        "--take-ownership", "--wait", "--timeout", "3m", *extra,
    ]  # fmt: skip


def images() -> dict[str, str]:
    """The full names of the images in the cluster; raises KeyError when one is missing."""
    try:
        named = json.loads((STATE / "images.json").read_text())
    except FileNotFoundError:
        named = {}
    return {part: str(named[part]) for part in ("operator", "trainer")}


def forget_monitors() -> None:
    """Take objects of prometheus-operator's kinds out of the release, before these kinds go.

    Helm can neither upgrade nor uninstall a release while a kind of it is unknown.
    """
    where = ("--namespace", NAMESPACE)
    if RELEASE not in output("helm", "list", "--short", *where).split():
        return
    without = ("--set=monitoring.serviceMonitor=false", "--set=prometheusRule.enabled=false")
    chart = "charts/finetuning-operator"
    output("helm", "upgrade", RELEASE, chart, *where, "--reuse-values", "--wait", *without)


def output(*command: str) -> str:
    """What a command prints, run with this checkout's cluster and tools; its errors are shown."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def main(extra: list[str]) -> int:
    """Run Helm; exit code 2 when something has to come first."""
    try:
        command = helm_command(images(), extra)
    except KeyError as missing:
        print(f"deploy: no {missing} image; type `make cluster-up images`", file=sys.stderr)
        return 2
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
