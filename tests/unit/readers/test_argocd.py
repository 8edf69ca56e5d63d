"""The health check for Argo CD in a real Lua, as Argo CD runs it: `obj` in, a table out."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from lupa import LuaRuntime
from tests.unit.readers.moments import ARGO, Moment

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "gitops" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text()
KEY = "resource.customizations.health.aim.amd.com_FineTuningJob"


def health(body: dict[str, Any]) -> tuple[str, str]:
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(body, recursive=True)
    found = lua.execute(SCRIPT)
    return found["status"], found["message"]


def test_each_turn_of_a_job_has_its_health(lives: list[Moment]) -> None:
    found = {each.name: health(each.body) for each in lives}
    assert {name: status for name, (status, _) in found.items()} == {
        each.name: each.argo for each in lives
    }
    assert set(Counter(each.argo for each in lives)) == set(ARGO.values())
    assert all(message for _, message in found.values())


def test_what_is_wrong_is_told(lives: list[Moment]) -> None:
    told = {health(each.body)[1] for each in lives if each.argo == "Degraded"}
    assert any("model_output" in each for each in told)
    assert any("no such bucket" in each for each in told)


def test_a_job_that_no_operator_has_seen_is_under_way() -> None:
    body = {"metadata": {"generation": 1}}
    assert health(body) == ("Progressing", "Waiting for the operator")
    assert health(body | {"status": {"observedGeneration": 0}})[0] == "Progressing"


def test_the_patch_for_argo_cds_configmap_holds_the_same_text() -> None:
    patch = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())
    assert patch["data"] == {KEY: SCRIPT}
