"""The health check for Argo CD in a real Lua, as Argo CD runs it: `obj` in, a table out."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "gitops" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text()
KEY = "resource.customizations.health.aim.amd.com_FineTuningJob"


def health(status: dict[str, Any] | None, generation: int = 1) -> tuple[str, str]:
    lua = LuaRuntime(unpack_returned_tuples=True)
    body: dict[str, Any] = {"metadata": {"generation": generation}}
    if status is not None:
        body["status"] = {"observedGeneration": 1, **status}
    lua.globals().obj = lua.table_from(body, recursive=True)
    found = lua.execute(SCRIPT)
    return found["status"], found["message"]


def validated(status: str, reason: str) -> dict[str, str]:
    return {"type": "Validated", "status": status, "reason": reason, "message": f"so {reason}"}


def trained(*conditions: dict[str, str]) -> dict[str, Any]:
    return {"phase": "Succeeded", "message": "Trained.", "conditions": list(conditions)}


REFUSED = {"type": "ConfigValid", "status": "False", "message": "no such method"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, ("Progressing", "Waiting for the operator")),
        ({"phase": "Pending", "reason": "JobCreated"}, ("Progressing", "JobCreated")),
        ({"phase": "Running", "message": "step 3"}, ("Progressing", "step 3")),
        ({"phase": "Paused", "message": "Suspended."}, ("Suspended", "Suspended.")),
        ({"phase": "Failed", "message": "Out of memory."}, ("Degraded", "Out of memory.")),
        ({"phase": "Pending", "conditions": [REFUSED]}, ("Degraded", "no such method")),
        (trained(validated("True", "ChecksPassed")), ("Healthy", "Trained.")),
        (trained(validated("False", "ValidationSkipped")), ("Healthy", "Trained.")),
        (trained(validated("False", "ChecksFailed")), ("Degraded", "so ChecksFailed")),
        (trained(validated("False", "ValidatorError")), ("Degraded", "so ValidatorError")),
        (
            trained(validated("Unknown", "ValidationRunning")),
            ("Progressing", "so ValidationRunning"),
        ),
    ],
)
def test_each_state_has_its_health(status: Any, expected: tuple[str, str]) -> None:
    assert health(status) == expected


def test_an_old_status_says_nothing_about_a_new_spec() -> None:
    done = trained(validated("True", "ChecksPassed"))
    assert health(done, generation=2)[0] == "Progressing"


def test_the_patch_for_argo_cds_configmap_holds_the_same_text() -> None:
    patch = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())
    assert patch["data"] == {KEY: SCRIPT}
