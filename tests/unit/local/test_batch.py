"""Jobs of real processes: small programs in place of the trainer."""

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.local.processes import alive

from finetuning.artifacts.exits import ExitCode
from finetuning.local.batch import Action, LocalJob, action
from finetuning.local.launch import Launch

RULES: list[dict[str, Any]] = [
    {
        "action": "FailJob",
        "onExitCodes": {"containerName": "finetuning", "operator": "In", "values": [2]},
    },
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]

SAVES_WHEN_ASKED = """
    import pathlib, signal, sys
    def leave(*_):
        pathlib.Path("saved").write_text("x")
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    pathlib.Path("ready").write_text("x")
    signal.pause()
"""


def launch(folder: Path, script: str, name: str = "finetuning", **fields: Any) -> Launch:
    code = f"import os; os.chdir({str(folder)!r})\n{textwrap.dedent(script)}"
    values = {"grace": 20.0, "message_from_log": True, **fields}
    return Launch(
        name=name,
        argv=(sys.executable, "-c", code),
        env={**os.environ, "WORDS": str(folder / f"words-{name}")},
        log=folder / f"{name}.log",
        termination_log=folder / f"words-{name}",
        **values,
    )


def job(
    folder: Path,
    script: str,
    *sidecars: Launch,
    mount: Callable[[], None] | None = None,
    **spec: Any,
) -> LocalJob:
    manifest = {
        "metadata": {"name": "demo-train", "namespace": "default", "uid": "1"},
        "spec": {
            "backoffLimit": 3,
            "podFailurePolicy": {"rules": RULES},
            "template": {"metadata": {"labels": {}}},
            **spec,
        },
    }
    return LocalJob(manifest, [*sidecars, launch(folder, script)], mount or (lambda: None))


async def until(holds: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - files and processes have no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Action.COMPLETE),
        (1, Action.COUNT),
        (2, Action.FAIL),
        (137, Action.COUNT),
        (ExitCode.INTERRUPTED, Action.PAUSE),
    ],
)
def test_an_exit_code_means_what_the_policy_says(code: int, expected: Action) -> None:
    assert action(code, RULES) is expected


async def test_a_job_whose_process_succeeds_is_complete(tmp_path: Path) -> None:
    done = job(tmp_path, "open(os.environ['WORDS'], 'w').write('{}'); print('hello')")
    await done.run()
    assert done.view().complete is not None
    (pod,) = done.pods()
    container = pod.container("finetuning")
    assert container is not None
    assert (pod.phase, container.exit_code, container.exit_message) == ("Succeeded", 0, "{}")
    assert (tmp_path / "finetuning.log").read_text() == "hello\n"


async def test_a_crash_is_tried_again_and_the_work_goes_on(tmp_path: Path) -> None:
    done = job(
        tmp_path,
        """
        import sys
        with open("tries", "a") as tries: tries.write("x")
        sys.exit(1 if os.path.getsize("tries") < 3 else 0)
        """,
    )
    await done.run()
    assert done.view().complete is not None
    assert done.view().failed_pods == 2
    assert [pod.phase for pod in done.pods()] == ["Succeeded", "Failed", "Failed"]


async def test_a_wrong_configuration_is_not_tried_again(tmp_path: Path) -> None:
    done = job(tmp_path, "import sys; sys.exit(2)")
    await done.run()
    failed = done.view().failed
    assert failed is not None
    assert failed.reason == "PodFailurePolicy"
    assert len(done.pods()) == 1


async def test_crashes_end_with_the_backoff_limit(tmp_path: Path) -> None:
    done = job(tmp_path, "raise SystemExit('broken')", backoffLimit=1)
    await done.run()
    failed = done.view().failed
    assert failed is not None
    assert failed.reason == "BackoffLimitExceeded"
    assert done.view().failed_pods == 2


async def test_a_crash_without_last_words_leaves_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "finetuning.log").write_text("of an earlier run\n")
    done = job(tmp_path, "raise RuntimeError('no such luck')", backoffLimit=0)
    await done.run()
    container = done.pods()[0].container("finetuning")
    assert container is not None
    assert container.exit_message.splitlines()[-1] == "RuntimeError: no such luck"
    assert "earlier" not in container.exit_message


async def test_suspending_lets_the_process_save_its_work(tmp_path: Path) -> None:
    running = job(tmp_path, SAVES_WHEN_ASKED)
    task = asyncio.create_task(running.run())
    await until((tmp_path / "ready").exists)
    running.suspend()
    await asyncio.wait_for(task, 20)
    assert (tmp_path / "saved").exists()
    view = running.view()
    assert (view.suspend, view.complete, view.failed) == (True, None, None)


