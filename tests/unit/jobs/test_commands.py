"""What the commands about a cluster's jobs say, send and end with."""

import io
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from tests.unit.client.server import JOBS, Api, pod, refusal
from tests.unit.client.test_client import ENDED, TRAINED
from tests.unit.controller.objects import job_body
from tests.unit.jobs.conftest import Typed

COMMAND = str(Path(sys.executable).with_name("finetuning"))
TEAM = f"{JOBS}/namespaces/team/finetuningjobs"
REPORT = "=== Fine-Tuning Validation Report ===\n\n✓ PASS - training_loss\n  Training loss: 0.0154"
JUDGED: dict[str, Any] = {
    **TRAINED,
    "message": "Trained 340 steps.",
    "progress": "100%",
    "currentStep": 340,
    "totalSteps": 340,
    "trainLoss": 0.0154,
    "modelPath": "pvc://demo-output",
    "validation": {
        "phase": "Passed", "attempt": 1, "result": "4/4", "summary": "4/4 checks passed",
        "report": REPORT,
    },
}  # fmt: skip


def said(kind: str, status: str, generation: int = 1) -> dict[str, Any]:
    """A condition."""
    return {
        "type": kind, "status": status, "reason": "Said", "message": "",
        "lastTransitionTime": "2026-11-30T04:00:00Z", "observedGeneration": generation,
    }  # fmt: skip


def manifest(tmp_path: Path, **spec: Any) -> str:
    body = job_body("mine", **spec)
    del body["metadata"]["namespace"]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    return "job.yaml"


def test_a_job_is_submitted(typed: Typed, api: Api, tmp_path: Path) -> None:
    done = typed("submit", manifest(tmp_path), "-n", "lab")
    assert (done.code, done.out) == (0, "finetuningjob.aim.amd.com/mine created\n")
    assert "finetuning logs -f mine" in done.err
    assert list(api.jobs) == [("lab", "mine")]


