"""From facts to findings: pure, one function for each thing that can be wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from finetuning.api.crd import job_schema
from finetuning.api.text import amount
from finetuning.api.v1alpha1 import GROUP, PLURAL
from finetuning.artifacts.plain import plain
from finetuning.controller.settings import ENV_PREFIX
from finetuning.doctor.facts import Facts, Raw, Unknown

CHART = "helm upgrade --install finetuning-operator charts/finetuning-operator -n finetuning-system"
MINIMUM = (1, 31)
"""The oldest that the chart installs on; a test holds both together."""
GPU_PREFIX = "amd.com/"
SERVED = f"{ENV_PREFIX}WATCH_NAMESPACES"
"""Where the chart says in the Deployment which namespaces are served."""
_SILENT_SECONDS = 60.0
_SHOWN = 3


class Result(StrEnum):
    """How bad it is; only WRONG makes the command end with 1."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    about: str
    result: Result
    told: str
    remedy: str = ""


def findings(facts: Facts, version: str, now: datetime) -> list[Finding]:
    """In the order in which things depend on each other."""
    if isinstance(facts.server, Unknown):
        return [_unreachable(facts.server)]
    return [
        server(facts.server, facts.context),
        definition(facts),
        operator(facts, version, now),
        gpus(facts.nodes),
        monitors(facts.monitors),
        storage(facts.storage_classes),
        rights(facts),
    ]


def _unreachable(why: Unknown) -> Finding:
    remedy = "check the address in the kubeconfig, the VPN, and whether the login has expired"
    return Finding("cluster", Result.WRONG, f"does not answer: {why.why}", remedy)


def server(found: Raw, context: str) -> Finding:
    text = plain(str(found.get("gitVersion", "")), 40)
    numbers = tuple(int(part) for part in text.lstrip("v").split(".")[:2] if part.isdecimal())
    told = f"{context} answers, Kubernetes {text}"
    if numbers and numbers < MINIMUM:
        least = ".".join(map(str, MINIMUM))
        return Finding("cluster", Result.WRONG, told, f"upgrade to Kubernetes {least} or newer")
    return Finding("cluster", Result.GOOD, told)


def definition(facts: Facts) -> Finding:
    """Installed, and with the fields that this version knows."""
    about, name = "definition", f"{PLURAL}.{GROUP}"
    if isinstance(facts.kind_served, Unknown):
        return Finding(about, Result.UNKNOWN, facts.kind_served.why)
    if not facts.kind_served:
        return Finding(about, Result.WRONG, f"{name} is not installed", f"install it: {CHART}")
    if isinstance(facts.schema, Unknown) or facts.schema is None:
        why = facts.schema.why if facts.schema is not None else "its schema is not published"
        return Finding(about, Result.UNKNOWN, f"{name} is installed; {why}")
    return _compared(name, set(_fields(facts.schema)))


def _compared(name: str, theirs: set[str]) -> Finding:
    about, ours = "definition", set(_fields(job_schema()))
    if missing := sorted(ours - theirs):
        told = f"{name} is older than this command: it lacks {_some(missing)}"
        return Finding(about, Result.WRONG, told, f"upgrade the chart: {CHART}")
    if newer := sorted(theirs - ours):
        told = f"{name} is newer than this command: it also has {_some(newer)}"
        return Finding(about, Result.NOTE, told, "upgrade the package finetuning-operator")
    return Finding(about, Result.GOOD, f"{name} is installed, of this version")


