"""From a manifest and a command line to the processes that will run, with nothing started."""

import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetuning.api.run_config import ENV, RunConfig
from finetuning.local import plan, scratch
from finetuning.local.launch import Launch
from finetuning.local.options import Options
from finetuning.local.plan import Plan
from finetuning.local.problems import InputError

MANIFEST = """\
apiVersion: aim.amd.com/v1alpha1
kind: FineTuningJob
metadata: {name: demo}
spec:
  baseModel: {modelId: org/model, source: pvc://models/small}
  dataset: {source: "configmap:rows:train.jsonl"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: rows}
data: {train.jsonl: "{}"}
"""

Prepare = Callable[..., Plan]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model in the usual place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/claims/models/small").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def prepare(here: Path) -> Iterator[Prepare]:
    made: list[Plan] = []

    def make(
        text: str = MANIFEST, environ: dict[str, str] | None = None, **options: object
    ) -> Plan:
        (here / "job.yaml").write_text(text)
        given = Options(Path("job.yaml"), **options)  # type: ignore[arg-type]
        made.append(plan.prepare(given, environ or {}))
        made[-1].mount()
        return made[-1]

    yield make
    for each in made:
        scratch.remove(each.places.scratch)
        os.close(each.lock)


def refused(prepare: Prepare, text: str = MANIFEST, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        prepare(text, **options)
    return "\n".join(caught.value.lines)


def trainer(found: Plan) -> Launch:
    return next(each for each in found.training if each.name == "finetuning")


def config(found: Plan) -> RunConfig:
    return RunConfig.decode(trainer(found).env[ENV])


def test_the_trainer_is_told_folders_of_this_machine(prepare: Prepare, here: Path) -> None:
    found = prepare()
    told = config(found)
    assert told.output_dir == str(here / "runs/demo")
    assert told.model_path == str(here / "runs/claims/models/small")
    assert Path(told.dataset.path).read_text() == "{}"
    assert told.state_dir == str(found.state_folder)


def test_the_sidecar_starts_first_and_the_interpreter_is_this_one(prepare: Prepare) -> None:
    sidecar, main = prepare().training
    assert (sidecar.name, sidecar.restarts) == ("metrics", True)
    assert sidecar.argv[:3] == (sys.executable, "-m", "finetuning.monitoring.metrics_server")
    assert (main.name, main.restarts) == ("finetuning", False)
    assert main.argv == (sys.executable, "-m", "finetuning.base.app")


def test_no_path_of_the_pod_is_left_in_any_command(prepare: Prepare) -> None:
    found = prepare()
    words = [part for each in (*found.training, *found.validation) for part in each.argv]
    values = [
        value for each in (*found.training, *found.validation) for name, value in each.env.items()
    ]
    assert [text for text in words + values if "/workspace" in text or "/dev/term" in text] == []


def test_the_validator_writes_its_report_into_the_output_folder(
    prepare: Prepare, here: Path
) -> None:
    (validator,) = prepare().validation
    report = validator.argv[validator.argv.index("--output") + 1]
    assert report == str(here / "runs/demo/validation/validation_report.txt")
    assert (here / "runs/demo/validation").is_dir()


def test_validation_that_is_turned_off_has_no_process(prepare: Prepare) -> None:
    text = MANIFEST.replace("  dataset", "  validation: {enabled: false}\n  dataset")
    assert prepare(text).validation == ()


def test_the_users_own_home_hub_folder_and_path_stay(prepare: Prepare) -> None:
    mine = {"HOME": "/home/me", "HF_HOME": "/big/hf", "PATH": "/opt/bin"}
    env = trainer(prepare(environ=mine)).env
    assert {name: env[name] for name in mine} == mine
    assert env["TMPDIR"] == str(Path(env["TMPDIR"]))
    assert "/workspace" not in env["TMPDIR"]


def test_without_them_the_pods_own_are_not_set_to_folders_that_vanish(prepare: Prepare) -> None:
    env = trainer(prepare()).env
    assert "HOME" not in env
    assert "HF_HOME" not in env


SECRET = MANIFEST.replace("{modelId", "{tokenSecretRef: {name: hub, key: token}, modelId")


def test_a_secrets_value_is_the_users_own_export(prepare: Prepare) -> None:
    assert trainer(prepare(SECRET, {"HF_TOKEN": "mine"})).env["HF_TOKEN"] == "mine"


def test_a_secret_that_the_user_does_not_export_is_left_out(prepare: Prepare) -> None:
    assert "HF_TOKEN" not in trainer(prepare(SECRET)).env


def test_a_trackers_variables_are_the_users_own_exports(prepare: Prepare) -> None:
    text = MANIFEST.replace(
        "  dataset",
        "  hyperparameters: {reportTo: [mlflow]}\n  trackingSecretRef: {name: t}\n  dataset",
    )
    mine = {"MLFLOW_TRACKING_URI": "http://localhost:5000"}
    assert trainer(prepare(text, mine)).env["MLFLOW_TRACKING_URI"] == mine["MLFLOW_TRACKING_URI"]


def test_folders_on_the_command_line_win(prepare: Prepare, here: Path) -> None:
    (here / "elsewhere/small").mkdir(parents=True)
    found = prepare(claims={"models": Path("elsewhere")}, output=Path("out"))
    assert config(found).model_path == str(here / "elsewhere/small")
    assert config(found).output_dir == str(here / "out")


def test_a_claim_for_the_output_may_be_named_as_well(prepare: Prepare, here: Path) -> None:
    text = MANIFEST.replace(
        "  dataset", "  output: {storage: {claimName: team, subPath: a/b}}\n  dataset"
    )
    found = prepare(text, claims={"team": Path("shared")})
    assert found.output == here / "shared/a/b"
    (validator,) = found.validation
    assert str(here / "shared/a/b/validation/validation_report.txt") in validator.argv


def test_a_file_stands_for_the_one_key_that_is_asked_for(prepare: Prepare, here: Path) -> None:
    (here / "mine.jsonl").write_text("mine")
    found = prepare(config_maps={"rows": Path("mine.jsonl")})
    assert Path(config(found).dataset.path).read_text() == "mine"


def test_a_folder_stands_for_a_config_map(prepare: Prepare, here: Path) -> None:
    (here / "rows").mkdir()
    (here / "rows/train.jsonl").write_text("theirs")
    found = prepare(config_maps={"rows": Path("rows")})
    assert Path(config(found).dataset.path).read_text() == "theirs"


def test_the_templates_of_the_prototype_are_found_by_their_folder(
    prepare: Prepare, here: Path
) -> None:
    text = MANIFEST.replace('"configmap:rows:train.jsonl"', "/workspace/templates/example.jsonl")
    (here / "templates").mkdir()
    (here / "templates/example.jsonl").write_text("{}")
    found = prepare(text, config_maps={"finetuning-templates": Path("templates")})
    assert Path(config(found).dataset.path).read_text() == "{}"


def test_a_relative_dataset_is_below_the_working_directory(prepare: Prepare, here: Path) -> None:
    (here / "rows").mkdir()
    (here / "rows/train.jsonl").write_text("{}")
    text = MANIFEST.replace('"configmap:rows:train.jsonl"', "./rows/train.jsonl")
    assert config(prepare(text)).dataset.path == str(here / "rows/train.jsonl")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            '"configmap:none:train.jsonl"',
            "ConfigMap none: not in the manifest; type --configmap none=FILE",
        ),
        ('"configmap:rows:other"', 'ConfigMap rows: no key "other" in it; it has train.jsonl'),
        (
            "pvc://data/rows.jsonl",
            "job.yaml:6: spec.dataset.source: /workspace/data/rows.jsonl: ",
        ),
        ("pvc://data/rows.jsonl", "No such file or directory; type --claims data=DIR"),
        (
            "/workspace/templates/x.jsonl",
            "No such file or directory; type --configmap finetuning-templates=DIR",
        ),
        ("/tmp/rows.jsonl", "own and empty there; put the file elsewhere, or give it with"),
        ("./nowhere.jsonl", "/nowhere.jsonl: No such file or directory; give the path of a file"),
        ("a/b/c", "is neither an absolute path nor the id of a Hub data set"),
    ],
)
def test_a_dataset_that_is_not_there_is_one_line_with_what_to_type(
    prepare: Prepare, here: Path, source: str, expected: str
) -> None:
    text = MANIFEST.replace('"configmap:rows:train.jsonl"', source)
    line = refused(prepare, text)
    assert expected in line
    assert "\n" not in line
    assert not (here / "runs/demo").exists()


