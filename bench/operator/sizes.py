"""How large the objects of a job are: as the API server keeps them, and as it sends them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.operator.watcher import key_of
from bench.operator.workload import CUSTOMS, JOBS

from finetuning.api.v1alpha1 import PLURAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.operator.watcher import Client

SAMPLE = 100
"""Objects of a kind that are read; the others of a round are like them."""
KINDS = {
    "FineTuningJob": (CUSTOMS, PLURAL),
    "Job": (JOBS, "jobs"),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "Endpoints": ("/api/v1", "endpoints"),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices"),
    "ServiceMonitor": ("/apis/monitoring.coreos.com/v1", "servicemonitors"),
    "Event": ("/api/v1", "events"),
}
DEFINED = {"FineTuningJob", "ServiceMonitor"}
"""Kinds that are kept, and sent, as JSON alone,"""
PROTOBUF = "application/vnd.kubernetes.protobuf"
"""and what the built-in ones are kept as."""


async def measure(client: Client, namespace: str, jobs: int) -> dict[str, dict[str, float]]:
    """By kind: objects per job, and bytes of one in JSON and as it is kept."""
    found = {}
    for kind, (root, plural) in KINDS.items():
        url = f"{root}/namespaces/{namespace}/{plural}?limit={SAMPLE}"
        kept = text = await client.text(url, "application/json")
        page = json.loads(text)
        if here := len(page["items"]):
            if kind not in DEFINED:
                kept = await client.text(url, PROTOBUF)
            there = here + (page["metadata"].get("remainingItemCount") or 0)
            size = {"json": len(text) / here, "kept": len(kept) / here}
            found[kind] = {"per_job": there / jobs, **size}
    return found


def database_mib(plane: Path) -> float:
    """The file of etcd's database, with the versions of the last five minutes."""
    return (plane / "etcd" / "member" / "snap" / "db").stat().st_size / 2**20


def kept_bytes(sizes: Mapping[str, Mapping[str, float]]) -> float:
    """Bytes of all objects of one job, as they are kept."""
    return sum(each["per_job"] * each["kept"] for each in sizes.values())


async def one_job(client: Client, namespace: str) -> dict[str, list[dict[str, Any]]]:
    """What the operator watches of one job that went well, whole, by plural; or nothing."""
    found = {}
    for kind in ("FineTuningJob", "Job", "Pod"):
        root, plural = KINDS[kind]
        found[plural] = (await client.get(f"{root}/namespaces/{namespace}/{plural}"))["items"]
    well = [each for each in found[PLURAL] if each["status"]["phase"] == "Succeeded"]
    if not well:
        return {}
    name = key_of(well[-1])
    return {plural: [i for i in items if key_of(i) == name] for plural, items in found.items()}
