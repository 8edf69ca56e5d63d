"""How long a finished pod waits for the scrape of its final state."""

from typing import Any

import pytest
from tests.golden.test_desired_children import JOBS, SETTINGS, read_job

from finetuning.controller import desired


@pytest.mark.parametrize(
    ("interval", "setting", "linger", "grace"),
    [
        ("30s", 35, 35, 120),
        ("15s", 35, 35, 120),
        ("30s", 60, 60, 120),
        # Two scrapes lie further apart than the setting says.
        ("1m", 35, 65, 120),
        ("5m", 35, 305, 315),
        ("60m", 35, 600, 610),
        ("5m", 0, 0, 120),
    ],
)
def test_it_waits_until_the_next_scrape_and_kubelet_lets_it(
    interval: str, setting: int, linger: int, grace: int
) -> None:
    changes = {"monitoring_interval": interval, "metrics_linger_seconds": setting}
    built = desired.build(read_job(JOBS[0]), SETTINGS.model_copy(update=changes)).manifests()
    (spec,) = (
        each["spec"]["template"]["spec"]
        for each in built
        if each["kind"] == "Job" and each["metadata"]["name"].endswith("-train")
    )
    assert argument(spec, "--linger") == str(linger)
    assert spec["terminationGracePeriodSeconds"] == grace


def argument(spec: dict[str, Any], option: str) -> str:
    (sidecar,) = spec["initContainers"]
    arguments: list[str] = sidecar["args"]
    return arguments[arguments.index(option) + 1]
