"""Runs a batch/v1 Job as local processes, by the rules that the Job controller goes by."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from finetuning.artifacts.exits import ExitCode
from finetuning.controller import observed
from finetuning.controller.observed import BatchJob, Pod
from finetuning.local.launch import Launch
from finetuning.local.pod import LocalPod

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds between attempts: doubled each time; the cluster begins with ten."""


Condition = dict[str, str]
"""As in the status of a Job."""


class Action(Enum):
    """What the end of a pod means for its Job."""

    COMPLETE = "Complete"
    PAUSE = "Pause"
    FAIL = "FailJob"
    COUNT = "Count"


class LocalJob:
    """One Job, its attempts, and what a cluster would report about them."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        launches: Sequence[Launch],
        mount: Callable[[], None],
        kept_open: tuple[int, ...] = (),
    ) -> None:
        self._manifest = manifest
        self._mount = mount
        """Makes the volumes that each pod gets anew."""
        self._spec = manifest["spec"]
        self._launches = launches
        self._kept_open = kept_open
        self._pods: list[LocalPod] = []
        self._failures = 0
        self._suspended = asyncio.Event()
        self._outcome: Condition | None = None

    async def run(self) -> None:
        """Until the Job is complete, has failed or is suspended."""
        try:
            async with asyncio.timeout(self._spec.get("activeDeadlineSeconds")):
                await self._attempts()
        except TimeoutError:
            self._fail("DeadlineExceeded", "Job was active longer than specified deadline")

    async def _attempts(self) -> None:
        pause = _FIRST_PAUSE
        while not self._suspended.is_set():
            match self._action(await self._attempt()):
                case Action.COMPLETE:
                    self._outcome = _condition("Complete", "CompletionsReached")
                    return
                case Action.PAUSE:
                    self._suspended.set()
                    return
                case Action.FAIL:
                    return
                case Action.COUNT:
                    pause = await self._wait(pause)

    async def _attempt(self) -> int:
        self._mount()
        pod = LocalPod(self._pod_metadata(), self._launches, self._kept_open)
        self._pods.append(pod)
        run = asyncio.create_task(pod.run())
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            await self._end(pod, run)
            raise

    async def _end(self, pod: LocalPod, run: "asyncio.Task[int]") -> None:
        """The deadline has passed: the pod may still save its work."""
        pod.main.stop()
        done, _ = await asyncio.wait([run], timeout=pod.main.launch.grace)
        if not done:
            pod.main.kill()
            await asyncio.wait([run])

    def _action(self, code: int) -> Action:
        rule = action(code, self._rules)
        if rule is Action.FAIL:
            self._fail("PodFailurePolicy", f"a container ended with exit code {code}")
        if rule is Action.COUNT and not self._suspended.is_set():
            self._failures += 1
            if self._failures > self._spec["backoffLimit"]:
                self._fail("BackoffLimitExceeded", "Job has reached the specified backoff limit")
                return Action.FAIL
        return rule

    def _fail(self, reason: str, message: str) -> None:
        self._outcome = _condition("Failed", reason, message)

    @property
    def _rules(self) -> Iterable[Mapping[str, Any]]:
        rules: list[Mapping[str, Any]] = self._spec.get("podFailurePolicy", {}).get("rules", [])
        return rules

    async def _wait(self, pause: float) -> float:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._suspended.wait(), pause)
        return min(2 * pause, _LONGEST_PAUSE)

    def suspend(self) -> None:
        """Ask the running attempt to save and leave; no further one begins."""
        self._suspended.set()
        for pod in self._pods[-1:]:
            pod.main.stop()

    def kill(self) -> None:
        for pod in self._pods[-1:]:
            pod.main.kill()

    @property
    def exit_code(self) -> int | None:
        """Of the newest attempt."""
        return self._pods[-1].main.exit_code if self._pods else None

    def view(self) -> BatchJob:
        """As the operator sees a Job."""
        over = self._outcome is not None
        running = bool(self._pods) and self.exit_code is None
        status = {
            "active": int(running),
            "failed": self._failures,
            "conditions": [self._outcome] if over else [],
        }
        spec = {"suspend": self._suspended.is_set() and not over}
        return observed.batch_job({**self._manifest, "spec": spec, "status": status})

    def pods(self) -> tuple[Pod, ...]:
        """Newest first."""
        return tuple(pod.view() for pod in reversed(self._pods))

    def _pod_metadata(self) -> dict[str, Any]:
        job = self._manifest["metadata"]
        uid = job.get("uid", "")
        return {
            **self._spec["template"]["metadata"],
            "name": f"{job['name']}-{len(self._pods)}",
            "namespace": job.get("namespace", ""),
            "creationTimestamp": _now(),
            "ownerReferences": [{"controller": True, "kind": "Job", "uid": uid}],
        }


def action(code: int, rules: Iterable[Mapping[str, Any]]) -> Action:
    """What an exit code means by the Job's podFailurePolicy; the first rule that fits decides.

    A trainer that saved and left is not started again here: whoever asked it to leave wants that.
    """
    if code == 0:
        return Action.COMPLETE
    if code == ExitCode.INTERRUPTED:
        return Action.PAUSE
    for rule in rules:
        if code in rule.get("onExitCodes", {}).get("values", []) and rule["action"] == "FailJob":
            return Action.FAIL
    return Action.COUNT


def _condition(kind: str, reason: str, message: str = "") -> Condition:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat()
