"""promtool runs the chart's own rule file over made-up histories of jobs.

Every alert has histories in which it fires, with the words that a person then reads, and
histories that look alike in which it must not.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.cluster.shell import attempt
from tests.unit.observability.histories import DOWN, RUNNING, Case
from tests.unit.observability.operator_histories import JOBS
from tests.unit.observability.training_histories import TRAININGS

from finetuning.observability.alerts import ALERTS
from finetuning.observability.rules import rule_file, with_labels

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts" / "finetuning-operator" / "rules" / "finetuning.yaml"
OF = {alert.name: alert for alert in ALERTS}

pytestmark = pytest.mark.timeout(900)  # The first test may have to build promtool.

CASES = (*TRAININGS, *JOBS)


def expected(case: Case) -> list[dict[str, Any]]:
    """What promtool must find; the words but for the description follow from the labels."""
    if not case.says:
        return []
    alert = OF[case.alert]
    summary = with_labels(alert.summary)
    for name, value in case.labels.items():
        summary = summary.replace(f"{{{{ $labels.{name} }}}}", value)
    annotations = {"summary": summary, "runbook_url": alert.runbook_url, "description": case.says}
    labels = {"severity": alert.severity.value, **case.labels}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def as_test(case: Case) -> dict[str, Any]:
    at = f"{case.minute}m"
    return {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series],
        "alert_rule_test": [
            {"eval_time": at, "alertname": case.alert, "exp_alerts": expected(case)}
        ],
    }


def rules_of(alert: str) -> dict[str, Any]:
    """The chart's own file without the other alerts: promtool reckons all that it is given."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
    return {"groups": groups}


@pytest.fixture
def promtool_says(promtool: Path, tmp_path: Path) -> Callable[[list[Case]], str]:
    """What promtool finds wrong with the histories of one alert; empty when all is as expected."""

    def run(cases: list[Case]) -> str:
        (alert,) = {case.alert for case in cases}
        (tmp_path / "rules.yaml").write_text(json.dumps(rules_of(alert)))
        groups = [group["name"] for group in rule_file()["groups"]]
        words: dict[str, Any] = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m"}
        words |= {"tests": [as_test(case) for case in cases], "group_eval_order": groups}
        file = tmp_path / "rules.test.yaml"
        file.write_text(json.dumps(words))
        done = attempt(promtool, "test", "rules", file)
        return done.stdout + done.stderr if done.returncode else ""

    return run


@pytest.mark.parametrize("alert", OF)
def test_every_alert_fires_when_it_should_and_only_then(
    alert: str, promtool_says: Callable[[list[Case]], str]
) -> None:
    assert promtool_says([case for case in CASES if case.alert == alert]) == ""


def test_a_history_with_another_end_is_told(promtool_says: Callable[[list[Case]], str]) -> None:
    """The test above could not fail if promtool skipped what it does not understand."""
    silent = Case(DOWN, "running without a sidecar", (RUNNING,), 15)
    assert "FineTuningSidecarDown" in promtool_says([silent])


def test_every_alert_has_a_history_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.says} == set(OF)
    assert {case.alert for case in CASES if not case.says} == set(OF)
    assert len({case.name for case in CASES}) == len(CASES)


def test_promtool_finds_nothing_to_complain_of(promtool: Path) -> None:
    done = attempt(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(yaml.safe_load(RULES.read_text())["groups"]) == len(rule_file()["groups"])
