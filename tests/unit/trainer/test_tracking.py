"""reportTo: each tracker's own reader finds every step once, whatever ended the run before."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that libraries take

import json
import math
import os
import re
import signal
import site
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.ports import free_port
from tests.unit.trainer import mlflow_server, wandb_file
from tests.unit.trainer.mlflow_server import Server
from tests.unit.trainer.warm import WarmTrainer, wait_until
from typing_extensions import override

from finetuning.base.trackers.figures import TAGS
from finetuning.base.trackers.order import FLUSH_SECONDS
from finetuning.base.trackers.redaction import without_secrets

pytestmark = pytest.mark.training

ROOT = Path(__file__).resolve().parents[3]
STEPS = 40


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mlflow_server.started(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def argv(tiny_model: Path, rows_file: Path, tmp_path: Path) -> list[str]:
    where = ("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path / "o")
    settings = ("--no-fp16", "--batch-size", 2, "--epochs", 5, "--eval-split", 0.2)
    intervals = ("--eval-steps", 8, "--save-steps", 8, "--job-name", "curves")
    return [str(arg) for arg in (*where, *settings, *intervals)]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "o"


def written(output: Path, field: str = "loss") -> list[tuple[int, float]]:
    """Step and figure from the run's own history."""
    text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line["step"], float(line[field])) for line in lines if field in line]