def test_the_api_server_may_name_a_job(typed: Typed, api: Api, tmp_path: Path) -> None:
    body = yaml.safe_load((tmp_path / manifest(tmp_path)).read_text())
    body["metadata"] = {"generateName": "tune-"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    done = typed("submit", "job.yaml", "-n", "lab")
    assert (done.code, done.out) == (0, "finetuningjob.aim.amd.com/tune-q8z5w created\n")
    assert "finetuning logs -f tune-q8z5w" in done.err
    assert "metadata.name: Required value" in typed("run", "job.yaml").err
    body["metadata"] = {"generateName": "Tune_"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    assert 'Invalid value: "Tune_x7k2p"' in typed("submit", "job.yaml").err


def test_a_dry_run_says_so(typed: Typed, api: Api, tmp_path: Path) -> None:
    done = typed("submit", manifest(tmp_path), "--dry-run")
    assert (done.code, done.out) == (
        0,
        "finetuningjob.aim.amd.com/mine would be created (dry run)\n",
    )
    assert api.jobs == {}


@pytest.mark.parametrize(("phase", "code"), [("Passed", 0), ("Failed", 1)])
def test_who_waits_gets_the_verdict(
    phase: str, code: int, typed: Typed, api: Api, tmp_path: Path
) -> None:
    verdict = {**JUDGED["validation"], "phase": phase}
    ended = [said("Ready", "True" if phase == "Passed" else "False")]
    ended += [said("Stalled", "True")] if phase == "Failed" else []
    api.on_create = {"status": {**JUDGED, "validation": verdict, "conditions": ended}}
    done = typed("submit", manifest(tmp_path), "--wait", "--timeout", "10")
    assert done.code == code
    assert f"Validation  {phase}: 4/4 checks passed\n\n{REPORT}\n" in done.out


COPY = {"kind": "s3", "location": "s3://models/mine", "digest": "c0ffee", "files": 9,
        "sizeBytes": 100}  # fmt: skip


@pytest.mark.parametrize(("phase", "code"), [("Published", 0), ("Failed", 1)])
def test_who_waits_gets_the_publication_too(
    phase: str, code: int, typed: Typed, api: Api, tmp_path: Path
) -> None:
    ends = "Stalled" if code else "Ready"
    copies = {"phase": phase, "attempt": 1, "message": "Said.", "copies": [COPY]}
    done = {**JUDGED, "publish": copies, "conditions": [said(ends, "True")]}
    api.on_create = {"status": done}
    seen = typed("submit", manifest(tmp_path), "--wait", "--timeout", "10")
    assert seen.code == code
    assert f"Publishing  {phase}: Said.\n            s3://models/mine  c0ffee\n" in seen.out


@pytest.mark.parametrize(
    "waits", [said("Ready", "Unknown"), said("Ready", "False"), said("Ready", "True", 0)]
)
def test_a_verdict_alone_is_not_all(
    waits: dict[str, Any], typed: Typed, api: Api, tmp_path: Path
) -> None:
    copies = {"phase": "Running", "attempt": 1}
    api.on_create = {"status": {**JUDGED, "publish": copies, "conditions": [waits]}}
    done = typed("submit", manifest(tmp_path), "--wait", "--timeout", "0.3")
    assert (done.code, done.out.count("Phase")) == (1, 0)
    assert "not ready after" in done.err


def test_mistakes_are_lines_with_exit_code_2(typed: Typed, api: Api, tmp_path: Path) -> None:
    done = typed("submit", manifest(tmp_path, method="lorra", hyperparameters={"epochs": 0}))
    assert done.code == 2
    assert [line.partition(": spec")[0] for line in done.err.splitlines()] == [
        "finetuning: job.yaml:15", "finetuning: job.yaml:16",
    ]  # fmt: skip
    assert api.requests == []


def test_the_servers_refusal_of_an_input_is_exit_code_2(
    typed: Typed, api: Api, tmp_path: Path
) -> None:
    api.answers[TEAM] = refusal(422, "Invalid", 'FineTuningJob "mine" is invalid: no')
    done = typed("submit", manifest(tmp_path))
    assert (done.code, done.err) == (2, 'finetuning: FineTuningJob "mine" is invalid: no\n')


def test_a_list_has_kubectls_columns(typed: Typed, api: Api) -> None:
    api.keep("one", status={"phase": "Running", "progress": "42%", "reason": "Training"})
    api.keep("another", status=JUDGED, spec={"colour": "of another version"})
    done = typed("list")
    head, another, one = done.out.splitlines()
    assert head.split() == [
        "NAME", "PHASE", "METHOD", "MODEL", "PROGRESS", "LOSS", "VALIDATED", "AGE",
    ]  # fmt: skip
    assert another.split()[:4] == ["another", "Succeeded", "example/tiny", "100%"]
    assert one.split()[:2] == ["one", "Running"]
    assert one.index("42%") == head.index("PROGRESS")
    wide = typed("list", "-A", "-o", "wide").out.splitlines()
    assert wide[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert "REASON" in wide[0]
    assert "Training" in wide[2]


def test_no_jobs_is_no_failure(typed: Typed) -> None:
    done = typed("list")
    assert (done.code, done.out) == (0, "")
    assert done.err == "no FineTuningJobs in the namespace team of lab\n"


def test_other_forms_are_kubectls(typed: Typed, api: Api) -> None:
    job = api.keep(metadata={"managedFields": [{"manager": "x"}]})
    found = json.loads(typed("list", "-l", "a=b", "-o", "json").out)
    assert (found["kind"], found["items"][0]["spec"]) == ("List", job["spec"])
    assert "managedFields" not in found["items"][0]["metadata"]
    assert typed("list", "-o", "name").out == "finetuningjob.aim.amd.com/demo\n"
    assert yaml.safe_load(typed("get", "demo", "-o", "yaml").out)["spec"] == job["spec"]
    assert typed("get", "demo", "-o", "name").out == "finetuningjob.aim.amd.com/demo\n"
    assert "TOKENS/S" in typed("get", "demo", "-o", "wide").out


def test_a_page_says_what_is_known(typed: Typed, api: Api) -> None:
    used = {"gpuSeconds": 86_400.0, "energyJoules": 61_920_000.0}
    api.keep(status={**JUDGED, "usage": used})
    assert typed("get", "demo").out == (
        "Name        team/demo\n"
        "Phase       Succeeded (TrainingSucceeded)\n"
        "            Trained 340 steps.\n"
        "Model       example/tiny, lora\n"
        "Data        configmap:rows:train.jsonl\n"
        "Progress    step 340/340, loss 0.0154\n"
        "Used        24 GPU hours, 17.2 kWh\n"
        "Result      pvc://demo-output\n"
        "Validation  Passed: 4/4 checks passed\n"
        f"\n{REPORT}\n"
    )


def test_columns_are_as_wide_as_what_is_in_them(typed: Typed, api: Api) -> None:
    reason = "a reason of many words, which is what somebody looks for who asks for all of it"
    unknown = {**said("MemorySufficient", "Unknown"), "message": "not known here"}
    model = {"modelId": "a/b", "source": "pvc://c/" + "x" * 80}
    api.keep(status={"phase": "Failed", "message": reason, "conditions": [unknown]})
    api.keep("two", spec={"baseModel": model}, status={"phase": "Failed", "reason": "模型"})
    page = typed("get", "demo").out.splitlines()
    assert {
        line.index(word) for line in page for word in ("team/demo", "Unknown:") if word in line
    } == {17}
    head, first, second = typed("list", "-o", "wide").out.splitlines()
    assert first.endswith(reason)
    assert cell_len(second.partition("模型")[0]) == head.index("REASON")


def test_a_status_cannot_write_to_the_terminal(typed: Typed, api: Api) -> None:
    api.keep(status={"phase": "Failed", "reason": "\x1b[31m", "message": "a\x1b]0;b\x07\nc"})
    for command in ("get demo", "list -o wide"):
        assert "\x1b" not in typed(*command.split()).out


def test_a_log_is_shown(typed: Typed, api: Api) -> None:
    api.keep(status=TRAINED)
    api.pods, api.logs["p"] = [pod("p", "demo", "training", "metrics", ENDED)], "one\ntwo\n"
    done = typed("logs", "demo", "--of", "sidecar", "--tail", "2", "-f")
    assert (done.code, done.out, done.err) == (0, "one\ntwo\n", "")
    (query,) = [query for path, query, _ in api.sent("GET") if path.endswith("/log")]
    assert query.pop("timestamps") == "true"
    assert query == {"container": "metrics", "tailLines": "2", "follow": "true"}


def test_a_log_that_is_waited_for_says_what_holds_it_up(typed: Typed, api: Api) -> None:
    seen = {"phase": "Pending", "observedGeneration": 1}
    states = [seen, *[{**seen, "message": "No node has a GPU."}] * 2]

    def asked(_body: Any) -> Any:
        if states:
            return api.keep(status=states.pop(0))
        api.pods = [pod("p", "demo", "training", "finetuning", ENDED)]
        return api.keep(status=TRAINED)

    api.logs["p"] = "step 1\n"
    api.answers[f"{JOBS}/namespaces/team/finetuningjobs/demo"] = (200, asked)
    done = typed("logs", "demo", "-f")
    assert (done.code, done.out) == (0, "step 1\n")
    assert done.err == "demo is Pending: No node has a GPU.\n"


@pytest.mark.parametrize(
    "command", ["get demo", "logs demo -f", "submit job.yaml --wait --timeout 3"]
)
def test_a_job_that_no_operator_takes_up_is_told(
    command: str, typed: Typed, api: Api, tmp_path: Path
) -> None:
    """Its namespace is not served, or there is no operator: nobody writes why nothing happens."""
    old = {"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    api.keep(status={"observedGeneration": 0}, metadata=old)
    young = f"{datetime.now(UTC) - timedelta(seconds=9):%Y-%m-%dT%H:%M:%S.%fZ}"
    found = {"name": "mine", "namespace": "team", "resourceVersion": "1"}
    api.on_create = {"metadata": {**found, "creationTimestamp": young}}
    manifest(tmp_path)
    if command.startswith("logs"):
        asked = iter(range(2))

        def ended(_body: Any) -> Any:
            if next(asked, None) is None:
                api.keep(status={"phase": "Failed", "message": "No."})
            return api.jobs["team", "demo"]

        api.answers[f"{TEAM}/demo"] = (200, ended)
    done = typed(*command.split())
    told = "no operator has looked at it; finetuning doctor -n team says why"
    assert (done.out + done.err).count(told) == 1


def test_pause_and_resume(typed: Typed, api: Api) -> None:
    api.keep(status={"phase": "Paused", "observedGeneration": 1})
    assert typed("pause", "demo").out == "finetuningjob.aim.amd.com/demo pauses\n"
    waited = typed("pause", "demo", "--wait", "--timeout", "10")
    assert (waited.code, waited.out) == (0, "finetuningjob.aim.amd.com/demo is Paused\n")
    assert typed("resume", "demo").out == "finetuningjob.aim.amd.com/demo resumes\n"
    assert [body["spec"]["suspend"] for _, _, body in api.sent("PATCH")] == [True, False]


def test_nobody_to_ask_deletes_nothing(
    typed: Typed, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    api.keep()
    done = typed("cancel", "demo")
    assert done.code == 2
    assert "deleted with its claim demo-output, which holds its checkpoints and model" in done.err
    assert "--yes" in done.err
    assert list(api.jobs) == [("team", "demo")]
    assert typed("cancel", "demo", "--yes").out == "finetuningjob.aim.amd.com/demo deleted\n"
    assert api.jobs == {}


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("", 1, 1), ("no", 1, 1)])
def test_a_person_is_asked(answer: str, code: int, left: int, api: Api) -> None:
    """On a terminal of its own."""
    api.keep(spec={"output": {"storage": {"claimName": "kept"}}})
    ours, theirs = pty.openpty()
    with subprocess.Popen([COMMAND, "cancel", "demo"], stdin=theirs, stderr=subprocess.PIPE) as run:
        os.write(ours, f"{answer}\n".encode())
        told = run.communicate(timeout=60)[1].decode()
    assert "its files stay in the claim kept. Go on? [y/N]" in told
    assert (run.returncode, len(api.jobs)) == (code, left)
    os.close(ours)
    os.close(theirs)


def test_a_model_is_judged_again(typed: Typed, api: Api) -> None:
    api.keep(status=JUDGED)
    asked = typed("validate", "demo", "--no-wait")
    assert (asked.code, asked.out) == (0, "finetuningjob.aim.amd.com/demo is judged again\n")
    ((_, _, body),) = api.sent("PATCH")
    assert list(body["metadata"]["annotations"]) == ["finetuning.aim.amd.com/revalidate"]
    late = typed("validate", "demo", "--timeout", "1.5")
    assert (late.code, late.err.splitlines()[-1]) == (1, "finetuning: demo: not there after 2 s")


@pytest.mark.parametrize(("phase", "code"), [("Passed", 0), ("Failed", 1)])
def test_a_new_verdict_decides_whatever_is_published(
    phase: str, code: int, typed: Typed, api: Api
) -> None:
    job = api.keep(status={**JUDGED, "publish": {"phase": "Running", "attempt": 1}})

    def judged(body: Any) -> Any:
        if body is not None:
            (wish,) = body["metadata"]["annotations"].values()
            job["status"]["validation"] |= {"revalidate": wish, "phase": phase}
        return job

    api.answers[f"{TEAM}/demo"] = (200, judged)
    done = typed("validate", "demo", "--timeout", "10")
    assert (done.code, f"Validation  {phase}" in done.out) == (code, True)


WISH = "finetuning.aim.amd.com/revalidate"


@pytest.mark.parametrize(
    ("command", "told"), [("cancel demo", "type --yes as well"), ("submit -", "no FineTuningJob")]
)
def test_without_any_input_nobody_is_asked(command: str, told: str, api: Api) -> None:
    api.keep()
    shell = ["sh", "-c", f"exec {COMMAND} {command} <&-"]
    done = subprocess.run(shell, check=False, capture_output=True, text=True)
    assert (done.returncode, told in done.stderr) == (2, True)
    assert api.jobs


@pytest.mark.parametrize(
    ("later", "code", "told"),
    [("another", 0, "4/4 checks passed"), (None, 1, "was taken away before there was a verdict")],
)
def test_who_is_overtaken_by_another_wish_does_not_wait_for_ever(
    later: str | None, code: int, told: str, typed: Typed, api: Api
) -> None:
    """Nobody judges a model for the first of two wishes any more."""
    job = api.keep(status=JUDGED)

    def overtaken(body: Any) -> Any:
        if body is not None and later is not None:
            job["metadata"]["annotations"] = {WISH: later}
            job["status"]["validation"] |= {"revalidate": later, "attempt": 2}
        return job

    api.answers[f"{TEAM}/demo"] = (200, overtaken)
    done = typed("validate", "demo", "--timeout", "10")
    assert (done.code, told in done.out + done.err) == (code, True)


@pytest.mark.parametrize(
    "command",
    ["get x", "logs x", "pause x", "resume x", "cancel x --yes", "validate x"],
)
def test_no_such_job_is_one_line_with_exit_code_1(command: str, typed: Typed, api: Api) -> None:
    done = typed(*command.split())
    assert (done.code, done.out) == (1, "")
    assert done.err == 'finetuning: no FineTuningJob "x" in the namespace team of lab\n'


@pytest.mark.parametrize(
    ("code", "expected"),
    [(401, "log in again"), (403, "may not; name a namespace"), (500, "500: No: may not")],
)
def test_a_clusters_failure_is_one_line_with_exit_code_1(
    code: int, expected: str, typed: Typed, api: Api
) -> None:
    api.answers[TEAM] = refusal(code, "No", "may not")
    done = typed("list")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert expected in done.err


def test_a_cluster_that_is_gone_is_one_line(typed: Typed, tmp_path: Path) -> None:
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(text.replace("127.0.0.1:", "127.0.0.1:1#"))
    done = typed("list")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "the API server does not answer" in done.err


@pytest.mark.parametrize("said", ["<html>please log in</html>", "[]", "ok"])
def test_an_answer_that_is_no_kubernetes_is_one_line(said: str, typed: Typed, api: Api) -> None:
    """A proxy that wants a login first answers with 200."""
    (api.answers[TEAM], api.answers[f"{TEAM}/x"], api.answers["/version"]) = [(200, said)] * 3
    for command in ("list", "get x", "top --once"):
        done = typed(*command.split())
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "what answers there is no Kubernetes" in done.err
        assert "check the address in the kubeconfig" in done.err
    assert "what answers there is no Kubernetes" in typed("doctor").out


@pytest.mark.parametrize("text", [None, "a line of /etc/passwd", "[", "- a list", "clusters: 7"])
def test_what_is_no_kubeconfig_is_one_line_with_exit_code_2(
    text: str | None, typed: Typed, tmp_path: Path
) -> None:
    named = tmp_path / "named"
    if text is not None:
        named.write_text(text)
    done = typed("list", "--kubeconfig", str(named))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert str(named) in done.err
    assert "kubeconfig" in done.err.replace(str(named), "").lower()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("get", "required: JOB"),
        ("get a -o xml", "invalid choice: 'xml'"),
        ("logs a --of gpu", "invalid choice: 'gpu'"),
        ("logs a --tail -1", "'-1' must be a whole number"),
        ("pause a --timeout 0", "'0' must be a number of seconds above 0"),
        ("validate", "one of the arguments JOB --local is required"),
        ("validate a --base-model b", "--base-model goes with --local FOLDER"),
        ("validate a --output b", "--output goes with --local FOLDER"),
        ("validate --local nowhere", "--local nowhere: holds no training_info.json"),
    ],
)
def test_wrong_usage_is_exit_code_2(command: str, expected: str, typed: Typed, api: Api) -> None:
    done = typed(*command.split())
    assert done.code == 2
    assert expected in done.err
    assert api.requests == []


@pytest.mark.parametrize(
    "command",
    ["get demo", "list", "doctor", "estimate job.yaml", "init - --model a/b --data hf://a/b"],
)
def test_an_output_that_takes_nothing_is_one_line(command: str, api: Api, tmp_path: Path) -> None:
    api.keep(status=JUDGED)
    manifest(tmp_path, baseModel={"modelId": "Qwen/Qwen2.5-7B-Instruct"})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        1, "finetuning: the output: No space left on device\n",
    )  # fmt: skip


def test_a_terminal_without_the_characters_and_a_closed_one_end_well(api: Api) -> None:
    api.keep(status=JUDGED)
    for line in (f"PYTHONIOENCODING=ascii {COMMAND} get demo", f"{COMMAND} get demo >&-"):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "" or "? PASS - training_loss" in done.stdout


def test_whoever_has_seen_enough_may_leave(api: Api) -> None:
    for number in range(400):
        api.keep(f"job-{number}")
    line = f"{COMMAND} list -o yaml | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("apiVersion: v1\n", "")


def test_without_the_clients_libraries_one_line_says_what_to_install(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.jobs import session  # noqa: PLC0415

    monkeypatch.setattr(session, "find_spec", lambda _: None)
    done = typed("list")
    assert done.code == 2
    assert "pip install 'finetuning-operator[operator]'" in done.err
