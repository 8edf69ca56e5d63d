"""Ask a Prometheus what the panels of the dashboards ask, with every variable set to all."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any

Result = list[dict[str, Any]]
"""Series as the API gives them: labels in `metric`, and `value` or `values`."""


def filled(expr: str, seconds: int, rate_interval: str = "2m") -> str:
    """A panel's query as Grafana sends it when `seconds` are chosen and nothing else is."""
    words = {
        "${gpu_prefix}": "",
        "$cluster": ".*",
        "$namespace": ".*",
        "$job_name": ".*",
        "$__range_s": str(seconds),
        "$__range": f"{seconds}s",
        "$__rate_interval": rate_interval,
    }
    for word, value in words.items():
        expr = expr.replace(word, value)
    return expr


def instant(url: str, expr: str, when: float | None = None) -> Result:
    """Values of now or of `when`, in Unix seconds.

    Raises:
        OSError: Prometheus does not answer, or refuses the query.
    """
    words = {"query": expr} if when is None else {"query": expr, "time": str(when)}
    return _ask(f"{url}/api/v1/query", words)


def over_time(url: str, expr: str, start: float, end: float, step: float) -> Result:
    """Values from `start` to `end`, in Unix seconds, every `step` seconds."""
    words = {"query": expr, "start": str(start), "end": str(end), "step": str(step)}
    return _ask(f"{url}/api/v1/query_range", words)


def _ask(address: str, words: dict[str, str]) -> Result:
    question = f"{address}?{urllib.parse.urlencode(words)}"
    with urllib.request.urlopen(question, timeout=10) as answer:  # noqa: S310  Our own Prometheus.
        return list(json.load(answer)["data"]["result"])