def _fields(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """spec.baseModel.modelId and so on; what Kubernetes says about metadata is left out."""
    for name, field in (schema.get("properties") or {}).items():
        path = f"{prefix}.{name}" if prefix else name
        if path in {"apiVersion", "kind", "metadata"}:
            continue
        yield path
        yield from _fields(field.get("items", field), path)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def operator(facts: Facts, version: str, now: datetime) -> Finding:
    """There is one for the namespace; its pod is ready, its Lease fresh, its version this one."""
    about, found = "operator", facts.operators
    if isinstance(found, Unknown):
        return Finding(about, Result.UNKNOWN, found.why, "have an admin run finetuning doctor")
    if not found:
        return Finding(about, Result.WRONG, "there is none", f"install it: {CHART}")
    serving = next((each for each in found if serves(each, facts.namespace)), None)
    if serving is None:
        return _serves_others(found, facts.namespace)
    return _at_work(serving, facts.leases, version, now)


def serves(deployment: Raw, namespace: str) -> bool:
    """Whether the operator looks at jobs in the namespace; one that names none serves all."""
    named = _served(deployment)
    return not named or namespace in named


def _served(deployment: Raw) -> list[str]:
    spec = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    variables = (each for one in spec.get("containers") or () for each in one.get("env") or ())
    told = next((each.get("value") for each in variables if each.get("name") == SERVED), "")
    return [name.strip() for name in (told or "").split(",") if name.strip()]


def _serves_others(found: Sequence[Raw], namespace: str) -> Finding:
    """Its jobs would stay as they were created, without a word."""
    meta, named = found[0]["metadata"], _served(found[0])
    names = ",".join([*named, namespace])
    return Finding(
        "operator",
        Result.WRONG,
        f"{meta['namespace']}/{meta['name']} serves {_some(named)}, and not {namespace}",
        "name a namespace that is served with -n, or have an admin add this one: "
        f"{CHART} --reuse-values --set 'watchNamespaces={{{names}}}'",
    )


def _at_work(found: Raw, leases: Sequence[Raw] | Unknown, version: str, now: datetime) -> Finding:
    about, meta, status = "operator", found["metadata"], found.get("status") or {}
    name, where = meta["name"], meta["namespace"]
    told = f"{where}/{name} has {status.get('readyReplicas') or 0} ready"
    look = (
        f"kubectl -n {where} describe deployment {name}; kubectl -n {where} logs deployment/{name}"
    )
    if not status.get("readyReplicas"):
        return Finding(about, Result.WRONG, told, look)
    own = [] if isinstance(leases, Unknown) else [x for x in leases if _is_of(x, meta)]
    silent = _silence(own[0], now) if own else None
    if silent is not None and silent > _SILENT_SECONDS:
        told = f"{told}, but nobody has worked for {silent:.0f} s"
        return Finding(about, Result.WRONG, told, look)
    running = plain(str((meta.get("labels") or {}).get("app.kubernetes.io/version", "")), 40)
    if running and running != version:
        told = f"{told}, version {running}; this command has {version}"
        return Finding(about, Result.NOTE, told, "bring both to one version")
    return Finding(about, Result.GOOD, f"{told}, version {running or 'unknown'}")


def _is_of(lease: Raw, deployment: Raw) -> bool:
    meta = lease["metadata"]
    return (meta["namespace"], meta["name"]) == (deployment["namespace"], deployment["name"])


def _silence(lease: Raw, now: datetime) -> float | None:
    """Seconds since the Lease was renewed, by this machine's clock."""
    try:
        renewed = datetime.fromisoformat(str((lease.get("spec") or {}).get("renewTime")))
        return (now - renewed).total_seconds()
    except (TypeError, ValueError):
        return None


def gpus(nodes: Sequence[Raw] | Unknown) -> Finding:
    """What the nodes that take pods offer."""
    if isinstance(nodes, Unknown):
        return Finding("GPUs", Result.UNKNOWN, nodes.why, "have an admin run finetuning doctor")
    offered: dict[str, int] = {}
    for node in nodes:
        if not _takes_pods(node):
            continue
        for name, text in ((node.get("status") or {}).get("allocatable") or {}).items():
            if name.startswith(GPU_PREFIX):
                offered[name] = offered.get(name, 0) + int(amount(text) or 0)
    counted = ", ".join(f"{count} {name}" for name, count in sorted(offered.items()) if count)
    if counted:
        return Finding("GPUs", Result.GOOD, f"the nodes offer {counted}")
    return Finding(
        "GPUs",
        Result.WRONG,
        f"none of {len(nodes)} nodes offers {GPU_PREFIX}gpu, so jobs stay Unschedulable",
        "install AMD's GPU operator or device plugin, and look at kubectl describe nodes",
    )


def _takes_pods(node: Raw) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and not (node.get("spec") or {}).get("unschedulable")


def monitors(found: Mapping[str, bool] | Unknown) -> Finding:
    """Nothing needs them: without Prometheus Operator the metrics are still served."""
    about = "monitoring"
    if isinstance(found, Unknown):
        return Finding(about, Result.UNKNOWN, found.why)
    missing = [name for name, there in found.items() if not there]
    if not missing:
        return Finding(about, Result.GOOD, "the kinds of Prometheus Operator are there")
    return Finding(
        about,
        Result.NOTE,
        f"no {' and no '.join(missing)}: Prometheus does not find the jobs by itself",
        "install Prometheus Operator, or see docs/prometheus.md for scraping without it",
    )


def storage(found: Sequence[Raw] | Unknown) -> Finding:
    """A job without claimName gets its claim from the default class."""
    about, mark = "storage", "storageclass.kubernetes.io/is-default-class"
    if isinstance(found, Unknown):
        return Finding(about, Result.UNKNOWN, found.why)
    for each in found:
        if ((each["metadata"].get("annotations") or {}).get(mark)) == "true":
            return Finding(about, Result.GOOD, f"default StorageClass {each['metadata']['name']}")
    names = ", ".join(each["metadata"]["name"] for each in found) or "none"
    return Finding(
        about,
        Result.NOTE,
        f"no default StorageClass (there is: {names})",
        "set spec.output.storage.claimName or storageClassName in each job",
    )


def rights(facts: Facts) -> Finding:
    """What this login may do with jobs in the namespace."""
    about, space = "rights", facts.namespace
    if facts.namespace_there is False:
        mend = f"name another one with -n, or kubectl create namespace {space}"
        return Finding(about, Result.WRONG, f"there is no namespace {space}", mend)
    if isinstance(facts.rights, Unknown):
        return Finding(about, Result.UNKNOWN, facts.rights.why)
    refused = [right.words for right, allowed in facts.rights.items() if not allowed]
    if not refused:
        return Finding(about, Result.GOOD, f"this login may work with jobs in {space}")
    return Finding(
        about,
        Result.WRONG,
        f"this login may not {', '.join(refused)} in {space}",
        f"have an admin bind it: kubectl -n {space} create rolebinding finetuning-users "
        "--clusterrole=edit --user=<you>; the chart adds the jobs to that role",
    )
