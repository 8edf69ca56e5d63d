"""The kinds of text that a FineTuningJob holds, each with its one rule.

Every kind has a length limit: the API server refuses a rule whose worst case it cannot bound.
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from finetuning.api.base import Rule

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SEGMENT = r"[A-Za-z0-9._~@+=,-]+"
_OBJECT = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"
_KEY = r"\.?[-_A-Za-z0-9][-._A-Za-z0-9]*"
_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?"
NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_PVC = rf"pvc://{_OBJECT}(/{_SEGMENT})*/?"

NAME_MAX_LENGTH = 63
"""A job's name is the value of a label of all that belongs to it."""

CHILD_STEM_MAX_LENGTH = 50
"""Leaves room for `-validate` and a pod's suffix within the 63 characters of a label value."""

JobName = Annotated[
    str,
    Rule.matching(
        rf"[a-z0-9]([-.a-z0-9]{{0,{NAME_MAX_LENGTH - 2}}}[a-z0-9])?",
        f"must be at most {NAME_MAX_LENGTH} lowercase letters, digits, '-' and '.', starting and "
        "ending with a letter or digit: it becomes the value of a label",
    ),
]

NamespaceName = Annotated[
    str,
    Rule.matching(
        rf"({NAMESPACE})?",
        "must be at most 63 lowercase letters, digits and '-', starting and ending with a letter "
        "or digit",
    ),
]
"""An empty one is as none, for the API server too."""

ObjectName = Annotated[
    str,
    Field(max_length=253),
    Rule.matching(
        _OBJECT,
        "must be the name of a Kubernetes object: lowercase letters, digits, '-' and '.', starting "
        "and ending with a letter or digit",
    ),
]

QueueName = Annotated[
    str,
    Field(max_length=63),
    Rule.matching(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "must be the name of a LocalQueue in the job's namespace: lowercase letters, digits and "
        "'-', starting and ending with a letter or digit",
    ),
]

PriorityClassName = Annotated[
    str,
    Field(max_length=253),
    Rule.matching(
        _OBJECT,
        "must be the name of a PriorityClass (kubectl get priorityclasses): lowercase letters, "
        "digits, '-' and '.', starting and ending with a letter or digit",
    ),
    Rule(
        "!self.startsWith('system-')",
        lambda name: not name.startswith("system-"),
        "system-... are the classes of Kubernetes' own pods: choose one of your cluster's own "
        "(kubectl get priorityclasses)",
    ),
]

DataKey = Annotated[
    str,
    Field(max_length=253),
    Rule.matching(
        _KEY,
        "must be a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.', and more than "
        "a dot",
        never="..",
    ),
]

ModelId = Annotated[
    str,
    Field(max_length=193),
    Rule.matching(
        rf"{_PART}(/{_PART})?",
        "must be a Hugging Face model id such as Qwen/Qwen2.5-7B-Instruct: letters, digits, '.', "
        "'_' and '-', one '/' at most; for weights in a volume keep such an id here and set "
        "baseModel.source to pvc://<claim>/<folder>",
        never="..",
    ),
]

Revision = Annotated[
    str,
    Field(max_length=128),
    Rule.matching(
        r"[A-Za-z0-9][A-Za-z0-9._/-]*",
        "must be a branch, a tag or a commit hash: letters, digits, '.', '_', '-' and '/', "
        "starting with a letter or digit",
        never="..",
    ),
]

PvcUri = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        _PVC,
        "must be pvc://<claim>/<folder>, where <claim> is a PersistentVolumeClaim in the job's "
        "namespace; '..' and spaces are not allowed",
        never="..",
    ),
]

DatasetSource = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        rf"(/{_SEGMENT})+/?"
        rf"|configmap:{_OBJECT}:{_KEY}"
        rf"|{_PVC}"
        rf"|hf://{_PART}(/{_PART})?"
        rf"|s3://{_OBJECT}(/{_SEGMENT})*/?"
        rf"|[A-Za-z0-9._][A-Za-z0-9._~@+=,-]*(/{_SEGMENT})*",
        "must be one of: a file path such as /workspace/templates/train.jsonl, "
        "configmap:<name>:<key>, pvc://<claim>/<path>, hf://<org>/<name>, s3://<bucket>/<path>, or "
        "the id of a Hugging Face data set; '..', spaces and shell characters are not allowed",
        never="..",
    ),
]

HeldOutSource = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        rf"(/{_SEGMENT})+/?|configmap:{_OBJECT}:{_KEY}|{_PVC}",
        "must be one of: a file path such as /workspace/templates/heldout.jsonl, "
        "configmap:<name>:<key>, pvc://<claim>/<path>; '..' and spaces are not allowed, and rows "
        "of the Hub are put into a claim first, so that every verdict is about the same rows",
        never="..",
    ),
]

TaskFolder = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        rf"(/{_SEGMENT})+/?|configmap:{_OBJECT}|{_PVC}",
        "must be one of: a folder in the pod such as /workspace/templates, configmap:<name>, "
        "pvc://<claim>/<folder>; '..' and spaces are not allowed",
        never="..",
    ),
]

