"""What the cluster's Prometheus scrapes, and what it has scraped."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import yaml
from tests.cluster.support import Cluster

MONITORING = Cluster("monitoring")


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """Samples of an instant query; none while Prometheus is not listening."""
    words = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{words}", timeout=10) as answer:  # noqa: S310
            return list(json.load(answer)["data"]["result"])
    except urllib.error.URLError:
        return []


def pools() -> set[str]:
    """The scrape pools that the prometheus-operator made of the monitors."""
    secret = MONITORING.get("secret", "prometheus-main")
    packed = base64.b64decode(secret["data"]["prometheus.yaml.gz"]) if secret else b""
    config = yaml.safe_load(gzip.decompress(packed)) if packed else {}
    return {each["job_name"] for each in config.get("scrape_configs") or ()}


def renew(*wanted: str) -> None:
    """Let Prometheus begin anew once the pools are in its configuration.

    Its config reloader may miss the second of two quick changes, for its interval of minutes.
    """
    MONITORING.wait(f"the scrape pools {wanted}", lambda: set(wanted) <= pools(), 60)
    MONITORING.kubectl("delete", "pod", "prometheus-main-0", "--grace-period=1")
