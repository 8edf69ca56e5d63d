"""The CustomResourceDefinition: names, printer columns, rules about change, and the schema."""

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
    spec = unchangeable(structural_schema(FineTuningJobSpec))
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


def unchangeable(part: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The object with rules by which its fields stay as they were created.

    Each stands at the field itself, so that the answer names it. Compared at once, an object of n
    fields would cost the API server some 5 n² copies of a field's schema with every status.
    """
    fields = {
        name: _unchangeable_field(schema, f"{path}{name}")
        for name, schema in part["properties"].items()
    }
    comes_and_goes = [
        _stays(f"has(self.{name}) == has(oldSelf.{name})", f"{path}{name}")
        | {"fieldPath": f".{name}"}
        for name, schema in fields.items()
        if f"{path}{name}" not in CHANGEABLE
        and name not in part.get("required", ())
        and "default" not in schema
    ]
    return part | {"properties": fields} | _rules(part, comes_and_goes)


def _unchangeable_field(schema: dict[str, Any], path: str) -> dict[str, Any]:
    if path in CHANGEABLE:
        return schema
    if "properties" in schema:
        return unchangeable(schema, f"{path}.")
    return schema | _rules(schema, [_stays("self == oldSelf", path)])


def _rules(schema: dict[str, Any], more: list[dict[str, str]]) -> dict[str, Any]:
    found = [*schema.get(CEL_RULES, []), *more]
    return {CEL_RULES: found} if found else {}


def _stays(rule: str, path: str) -> dict[str, str]:
    *others, last = CHANGEABLE
    return {
        "rule": rule,
        "message": f"{path} cannot change after creation, only {', '.join(others)} and {last} can: "
        "create a new FineTuningJob, or delete this one first to use the name again",
    }
