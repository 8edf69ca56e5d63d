"""The CustomResourceDefinition: names, printer columns, rules about change, and the schema."""

from collections.abc import Iterator
from typing import Any, get_args

from finetuning.api.base import CEL_RULES, Rule
from finetuning.api.schema import documented, structural_schema
from finetuning.api.text import JobName
from finetuning.api.v1alpha1 import (
    GROUP,
    KIND,
    PLURAL,
    SHORT_NAMES,
    SINGULAR,
    VERSION,
    FineTuningJob,
    FineTuningJobSpec,
    FineTuningJobStatus,
)

NAME = f"{PLURAL}.{GROUP}"
CHANGEABLE = (
    "suspend",
    "ttlSecondsAfterFinished",
    "validation",
    "output.publish",
    "output.serve",
)
"""What may change after creation; everything else decides what the training produces."""


def crd() -> dict[str, Any]:
    """The whole object, ready for `kubectl apply`."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": list(SHORT_NAMES),
        "categories": ["all"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": printer_columns(),
        "schema": {"openAPIV3Schema": _explained(job_schema())},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _explained(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema["properties"]
    return schema | {"properties": properties | {"spec": documented(properties["spec"])}}


def printer_columns() -> list[dict[str, Any]]:
    """What `kubectl get ftj` shows; priority 1 is for `-o wide`."""
    return [
        _column("Phase", ".status.phase", "Where the training is."),
        _column("Method", ".spec.method", "How the model is tuned."),
        _column("Model", ".spec.baseModel.modelId", "The model that the training started from."),
        _column("Progress", ".status.progress", "Share of the optimizer steps done."),
        _column("Loss", ".status.trainLoss", "Training loss last told of.", kind="number"),
        _column("Validated", ".status.validation.result", "Required checks passed, of how many."),
        _column("Step", ".status.currentStep", "Optimizer steps done.", kind="integer", wide=True),
        _column("Tokens/s", ".status.tokensPerSecond", "Throughput.", kind="number", wide=True),
        _column("ETA", ".status.estimatedRemaining", "Time left.", wide=True),
        _column("Workers", ".spec.workers", "Pods that train together.", kind="integer", wide=True),
        _column("Published", ".status.publish.phase", "Where the copies are made.", wide=True),
        _column("Reason", ".status.reason", "Why the job is where it is.", wide=True),
        _column("Age", ".metadata.creationTimestamp", "Time since creation.", kind="date"),
        _column("Message", ".status.message", "The same in words.", wide=True),
    ]


def _column(
    name: str, path: str, description: str, *, kind: str = "string", wide: bool = False
) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": 1} if wide else {})


def job_schema() -> dict[str, Any]:
    """The schema of the whole object; what Kubernetes says about metadata is left to it."""
    spec = structural_schema(FineTuningJobSpec)
    spec[CEL_RULES] = [*spec.get(CEL_RULES, []), *unchangeable(spec)]
    # Until the operator has looked, generation 1 is not observed: kstatus takes no status for done.
    status = structural_schema(FineTuningJobStatus, defaults=False)
    status["default"] = {"observedGeneration": 0}
    return {
        "type": "object",
        "description": FineTuningJob.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec,
            "status": status,
        },
        CEL_RULES: [name_rule()],
    }


def name_rule() -> dict[str, str]:
    """The name's rule stands at the root, the only place from which CEL may read metadata."""
    (rule,) = (each for each in get_args(JobName) if isinstance(each, Rule))
    cel = rule.cel.replace("self.", "self.metadata.name.")
    return {"rule": cel, "message": rule.message, "fieldPath": ".metadata.name"}


def unchangeable(spec: dict[str, Any]) -> list[dict[str, str]]:
    """One rule per field, so that the answer names the field that somebody tried to change."""
    return [
        {
            "rule": _stays(name, always_there=always_there),
            "message": f"{name} cannot change after creation, only {_changeable()} can: "
            "create a new FineTuningJob, or delete this one first to use the name again",
            "fieldPath": f".{name}",
        }
        for name, always_there in _fixed(spec)
    ]


def _changeable() -> str:
    *others, last = CHANGEABLE
    return f"{', '.join(others)} and {last}"


def _fixed(part: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The fields that stay, and whether each is always there; with what may change beside them."""
    for name, schema in part["properties"].items():
        path = f"{prefix}{name}"
        if any(each.startswith(f"{path}.") for each in CHANGEABLE):
            yield from _fixed(schema, f"{path}.")
        elif path not in CHANGEABLE:
            yield path, name in part.get("required", ()) or "default" in schema


def _stays(name: str, *, always_there: bool) -> str:
    same = f"self.{name} == oldSelf.{name}"
    if always_there:
        return same
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
