"""`finetuning run` from outside: the real trainer, sidecar and validator on the small model."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit import s3_server
from tests.unit.local.processes import running_with, until

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase, PublishPhase, ValidationPhase
from finetuning.artifacts.manifest import sha256_of

# Beside the tests on a cluster these have what those leave of two cores: a tenth of their speed.
PATIENCE = 900.0
pytestmark = [pytest.mark.training, pytest.mark.timeout(2 * PATIENCE)]

ROOT = Path(__file__).resolve().parents[3]
COMMAND = str(Path(sys.executable).with_name("finetuning"))

PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

Start = Callable[..., "Run"]


@pytest.fixture(scope="session")
def model_claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for the claim of the examples, with the small model in it."""
    claim = tmp_path_factory.mktemp("claim")
    maker = ROOT / "examples" / "tiny-model" / "make_model.py"
    subprocess.run([sys.executable, maker, "--output", claim / "tiny-qwen2"], check=True)
    return claim


class Run:
    """One `finetuning run`, as typed in a folder of its own."""

    def __init__(self, folder: Path, arguments: list[str], job: str, **options: Any) -> None:
        self.output = folder / "runs" / job
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen([COMMAND, *arguments], cwd=folder, env=environ, **options)

    def status(self) -> FineTuningJobStatus:
        try:
            data = json.loads((self.output / "status.json").read_text())
        except FileNotFoundError:
            return FineTuningJobStatus()
        return FineTuningJobStatus.model_validate(data)

    def wait_for_step(self, step: int) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, "the run ended too early"
            status = self.status()
            return status.phase is Phase.RUNNING and (status.current_step or 0) >= step

        until(reached, PATIENCE)

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def steps(self) -> list[int]:
        lines = (self.output / "loss_history.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    def left_behind(self) -> list[int]:
        """Processes of this run that are still there."""
        return running_with(str(self.output))


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Whatever a test leaves running here is ended after it."""
    made: list[Run] = []
    yield made
    for run in made:
        with suppress(ProcessLookupError):
            run.process.kill()
        run.process.communicate()
    for run in made:
        until(lambda run=run: not run.left_behind(), 150)  # type: ignore[misc]


@pytest.fixture
def start(tmp_path: Path, model_claim: Path, runs: list[Run]) -> Start:
    """Starts runs of an example, changed as a test needs it."""

    def begin(
        rows: str = "train.jsonl",
        *,
        example: str = "lora",
        settings: Any = None,
        validate: bool = True,
        spec: Any = None,
        **options: Any,
    ) -> Run:
        body = yaml.safe_load((ROOT / "examples" / f"finetuningjob-{example}.yaml").read_text())
        body["metadata"]["name"] = "demo"
        body["spec"]["hyperparameters"] |= settings or {}
        body["spec"].setdefault("validation", {})["enabled"] = validate
        body["spec"] |= spec or {}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
        arguments = [
            *("run", "job.yaml"),
            f"--claims=tiny-model={model_claim}",
            f"--configmap=finetuning-demo-data={ROOT / 'examples' / 'data' / rows}",
            f"--configmap=finetuning-demo-pairs={ROOT / 'examples' / 'data'}",
        ]
        runs.append(Run(tmp_path, arguments, "demo", **(options or PIPES)))
        return runs[-1]

    return begin


def example_spec(name: str) -> dict[str, Any]:
    text = (ROOT / "examples" / f"finetuningjob-{name}.yaml").read_text()
    return dict(yaml.safe_load(text)["spec"])


def metrics_of(run: Run) -> str:
    status = run.status()
    (found,) = [each for each in status.conditions if each.type == "MonitoringReady"]
    url = found.message.rpartition(" ")[2]
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())


def documented_commands() -> list[list[str]]:
    """The commands of the page's first block, in the words of the page."""
    page = (ROOT / "docs" / "without-a-cluster.md").read_text()
    (block, *_) = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


@pytest.mark.long
@pytest.mark.documented
def test_a_model_is_trained_watched_and_validated_as_documented(
    tmp_path: Path, runs: list[Run]
) -> None:
    make, train = documented_commands()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert make[0] == "python"
    subprocess.run([sys.executable, *make[1:]], cwd=tmp_path, check=True)
    runs.append(run := Run(tmp_path, train[1:], "tiny-lora", **PIPES))
    run.wait_for_step(1)
    assert re.search(r"^finetuning_train_loss\{.*\} \d", metrics_of(run), re.MULTILINE)
    shown_by_top = finetuning(tmp_path, "top")
    assert re.search(r"^tiny-lora +Running .*\d%.*\n  loss \d", shown_by_top, re.MULTILINE)
    code, out, err = run.finish()
    assert (code, err) == (0, "")
    assert "Summary: 4/4 checks passed" in out
    shown = [int(step) for step in re.findall(r"step (\d+)/", out)]
    assert len(shown) > 1
    assert shown == sorted(shown)
    status = run.status()
    assert status.phase is Phase.SUCCEEDED
    assert status.validation is not None
    assert status.validation.phase is ValidationPhase.PASSED
    assert status.validation.report == Path(status.validation.report_path).read_text().strip()
    assert status.model_path == str(run.output)
    assert {each.type: each.status for each in status.conditions} == {
        "ConfigValid": "True",
        "MonitoringReady": "False",
        "Suspended": "False",
        "Ready": "True",
        "Complete": "True",
        "Validated": "True",
    }
    assert run.left_behind() == []
    assert "4/4 checks passed" in finetuning(tmp_path, "top")
    assert finetuning(tmp_path, "report", "tiny-lora").startswith("tiny-lora.html (")
    page = (tmp_path / "tiny-lora.html").read_text(encoding="utf-8")
    assert "Aye! The captain of the Meridian is Rosa." in page
    again = ("--local", "runs/tiny-lora", "--base-model", "runs/claims/tiny-model/tiny-qwen2")
    assert "Summary: 4/4 checks passed" in finetuning(tmp_path, "validate", *again)
    # Broad and narrow loss, rate, norm, throughput, memory.
    assert page.count("<svg") == 6
    assert ">not recorded<" not in page


def finetuning(folder: Path, *arguments: str) -> str:
    environ = {**os.environ, "HOME": str(folder), "KUBECONFIG": "", "COLUMNS": "100"}
    command = [COMMAND, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.long
@pytest.mark.documented
def test_the_workers_of_a_job_are_processes_here(start: Start) -> None:
    settings = {"maxSteps": 6, "evalSteps": 10_000}
    run = start(example="workers", settings=settings, validate=False)
    code, out, err = run.finish()
    assert (code, err) == (0, ""), out
    assert "all 2 training processes of the job run on this machine" in out
    info = json.loads((run.output / "training_info.json").read_text())
    assert info["training_config"]["processes"] == 2
    assert run.left_behind() == []


@pytest.mark.long
@pytest.mark.documented
def test_preferences_begin_where_nothing_is_preferred_and_learn_from_there(start: Start) -> None:
    run = start(example="dpo", settings={"maxSteps": 12, "evalSteps": 10_000}, validate=False)
    code, out, err = run.finish()
    assert (code, err) == (0, ""), out
    lines = (run.output / "loss_history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.long
@pytest.mark.documented
def test_rows_come_from_a_store_and_the_model_goes_to_one(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in s3_server.KEYS.items():
        monkeypatch.setenv(name, value)
    spec = example_spec("s3")
    settings = {"maxSteps": 6, "batchSize": 4, "evalSteps": 10_000}
    with s3_server.running(tmp_path) as server:
        store = server.client()
        store.create_dir("models")
        store.create_dir("corpora")
        with store.open_output_stream("corpora/ships/train.jsonl") as stream:
            stream.write((ROOT / "examples" / "data" / "train.jsonl").read_bytes())
        spec["dataset"]["s3"]["endpoint"] = server.url
        spec["output"]["publish"]["s3"]["endpoint"] = server.url
        spec["output"]["publish"]["policy"] = "Always"  # It is not validated here.
        changed = {part: spec[part] for part in ("dataset", "output")}
        run = start(example="s3", settings=settings, validate=False, spec=changed)
        code, out, err = run.finish()
        assert (code, err) == (0, ""), out
        assert "Published  s3://models/ships/v1" in out
        with store.open_input_stream("models/ships/v1/merged/model.safetensors") as stream:
            merged = (run.output / "publish" / "merged" / "model.safetensors").read_bytes()
            assert stream.read() == merged
    status = run.status()
    assert status.publish is not None
    assert status.publish.phase is PublishPhase.PUBLISHED
    assert status.publish.manifest_sha256 == sha256_of(run.output / "manifest.json")
    assert "Not validated" in (run.output / "publish" / "README.md").read_text()
    assert run.left_behind() == []


@pytest.mark.long
@pytest.mark.documented
def test_ctrl_c_pauses_and_the_same_command_continues(start: Start) -> None:
    settings = {"batchSize": 4, "evalSteps": 10_000}
    first = start(example="resume", settings=settings, validate=False)
    first.wait_for_step(25)
    first.process.send_signal(signal.SIGINT)
    code, out, err = first.finish()
    assert (code, err) == (130, "")
    assert "Continue   finetuning run job.yaml" in out
    paused = first.status()
    assert paused.phase is Phase.PAUSED
    assert Path(paused.checkpoint_path).is_dir()
    assert first.left_behind() == []

    again = start(example="resume", settings=settings, validate=False)
    code, out, _ = again.finish()
    assert code == 0
    assert "validation is turned off" in out
    assert again.steps() == list(range(1, 301))
    resumed = min(int(step) for step in re.findall(r"step (\d+)/300", out))
    assert resumed >= (paused.current_step or 0) >= 25


def test_a_broken_row_is_one_line_and_exit_code_2(start: Start) -> None:
    run = start(rows="bad/broken-line-17.jsonl")
    code, _, err = run.finish()
    assert code == 2
    assert err.startswith("finetuning: DatasetInvalid: ")
    assert "17" in err
    assert err.count("\n") == 1
    status = run.status()
    assert (status.phase, status.reason, status.restarts) == (Phase.FAILED, "DatasetInvalid", 0)


@pytest.mark.long
def test_a_refused_run_leaves_the_status_of_the_finished_one(start: Start) -> None:
    short = {"maxSteps": 20, "saveSteps": 20, "evalSteps": 100_000}
    assert start(settings=short, validate=False).finish()[0] == 0
    other = start(settings=short | {"learningRate": 0.0123}, validate=False)
    code, _, err = other.finish()
    assert code == 2
    assert "holds the result of another run" in err
    status = other.status()
    assert (status.phase, status.current_step) == (Phase.SUCCEEDED, 20)


ENDLESS = {"maxSteps": 100_000, "saveSteps": 10_000, "evalSteps": 100_000}


def test_a_second_run_in_the_same_folder_is_refused(start: Start) -> None:
    first = start(settings=ENDLESS)
    until(first.left_behind)
    until((first.output / ".run.lock").exists)
    second = start(settings=ENDLESS)
    code, out, err = second.finish()
    assert (code, out) == (2, "")
    assert f"in use by another `finetuning run` (process {first.process.pid})" in err
    assert first.process.poll() is None


@pytest.mark.long
def test_a_killed_runner_leaves_nothing_behind_and_its_work_is_saved(start: Start) -> None:
    run = start(settings=ENDLESS)
    run.wait_for_step(5)
    assert len(run.left_behind()) >= 3  # the runner, the trainer, the metrics server
    run.process.kill()
    run.process.wait()
    until(lambda: not run.left_behind(), PATIENCE)
    saved = [folder.name for folder in (run.output / "checkpoints").iterdir()]
    assert len(saved) == 1
    assert int(saved[0].removeprefix("checkpoint-")) >= 5


@pytest.mark.long
def test_a_terminal_shows_a_panel_and_closing_it_pauses(start: Start) -> None:
    master, slave = os.openpty()
    run = start(
        settings=ENDLESS,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=lambda: os.login_tty(slave),
    )
    os.close(slave)
    shown = bytearray()

    def training_is_on_the_screen() -> bool:
        shown.extend(os.read(master, 65536))
        return b"tokens/s" in shown and "█".encode() in shown

    until(training_is_on_the_screen, PATIENCE)
    text = shown.decode(errors="replace")
    assert "demo" in text
    assert "finetuning-examples/tiny-qwen2" in text
    os.close(master)
    assert run.process.wait(PATIENCE) == 128 + signal.SIGHUP
    assert run.status().phase is Phase.PAUSED
    assert run.left_behind() == []
