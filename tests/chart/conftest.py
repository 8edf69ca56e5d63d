"""Helm itself renders the chart: the pinned one, built by the cluster's tools or found built."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.cluster import tools
from hack.cluster.shell import attempt
from tests.built import program

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "finetuning-operator"
IMAGES = {
    "image": {"operator": "example.com/op:1", "trainer": "example.com/train@sha256:" + "0" * 64}
}

Objects = dict[tuple[str, str], dict[str, Any]]
"""Rendered objects by kind and name."""

Render = Callable[..., str]


class HelmError(AssertionError):
    """Helm said no; its words are what is tested."""


@pytest.fixture(scope="session")
def helm() -> Path:
    return program(tools.HELM)


@pytest.fixture
def render(helm: Path, tmp_path: Path) -> Render:
    """The chart's text for some values, with the images of a test; raises HelmError."""

    def render(values: Mapping[str, Any], *options: str) -> str:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump({**IMAGES, **values}))
        done = attempt(
            helm, "template", "finetuning-operator", CHART, "--namespace", "finetuning-system",
            "--kube-version", "1.36.0", "--values", file, *options,
        )  # fmt: skip
        if done.returncode:
            raise HelmError(done.stderr)
        return done.stdout

    return render


@pytest.fixture
def notes(helm: Path, tmp_path: Path) -> Render:
    """What is shown after the installation; Helm itself tells it to nobody without a cluster."""

    def notes(values: Mapping[str, Any], *options: str) -> str:
        chart, file = tmp_path / CHART.name, tmp_path / "values.yaml"
        shutil.copytree(CHART, chart)
        (chart / "templates/NOTES.txt").rename(chart / "notes.txt")
        shown = """data: {{ dict "notes" (tpl (.Files.Get "notes.txt") .) | toJson }}\n"""
        (chart / "templates/shown.yaml").write_text(shown)
        file.write_text(yaml.safe_dump({**IMAGES, **values}))
        done = attempt(
            helm, "template", "finetuning-operator", chart, "--namespace", "finetuning-system",
            "--kube-version", "1.36.0", "--values", file, "--show-only", "templates/shown.yaml",
            *options,
        )  # fmt: skip
        if done.returncode:
            raise HelmError(done.stderr)
        return str(yaml.safe_load(done.stdout)["data"]["notes"])

    return notes


@pytest.fixture
def objects(render: Render) -> Callable[..., Objects]:
    """The chart's objects for some values."""

    def objects(values: Mapping[str, Any] | None = None, *options: str) -> Objects:
        found = yaml.safe_load_all(render(values or {}, *options))
        return {(each["kind"], each["metadata"]["name"]): each for each in found if each}

    return objects