S3Uri = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        rf"s3://{_OBJECT}(/{_SEGMENT})*/?",
        "must be s3://<bucket>/<folder>; '..' and spaces are not allowed",
        never="..",
    ),
]

_REPOSITORY = r"[a-z0-9]+([._-]+[a-z0-9]+)*"

OciUri = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        rf"oci://{_HOST}(/{_REPOSITORY})+:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}",
        "must be oci://<registry>/<repository>:<tag> such as "
        "oci://registry.example.com/models/law:v1, the repository in lowercase",
        never="..",
    ),
]

HubUri = Annotated[
    str,
    Field(max_length=197),
    Rule.matching(
        rf"hf://{_PART}/{_PART}",
        "must be hf://<owner>/<name> such as hf://my-team/law-7b: letters, digits, '.', '_' and "
        "'-'",
        never="..",
    ),
]

TaskName = Annotated[
    str,
    Field(max_length=128),
    Rule.matching(
        r"[A-Za-z0-9][A-Za-z0-9_.:+-]*",
        "must be the name of a task such as arc_easy: letters, digits, '_', '.', ':', '+' and '-'; "
        "tasks of your own are found by their names in benchmarks.includePath",
    ),
]

EndpointUrl = Annotated[
    str,
    Field(max_length=256),
    Rule.matching(
        rf"https?://{_HOST}",
        "must be http:// or https:// with a host and, where it is not the usual one, a port: no "
        "path and no credentials",
    ),
]

Region = Annotated[
    str,
    Field(max_length=64),
    Rule.matching(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "must be a region such as eu-central-1"),
]

SubPath = Annotated[
    str,
    Field(max_length=253),
    Rule.matching(
        r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*",
        "must be a relative folder such as team-a/run-1: letters, digits, '.', '_' and '-' between "
        "slashes; no part may start with '.'",
    ),
]

ProfileName = Annotated[
    str,
    Field(max_length=253),
    Rule.matching(
        r"([A-Za-z0-9][A-Za-z0-9._:/-]*)?",
        "must be the name of an AIM profile: letters, digits, '.', '_', '-', ':' and '/', starting "
        "with a letter or digit",
        never="..",
    ),
]

RegistryUrl = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        r"([A-Za-z0-9][A-Za-z0-9._:/@-]*)?",
        "must be a registry address such as registry.example.com/models, without spaces",
    ),
]

ImageName = Annotated[
    str,
    Field(max_length=512),
    Rule.matching(
        r"[A-Za-z0-9][A-Za-z0-9._:/@-]*",
        "must be the name of an image such as registry.example.com/team/aim-base:0.9",
    ),
]

GpuModel = Annotated[
    str,
    Field(max_length=64),
    Rule.matching(r"[A-Z0-9]+", "must be the name of a GPU such as MI300X"),
]

TargetModule = Annotated[
    str,
    Field(max_length=128),
    Rule.matching(
        r"[A-Za-z0-9_][A-Za-z0-9_.-]*",
        "must be the name of a linear layer such as q_proj, or all-linear: letters, digits, '_', "
        "'-' and '.'",
    ),
]

QUANTITY = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?"
_FACTORS = (
    {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
    | {suffix: Decimal(1000) ** (i + 1) for i, suffix in enumerate("kMGTPE")}
    | {f"{suffix}i": Decimal(1024) ** (i + 1) for i, suffix in enumerate("KMGTPE")}
)


def amount(quantity: int | str) -> Decimal | None:
    """What a quantity such as 500m or 32Gi amounts to; None when it is not one."""
    text = str(quantity)
    if not re.fullmatch(QUANTITY, text):
        return None
    suffix = next((end for end in (text[-2:], text[-1:]) if end in _FACTORS), "")
    return Decimal(text.removesuffix(suffix)) * _FACTORS.get(suffix, 1)


def at_least(least: int, quantity: int | str) -> bool:
    """Whether it is so much; what is no quantity is for another rule to say."""
    found = amount(quantity)
    return found is None or found >= least


Quantity = Annotated[
    int | str,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32}),
    Rule(
        "type(self) == int ? int(self) >= 0 : "
        "isQuantity(self) && !self.startsWith('-') && !self.startsWith('+')",
        lambda value: amount(value) is not None,
        "must be an amount of 0 or more such as 2, 500m, 32Gi or 1.5T",
    ),
]

MEBIBYTE = 1 << 20
"""Fewer bytes of anything that is stored are an amount whose unit was forgotten."""

_RESOURCE = rf"({_OBJECT}/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?"

MOST_RESOURCES = 8
"""Up to Kubernetes 1.33 an API server takes an amount for three megabytes of text, whatever its
maxLength, and refuses a definition whose rules could take too long with so many of them."""

Resources = Annotated[
    dict[str, Quantity],
    Field(max_length=MOST_RESOURCES),
    Rule(
        f"self.all(name, name.matches(r'^({_RESOURCE})$'))",
        lambda amounts: all(re.fullmatch(_RESOURCE, name) for name in amounts),
        "must name resources as a container does: cpu, memory, ephemeral-storage, amd.com/gpu",
    ),
]
