"""The product's main job from nothing: cluster, images, Helm, a FineTuningJob, its verdict.

Prints every command that it runs, so that it can be typed again by hand. Where no cluster is
possible the same manifest runs as local processes. Usage: python -m hack.demo
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hack import deploy
from hack.tests import impossible
from rich.console import Console

ROOT = deploy.ROOT
NAMESPACE = "finetuning-demo"
JOB = "tiny-lora"
MANIFEST = "examples/finetuningjob-lora.yaml"
CLAIMS = "runs/claims"
BASE = f"{CLAIMS}/tiny-model/tiny-qwen2"
FETCHED = f"runs/fetched/{JOB}"
TRAINED = f"runs/demo/{JOB}"
INTERRUPTED = 130
CONSOLE = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """A step failed; its own output has said why."""


def title(text: str) -> None:
    CONSOLE.print(f"\n[bold cyan]== {text}[/]")


def run(*command: str, stdin: str | None = None, shown: str = "") -> None:
    """Show a command, run it with its output on the screen, stop the demo when it fails."""
    CONSOLE.print(f"[dim]$ {shown or ' '.join(command)}[/]")
    sys.stdout.flush()
    done = subprocess.run(
        command, cwd=ROOT, env=deploy.environment(), input=stdin, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"`{shown or ' '.join(command)}` ended with exit code {done.returncode}")


def output(*command: str) -> str:
    """What a quiet command prints."""
    done = subprocess.run(
        command, cwd=ROOT, env=deploy.environment(), capture_output=True, text=True, check=False
    )
    return done.stdout


def kubectl(*args: str, stdin: str | None = None) -> None:
    run("kubectl", "--namespace", NAMESPACE, *args, stdin=stdin)


def status() -> dict[str, object]:
    """The job's status, empty while it has none."""
    text = output(
        "kubectl", "--namespace", NAMESPACE, "get", "ftj", JOB, "-o", "jsonpath={.status}"
    )
    return dict(json.loads(text or "{}"))


def conditions(found: dict[str, object]) -> dict[str, str]:
    """Condition types and their status."""
    listed = found.get("conditions", [])
    return {c["type"]: c["status"] for c in listed} if isinstance(listed, list) else {}


def is_over(found: dict[str, object]) -> bool:
    """Whether training failed or the verdict is there."""
    seen = conditions(found)
    return seen.get("Failed") == "True" or seen.get("Validated") in ("True", "False")


def watch(seconds: float = 600) -> None:
    """`kubectl get --watch` until the job is judged."""
    command = ["kubectl", "--namespace", NAMESPACE, "get", "finetuningjobs", "--watch"]
    CONSOLE.print(f"[dim]$ {' '.join(command)}[/]")
    sys.stdout.flush()
    watcher = subprocess.Popen(command, cwd=ROOT, env=deploy.environment())
    end = time.monotonic() + seconds
    try:
        while not is_over(status()):
            if time.monotonic() > end:
                raise DemoError(f"the job was not finished after {seconds:.0f} s")
            time.sleep(1)
    finally:
        watcher.terminate()
        watcher.wait()


def cluster_steps() -> None:
    title("A real Kubernetes on this machine")
    run(sys.executable, "-m", "hack.cluster", "up", shown="make cluster-up")
    title("Container images of this checkout")
    run(sys.executable, "-m", "hack.cluster", "images", shown="make images")
    title("The operator, as an admin installs it")
    # The small model trains in half a minute: its status may move more often than every 10 s.
    if deploy.main(["--set", "operator.progressIntervalSeconds=3"]):
        raise DemoError("helm did not finish")
    run("kubectl", "get", "pods", "--namespace", deploy.NAMESPACE)


def input_steps() -> None:
    title("A small model in a claim, its training data in a ConfigMap")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAMESPACE, "labels": labels}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    run("kubectl", "apply", "-f", "-", stdin=json.dumps(namespace))
    run("bash", "examples/tiny-model/load.sh", NAMESPACE)
    rows = output(
        "kubectl", "create", "configmap", "finetuning-demo-data", "--dry-run=client",
        "-o", "yaml", "--from-file=examples/data/train.jsonl",
    )  # fmt: skip
    kubectl("apply", "--server-side", "-f", "-", stdin=rows)


def job_steps() -> None:
    title("One FineTuningJob")
    kubectl("delete", "finetuningjob", JOB, "--ignore-not-found")
    kubectl("apply", "-f", MANIFEST)
    watch()
    seen = conditions(status())
    kubectl("get", "finetuningjobs", "-o", "wide")
    title("The verdict")
    kubectl("get", "ftj", JOB, "-o", "jsonpath={.status.validation.report}{'\\n'}")
    if seen.get("Validated") != "True":
        kubectl("get", "ftj", JOB, "-o", "jsonpath={.status.reason}: {.status.message}{'\\n'}")
        raise DemoError("the model did not pass validation")
    title("The model, out of its claim")
    run("bash", "examples/fetch.sh", JOB, FETCHED, NAMESPACE)


def answer_steps(base: str, tuned: str) -> None:
    """The same held-out questions, asked of the base model and of the tuned one."""
    title("The model's answers before and after")
    run(
        sys.executable, "examples/ask.py", "--base", base, "--adapter", tuned,
        "--prompts", "examples/data/heldout.jsonl", "--show", "8",
        shown=f".venv/bin/python examples/ask.py --base {base} --adapter {tuned} "
        "--prompts examples/data/heldout.jsonl --show 8",
    )  # fmt: skip


def done(started: float) -> None:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    title(f"Done in {minutes} min {seconds} s")


def hints(started: float) -> None:
    done(started)
    CONSOLE.print(f"""Look around:
  export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.cluster/bin:$PATH
  kubectl -n {NAMESPACE} get ftj -o wide
  kubectl -n {NAMESPACE} describe ftj {JOB}
  kubectl explain finetuningjob.spec.hyperparameters
Prometheus as well:  make cluster-up MONITORING=1
Clean up:            make cluster-down""")


def local_hints(started: float) -> None:
    done(started)
    CONSOLE.print(f"""Look around:
  .venv/bin/finetuning top --once --runs runs/demo
  .venv/bin/finetuning report {TRAINED}
  cat {TRAINED}/validation/validation_report.txt
Clean up:            rm -r runs/demo {CLAIMS} {JOB}.html""")


def without_a_cluster(reason: str) -> None:
    """The main job where no Kubernetes can run: the same manifest as local processes."""
    CONSOLE.print(f"demo: {reason}; the same job runs as local processes")
    shutil.rmtree(TRAINED, ignore_errors=True)  # Its finished result would be taken as it is.
    run(sys.executable, "examples/tiny-model/make_model.py", "--output", BASE)
    run(
        str(Path(sys.executable).with_name("finetuning")), "run", MANIFEST,
        "--claims", f"tiny-model={CLAIMS}/tiny-model",
        "--configmap", "finetuning-demo-data=examples/data", "--output", TRAINED,
    )  # fmt: skip
    answer_steps(BASE, TRAINED)


def main() -> int:
    """Exit code 0 when the model was trained and passed validation."""
    started = time.monotonic()
    os.chdir(ROOT)
    try:
        if reason := impossible():
            without_a_cluster(reason)
            local_hints(started)
            return 0
        cluster_steps()
        input_steps()
        job_steps()
        answer_steps(BASE, FETCHED)
    except DemoError as error:
        CONSOLE.print(f"[red]demo: {error}[/]")
        return 1
    except KeyboardInterrupt:
        CONSOLE.print("\ndemo: interrupted; `make demo` goes on, `make cluster-down` cleans up")
        return INTERRUPTED
    hints(started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
