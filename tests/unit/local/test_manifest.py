import base64
import io
from pathlib import Path

import pytest

from finetuning.local import manifest
from finetuning.local.problems import InputError

HEAD = """\
apiVersion: aim.amd.com/v1alpha1
kind: FineTuningJob
metadata:
  name: {name}
"""
SPEC = """\
spec:
  baseModel:
    modelId: org/model
  dataset:
    source: hf://org/rows
"""


def job(name: str = "demo", more: str = "") -> str:
    return HEAD.format(name=name) + SPEC + more


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def complaints(file: Path, text: str, name: str | None = None) -> list[str]:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        manifest.load(file, name)
    return [line.replace(str(file), "job.yaml") for line in caught.value.lines]


def test_a_namespace_that_no_cluster_can_have_is_told_and_an_empty_one_is_none(file: Path) -> None:
    wrong = job().replace("metadata:", "metadata:\n  namespace: Team A", 1)
    (told,) = complaints(file, wrong)
    assert 'metadata.namespace: Invalid value: "Team A": must be at most 63' in told
    file.write_text(wrong.replace("Team A", "''"))
    assert manifest.load(file).document.body["metadata"]["namespace"] == ""


WRONG_FIELDS = {
    "  method: lorra\n": (
        'job.yaml:10: spec.method: Unsupported value: "lorra": supported values: '
        '"lora", "qlora", "full"; did you mean "lora"?'
    ),
    "  loraConfig:\n    r: -3\n": (
        "job.yaml:11: spec.loraConfig.r: Invalid value: -3: should be greater than or equal to 1"
    ),
    "  hyperparameters: {lerningRate: 1}\n": (
        'job.yaml:10: unknown field "spec.hyperparameters.lerningRate"; '
        'did you mean "learningRate"?'
    ),
    "  hyperparameters:\n    learning_rate: 1\n": (
        'job.yaml:11: unknown field "spec.hyperparameters.learning_rate"; '
        'did you mean "learningRate"?'
    ),
    '  hyperparameters:\n    epochs: "4"\n': (
        'job.yaml:11: spec.hyperparameters.epochs: Invalid value: "4": must be of type integer'
    ),
    "  hyperparameters:\n    epochs: 1.5\n": (
        "job.yaml:11: spec.hyperparameters.epochs: Invalid value: 1.5: must be of type integer"
    ),
    "  resources:\n    limits:\n      cpu: [1]\n": (
        "job.yaml:12: spec.resources.limits.cpu: Invalid value: [1]: "
        "must be of type integer or must be of type string"
    ),
    "  validation:\n    prompts:\n    - prompt: hello\n    - expectedKeywords: [a]\n": (
        "job.yaml:13: spec.validation.prompts[1].prompt: Required value"
    ),
    "  loraConfig: 3\n": ("job.yaml:10: spec.loraConfig: Invalid value: 3: must be of type object"),
    "  zzz: 1\n": (
        'job.yaml:10: unknown field "spec.zzz"; known here: activeDeadlineSeconds, backoffLimit, '
        "baseModel, dataset, hyperparameters, loraConfig, method, output, priorityClassName, "
        "processesPerWorker, quantizationConfig, queueName, resources, startDeadlineSeconds, "
        "suspend, trackingSecretRef, ttlSecondsAfterFinished, validation, workers"
    ),
    "sepc: 1\n": 'job.yaml:10: unknown field "sepc"; did you mean "spec"?',
}


@pytest.mark.parametrize(("more", "expected"), WRONG_FIELDS.items())
def test_a_wrong_field_is_one_line_with_its_place_and_the_remedy(
    file: Path, more: str, expected: str
) -> None:
    assert complaints(file, job(more=more)) == [expected]


def test_every_wrong_field_is_named_in_the_order_of_the_file(file: Path) -> None:
    text = job(more="  method: x\n  backoffLimit: -1\n").replace(
        "metadata:", "metadata:\n  lables: {}"
    )
    starts = [line.split(": ")[0] for line in complaints(file, text)]
    assert starts == ["job.yaml:4", "job.yaml:11", "job.yaml:12"]


def test_a_name_that_cannot_be_a_label_is_refused(file: Path) -> None:
    (line,) = complaints(file, job("Not_A_Name"))
    assert "metadata.name" in line
    assert "lowercase" in line


def test_a_wrong_version_is_refused_with_the_right_one(file: Path) -> None:
    (line,) = complaints(file, job().replace("v1alpha1", "v1"))
    assert line.startswith(
        'job.yaml:1: apiVersion: Unsupported value: "aim.amd.com/v1": '
        'supported values: "aim.amd.com/v1alpha1"'
    )


