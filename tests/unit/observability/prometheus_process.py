"""A real Prometheus as a process of its own, as the cluster's tools build it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack.cluster import monitoring, tools
from tests.built import program
from tests.ports import free_port


def until(true: Callable[[], object], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.3)
    return bool(found)


@contextmanager
def prometheus(folder: Path, scrapes: list[dict[str, Any]], rules: str = "") -> Iterator[str]:
    """Its URL; it scrapes, and evaluates `rules`, every second."""
    server = program(next(each for each in tools.MONITORING if each.name == "prometheus"))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"] if rules else [],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    (folder / "rules.yml").write_text(rules)
    port = free_port()
    process = subprocess.Popen(
        [server, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        cwd=folder, env={**os.environ, "GOMAXPROCS": "1"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        assert until(lambda: monitoring.answers(f"{url}/-/ready"))
        yield url
    finally:
        process.terminate()
        process.wait(20)