async def test_killing_ends_what_will_not_leave(tmp_path: Path) -> None:
    script = """
        import pathlib, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path("ready").write_text("x")
        while True: signal.pause()
    """
    running = job(tmp_path, script)
    task = asyncio.create_task(running.run())
    await until((tmp_path / "ready").exists)
    running.suspend()
    running.kill()
    await asyncio.wait_for(task, 20)
    assert running.exit_code == 137
    assert running.view().suspend


async def test_suspending_between_two_attempts_ends_the_waiting(tmp_path: Path) -> None:
    running = job(tmp_path, "import sys; sys.exit(1)")
    task = asyncio.create_task(running.run())
    await until(lambda: running.view().failed_pods == 3)
    running.suspend()
    await asyncio.wait_for(task, 2)
    assert running.view().suspend


async def test_a_process_that_saved_and_left_by_itself_pauses_the_job(tmp_path: Path) -> None:
    done = job(tmp_path, "import sys; sys.exit(143)")
    await done.run()
    assert done.view().suspend
    assert len(done.pods()) == 1


async def test_a_job_past_its_deadline_may_save_and_has_failed(tmp_path: Path) -> None:
    done = job(tmp_path, SAVES_WHEN_ASKED, activeDeadlineSeconds=1)
    await done.run()
    failed = done.view().failed
    assert failed is not None
    assert failed.reason == "DeadlineExceeded"
    assert (tmp_path / "saved").exists()


async def test_whatever_a_process_started_ends_with_it(tmp_path: Path) -> None:
    done = job(
        tmp_path,
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        open("child", "w").write(str(child.pid))
        """,
    )
    await done.run()
    child = int((tmp_path / "child").read_text())
    await until(lambda: not alive(child))


async def test_the_sidecar_runs_beside_and_is_started_again_when_it_ends(tmp_path: Path) -> None:
    sidecar = launch(tmp_path, "open('starts', 'a').write('x')", name="metrics", restarts=True)
    script = """
        import os, time
        while not os.path.exists("starts") or os.path.getsize("starts") < 2: time.sleep(0.02)
    """
    done = job(tmp_path, script, sidecar)
    await asyncio.wait_for(done.run(), 20)
    assert done.view().complete is not None


async def test_the_sidecar_is_asked_to_leave_when_the_work_is_done(tmp_path: Path) -> None:
    sidecar = launch(tmp_path, SAVES_WHEN_ASKED, name="metrics", restarts=True)
    script = """
        import os, time
        while not os.path.exists("ready"): time.sleep(0.02)
    """
    done = job(tmp_path, script, sidecar)
    await asyncio.wait_for(done.run(), 20)
    assert (tmp_path / "saved").exists()
    assert [each.name for each in done.pods()[0].containers] == ["metrics", "finetuning"]


async def test_a_pod_shows_what_runs_now(tmp_path: Path) -> None:
    running = job(tmp_path, SAVES_WHEN_ASKED)
    task = asyncio.create_task(running.run())
    await until((tmp_path / "ready").exists)
    (pod,) = running.pods()
    container = pod.container("finetuning")
    assert container is not None
    assert (pod.phase, container.exit_code, running.view().active) == ("Running", None, 1)
    assert container.running_since is not None
    running.suspend()
    await task


async def test_a_command_that_does_not_exist_is_a_failed_pod(tmp_path: Path) -> None:
    missing = launch(tmp_path, "")
    manifest = {
        "metadata": {"name": "x"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {}}},
    }
    launches = [replace(missing, argv=("no-such-program",))]
    done = LocalJob(manifest, launches, lambda: None)
    await done.run()
    container = done.pods()[0].container("finetuning")
    assert container is not None
    assert (container.exit_code, container.exit_message) == (
        127,
        "no-such-program: No such file or directory",
    )


async def test_each_attempt_gets_its_volumes_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = """
        import sys
        with open("state", "x"), open("tries", "a") as tries: tries.write("x")
        sys.exit(1 if os.path.getsize("tries") < 2 else 0)
    """
    done = job(tmp_path, script, mount=lambda: state.unlink(missing_ok=True))
    await done.run()
    assert done.view().complete is not None


async def test_last_words_longer_than_a_kubelet_keeps_count_as_none(tmp_path: Path) -> None:
    script = "print('log'); open(os.environ['WORDS'], 'w').write('x' * 5000)"
    done = job(tmp_path, script)
    await done.run()
    container = done.pods()[0].container("finetuning")
    assert container is not None
    assert container.exit_message == ""


async def test_words_in_json_come_through_whole(tmp_path: Path) -> None:
    words = json.dumps({"kind": "training", "message": "ä" * 100})
    done = job(tmp_path, f"open(os.environ['WORDS'], 'w').write({words!r})")
    await done.run()
    container = done.pods()[0].container("finetuning")
    assert container is not None
    assert json.loads(container.exit_message)["message"] == "ä" * 100
