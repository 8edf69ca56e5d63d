"""Every query of every panel, put to a real Prometheus."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

from hack import prometheus

from finetuning.observability.boards import DASHBOARDS, gpu

if TYPE_CHECKING:
    from collections.abc import Iterator

RANGE = 3600

NO_DATA_HERE = {
    "Model FLOP utilization": "there is no GPU whose peak is known",
    "Energy used": "no GPU here counts its energy",
    "Energy by namespace": "the same",
    "Refused calls": "the API server refused nothing, as it should be",
}
GPU_BOARD = gpu.BOARD.uid
OF_AMDS_EXPORTER = {panel.title for panel in gpu.BOARD.rows[1].panels}
"""AMD's device metrics exporter needs AMD's driver."""


def queries(*, of_gpus: bool) -> Iterator[tuple[str, str, str]]:
    """Dashboard, panel and query; those about GPUs or the others."""
    for board in DASHBOARDS:
        for panel in board.panels:
            known = panel.title not in NO_DATA_HERE and panel.title not in OF_AMDS_EXPORTER
            if known and (board.uid == GPU_BOARD) == of_gpus:
                for query in panel.queries:
                    yield board.uid, panel.title, prometheus.filled(query.expr, RANGE)


def without_answer(url: str, *, of_gpus: bool = False) -> list[tuple[str, str, str]]:
    """The queries that find nothing; raises OSError when Prometheus refuses one."""
    return [each for each in queries(of_gpus=of_gpus) if not prometheus.instant(url, each[2])]


def unhealthy_rules(url: str) -> list[str]:
    """Our rules that Prometheus has not evaluated, or not without an error."""
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=10) as answer:  # noqa: S310
        groups = json.load(answer)["data"]["groups"]
    ours = [group for group in groups if group["name"].startswith("finetuning.")]
    rules = [rule for group in ours for rule in group["rules"]]
    bad = [f"{rule['name']}: {rule['health']}" for rule in rules if rule["health"] != "ok"]
    return bad if rules else ["no rules at all"]


def firing(url: str) -> set[tuple[str, str]]:
    """Alert and job of everything that fires."""
    found = prometheus.instant(url, 'ALERTS{alertstate="firing"}')
    return {(each["metric"]["alertname"], each["metric"].get("job_name", "")) for each in found}