def test_a_model_that_is_not_there_is_one_line(prepare: Prepare) -> None:
    line = refused(prepare, MANIFEST.replace("models/small", "models/large"))
    assert line.startswith("job.yaml:5: spec.baseModel.source: /workspace/model/large: ")
    assert line.endswith(
        "type --claims models=DIR, where DIR is the folder that stands for the claim"
    )


def test_everything_that_is_missing_is_said_at_once(prepare: Prepare) -> None:
    text = MANIFEST.replace("models/small", "models/large").replace(
        '"configmap:rows:train.jsonl"', "./nowhere.jsonl"
    )
    assert len(refused(prepare, text).splitlines()) == 2


def test_a_file_on_the_command_line_that_is_missing_is_named(prepare: Prepare) -> None:
    line = refused(prepare, config_maps={"rows": Path("nowhere")})
    why = "No such file or directory; give a file or a folder of files"
    assert line == f"--configmap rows=nowhere: {why}"


def test_a_job_that_is_held_does_not_run(prepare: Prepare) -> None:
    line = refused(prepare, MANIFEST.replace("  dataset", "  suspend: true\n  dataset"))
    assert line == "job.yaml:6: spec.suspend: true holds the job; set it to false"


def test_an_output_folder_that_cannot_be_made_is_one_line(prepare: Prepare, here: Path) -> None:
    (here / "file").write_text("")
    line = refused(prepare, output=Path("file/out"))
    assert line.endswith("Not a directory; choose another folder with --output DIR")


