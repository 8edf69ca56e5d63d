"""The configuration for a Prometheus without prometheus-operator, as docs/prometheus.md has it."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.cluster.shell import attempt
from tests.golden.test_desired_children import JOBS, SETTINGS, read_job

from finetuning.controller import desired
from finetuning.controller.desired import monitoring
from finetuning.controller.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "prometheus.md"
RULES = ROOT / "charts" / "finetuning-operator" / "rules" / "finetuning.yaml"

pytestmark = pytest.mark.timeout(900)  # The first test may have to build promtool.


def documented() -> str:
    (block,) = re.findall(r"```yaml\n(rule_files:.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)


def scrape(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = yaml.safe_load(documented())["scrape_configs"]
    return next(each for each in found if each["job_name"] == name)


def kept(scrape_config: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether Prometheus scrapes a target with these meta labels; a pattern has to match whole."""
    (keep,) = (each for each in scrape_config["relabel_configs"] if each.get("action") == "keep")
    value = ";".join(labels.get(name, "") for name in keep["source_labels"])
    return re.fullmatch(keep["regex"], value) is not None


def meta(service: dict[str, Any]) -> dict[str, str]:
    """What discovery tells of a Service and its port."""
    labels = {
        "__meta_kubernetes_service_label_" + re.sub(r"\W", "_", name.replace("/", "_")): value
        for name, value in service["metadata"]["labels"].items()
    }
    return labels | {
        "__meta_kubernetes_endpointslice_port_name": service["spec"]["ports"][0]["name"]
    }


def test_promtool_takes_it_and_the_rules_beside_it(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(documented())
    missing = attempt(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert missing.returncode != 0
    shutil.copy(RULES, tmp_path)
    done = attempt(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_scrapes_the_service_of_a_job_and_no_other() -> None:
    services = [
        each for each in desired.build(read_job(JOBS[0]), SETTINGS).manifests()
        if each["kind"] == "Service"
    ]  # fmt: skip
    found = {
        each["metadata"]["name"]: kept(scrape("finetuning-metrics"), meta(each))
        for each in services
    }
    assert [name for name, is_kept in found.items() if is_kept] == [
        name for name in found if name.endswith("-metrics")
    ]
    assert any(found.values())
    other = {"metadata": {"labels": {"app": "web"}}, "spec": {"ports": [{"name": "metrics"}]}}
    assert not kept(scrape("finetuning-metrics"), meta(other))


def test_it_scrapes_the_operator_as_its_own_monitor_does() -> None:
    labels = {"app.kubernetes.io/name": "finetuning-operator"}
    own = {"metadata": {"labels": labels}, "spec": {"ports": [{"name": "http"}]}}
    assert kept(scrape("finetuning-operator"), meta(own))
    assert scrape("finetuning-operator")["honor_labels"] is True


def test_its_limits_are_those_of_the_monitors() -> None:
    defaults = Settings(operator_image="operator:1", trainer_image="trainer:1")
    limits = {
        re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name): value
        for name, value in monitoring._limits(defaults).items()
    }
    found = scrape("finetuning-metrics")
    assert {name: found[name] for name in limits} == limits
    assert found["scrape_interval"] == defaults.monitoring_interval
