"""The resource definition on a real API server: what it takes, refuses, fills in and shows."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kubernetes.client import ApiException
from tests.cluster.crd_cases import ACCEPTED, PROTOTYPE, REFUSED, Case, minimal, named
from tests.cluster.jobs import KIND, PLURAL, custom_objects
from tests.documented import example_jobs, shown_jobs

from finetuning.api.crd import crd
from finetuning.api.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.support import Cluster

pytestmark = pytest.mark.cluster


def dry_run(api: Cluster, manifest: dict[str, Any]) -> dict[str, Any]:
    """Create without keeping: admission, defaults and rules as for a request by kubectl.

    Hundreds of cases over one connection: a kubectl for each would cost half a minute.
    """
    created = custom_objects(api.kubeconfig).create_namespaced_custom_object(
        *KIND, api.namespace, PLURAL, manifest, dry_run="All", field_validation="Strict"
    )
    return dict(created)


@pytest.fixture(scope="module")
def kind(api: Cluster) -> Iterator[str]:
    """The same definition in another group, where no operator writes into the objects."""
    copy = crd()
    group = f"cases.{copy['spec']['group']}"
    copy["spec"]["group"] = group
    copy["spec"]["names"] |= {"shortNames": [], "categories": []}
    copy["metadata"]["name"] = name = f"{copy['spec']['names']['plural']}.{group}"
    api.kubectl("apply", "--server-side", "--filename", "-", stdin=yaml.safe_dump(copy))
    api.wait_for_definitions(f"crd/{name}")
    api.wait("the new kind", lambda: "rror" not in api.kubectl("get", name, check=False), 30)
    yield name
    api.kubectl("delete", "crd", name, "--wait=true", "--timeout=60s")


@pytest.fixture
def job(api: Cluster, kind: str) -> Iterator[str]:
    """A stored job that stays as the test leaves it."""
    manifest = manifest_of(kind)
    api.kubectl("create", "--filename", "-", stdin=manifest)
    yield f"{kind}/crd-case"
    api.kubectl("delete", kind, "crd-case", "--wait=true", "--timeout=60s")


def manifest_of(kind: str) -> str:
    group = kind.partition(".")[2]
    names = {"apiVersion": f"{group}/v1alpha1", "metadata": {"name": "crd-case"}}
    return yaml.safe_dump(minimal() | names)


def change(api: Cluster, job: str, patch: dict[str, Any], *options: str) -> str:
    return api.kubectl("patch", job, "--type=merge", f"--patch={json.dumps(patch)}", *options)


def stored(api: Cluster, job: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(api.kubectl("get", job, "--output", "json"))
    return seen


@pytest.mark.parametrize("case", ACCEPTED, ids=named)
def test_the_api_server_accepts(
    api: Cluster, case: Case, record_property: Callable[[str, object], None]
) -> None:
    created = dry_run(api, case.manifest)
    record_property("accepted", json.dumps(created["spec"], sort_keys=True))


@pytest.mark.parametrize(("name", "body"), [*example_jobs(), *shown_jobs()])
def test_the_api_server_accepts_what_is_documented(
    api: Cluster, name: str, body: dict[str, Any]
) -> None:
    metadata = {key: value for key, value in body["metadata"].items() if key != "namespace"}
    dry_run(api, body | {"metadata": metadata})


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_the_api_server_refuses(
    api: Cluster, case: Case, record_property: Callable[[str, object], None]
) -> None:
    with pytest.raises(ApiException) as refused:
        dry_run(api, case.manifest)
    words = json.loads(refused.value.body)["message"]
    record_property("refused", words)
    assert case.says in words


def test_kubectl_says_what_the_api_server_says(api: Cluster) -> None:
    refused = api.kubectl(
        "create", "--dry-run=server", "--filename", "-", check=False,
        stdin=yaml.safe_dump(REFUSED[0].manifest, allow_unicode=True),
    )  # fmt: skip
    assert REFUSED[0].says in refused


@pytest.mark.parametrize("path", PROTOTYPE, ids=lambda path: path.stem)
def test_a_manifest_of_the_prototype_loses_nothing(api: Cluster, path: Path) -> None:
    text = api.kubectl(
        "create", "--dry-run=server", "--output", "json", "--filename", "-", stdin=path.read_text()
    )
    created = json.loads(text)
    assert contains(created["spec"], yaml.safe_load(path.read_text())["spec"])


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part or whole == number(part))


def number(value: Any) -> Any:
    """PyYAML reads 2e-4 as text."""
    return float(value) if value == "2e-4" else value


def test_defaults_stand_in_the_stored_object(api: Cluster) -> None:
    spec = dry_run(api, minimal())["spec"]
    assert spec["method"] == "lora"
    assert spec["hyperparameters"] == {
        "learningRate": 0.0002,
        "batchSize": 4,
        "epochs": 3,
        "maxSeqLength": 2048,
        "torchCompile": False,
        "warmupSteps": 100,
        "gradientAccumulationSteps": 1,
        "gradientCheckpointing": True,
        "fp16": True,
        "bf16": False,
        "seed": 42,
        "lrSchedulerType": "linear",
        "weightDecay": 0,
        "maxGradNorm": 1,
        "loggingSteps": 1,
        "saveTotalLimit": 2,
        "objective": "sft",
        "fsdp": False,
        "packing": False,
        "earlyStoppingThreshold": 0,
        "reportTo": [],
        "sampleGenerations": 0,
        "sampleMaxNewTokens": 64,
    }
    assert spec["output"] == {"profile": "auto-generate", "storage": {"size": "50Gi"}}
    assert spec["validation"] == {
        "enabled": True,
        "maxLoss": 10,
        "minLossDecrease": 0,
        "maxNewTokens": 256,
        "baseline": {"compare": True},
        "onFailure": "Report",
        "timeoutSeconds": 3600,
    }
    assert spec["dataset"]["format"] == "auto"


def test_a_given_adapter_gets_no_rank_that_would_hide_the_older_spelling(api: Cluster) -> None:
    case = Case("", {"spec.loraConfig": {"targetModules": ["q_proj"]}})
    created = dry_run(api, case.manifest)
    assert created["spec"]["loraConfig"] == {
        "targetModules": ["q_proj"],
        "loraDropout": 0.05,
        "useRslora": False,
        "useDora": False,
        "modulesToSave": [],
    }


def test_a_raw_client_loses_unknown_fields_and_nothing_else(api: Cluster) -> None:
    case = Case("", {"spec.hyperparameters": {"epoch": 9, "epochs": 2}})
    text = api.kubectl(
        "create", "--validate=ignore", "--dry-run=server", "--output", "json", "--filename", "-",
        stdin=yaml.safe_dump(case.manifest),
    )  # fmt: skip
    knobs = json.loads(text)["spec"]["hyperparameters"]
    assert knobs["epochs"] == 2
    assert "epoch" not in knobs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "full"),
        ("baseModel.modelId", "gpt2"),
        ("baseModel.revision", "main"),
        ("dataset.source", "org/other"),
        ("dataset.columns", {"prompt": "question"}),
        ("hyperparameters.epochs", 9),
        ("hyperparameters.maxSteps", 9),
        ("hyperparameters.reportTo", ["tensorboard"]),
        ("loraConfig", {"r": 4}),
        ("output.registry", "registry.example.com"),
        ("output.storage.size", "1Gi"),
        ("resources.limits", {"amd.com/gpu": 2}),
        ("backoffLimit", 1),
        ("activeDeadlineSeconds", 600),
        ("startDeadlineSeconds", 600),
    ],
)
def test_what_decides_the_result_cannot_change(
    api: Cluster, job: str, field: str, value: Any
) -> None:
    with pytest.raises(AssertionError) as refused:
        change(api, job, {"spec": nested(field, value)})
    assert f"spec.{field}: Invalid value" in str(refused.value)
    says = "cannot change after creation, only suspend, ttlSecondsAfterFinished, validation, "
    assert f"{field} {says}output.publish and output.serve can" in str(refused.value)


def nested(path: str, value: Any) -> Any:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suspend", False),
        ("ttlSecondsAfterFinished", 60),
        ("validation.maxLoss", 2.5),
        ("output.publish", {"s3": {"uri": "s3://models/law"}}),
    ],
)
def test_what_does_not_decide_the_result_may_change(
    api: Cluster, job: str, field: str, value: Any
) -> None:
    change(api, job, {"spec": nested(field, value)}, "--dry-run=server")


def test_applying_the_same_file_again_is_no_change(api: Cluster, kind: str, job: str) -> None:
    api.kubectl("apply", "--server-side", "--filename", "-", stdin=manifest_of(kind))
    assert stored(api, job)["metadata"]["generation"] == 1


def test_status_is_written_only_through_its_own_door(api: Cluster, job: str) -> None:
    change(api, job, {"status": {"phase": "Running"}})
    # The schema's own, by which kstatus knows that nobody has looked at the job yet.
    assert stored(api, job)["status"] == {"observedGeneration": 0}
    both = {"spec": {"suspend": True}, "status": {"phase": "Paused"}}
    change(api, job, both, "--subresource=status")
    seen = stored(api, job)
    assert seen["status"]["phase"] == "Paused"
    assert seen["spec"]["suspend"] is False
    assert seen["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"phase": "Validating"}, 'supported values: "Pending", "Running"'),
        ({"trainLoss": "low"}, "must be of type number"),
        ({"conditions": [{"type": "Failed", "status": "Maybe"}]}, '"True", "False", "Unknown"'),
        ({"conditions": [{"type": "A", "status": "True"}] * 2}, "Duplicate value"),
    ],
)
def test_a_status_that_is_none_is_refused(
    api: Cluster, job: str, status: dict[str, Any], says: str
) -> None:
    with pytest.raises(AssertionError) as refused:
        change(api, job, {"status": status}, "--subresource=status")
    assert says in str(refused.value)


STATUS = {
    "phase": "Running",
    "progress": "42%",
    "trainLoss": 1.5234,
    "currentStep": 42,
    "tokensPerSecond": 812.5,
    "estimatedRemaining": "3m20s",
    "reason": "Training",
    "message": "Training in pod crd-case-train-x.",
    "validation": {"phase": "Failed", "result": "3/4"},
}


def test_kubectl_get_shows_what_matters(api: Cluster, job: str) -> None:
    change(api, job, {"status": STATUS}, "--subresource=status")
    head, line = api.kubectl("get", job).splitlines()
    assert head.split() == [
        "NAME", "PHASE", "METHOD", "MODEL", "PROGRESS", "LOSS", "VALIDATED", "AGE",
    ]  # fmt: skip
    assert line.split()[:-1] == [
        "crd-case", "Running", "lora", "Qwen/Qwen2.5-7B-Instruct", "42%", "1.5234", "3/4",
    ]  # fmt: skip


def test_the_wide_view_adds_speed_and_reason(api: Cluster, job: str) -> None:
    change(api, job, {"status": STATUS}, "--subresource=status")
    head, line = api.kubectl("get", job, "--output", "wide").splitlines()
    assert head.split()[7:] == [
        "STEP", "TOKENS/S", "ETA", "WORKERS", "PUBLISHED", "REASON", "AGE", "MESSAGE",
    ]  # fmt: skip
    assert line.split()[7:12] == ["42", "812.5", "3m20s", "1", "Training"]
    assert line.endswith("  Training in pod crd-case-train-x.")


@pytest.mark.parametrize("word", ["ftj", "ftjob", "finetuningjob", "finetuningjobs"])
def test_kubectl_knows_the_job_by_every_name(api: Cluster, word: str) -> None:
    assert "crd-case-of-no-one" in api.kubectl("get", word, "crd-case-of-no-one", check=False)
    assert "the server doesn't have" not in api.kubectl("get", word, check=False)


def test_jobs_are_part_of_kubectl_get_all(api: Cluster) -> None:
    listed = api.kubectl("api-resources", "--categories=all", "--output=name")
    assert "finetuningjobs.aim.amd.com" in listed.split()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("finetuningjob", "Fine-tunes a language model on AMD GPUs"),
        ("finetuningjob.spec.hyperparameters", "How the training runs"),
        ("finetuningjob.spec.hyperparameters", "Default: 4. Allowed: 1 to 4096."),
        ("finetuningjob.spec.hyperparameters", "Default: 0.0002. Allowed: above 0, at most 1."),
        ("finetuningjob.spec", "enum: lora, qlora, full"),
        ("ftj.spec.dataset.source", "configmap:<name>:<key>, pvc://<claim>/<path>"),
        ("ftj.spec.output.storage.size", "Default: 50Gi."),
        ("ftj.status.validation.report", "The report as text."),
    ],
)
def test_kubectl_explain_is_documentation(api: Cluster, path: str, words: str) -> None:
    told = " ".join(api.kubectl("explain", path).split())
    assert words in told


def test_every_field_of_the_hyperparameters_is_explained(api: Cluster) -> None:
    text = api.kubectl("explain", "finetuningjob.spec.hyperparameters").partition("FIELDS:\n")[2]
    fields = [field for field in textwrap.dedent(text).split("\n\n") if field.strip()]
    assert len(fields) == len(Hyperparameters.model_fields)
    assert [field for field in fields if len(field.splitlines()) < 2] == []