def assert_same(seen: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    """Every step once, in order, with its figure; event files hold 32 bits of it."""
    assert [step for step, _ in seen] == [step for step, _ in expected]
    assert [value for _, value in seen] == pytest.approx([value for _, value in expected], rel=1e-6)


def remembered(output: Path, tracker: str) -> int:
    path = output / "tracking" / f"{tracker}.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["step"]) if path.exists() else 0


def killed_and_continued(warm: WarmTrainer, argv: list[str], output: Path, **environ: str) -> None:
    """SIGKILL two steps behind a checkpoint, and the same command once the tracker has them.

    The checkpoint is written beside the training: on a busy machine the one before is the newest.
    """
    tracker = argv[-1]
    code, log = warm.run(*argv, kill_in="finetuning.base.loop.HistoryLine:19", **environ)
    assert code == -signal.SIGKILL, log
    last = written(output)[-1][0]
    assert last == 18
    wait_until(lambda: remembered(output, tracker) == last, f"{tracker} to have step {last}")
    code, log = warm.run(*argv, **environ)
    assert code == 0, log
    assert re.search(r"Continuing from checkpoint-(8|16)\b", log), log
    assert "takes no figures" not in log
    assert "has not taken" not in log


def read_tensorboard(output: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"scalars": 0, "tensors": 0}
    return EventAccumulator(str(output / "tracking/tensorboard"), sizes).Reload()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_what_the_history_has(
    warm: WarmTrainer, argv: list[str], output: Path
) -> None:
    argv += ["--report-to", "tensorboard"]
    killed_and_continued(warm, argv, output)
    seen = read_tensorboard(output)
    assert {*seen.Tags()["scalars"]} == {*TAGS.values()}
    for field, tag in TAGS.items():
        scalars = [(each.step, each.value) for each in seen.Scalars(tag)]
        assert_same(scalars, written(output, field))
    (params,) = seen.Tensors("params/text_summary")
    assert b"| learning_rate | 0.0002 |" in params.tensor_proto.string_val[0]
    outcomes = seen.Tensors("outcome/text_summary")
    assert outcomes[-1].tensor_proto.string_val == [b"finished"]


@pytest.mark.long
@pytest.mark.documented
def test_the_documented_tensorboard_serves_the_curves(
    warm: WarmTrainer, argv: list[str], output: Path
) -> None:
    assert warm.run(*argv, "--report-to", "tensorboard")[0] == 0
    port = free_port()
    command = [str(Path(sys.executable).with_name("tensorboard"))]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    where = ["--logdir", str(output / "tracking"), "--port", str(port)]
    process = subprocess.Popen([*command, *where], env=environ)
    try:
        tags: dict[str, Any] = {}

        def answers() -> bool:
            try:
                url = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"
                with urlopen(url, timeout=5) as answer:
                    tags.update(json.load(answer))
            except OSError:
                return False
            return bool(tags)

        wait_until(answers, "tensorboard to load the curves")
    finally:
        process.kill()
        process.wait()
    assert {*tags["tensorboard"]} == {*TAGS.values()}


@pytest.mark.long
@pytest.mark.documented
def test_mlflow_has_one_run_with_every_step_once(
    warm: WarmTrainer, argv: list[str], output: Path, mlflow: Server
) -> None:
    environ = {"MLFLOW_TRACKING_URI": mlflow.uri, "MLFLOW_EXPERIMENT_NAME": "killed"}
    killed_and_continued(warm, [*argv, "--report-to", "mlflow"], output, **environ)
    (run,) = mlflow.runs("killed")
    assert run["info"]["run_name"] == "curves"
    assert run["info"]["status"] == "FINISHED"
    for field, tag in TAGS.items():
        assert_same(mlflow.figures(run, tag), written(output, field))
    params = {each["key"]: each["value"] for each in run["data"]["params"]}
    assert params["learning_rate"] == "0.0002"
    assert params["target_modules"] == "q_proj, v_proj, k_proj, o_proj"


@pytest.mark.long
def test_a_paused_run_goes_on_as_the_same_run_and_is_sent_what_it_missed(
    warm: WarmTrainer, argv: list[str], output: Path, mlflow: Server
) -> None:
    """The first server cannot be reached: the second one gets the steps before the pause too."""
    argv += ["--report-to", "mlflow"]
    environ = {"MLFLOW_EXPERIMENT_NAME": "paused"}
    away = f"http://127.0.0.1:{free_port()}"
    child = warm.start(*argv, MLFLOW_TRACKING_URI=away, **environ)
    wait_until((output / "loss_history.jsonl").exists, "the first step")
    wait_until(lambda: bool(written(output)), "the first step")
    assert child.kill(signal.SIGTERM) == 143
    assert len(written(output)) < STEPS
    assert child.output().count("takes no figures") + child.output().count("has not taken") >= 1
    code, log = warm.run(*argv, MLFLOW_TRACKING_URI=mlflow.uri, **environ)
    assert code == 0, log
    (run,) = mlflow.runs("paused")
    assert [step for step, _ in mlflow.figures(run, "train/loss")] == [*range(1, STEPS + 1)]


def test_wandb_offline_has_every_step_once(
    warm: WarmTrainer, argv: list[str], output: Path
) -> None:
    environ = {"WANDB_MODE": "offline", "HOME": str(output.parent)}
    killed_and_continued(warm, [*argv, "--report-to", "wandb"], output, **environ)
    files = sorted((output / "tracking/wandb").glob("offline-run-*/*.wandb"))
    first, second = files
    lines = [line for file in files for line in wandb_file.history(file)]
    assert [line["_step"] for line in lines] == [*range(1, STEPS + 1)]
    # The steps that are taken again after the checkpoint keep their first figures.
    for field, tag in TAGS.items():
        seen = [(line["_step"], line[tag]) for line in lines if tag in line]
        assert_same(seen, written(output, field))
    assert wandb_file.run(first).run_id == wandb_file.run(second).run_id
    config = {item.key: item.value_json for item in wandb_file.run(first).config.update}
    assert config["learning_rate"] == "0.0002"
    assert [wandb_file.exit_code(file) for file in files] == [1, 0]


QUIET = """
import os, sys, pathlib
from finetuning.base.trackers.memory import Memory
from finetuning.base.trackers.order import Order, Outcome
from finetuning.base.trackers.to_wandb import Wandb
order = Order(tracker="wandb", output=sys.argv[1], job_name="j", after_step=0, params={})
order.folder.mkdir(parents=True)
tracker = Wandb()
tracker.open(order, Memory())
from wandb.analytics.opentelemetry import opentelemetry_proxy
from wandb.env import error_reporting_enabled
services = [each.read_bytes().split(b"\\0") for each in pathlib.Path("/proc").glob("[0-9]*/cmdline")
            if f"PPid:\\t{os.getpid()}\\n" in (each.parent / "status").read_text()]
print([b"--no-observability" in each for each in services],
      opentelemetry_proxy._disabled.is_set(), error_reporting_enabled())
tracker.close(Outcome.FINISHED)
"""


def test_wandb_reports_nothing_of_its_own(tmp_path: Path) -> None:
    environ = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    environ.pop("WANDB_ERROR_REPORTING", None)
    command = [sys.executable, "-c", QUIET, str(tmp_path / "output")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[True] True False", done.stdout + done.stderr


def plain(warm: WarmTrainer, argv: list[str], folder: Path) -> list[tuple[int, float]]:
    """The losses of the run that tells nobody."""
    at = argv.index("--output-dir")
    assert warm.run(*argv[:at], "--output-dir", folder, *argv[at + 2 :])[0] == 0
    return written(folder)


@pytest.mark.long
def test_a_server_that_is_away_costs_one_line(
    warm: WarmTrainer, argv: list[str], output: Path, tmp_path: Path
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    code, log = warm.run(*argv, "--report-to", "mlflow", MLFLOW_TRACKING_URI=away)
    assert code == 0, log
    (line,) = [line for line in log.splitlines() if "mlflow" in line.lower()]
    assert "takes no figures" in line
    assert written(output) == plain(warm, argv, tmp_path / "plain")


@pytest.fixture
def hanging() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.long
def test_a_server_that_hangs_delays_only_the_very_end(
    warm: WarmTrainer, argv: list[str], output: Path, tmp_path: Path, hanging: str
) -> None:
    began = time.monotonic()
    hours = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3600"}
    code, log = warm.run(
        *argv, "--report-to", "tensorboard", "mlflow", MLFLOW_TRACKING_URI=hanging, **hours
    )
    took = time.monotonic() - began
    assert code == 0, log
    ended = (output / "manifest.json").stat().st_mtime
    lines = (output / "loss_history.jsonl").stat().st_mtime
    assert ended - lines < FLUSH_SECONDS / 2, "the result waited for the server"
    assert took > FLUSH_SECONDS
    (line,) = [line for line in log.splitlines() if "mlflow" in line]
    assert f"has not taken the last steps within {FLUSH_SECONDS} s" in line
    assert written(output) == plain(warm, argv, tmp_path / "plain")
    assert remembered(output, "tensorboard") == STEPS, "the other tracker was not held up"


class Echo(BaseHTTPRequestHandler):
    """Refuses everybody, and says what it was sent: names and passwords among it."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(f"no: {self.headers['Authorization']} {self.path}".encode())

    do_POST = do_GET  # noqa: N815 - the base class looks for these names

    @override
    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.long
def test_credentials_are_in_no_file_and_no_line(
    warm: WarmTrainer, argv: list[str], output: Path, echo: str
) -> None:
    token = "tok-5fa1c03f9b"
    secrets = {"MLFLOW_TRACKING_URI": echo, "MLFLOW_TRACKING_TOKEN": token}
    code, log = warm.run(*argv, "--report-to", "mlflow", **secrets)
    assert code == 0, log
    assert "takes no figures" in log
    assert "$MLFLOW_TRACKING_TOKEN" in log, "the server did say it, and it was covered"
    assert token not in log
    files = [path for path in output.rglob("*") if path.is_file()]
    assert not [path for path in files if token.encode() in path.read_bytes()]


def test_a_password_in_an_address_is_covered() -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://someone:hunter22@mlflow.example.com", "HOME": "/tmp"}
    told = "cannot reach https://someone:hunter22@mlflow.example.com/api as someone, hunter22"
    covered = "cannot reach $MLFLOW_TRACKING_URI/api as $MLFLOW_TRACKING_URI, $MLFLOW_TRACKING_URI"
    assert without_secrets(told, environ) == covered


@pytest.fixture
def without_wandb(tmp_path: Path) -> dict[str, str]:
    """An environment as this one, in which that one package is not installed."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith("wandb"):
            (packages / entry.name).symlink_to(entry)
    roots = [str(ROOT / name) for name in ("operator", "trainer", "sidecar")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*roots, str(packages)])}


def test_a_library_that_is_not_installed_is_told_before_anything_is_done(
    argv: list[str], output: Path, tmp_path: Path, without_wandb: dict[str, str]
) -> None:
    (tmp_path / "wandb").mkdir()  # As W&B leaves it behind: no package.
    command = [sys.executable, "-S", "-m", "finetuning.base.app", *argv, "--report-to", "wandb"]
    done = subprocess.run(
        command, cwd=tmp_path, env=without_wandb, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "--report-to wandb: the package wandb is not installed" in done.stderr
    assert "pip install 'finetuning-operator[wandb]'" in done.stderr
    assert not output.exists()


def test_mlflow_without_an_address_is_refused(argv: list[str], output: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "finetuning.base.app", *argv, "--report-to", "mlflow"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_URI is not set" in done.stderr
    assert not output.exists()


def test_the_trainer_loads_no_library_of_a_tracker() -> None:
    code = (
        "import sys, finetuning.base.app, finetuning.base.train;"
        "print(*{'tensorboardX', 'tensorboard', 'mlflow', 'wandb'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_loss_that_is_no_number_arrives_as_one(tmp_path: Path) -> None:
    from finetuning.artifacts.history import HistoryLine
    from finetuning.base.trackers.figures import figures

    line = HistoryLine(step=3, epoch=0.1, loss="NaN", learning_rate=0.1, tokens=7)
    assert math.isnan(figures(line)["train/loss"])


def test_the_documented_resource_is_one() -> None:
    import yaml

    from finetuning.api.v1alpha1 import FineTuningJobSpec

    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    (text,) = [part for part in page.split("```") if part.startswith("yaml") and "reportTo" in part]
    job, secret = yaml.safe_load_all(text.removeprefix("yaml"))
    rest = {"baseModel": {"modelId": "a/b"}, "dataset": {"source": "hf://a/b"}}
    spec = FineTuningJobSpec.model_validate({**rest, **job["spec"]})
    assert spec.tracking_secret_ref is not None
    assert spec.tracking_secret_ref.name == secret["metadata"]["name"]
    assert "MLFLOW_TRACKING_URI" in secret["stringData"]
