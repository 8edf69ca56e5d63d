"""Several operators in one cluster, by namespace, as docs/scale.md has it."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from hack.cluster.shell import run
from tests.chart.conftest import ROOT

from finetuning.controller.runtime import WORKERS

SEATS = 600
"""Of an API server, by the defaults of its two --max-...-inflight."""
OTHER_SHARES = 245
"""Of the priority levels that Kubernetes makes by itself."""
PAGE = (ROOT / "docs" / "scale.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def names(helm: Path, *words: str) -> set[tuple[str, str, str]]:
    text = run(helm, "template", *words, "--kube-version", "1.36.0")
    metadata = [(each["kind"], each["metadata"]) for each in yaml.safe_load_all(text) if each]
    return {(kind, about.get("namespace", ""), about["name"]) for kind, about in metadata}


def test_the_documented_second_release_has_no_object_of_the_first(helm: Path) -> None:
    _, _, name, chart, *options = shlex.split(block("bash").replace("\\\n", ""))
    options.remove("--create-namespace")
    second = names(helm, name, str(ROOT / chart), *options)
    first = names(
        helm, "finetuning-operator", str(ROOT / chart), "--namespace", "finetuning-system"
    )
    assert not first & second
    assert ("Role", "team-b", "team-b-finetuning-operator") in second
    assert ("CustomResourceDefinition", "", "finetuningjobs.aim.amd.com") in first


def test_the_documented_flow_has_a_seat_for_each_worker() -> None:
    level, flow = yaml.safe_load_all(block("yaml"))
    assert flow["spec"]["priorityLevelConfiguration"] == {"name": level["metadata"]["name"]}
    shares = level["spec"]["limited"]["nominalConcurrencyShares"]
    seats = math.ceil(SEATS * shares / (OTHER_SHARES + shares))
    assert seats > WORKERS
    assert f"are {seats} of an API server's {SEATS} seats" in " ".join(PAGE.split())
    (subject,) = subjects(flow)
    assert subject["namespace"] == "finetuning-system"


def subjects(flow: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["serviceAccount"] for rule in flow["spec"]["rules"] for each in rule["subjects"]]