def test_a_second_run_in_the_same_folder_is_refused(prepare: Prepare) -> None:
    prepare()
    line = refused(prepare)
    assert f"in use by another `finetuning run` (process {os.getpid()})" in line


def test_a_port_in_use_is_replaced_and_said(prepare: Prepare) -> None:
    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        assert "in use" in refused(prepare, metrics_port=taken)
        free = prepare().metrics_port
    assert free != taken


def test_the_port_that_is_insisted_on_reaches_the_sidecar(prepare: Prepare) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        free = probe.getsockname()[1]
    found = prepare(metrics_port=free)
    sidecar, _ = found.training
    assert sidecar.argv[sidecar.argv.index("--port") + 1] == str(free)
    assert found.metrics_url == f"http://localhost:{free}/metrics"


def test_what_differs_from_a_cluster_is_said(prepare: Prepare) -> None:
    text = f"{MANIFEST}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n"
    notes = prepare(text).notes
    assert "ignored in job.yaml: 1 Namespace" in notes
    assert [note for note in notes if note.startswith("amd.com/gpu=1 is not asked for here")]


def test_the_processes_of_all_workers_run_in_one_pod_here(prepare: Prepare) -> None:
    wide = "  workers: 2\n  resources: {limits: {amd.com/gpu: 4}}\n---"
    found = prepare(MANIFEST.replace("---", wide))
    assert found.training[1].argv == (
        *(sys.executable, "-m", "finetuning.base.torchrun", "--nproc-per-node", "8"),
    )
    assert "all 8 training processes of the job run on this machine" in found.notes


def test_scratch_is_private_and_outside_the_result(prepare: Prepare) -> None:
    places = prepare().places
    assert stat.S_IMODE(places.scratch.stat().st_mode) == 0o700
    assert not places.scratch.is_relative_to(places.output)


