"""What people are told after the installation."""

from typing import Any

import pytest
from tests.chart.conftest import Render

MONITOR, RULE = (
    ("--api-versions", f"monitoring.coreos.com/v1/{kind}")
    for kind in ("ServiceMonitor", "PrometheusRule")
)
UPGRADE = "helm upgrade finetuning-operator <this chart> --namespace finetuning-system"


@pytest.mark.parametrize(
    ("values", "known", "absent"),
    [
        ({}, (), "the operator's own ServiceMonitor and the alerts are left out"),
        ({}, MONITOR, "so the alerts are left out"),
        ({"prometheusRule": {"enabled": False}}, (), "own ServiceMonitor are left out"),
        ({}, (*MONITOR, *RULE), None),
        (
            {"prometheusRule": {"enabled": False}, "monitoring": {"serviceMonitor": False}},
            (),
            None,
        ),
    ],
)
def test_what_an_absent_prometheus_operator_costs_is_told_with_the_command(
    notes: Render, values: dict[str, Any], known: tuple[str, ...], absent: str | None
) -> None:
    told = notes(values, *known)
    assert (UPGRADE in told) == (absent is not None)
    assert absent is None or absent in told


@pytest.mark.parametrize(
    ("watched", "open_elsewhere"), [([], True), (["team-a"], False), (["team-a", "team-b"], False)]
)
def test_a_policy_that_leaves_namespaces_open_says_so(
    notes: Render, watched: list[str], *, open_elsewhere: bool
) -> None:
    policy = {"enabled": True, "jobNamespaces": ["team-a"]}
    told = notes({"watchNamespaces": watched, "monitoring": {"networkPolicy": policy}})
    assert ("guards the training pods in team-a. Those in any other" in told) is open_elsewhere