def test_a_missing_spec_is_named(file: Path) -> None:
    assert complaints(file, HEAD.format(name="demo")) == ["job.yaml:1: spec: Required value"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "job.yaml:1: not valid YAML: expected ',' or ']'"),
        ("a: 1\na: 2\n", 'job.yaml:2: not valid YAML: key "a" is given twice'),
        ("\tkind: x", "job.yaml:1: not valid YAML: found character '\\t'"),
        ("a: \x01", "job.yaml: not valid YAML: unacceptable character"),
        ("just text", "job.yaml:1: not a Kubernetes object"),
        ("- 1\n", "job.yaml:1: not a Kubernetes object"),
        ("", "job.yaml: no FineTuningJob in it"),
        ("apiVersion: v1\nkind: Secret\n", "job.yaml: no FineTuningJob in it"),
    ],
)
def test_what_is_no_manifest_is_said_in_one_line(file: Path, text: str, expected: str) -> None:
    (line,) = complaints(file, text)
    assert line.startswith(expected)


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"kind: \xff")
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 6\)"):
        manifest.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        manifest.load(tmp_path / "nowhere.yaml")


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory; give the YAML file of a FineTuningJob"):
        manifest.load(tmp_path)


def test_two_jobs_in_one_file_need_a_choice(file: Path) -> None:
    text = f"{job('one')}---\n{job('two')}"
    assert complaints(file, text) == [
        "job.yaml: 2 FineTuningJobs (one, two); choose one with --name one"
    ]
    assert manifest.load(file, "two").job.metadata.name == "two"
    assert complaints(file, text, "three") == [
        'job.yaml: no FineTuningJob "three"; it has one, two'
    ]


def test_a_wrong_job_does_not_matter_when_another_is_chosen(file: Path) -> None:
    file.write_text(f"{job('one', '  method: nonsense')}\n---\n{job('two')}")
    assert manifest.load(file, "two").job.metadata.name == "two"


def test_config_maps_beside_the_job_are_kept_and_other_kinds_counted(file: Path) -> None:
    binary = base64.b64encode(b"\x00\x01").decode()
    rows = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: rows}\n"
        f"data:\n  a.jsonl: |\n    {{}}\nbinaryData: {{b: {binary}}}\n"
    )
    other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n"
    file.write_text(f"{rows}---\n{other}---\n{job()}---\n{other}")
    found = manifest.load(file)
    assert found.config_maps == {"rows": {"a.jsonl": b"{}\n", "b": b"\x00\x01"}}
    assert found.ignored == ("2 Namespace",)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("data: {a: 1}\n", "ConfigMap rows: data.a: must be of type string; put it in quotes"),
        ("binaryData: {a: '?'}\n", "ConfigMap rows: binaryData must be base64"),
    ],
)
def test_a_config_map_that_a_cluster_would_refuse_is_refused(
    file: Path, data: str, expected: str
) -> None:
    rows = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: rows}}\n{data}"
    (line,) = complaints(file, f"{job()}---\n{rows}")
    assert line.endswith(expected)


def test_the_items_of_a_list_count_on_their_own(file: Path) -> None:
    body = "".join(f"  {line}\n" for line in job(more="  method: lorra\n").splitlines())
    text = "apiVersion: v1\nkind: List\nitems:\n-" + body[1:]
    (line,) = complaints(file, text)
    assert line.startswith("job.yaml:13: spec.method")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: List\n", "no FineTuningJob in it"),
        ("kind: List\nitems: abc\n", "job.yaml:2: items: must be of type array"),
        ("kind: List\nitems: {a: 1}\n", "job.yaml:2: items: must be of type array"),
        ("kind: List\nitems: &a [*a]\n", "job.yaml:2: not valid YAML: an anchor that contains it"),
        ("kind: List\nitems:\n- 1\n", "job.yaml:3: not a Kubernetes object"),
        ("kind: FineTuningJob\nspec: &s {x: *s}\n", "job.yaml:2: not valid YAML: an anchor that"),
        ("[" * 2000 + "]" * 2000, "not valid YAML: nested too deeply"),
        ("kind: ConfigMap\ndata: abc\n---\n" + job(), "data: must be of type object"),
        ("kind: ConfigMap\nbinaryData: abc\n---\n" + job(), "binaryData must be base64"),
    ],
)
def test_what_is_no_manifest_is_one_line(file: Path, text: str, told: str) -> None:
    (line,) = complaints(file, text)
    assert told in line


def test_the_manifest_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(job()))
    assert manifest.load(Path("-")).job.metadata.name == "demo"


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002", "2E-04", ".0002"])
def test_numbers_are_read_as_kubernetes_reads_them(file: Path, text: str) -> None:
    file.write_text(job(more=f"  hyperparameters: {{learningRate: {text}}}\n"))
    assert manifest.load(file).job.spec.hyperparameters.learning_rate == pytest.approx(2e-4)


def test_a_field_with_nothing_behind_it_has_its_default(file: Path) -> None:
    file.write_text(job(more="  hyperparameters:\n    epochs:\n"))
    assert manifest.load(file).job.spec.hyperparameters.epochs == 3
