"""What the chart makes of the generated rules and dashboards."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tests.chart.conftest import CHART, Objects

from finetuning.observability.alerts import ALERTS, RUNBOOKS
from finetuning.observability.boards import DASHBOARDS

pytestmark = pytest.mark.timeout(900)

NAME = "finetuning-operator"
RULES = yaml.safe_load((CHART / "rules" / "finetuning.yaml").read_text())
KNOWN = ("--api-versions", "monitoring.coreos.com/v1/PrometheusRule")
MONITORED = {"serviceMonitor": True}
ON = {"prometheusRule": {"enabled": True}, "monitoring": MONITORED}


def rules(found: Objects) -> list[dict[str, Any]]:
    groups = found["PrometheusRule", NAME]["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts(found: Objects) -> set[str]:
    return {rule["alert"] for rule in rules(found) if "alert" in rule}


@pytest.mark.parametrize(
    ("wish", "options", "count"),
    [("auto", (), 0), ("auto", KNOWN, 1), (True, (), 1), (False, KNOWN, 0)],
)
def test_the_alerts_follow_the_cluster_unless_told(
    objects: Callable[..., Objects], wish: object, options: tuple[str, ...], count: int
) -> None:
    found = objects({"prometheusRule": {"enabled": wish}}, *options)
    assert [kind for kind, _ in found].count("PrometheusRule") == count


def test_every_generated_rule_arrives_unchanged(objects: Callable[..., Objects]) -> None:
    """Helm's own {{ }} must not eat those of Prometheus."""
    assert objects(ON)["PrometheusRule", NAME]["spec"] == RULES


def test_prometheus_finds_the_rules_by_the_same_labels_as_the_monitors(
    objects: Callable[..., Objects],
) -> None:
    found = objects({**ON, "monitoring": MONITORED | {"extraLabels": {"release": "prom"}}})
    assert found["PrometheusRule", NAME]["metadata"]["labels"]["release"] == "prom"


def test_an_unwanted_alert_is_left_out_and_nothing_else(objects: Callable[..., Objects]) -> None:
    unwanted = ["FineTuningOverfitting", "FineTuningLowGpuUtilization"]
    found = objects(ON | {"prometheusRule": {"enabled": True, "disabledAlerts": unwanted}})
    assert {alert.name for alert in ALERTS} - alerts(found) == set(unwanted)
    assert len(rules(objects(ON))) - len(rules(found)) == len(unwanted)


def test_a_group_without_alerts_is_left_out(objects: Callable[..., Objects]) -> None:
    unwanted = [alert.name for alert in ALERTS if alert.group == "validation"]
    found = objects(ON | {"prometheusRule": {"enabled": True, "disabledAlerts": unwanted}})
    groups = [group["name"] for group in found["PrometheusRule", NAME]["spec"]["groups"]]
    assert "finetuning.validation" not in groups
    assert len(groups) == len(RULES["groups"]) - 1


def test_a_sidecar_that_nobody_is_to_scrape_is_not_missed(
    objects: Callable[..., Objects],
) -> None:
    found = objects({**ON, "monitoring": MONITORED | {"mode": "none"}})
    assert {alert.name for alert in ALERTS} - alerts(found) == {"FineTuningSidecarDown"}


@pytest.mark.parametrize("wish", [False, "auto"])
def test_an_operator_that_nobody_is_to_scrape_is_not_missed(
    objects: Callable[..., Objects], wish: object
) -> None:
    """Its absence would be an alert for ever; auto finds no prometheus-operator here."""
    found = objects({**ON, "monitoring": {"serviceMonitor": wish}})
    assert {alert.name for alert in ALERTS} - alerts(found) == {"FineTuningOperatorDown"}


def test_the_runbooks_can_lie_elsewhere(objects: Callable[..., Objects]) -> None:
    wiki = "https://wiki.example.com/ml/runbooks"
    found = objects(ON | {"prometheusRule": {"enabled": True, "runbookUrl": wiki}})
    links = {rule["annotations"]["runbook_url"] for rule in rules(found) if "alert" in rule}
    assert links == {alert.runbook_url.replace(RUNBOOKS, wiki) for alert in ALERTS}


def test_the_schema_knows_every_alert() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["prometheusRule"]["properties"]["disabledAlerts"]["items"]["enum"]
    assert known == [alert.name for alert in ALERTS]


def test_every_dashboard_arrives_unchanged_in_a_configmap_of_its_own(
    objects: Callable[..., Objects],
) -> None:
    found = {name: o for (kind, name), o in objects().items() if kind == "ConfigMap"}
    assert len(found) == len(DASHBOARDS)
    for board in DASHBOARDS:
        file = f"{board.uid}.json"
        config = found[f"{NAME}-dashboard-{board.uid.removeprefix('finetuning-')}"]
        assert config["data"] == {file: (CHART / "dashboards" / file).read_text()}
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["metadata"]["annotations"] == {"grafana_folder": "Fine-tuning"}
        assert len(config["data"][file]) < 1 << 20


def test_grafana_may_look_elsewhere_and_by_other_labels(objects: Callable[..., Objects]) -> None:
    wish = {"namespace": "grafana", "labels": {"board": "yes"}, "annotations": None}
    found = objects({"dashboards": wish})
    for config in (o for (kind, _), o in found.items() if kind == "ConfigMap"):
        assert config["metadata"]["namespace"] == "grafana"
        assert config["metadata"]["labels"]["board"] == "yes"


def test_dashboards_can_be_left_out(objects: Callable[..., Objects]) -> None:
    assert "ConfigMap" not in {kind for kind, _ in objects({"dashboards": {"enabled": False}})}
