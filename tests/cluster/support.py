"""kubectl and helm of this checkout's cluster, and namespaces made for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from hack import deploy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
ROOT, STATE, OPERATOR_NAMESPACE = deploy.ROOT, deploy.STATE, deploy.NAMESPACE


class CommandError(AssertionError):
    """A command failed; its words are part of the message, because refusals are tested by them."""


@dataclass(frozen=True)
class Cluster:
    """kubectl and helm of this checkout's cluster, bound to one namespace."""

    namespace: str = "default"
    kubeconfig: Path = STATE / "kubeconfig"

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command in the cluster's environment; unchecked, errors are part of the answer."""
        env = deploy.environment() | {"KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            command, input=stdin, env=env, capture_output=True, text=True, check=False, cwd=ROOT
        )
        if check and done.returncode:
            raise CommandError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout if not done.returncode else done.stdout + done.stderr

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", "--namespace", self.namespace, *args, stdin=stdin, check=check)

    def get(self, kind: str, name: str = "", *args: str) -> Any:
        """An object, or a list's items when no name is given; None when it is not there."""
        words = ("get", kind, *([name] if name else []), *args, "--output", "json")
        text = self.kubectl(*words, "--ignore-not-found")
        if not text.strip():
            return None if name else []
        found = json.loads(text)
        return found if name else found["items"]

    def apply(self, manifest: dict[str, Any] | str) -> str:
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        return self.kubectl("apply", "--filename", "-", stdin=text)

    def wait(self, what: str, probe: Callable[[], T | None], seconds: float = 240) -> T:
        """Ask `probe` until it answers something true."""
        end = time.monotonic() + seconds
        while not (answer := probe()):
            if time.monotonic() > end:
                raise AssertionError(f"not seen in {seconds:.0f} s: {what}\n{self.describe()}")
            time.sleep(0.8)  # Each question is a process of its own: 0.1 s of the processor.
        return answer

    def wait_for_definitions(self, *names: str) -> None:
        """Until they are served; to kubectl one without any condition, as at first, is an error."""
        waits = ("wait", "--for=condition=Established", "--timeout=60s")
        self.wait(
            "the definitions are served",
            lambda: self.kubectl(*waits, *names, check=False).count("condition met") == len(names),
            60,
        )

    def describe(self) -> str:
        """What a person would look at next."""
        looks = (
            self.kubectl("get", "ftj,jobs,pods", "--output", "wide", check=False),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-4000:],
            self.kubectl(
                "logs", "deployment/finetuning-operator", "--tail=40",
                "--namespace", OPERATOR_NAMESPACE, check=False,
            ),
        )  # fmt: skip
        return "\n".join(looks)


def kill_container(pod: dict[str, Any], container: str) -> None:
    """SIGKILL from the node: inside, process 1 cannot be killed."""
    where = ("--namespace", pod["metadata"]["namespace"], "--pod", pod["metadata"]["name"])
    command = [sys.executable, "-m", "hack.cluster", "kill-process", *where]
    subprocess.run([*command, "--container", container], check=True, cwd=ROOT)


def make_namespace(name: str) -> Cluster:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    cluster = Cluster(name)
    cluster.apply(manifest)
    cluster.wait("default ServiceAccount", lambda: cluster.get("serviceaccount", "default"), 60)
    return cluster
