"""What stands in for nodes and kubelets: KWOK's stages.

Their pods end with the last words that a trainer and a validator write. A stage is a rule: objects
that its selector matches get its status after its delay.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import yaml
from bench.operator.load import FAILS

from finetuning.api.v1alpha1 import CheckName
from finetuning.artifacts.exits import ExitCode, TrainFailure
from finetuning.artifacts.models import (
    Check,
    CheckResult,
    RunState,
    TrainingResult,
    ValidationResult,
)
from finetuning.controller import naming

GPUS_PER_NODE = 8
MANIFEST = "ab" * 32
"""The sha256 of the result's manifest, which training and validation must agree on."""

OPTIONS = {
    "podPlayStageParallelism": 16,
    "podsOnNodeSyncParallelism": 4,
    "nodePlayStageParallelism": 4,
    "nodeLeaseParallelism": 4,
    "nodeLeaseDurationSeconds": 40,
    "enablePodsOnNodeSyncListPager": False,
    "enablePodsOnNodeSyncStreamWatch": True,
}
"""A configuration file replaces KWOK's defaults, all of them."""

RUNNING = """
{{ $now := Now }}
conditions:
{{ range $type := list "Initialized" "Ready" "ContainersReady" }}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: {{ $type }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
hostIP: ADDRESS
podIP: ADDRESS
podIPs: [{ip: ADDRESS}]
phase: Running
startTime: {{ $now | Quote }}
"""

ENDED = """
{{ $now := Now }}
{{ $started := .status.startTime }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: EXIT
      reason: REASON
      startedAt: {{ $started | Quote }}
      finishedAt: {{ $now | Quote }}
      message: MESSAGE
{{ end }}
phase: PHASE
"""


def last_words() -> dict[str, str]:
    """Termination messages by component, from the models that write and read the real ones."""
    training = TrainingResult(
        result=RunState.FINISHED,
        step=340,
        total_steps=340,
        epoch=10,
        total_epochs=10,
        loss=0.4711,
        tokens_per_second=1234.5,
        train_seconds=10,
        checkpoint="checkpoints/checkpoint-340",
        manifest_sha256=MANIFEST,
    )
    told = "as a validator would write it, with a sentence about what it found in the files"
    checks = [
        Check(name=name, result=CheckResult.PASS, score=1, message=told) for name in CheckName
    ]
    validation = ValidationResult(checks=checks, manifest_sha256=MANIFEST)
    return {
        naming.TRAINING: training.model_dump_json(by_alias=True, exclude_none=True),
        naming.VALIDATION: validation.model_dump_json(by_alias=True, exclude_none=True),
    }


def failure() -> str:
    """What a trainer says of rows that it cannot use: no retry mends it."""
    result = TrainingResult(
        result=RunState.FAILED,
        reason=TrainFailure.DATASET_INVALID,
        message="row 17 has no field `completion`",
    )
    return result.model_dump_json(by_alias=True, exclude_none=True)


def own_address() -> str:
    """An address of this machine that no packet has to leave it for: port 8000 refuses at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.254", 9))
        except OSError:
            return "192.0.2.254"
        return str(probe.getsockname()[0])


def configuration(pod_seconds: float) -> str:
    """KWOK's configuration: its own settings, one stage for nodes, the others for pods."""
    options = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": OPTIONS,
    }
    milliseconds = round(1000 * pod_seconds)
    ended = [
        _stage(f"{part}-ended", "Pod", [_lives(), _phase("Running"), _is(part), _fails("NotIn")],
               _end(0, told), milliseconds)
        for part, told in last_words().items()
    ]  # fmt: skip
    ended.append(
        _stage("any-failed", "Pod", [_lives(), _phase("Running"), _fails("In")],
               _end(ExitCode.INVALID, failure()), milliseconds)
    )  # fmt: skip
    started = RUNNING.replace("ADDRESS", own_address())
    pending = [_lives(), _phase("Pending"), _has(".spec.nodeName")]
    parts = [
        options,
        _stage("node-ready", "Node", [_not_ready()], NODE),
        _stage("pod-running", "Pod", pending, started),
        *ended,
        _deletion(),
    ]
    return yaml.safe_dump_all(parts)


def _stage(
    name: str, kind: str, selector: list[dict[str, Any]], status: str, milliseconds: int = 0
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": selector},
        "next": {"statusTemplate": status},
    }
    if milliseconds:
        spec["delay"] = {"durationMilliseconds": milliseconds}
    return _named(name, spec)


def _named(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    kind = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


def _deletion() -> dict[str, Any]:
    spec = {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchExpressions": [_has(".metadata.deletionTimestamp")]},
        "next": {"delete": True},
    }
    return _named("pod-deleted", spec)


def _end(code: int, told: str) -> str:
    words = {"EXIT": str(int(code)), "REASON": "Error" if code else "Completed",
             "PHASE": "Failed" if code else "Succeeded", "MESSAGE": json.dumps(told)}  # fmt: skip
    text = ENDED
    for place, word in words.items():
        text = text.replace(place, word)
    return text


def _fails(operator: str) -> dict[str, Any]:
    name = f'.metadata.name | startswith("{FAILS}")'
    return {"key": name, "operator": operator, "values": ["true"]}


def _is(component: str) -> dict[str, Any]:
    label = f'.metadata.labels["{naming.COMPONENT_LABEL}"]'
    return {"key": label, "operator": "In", "values": [component]}


def _phase(name: str) -> dict[str, Any]:
    return {"key": ".status.phase", "operator": "In", "values": [name]}


def _has(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "Exists"}


def _lives() -> dict[str, Any]:
    return {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}


def _not_ready() -> dict[str, Any]:
    key = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    return {"key": key, "operator": "NotIn", "values": ["True"]}


NODE = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
  message: {{ .message | Quote }}
  reason: {{ .reason | Quote }}
  status: {{ .status | Quote }}
  type: {{ .type | Quote }}
{{ end }}
allocatable: {{ .status.allocatable | toJson }}
capacity: {{ .status.capacity | toJson }}
phase: Running
"""


def node(number: int, gpu_resource: str) -> dict[str, Any]:
    room = {"cpu": "256", "memory": "2Ti", "pods": "110", gpu_resource: str(GPUS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"bench-{number:03}"},
        "status": {"allocatable": room, "capacity": room},
    }
