"""Each finding from the facts that make it, and the command against answers over real HTTP."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.client.server import JOBS, Api, refusal, served

from finetuning.api.crd import job_schema
from finetuning.cli.__main__ import main
from finetuning.doctor.facts import USER_RIGHTS, Facts, Unknown
from finetuning.doctor.findings import MINIMUM, SERVED, Finding, Result, findings

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
VERSION = "0.1.0"


WHO = {"name": "finetuning-operator", "namespace": "finetuning-system"}


def deployment(ready: int = 1, version: str = VERSION, serves: str = "") -> dict[str, Any]:
    meta = {**WHO, "labels": {"app.kubernetes.io/version": version}}
    container = {"name": "operator", "env": [{"name": SERVED, "value": serves}]}
    spec = {"template": {"spec": {"containers": [container]}}}
    return {"metadata": meta, "spec": spec, "status": {"readyReplicas": ready}}


def lease(seconds: float) -> dict[str, Any]:
    renewed = (NOW - timedelta(seconds=seconds)).isoformat()
    return {"metadata": WHO, "spec": {"renewTime": renewed}}


def node(*, gpus: str = "8", ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    allocatable = {"cpu": "4", "amd.com/gpu": gpus}
    return {"spec": spec, "status": {"conditions": conditions, "allocatable": allocatable}}


def storage_class(default: str) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": default}
    return {"metadata": {"name": "fast", "annotations": annotations}}


WELL = Facts(
    context="lab",
    namespace="team",
    server={"gitVersion": "v1.36.3"},
    kind_served=True,
    schema=job_schema(),
    operators=[deployment()],
    leases=[lease(2)],
    nodes=[node(), node(gpus="4")],
    monitors={"ServiceMonitor": True, "PodMonitor": True},
    storage_classes=[storage_class("true")],
    rights=dict.fromkeys(USER_RIGHTS, True),
    namespace_there=True,
)


def found(about: str, **changes: Any) -> Finding:
    told = findings(replace(WELL, **changes), VERSION, NOW)
    return next(each for each in told if each.about == about)


def test_a_cluster_that_is_well() -> None:
    told = findings(WELL, VERSION, NOW)
    assert [each.about for each in told] == [
        "cluster", "definition", "operator", "GPUs", "monitoring", "storage", "rights",
    ]  # fmt: skip
    assert {each.result for each in told} == {Result.GOOD}
    assert found("GPUs").told == "the nodes offer 12 amd.com/gpu"


def test_of_several_operators_the_one_that_serves_the_namespace_counts() -> None:
    others = deployment(ready=0, serves="law")
    told = found("operator", operators=[others, deployment(serves="art,team")])
    assert told.result is Result.GOOD
    told = found("operator", operators=[others])
    assert told.remedy.endswith("--reuse-values --set 'watchNamespaces={law,team}'")


def test_nothing_else_is_judged_when_the_server_is_silent() -> None:
    (only,) = findings(replace(WELL, server=Unknown("no route")), VERSION, NOW)
    assert (only.result, only.told) == (Result.WRONG, "does not answer: no route")


def schema_without(field: str) -> Any:
    schema = job_schema()
    spec = schema["properties"]["spec"]
    less = {name: each for name, each in spec["properties"].items() if name != field}
    return {"properties": {**schema["properties"], "spec": {**spec, "properties": less}}}


def schema_with(field: str) -> Any:
    schema = job_schema()
    spec = schema["properties"]["spec"]
    more = {**spec["properties"], field: {"type": "string"}}
    return {"properties": {**schema["properties"], "spec": {**spec, "properties": more}}}


WRONG, NOTE, UNKNOWN, GOOD = Result.WRONG, Result.NOTE, Result.UNKNOWN, Result.GOOD


@pytest.mark.parametrize(
    ("about", "changes", "result", "told"),
    [
        ("cluster", {"server": {"gitVersion": "v1.30.9"}}, WRONG, "Kubernetes v1.30.9"),
        ("cluster", {"server": {"gitVersion": "v1.31.0-eks"}}, GOOD, "v1.31.0-eks"),
        ("definition", {"kind_served": False}, WRONG, "is not installed"),
        ("definition", {"kind_served": Unknown("why")}, UNKNOWN, "why"),
        ("definition", {"schema": schema_without("suspend")}, WRONG, "it lacks spec.suspend"),
        ("definition", {"schema": schema_with("colour")}, NOTE, "it also has spec.colour"),
        ("definition", {"schema": None}, UNKNOWN, "not published"),
        ("definition", {"schema": Unknown("why")}, UNKNOWN, "is installed; why"),
        ("operator", {"operators": []}, WRONG, "there is none"),
        ("operator", {"operators": Unknown("why")}, UNKNOWN, "why"),
        ("operator", {"operators": [deployment(ready=0)]}, WRONG, "has 0 ready"),
        ("operator", {"leases": [lease(300)]}, WRONG, "nobody has worked for 300 s"),
        ("operator", {"leases": Unknown("why")}, GOOD, "1 ready"),
        ("operator", {"leases": [{"metadata": WHO, "spec": {}}]}, GOOD, "1 ready"),
        ("operator", {"operators": [deployment(version="0.0.9")]}, NOTE, "version 0.0.9"),
        (
            "operator",
            {"operators": [deployment(serves="law,art")]},
            WRONG,
            "finetuning-system/finetuning-operator serves law, art, and not team",
        ),
        ("GPUs", {"nodes": []}, WRONG, "none of 0 nodes"),
        ("GPUs", {"nodes": [node(gpus="0")]}, WRONG, "none of 1 nodes offers"),
        ("GPUs", {"nodes": [node(ready="False")]}, WRONG, "none of 1 nodes"),
        ("GPUs", {"nodes": [node(unschedulable=True)]}, WRONG, "none of 1 nodes"),
        ("GPUs", {"nodes": Unknown("why")}, UNKNOWN, "why"),
        ("monitoring", {"monitors": {"ServiceMonitor": False}}, NOTE, "no ServiceMonitor"),
        ("monitoring", {"monitors": Unknown("why")}, UNKNOWN, "why"),
        ("storage", {"storage_classes": [storage_class("false")]}, NOTE, "(there is: fast)"),
        ("storage", {"storage_classes": Unknown("why")}, UNKNOWN, "why"),
        ("rights", {"rights": {USER_RIGHTS[3]: False}}, WRONG, "may not patch finetuningjobs in"),
        ("rights", {"rights": Unknown("why")}, UNKNOWN, "why"),
    ],
)  # fmt: skip
def test_each_trouble_is_told_and_can_be_mended(
    about: str, changes: dict[str, Any], result: Result, told: str
) -> None:
    finding = found(about, **changes)
    assert finding.result is result
    assert told in finding.told
    assert finding.remedy or result in {GOOD, UNKNOWN}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    answers = Api()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    schemas = {"com.amd.aim.v1alpha1.FineTuningJob": job_schema()}
    answers.answers = {
        "/version": (200, {"gitVersion": "v1.36.3"}),
        "/openapi/v3/apis/aim.amd.com/v1alpha1": (200, {"components": {"schemas": schemas}}),
        "/apis/apps/v1/deployments": refusal(403, "Forbidden", "may not list"),
        "/apis/apps/v1/namespaces/finetuning-system/deployments": (200, {"items": [deployment()]}),
        "/api/v1/namespaces/team": (200, {"metadata": {"name": "team"}}),
        "/api/v1/nodes": (200, {"items": [node()]}),
        "/apis/monitoring.coreos.com/v1": (200, {"resources": [{"name": "servicemonitors"}]}),
        "/apis/storage.k8s.io/v1/storageclasses": (200, {"items": [storage_class("true")]}),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": (201, allowed),
    }
    with served(answers, tmp_path / "kubeconfig"):
        yield answers


def allowed(review: Any) -> dict[str, Any]:
    """Everything in the namespace that is asked for, but for logs."""
    wish = review["spec"]["resourceAttributes"]
    assert wish["namespace"] == "team"
    return {"status": {"allowed": wish["subresource"] != "log"}}


def test_the_command_asks_and_tells(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("doctor",)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✓ cluster     lab answers, Kubernetes v1.36.3"
    assert "! monitoring  no PodMonitor: Prometheus does not find the jobs by itself" in lines
    assert "✗ rights      this login may not get pods/log in team" in lines
    assert lines[-1] == "1 of 7 wrong."
    assert {how for how, _, _, _ in api.requests} == {"GET", "POST"}

    api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = (
        201, {"status": {"allowed": True}},
    )  # fmt: skip
    assert main(("doctor", "-o", "json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["result"] for each in told].count("ok") == 6

    del api.answers["/api/v1/namespaces/team"]
    assert main(("doctor",)) == 1
    assert "✗ rights      there is no namespace team" in capsys.readouterr().out


def test_a_cluster_without_the_operator_says_how_to_install_it(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers[JOBS] = (404, "404 page not found")
    api.answers["/apis/apps/v1/deployments"] = (200, {"items": []})
    assert main(("doctor",)) == 1
    assert capsys.readouterr().out.count("-> install it: helm upgrade --install") == 2


def test_the_oldest_kubernetes_is_that_of_the_chart() -> None:
    chart = Path(__file__).resolve().parents[3] / "charts/finetuning-operator/Chart.yaml"
    assert yaml.safe_load(chart.read_text())["kubeVersion"] == ">={}.{}.0-0".format(*MINIMUM)
