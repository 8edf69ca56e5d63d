"""What the chart renders, and the values that it refuses."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.cluster.shell import attempt
from tests.chart.conftest import CHART, IMAGES, ROOT, HelmError, Objects, Render

from finetuning.api.crd import NAME as CRD_NAME
from finetuning.api.v1alpha1 import ObjectMeta
from finetuning.controller import naming
from finetuning.controller.permissions import PERMISSIONS, Scope
from finetuning.controller.settings import ENV_PREFIX, MonitoringMode, Settings
from finetuning.doctor import findings

# The first test may have to build helm.
pytestmark = pytest.mark.timeout(900)

GOLDEN = Path(__file__).parent / "golden"
PROMETHEUS = ("--api-versions", "monitoring.coreos.com/v1/ServiceMonitor")
NAME = "finetuning-operator"
CHANGED: dict[str, Any] = {
    "image": {**IMAGES["image"], "pullPolicy": "Always"},
    "imagePullSecrets": ["registry", "mirror"],
    "gpuResourceName": "example.com/gpu",
    "gpuModel": "MI300X-CPX-NPS4",
    "gpuSupplementalGroups": [44, 1000109],
    "gpuEnvironment": {"HSA_OVERRIDE_GFX_VERSION": "9.4.2", "NCCL_DEBUG": 'a, "b" <c> & d'},
    "gpuSeccompProfile": "profiles/rocm.json",
    "watchNamespaces": ["team-a", "team-b"],
    "training": {"runAsUser": 10000001, "sharedMemory": "64Gi"},
    "monitoring": {
        "mode": "shared",
        "interval": "1m",
        "extraLabels": {"release": "prom", "example.com/team": "ml"},
        "lingerSeconds": 0,
        "finishedJobs": 100000,
        "sampleLimit": 1000,
        "labelLimit": 1000000,
        "labelValueLengthLimit": 512,
        "serviceMonitor": True,
        "networkPolicy": {
            "enabled": True,
            "namespaces": ["prometheus", "grafana"],
            "podLabels": {"app": "prometheus"},
            "jobNamespaces": ["team-a"],
        },
    },
    "serving": {"create": True, "images": ["registry.example.com/aim"], "imagesByDigest": True},
    "prometheusRule": {
        "enabled": False,
        "disabledAlerts": ["FineTuningOverfitting"],
        "runbookUrl": "https://wiki.example.com/runbooks",
    },
    "dashboards": {
        "enabled": False,
        "labels": {"grafana": "yes"},
        "annotations": {"folder": "ML"},
        "namespace": "grafana",
    },
    "crds": {"install": False, "keep": False},
    "rbac": {"aggregate": False},
    "serviceAccount": {"annotations": {"example.com/a": "b"}},
    "operator": {
        "replicas": 3,
        "logLevel": "debug",
        "progressIntervalSeconds": 2.5,
        "resources": {"limits": {"memory": "1Gi"}},
        "podLabels": {"team": "ml"},
        "podAnnotations": {"example.com/scrape": "yes"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    },
}


POD = "finetuning-operator-5d8c7b9f6-abcde"


def container(objects: Objects) -> dict[str, Any]:
    (found,) = objects["Deployment", NAME]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(objects: Objects) -> dict[str, str]:
    """What the pod says there is the name of the pod."""
    entries = container(objects)["env"]
    return {entry["name"]: entry.get("value", POD) for entry in entries}


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in ("annotations", "labels", "resources"):
            yield from leaves(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def test_lint_finds_nothing(helm: Path) -> None:
    done = attempt(helm, "lint", "--strict", CHART)
    assert "0 chart(s) failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("golden", "values", "options"),
    [
        ("default", {"crds": {"install": False}, "dashboards": {"enabled": False}}, ()),
        ("every-value-changed", CHANGED, PROMETHEUS),
    ],
)
def test_the_manifests_are_as_reviewed(
    render: Render, golden: str, values: dict[str, Any], options: tuple[str, ...]
) -> None:
    """UPDATE_GOLDEN=1 rewrites them."""
    file = GOLDEN / f"{golden}.yaml"
    text = render(values, *options)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_operator_gets_each_setting_once_and_nothing_else(
    objects: Callable[..., Objects],
) -> None:
    names = {name for name in environment(objects()) if name.startswith(ENV_PREFIX)}
    assert names == {ENV_PREFIX + field.upper() for field in Settings.model_fields}


def test_untouched_values_are_the_operators_own_defaults(
    objects: Callable[..., Objects],
) -> None:
    images = IMAGES["image"]
    found = Settings.from_env(environment(objects()))
    assert found == Settings(
        operator_image=images["operator"],
        trainer_image=images["trainer"],
        leader_election=True,
        identity=POD,
    )


def test_what_an_older_release_did_not_know_may_be_missing(
    objects: Callable[..., Objects],
) -> None:
    """With --reuse-values an upgrade has only what the chart before it had."""
    known = ("gpuEnvironment", "gpuSeccompProfile", "training.sharedMemory")
    missing = ",".join(f"{each}=null" for each in known)
    found = environment(objects({}, "--set", missing))
    settings = Settings.from_env({name: text or "" for name, text in found.items()})
    assert settings == Settings.from_env(environment(objects()))


def test_every_changed_value_reaches_the_operator(objects: Callable[..., Objects]) -> None:
    assert Settings.from_env(environment(objects(CHANGED))).model_dump(mode="json") == {
        "operator_image": IMAGES["image"]["operator"],
        "trainer_image": IMAGES["image"]["trainer"],
        "image_pull_policy": "Always",
        "image_pull_secrets": ["registry", "mirror"],
        "serving_images": ["registry.example.com/aim"],
        "serving_images_by_digest": True,
        "gpu_resource_name": "example.com/gpu",
        "gpu_model": "MI300X-CPX-NPS4",
        "gpu_supplemental_groups": [44, 1000109],
        "gpu_environment": CHANGED["gpuEnvironment"],
        "gpu_seccomp_profile": "profiles/rocm.json",
        "shared_memory": "64Gi",
        "run_as_user": 10000001,
        "monitoring_mode": "shared",
        "monitoring_interval": "1m",
        "monitoring_extra_labels": {"release": "prom", "example.com/team": "ml"},
        "monitoring_sample_limit": 1000,
        "monitoring_label_limit": 1000000,
        "monitoring_label_value_length_limit": 512,
        "deployment_name": NAME,
        "deployment_namespace": "finetuning-system",
        "leader_election": True,
        "identity": POD,
        "metrics_finished_jobs": 100000,
        "metrics_linger_seconds": 0,
        "progress_interval_seconds": 2.5,
        "watch_namespaces": ["team-a", "team-b"],
        "log_level": "debug",
        "http_port": 8080,
    }


def test_images_have_the_charts_version_unless_they_are_named(
    objects: Callable[..., Objects],
) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    found = environment(objects({"image": {"operator": "", "trainer": ""}}))
    assert found[f"{ENV_PREFIX}OPERATOR_IMAGE"] == f"finetuning-operator:{version}"
    assert found[f"{ENV_PREFIX}TRAINER_IMAGE"] == f"finetuning-trainer:{version}"


def test_replicas_keep_apart_and_one_at_a_time_may_be_evicted(
    objects: Callable[..., Objects],
) -> None:
    def placed(found: Objects) -> object:
        return found["Deployment", NAME]["spec"]["template"]["spec"].get("affinity")

    one, two = objects(), objects({"operator": {"replicas": 2}})
    assert placed(one) is None
    assert "podAntiAffinity" in str(placed(two))
    assert "PodDisruptionBudget" not in {kind for kind, _ in one}
    assert two["PodDisruptionBudget", NAME]["spec"]["maxUnavailable"] == 1
    wish = {"operator": {"replicas": 2, "affinity": {"nodeAffinity": {}}}}
    assert placed(objects(wish)) == {"nodeAffinity": {}}


@pytest.mark.parametrize(
    ("wish", "options", "monitors"),
    [("auto", (), 0), ("auto", PROMETHEUS, 1), (True, (), 1), (False, PROMETHEUS, 0)],
)
def test_the_operators_own_monitor_follows_the_cluster_unless_told(
    objects: Callable[..., Objects], wish: object, options: tuple[str, ...], monitors: int
) -> None:
    found = objects({"monitoring": {"serviceMonitor": wish}}, *options)
    assert [kind for kind, _ in found].count("ServiceMonitor") == monitors


def test_the_monitor_selects_the_service_by_its_port_name(
    objects: Callable[..., Objects],
) -> None:
    found = objects({"monitoring": {"serviceMonitor": True, "extraLabels": {"release": "prom"}}})
    monitor, service = found["ServiceMonitor", NAME], found["Service", NAME]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["honorLabels"] is True


def test_the_service_reaches_the_pod(objects: Callable[..., Objects]) -> None:
    found = objects()
    pod = found["Deployment", NAME]["spec"]["template"]
    (port,) = found["Service", NAME]["spec"]["ports"]
    assert found["Service", NAME]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert port["targetPort"] in {each["name"] for each in container(found)["ports"]}


def test_the_pod_keeps_to_the_restricted_profile(objects: Callable[..., Objects]) -> None:
    found = objects()
    pod = found["Deployment", NAME]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(found)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_named_namespaces_take_the_place_of_cluster_wide_rights(
    objects: Callable[..., Objects],
) -> None:
    wide, narrow = objects(), objects({"watchNamespaces": ["team-a"]})
    assert narrow["Role", NAME]["metadata"]["namespace"] == "team-a"
    assert narrow["Role", NAME]["rules"] == wide["ClusterRole", NAME]["rules"]
    assert not {("ClusterRole", NAME), ("ClusterRoleBinding", NAME)} & narrow.keys()
    assert not {("Role", NAME), ("RoleBinding", NAME)} & wide.keys()
    told = [findings.serves(each["Deployment", NAME], "team-b") for each in (wide, narrow)]
    assert told == [True, False], "the doctor reads which namespaces are served"


def rights(objects: Objects, kind: str, name: str = NAME) -> set[tuple[str, str]]:
    """Verb and resource of every rule of a role."""
    rules = objects[kind, name]["rules"]
    return {(verb, each) for rule in rules for verb in rule["verbs"] for each in rule["resources"]}


@pytest.mark.parametrize("mode", MonitoringMode)
def test_the_roles_hold_what_the_monitoring_mode_needs_and_no_more(
    objects: Callable[..., Objects], mode: MonitoringMode
) -> None:
    found = objects({"monitoring": {"mode": mode.value}})
    needed = [each for each in PERMISSIONS if mode in each.modes and not each.only_if]
    for kind, name, scopes in (
        ("ClusterRole", NAME, {Scope.JOBS}),
        ("Role", f"{NAME}-release", {Scope.RELEASE}),
    ):
        expected = {
            (verb, each.resource) for each in needed if each.scope in scopes for verb in each.verbs
        }
        assert rights(found, kind, name) == expected


def test_what_serves_a_model_may_be_created_only_where_a_value_allows_it(
    objects: Callable[..., Objects],
) -> None:
    kinds = {each.resource for each in PERMISSIONS if each.only_if == "serving.create"}
    created = {(verb, kind) for kind in kinds for verb in ("get", "create")}
    assert kinds == {"aimmodels", "aimservices"}
    usual = rights(objects(), "ClusterRole", NAME)
    assert rights(objects({"serving": {"create": True}}), "ClusterRole", NAME) == usual | created
    assert not any(kind in kinds for _, kind in usual)


def test_the_right_to_delete_a_monitor_of_the_release_names_it(
    objects: Callable[..., Objects],
) -> None:
    rules = objects()["Role", f"{NAME}-release"]["rules"]
    assert {tuple(rule["resourceNames"]) for rule in rules if "delete" in rule["verbs"]} == {
        (f"{NAME}-jobs",)
    }


def test_no_network_policy_unless_one_is_wanted(objects: Callable[..., Objects]) -> None:
    assert "NetworkPolicy" not in {kind for kind, _ in objects()}


def test_the_policy_lets_the_operator_and_the_named_pods_scrape(
    objects: Callable[..., Objects],
) -> None:
    found = objects(CHANGED)
    scrapers = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "podSelector": {"matchLabels": {"app": "prometheus"}},
        }
        for name in ("prometheus", "grafana")
    ]
    own, of_jobs = found["NetworkPolicy", NAME], found["NetworkPolicy", f"{NAME}-jobs"]
    pod = found["Deployment", NAME]["spec"]["template"]["metadata"]
    (rule,) = own["spec"]["ingress"]
    assert rule["from"] == scrapers
    assert rule["ports"] == [
        {"port": port["port"], "protocol": "TCP"}
        for port in found["Service", NAME]["spec"]["ports"]
    ]
    assert own["spec"]["podSelector"]["matchLabels"].items() <= pod["labels"].items()

    rule, among_workers = of_jobs["spec"]["ingress"]
    operator, *others = rule["from"]
    assert others == scrapers
    assert operator["podSelector"]["matchLabels"].items() <= pod["labels"].items()
    assert operator["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "finetuning-system"
    }
    assert of_jobs["metadata"]["namespace"] == "team-a"
    assert rule["ports"] == [{"port": naming.METRICS_PORT, "protocol": "TCP"}]
    meta = ObjectMeta(name="demo", namespace="team-a", uid="u")
    labels = naming.labels(meta, naming.TRAINING)
    assert of_jobs["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert among_workers == {"from": [{"podSelector": of_jobs["spec"]["podSelector"]}]}


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({}, "monitoring.networkPolicy.jobNamespaces or in watchNamespaces"),
        ({"jobNamespaces": ["a"], "namespaces": []}, "namespaces: name the namespaces that may"),
        ({"jobNamespaces": ["a"], "namespaces": None}, "namespaces: name the namespaces that may"),
    ],
)
def test_a_policy_that_guards_nothing_is_refused_with_the_remedy(
    render: Render, policy: dict[str, Any], says: str
) -> None:
    with pytest.raises(HelmError) as refused:
        render({"monitoring": {"networkPolicy": {"enabled": True, **policy}}})
    assert says in str(refused.value)


def test_the_watched_namespaces_get_the_policy_when_no_other_is_named(
    objects: Callable[..., Objects],
) -> None:
    wanted = {"networkPolicy": {"enabled": True}}
    found = objects({"watchNamespaces": ["team-b"], "monitoring": wanted})
    assert found["NetworkPolicy", f"{NAME}-jobs"]["metadata"]["namespace"] == "team-b"


def test_the_definition_is_the_generated_one_and_stays_on_uninstall(
    objects: Callable[..., Objects],
) -> None:
    expected = yaml.safe_load((ROOT / "crds" / f"{CRD_NAME}.yaml").read_text())
    found = objects()["CustomResourceDefinition", CRD_NAME]
    assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert found == expected


def test_the_definition_can_go_with_the_chart_or_be_left_out(
    objects: Callable[..., Objects],
) -> None:
    going = objects({"crds": {"keep": False}})["CustomResourceDefinition", CRD_NAME]
    assert "annotations" not in going["metadata"]
    left_out = objects({"crds": {"install": False}})
    assert ("CustomResourceDefinition", CRD_NAME) not in left_out


def test_every_value_is_explained_and_read_by_a_template() -> None:
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    read = re.findall(r"\.Values((?:\.[A-Za-z]+)+)", templates)
    assert [path for path in leaves(values) if not path.startswith(tuple(read))] == []
    commented = set(re.findall(r"# -- .*(?:\n *# .*)*\n *([A-Za-z]+):", text))
    assert {path.rpartition(".")[2] for path in leaves(values)} - commented == set()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("image.operater=x", "'/image': additional properties 'operater' not allowed"),
        ("image.trainer=Upper Case", "'/image/trainer'"),
        ("image.operator=x@sha256:12", "'/image/operator': 'x@sha256:12' does not match"),
        ("image.operator=host:5000/x:a:b", "'/image/operator'"),
        ("image.pullPolicy=Sometimes", "'Always', 'IfNotPresent', 'Never'"),
        ("gpuResourceName=gpu", "'/gpuResourceName': 'gpu' does not match pattern"),
        ("gpuModel=H100", "'/gpuModel': 'H100' does not match pattern"),
        ("gpuSupplementalGroups={video}", "'/gpuSupplementalGroups/0': got string, want integer"),
        ("gpuSupplementalGroups={0}", "'/gpuSupplementalGroups/0': minimum: got 0, want 1"),
        ("gpuEnvironment.HSA_ENABLE_SDMA=0", "'/gpuEnvironment/HSA_ENABLE_SDMA': got number"),
        ("gpuEnvironment.LD_PRELOAD=x", "'LD_PRELOAD' does not match pattern '^(HSA|"),
        ("gpuSeccompProfile=../x", "'/gpuSeccompProfile': '../x' does not match pattern"),
        ("training.sharedMemory=64", "'/training/sharedMemory': got number, want string"),
        ("watchNamespaces={Team_A}", "'/watchNamespaces/0': 'Team_A' does not match pattern"),
        ("watchNamespaces=team-a", "'/watchNamespaces': got string, want array"),
        ("training.runAsUser=0", "'/training/runAsUser': minimum: got 0, want 1"),
        ("monitoring.mode=perjob", "'/monitoring/mode': value must be one of 'perJob', 'shared'"),
        ("monitoring.sampleLimit=100", "'/monitoring/sampleLimit': minimum: got 100, want 1,000"),
        ("monitoring.networkPolicy.namespaces={Mon}", "'/monitoring/networkPolicy/namespaces/0'"),
        ("monitoring.interval=30", "'/monitoring/interval': got number, want string"),
        ("monitoring.interval=fast", "'/monitoring/interval': 'fast' does not match pattern"),
        ("monitoring.extraLabels.release=1", "'/monitoring/extraLabels/release': got number"),
        ("monitoring.lingerSeconds=500", "'/monitoring/lingerSeconds': maximum: got 500, want 110"),
        ("monitoring.serviceMonitor=maybe", "value must be one of 'auto', true, false"),
        ("serving.images={A b}", "'/serving/images/0'"),
        ("prometheusRule.enabled=maybe", "value must be one of 'auto', true, false"),
        ("prometheusRule.disabledAlerts={Stalled}", "'/prometheusRule/disabledAlerts/0'"),
        ("prometheusRule.runbookUrl=wiki", "'/prometheusRule/runbookUrl': 'wiki' does not match"),
        ("dashboards.enabled=auto", "'/dashboards/enabled': got string, want boolean"),
        ("dashboards.labels.a=1", "'/dashboards/labels/a': got number, want string"),
        ("operator.replicas=0", "'/operator/replicas': minimum: got 0, want 1"),
        ("operator.resources.requests.cpu=-1", "'/operator/resources/requests/cpu': minimum"),
        ("operator.resources.limits.memory=-1Gi", "'/operator/resources/limits/memory': '-1Gi'"),
        ("operator.resources.limits.memory=1GB", "'/operator/resources/limits/memory': '1GB'"),
        ("operator.logLevel=trace", "'debug', 'info', 'warning', 'error'"),
        ("operator.progressIntervalSeconds=0", "minimum: got 0, want 1"),
        ("replicas=2", "additional properties 'replicas' not allowed"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(render: Render, value: str, says: str) -> None:
    with pytest.raises(HelmError) as refused:
        render({}, "--set", value)
    assert says in str(refused.value)


def test_what_a_chart_around_it_sets_is_no_error(render: Render) -> None:
    """Helm hands a dependency's `condition` and the globals of the whole down to it."""
    assert render({}, "--set", "enabled=true,global.registry=x.example") == render({})