def test_the_scratch_of_a_run_that_was_killed_is_cleared_by_the_next(
    prepare: Prepare, here: Path
) -> None:
    left = scratch.folder_for(here / "runs/demo") / "tmp" / "left"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    prepare()
    assert not left.exists()


def test_a_scratch_folder_that_is_a_link_is_not_followed(prepare: Prepare, here: Path) -> None:
    target = here / "precious"
    target.mkdir()
    link = scratch.folder_for(here / "runs/demo")
    link.symlink_to(target)
    try:
        assert "belongs to somebody else" in refused(prepare)
        assert target.exists()
    finally:
        link.unlink()


def test_the_validators_configuration_has_folders_of_this_machine(
    prepare: Prepare, here: Path
) -> None:
    (validator,) = prepare().validation
    told = json.loads(validator.env["FINETUNING_VALIDATION_CONFIG"])
    assert told["baseModelPath"] == str(here / "runs/claims/models/small")


HELD_OUT = "  validation: {heldOut: {source: SOURCE}}\n---"


def with_held_out(source: str) -> str:
    return MANIFEST.replace("---", HELD_OUT.replace("SOURCE", source), 1)


@pytest.mark.parametrize("source", ["pvc://rows/a.jsonl", '"configmap:rows:train.jsonl"'])
def test_rows_held_out_are_where_the_validator_looks_for_them(
    prepare: Prepare, here: Path, source: str
) -> None:
    (here / "runs/claims/rows").mkdir()
    (here / "runs/claims/rows/a.jsonl").write_text("{}\n")
    (validator,) = prepare(with_held_out(source)).validation
    told = json.loads(validator.env["FINETUNING_VALIDATION_CONFIG"])["heldOut"]
    assert Path(told["source"]).is_file(), told


TASKS = "  validation: {benchmarks: {tasks: [a], includePath: SOURCE}}\n---"


@pytest.mark.parametrize("source", ["pvc://rows", '"configmap:rows"'])
def test_tasks_are_where_the_validator_looks_for_them(
    prepare: Prepare, here: Path, source: str
) -> None:
    (here / "runs/claims/rows").mkdir()
    manifest = MANIFEST.replace("---", TASKS.replace("SOURCE", source), 1)
    (validator,) = prepare(manifest).validation
    told = json.loads(validator.env["FINETUNING_VALIDATION_CONFIG"])["benchmarks"]
    assert Path(told["includePath"]).is_dir(), told
    line = refused(prepare, MANIFEST.replace("---", TASKS.replace("SOURCE", "pvc://gone"), 1))
    assert "spec.validation.benchmarks.includePath: /workspace/tasks" in line


DATASET = '{source: "configmap:rows:train.jsonl"}'


def with_rows_to_evaluate_on(source: str) -> str:
    return MANIFEST.replace(DATASET, f"{DATASET[:-1]}, evalSource: {source}}}", 1)


def test_rows_to_evaluate_on_are_where_the_trainer_looks_for_them(
    prepare: Prepare, here: Path
) -> None:
    (here / "runs/claims/rows").mkdir()
    (here / "runs/claims/rows/a.jsonl").write_text("{}\n")
    _, trainer = prepare(with_rows_to_evaluate_on("pvc://rows/a.jsonl")).training
    told = json.loads(trainer.env["FINETUNING_RUN_CONFIG"])["dataset"]
    assert Path(told["evalSource"]).is_file(), told
    line = refused(prepare, with_rows_to_evaluate_on("pvc://rows/b.jsonl"))
    assert "spec.dataset.evalSource: /workspace/evaluation/b.jsonl" in line
    assert "type --claims rows=DIR" in line


def test_rows_held_out_that_are_missing_are_said_before_the_training(prepare: Prepare) -> None:
    line = refused(prepare, with_held_out("pvc://rows/a.jsonl"))
    assert line.startswith("job.yaml:7: spec.validation.heldOut.source: /workspace/heldout/a.jsonl")
    assert "type --claims rows=DIR" in line
