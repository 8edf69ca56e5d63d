"""Manifests of the examples, varied for tests, and what to look for in a FineTuningJob."""

from __future__ import annotations

import contextlib
import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kubernetes import client, config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.support import Cluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
KIND, PLURAL = ("aim.amd.com", "v1alpha1"), "finetuningjobs"
FINAL_PHASES = ("Succeeded", "Failed")


def example(method: str, name: str = "") -> dict[str, Any]:
    """examples/finetuningjob-<method>.yaml, under another name when one is given."""
    documents = yaml.safe_load_all((EXAMPLES / f"finetuningjob-{method}.yaml").read_text())
    manifest = next(d for d in documents if d and d["kind"] == "FineTuningJob")
    if name:
        manifest["metadata"]["name"] = name
    return dict(manifest)


def with_spec(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy whose spec is changed one level deep: dicts are merged, the rest replaced."""
    changed = copy.deepcopy(manifest)
    for key, value in changes.items():
        old = changed["spec"].get(key)
        changed["spec"][key] = old | value if isinstance(old, dict) else value
    return changed


def brief(method: str, name: str) -> dict[str, Any]:
    """The example with enough steps to learn its answers, for tests of what comes after them."""
    # A whole model may know a name too few after four epochs, as floating point has it.
    epochs = 6 if method == "full" else 4
    return with_spec(example(method, name), hyperparameters={"epochs": epochs})


def slowed(manifest: dict[str, Any], cpu: str) -> dict[str, Any]:
    """A copy whose pod gets only a part of a core."""
    changed = copy.deepcopy(manifest)
    changed["spec"]["resources"]["limits"]["cpu"] = cpu
    changed["spec"]["resources"]["requests"]["cpu"] = "100m"
    return changed


def status(cluster: Cluster, name: str) -> dict[str, Any]:
    """The job's status, empty while there is none.

    Of all questions this is asked most often, and a kubectl for each would take a tenth of the
    processor from what is tested.
    """
    try:
        place = (*KIND, cluster.namespace, PLURAL)
        job = custom_objects(cluster.kubeconfig).get_namespaced_custom_object(*place, name)
    except client.ApiException as error:
        if error.status == 404:
            return {}
        raise
    return dict(job.get("status", {}))


@cache
def custom_objects(kubeconfig: Path) -> Any:
    """The API of custom objects, over a connection that is kept."""
    return client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a status, empty when it is not there."""
    return next((c for c in found.get("conditions", []) if c["type"] == kind), {})


def ended(cluster: Cluster, name: str, seconds: float = 300) -> dict[str, Any]:
    """Wait for the training's end."""

    def probe() -> dict[str, Any] | None:
        found = status(cluster, name)
        return found if found.get("phase") in FINAL_PHASES else None

    return cluster.wait(f"end of {name}", probe, seconds)


def judged(cluster: Cluster, name: str, seconds: float = 300) -> dict[str, Any]:
    """Wait for the validation's verdict."""

    def probe() -> dict[str, Any] | None:
        found = status(cluster, name)
        done = condition(found, "Validated").get("status") in ("True", "False")
        over = condition(found, "Validated").get("reason") not in (
            "ValidationPending",
            "ValidationRunning",
        )
        return found if done and over else None

    return cluster.wait(f"verdict on {name}", probe, seconds)


def reached_step(cluster: Cluster, name: str, step: int = 1) -> dict[str, Any]:
    """Wait until the status shows a step."""

    def probe() -> dict[str, Any] | None:
        found = status(cluster, name)
        return found if (found.get("currentStep") or 0) >= step else None

    return cluster.wait(f"step {step} of {name}", probe)


@contextlib.contextmanager
def running(cluster: Cluster, manifest: dict[str, Any]) -> Iterator[str]:
    """Apply a FineTuningJob and remove it again, whatever happens in between."""
    name = manifest["metadata"]["name"]
    cluster.apply(manifest)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "finetuningjob", name, "--ignore-not-found", "--wait=true")


def long_run(method: str, name: str, cpu: str = "600m") -> dict[str, Any]:
    """A job that is still training when a test has seen what it wants.

    It leaves the rest of the cores to the other tests; a start takes six seconds of a whole one.
    """
    steps = {"maxSteps": 5000, "saveSteps": 20, "epochs": 1000}
    manifest = slowed(example(method, name), cpu)
    return with_spec(manifest, hyperparameters=steps, validation={"enabled": False})
