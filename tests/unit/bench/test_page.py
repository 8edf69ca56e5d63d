"""The page of what was measured, from the figures of a run."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from bench.operator import page, pictures
from matplotlib.backends.backend_agg import FigureCanvasAgg

BUSY = "machine_busy_elsewhere"


def of_round(subject: str, pod: float, cpu: float) -> dict[str, Any]:
    return {
        "subject": subject,
        "jobs": 40,
        "one_by_one": False,
        "load": "",
        "create_to_pod": {"p50": pod, "p99": 2 * pod},
        "last_pod": 4 * pod,
        "all_done": 10 * pod,
        "cpu_ms": {"kube-apiserver": cpu / 2},
        "cpu_ms_all": cpu,
        "requests": {
            "operator create events": 1.0,
            "operator create jobs": 2.0,
            "operator delete services": 1.0,
            "operator list pods": 1.0,
            "kwok patch pods": 9.0,
        },
        "sizes": {},
        BUSY: 0.25,
    }


@pytest.fixture
def run() -> dict[str, Any]:
    idle = {"cores": 0.01, "requests": 3, "seconds": 10.0}
    validated = {"rounds": [of_round("validated", 0.8, 300.0)], "idle": idle}
    subjects = [
        {"subject": "floor", "rounds": [of_round("floor", 0.5, 100.0)]},
        {"subject": "validated", **validated, "ready_empty": 1.5, "ready_again": 2.25},
    ]
    about = {"started": "2026-01-02T03:04:05Z", "cpus": 2, "kubernetes": "v1.36.3"}
    return {**about, "gpus": 160, "pod_seconds": 10.0, "monitoring": "perJob", "subjects": subjects}


@pytest.fixture
def root(tmp_path: Path, run: dict[str, Any]) -> Path:
    for each in ("docs/images", "bench/results", "build"):
        (tmp_path / each).mkdir(parents=True)
    before = f"above\n\n{page.BEGIN}\nold\n{page.END}\n\nbelow\n"
    (tmp_path / page.PAGE).write_text(before)
    (tmp_path / "build" / "run.json").write_text(json.dumps(run))
    return tmp_path


def test_a_run_takes_the_place_of_the_one_before_it(root: Path, run: dict[str, Any]) -> None:
    file = str(root / "build" / "run.json")
    assert page.main([file], root) == 0
    first = {each: (root / each).read_bytes() for each in (page.PAGE, page.PICTURE, page.KEPT)}
    assert page.main([file], root) == 0
    assert {each: (root / each).read_bytes() for each in first} == first
    written = first[page.PAGE].decode()
    assert written.startswith("above\n")
    assert written.endswith("\nbelow\n")
    assert "old" not in written
    assert "2026-01-02, 2 cores, of which other programs had at most 25%, Kubernetes v1.36.3" in (
        written
    )
    assert "| 40 at once | floor | validated |\n|---|---|---|\n" in written
    assert "| create → Pod p50, s | 0.5 | 0.8 (1.60x) |" in written
    assert (
        "| of them without Events and deletions | 2 | 2 (1.00x) |\n| of them Events | 1 |"
        in written
    )
    assert "| machine busy with others, share | 0.25 | 0.25 |" in written
    assert "- validated: ready 1.50 s after the start in an empty cluster, 2.25 s" in written
    assert json.loads(first[page.KEPT]) == run


def test_the_picture_names_who_took_part(root: Path) -> None:
    page.main([str(root / "build" / "run.json")], root)
    texts = set(re.findall(r">([^<>]+)</text>", (root / page.PICTURE).read_text()))
    assert {"floor", "validated", "40 at once", "last pod, s"} <= texts


def test_no_label_of_the_picture_touches_another() -> None:
    figure = pictures.bars(json.loads((page.ROOT / page.KEPT).read_text()))
    FigureCanvasAgg(figure).draw()
    labels = [text for axes in figure.axes for text in axes.texts]
    assert labels
    boxes = [(label.get_text(), label.get_window_extent()) for label in labels]
    pairs = itertools.combinations(boxes, 2)
    assert [(one, other) for (one, a), (other, b) in pairs if a.overlaps(b)] == []


def test_the_picture_of_the_docs_shows_the_run_beside_it(tmp_path: Path) -> None:
    pictures.draw(json.loads((page.ROOT / page.KEPT).read_text()), tmp_path / "operator.svg")
    now, kept = ((folder / page.PICTURE.name).read_text()
                 for folder in (tmp_path, (page.ROOT / page.PICTURE).parent))  # fmt: skip
    assert re.findall(r">([^<>]+)</text>", now) == re.findall(r">([^<>]+)</text>", kept)


def test_the_newest_run_is_taken(tmp_path: Path) -> None:
    for name in ("2026-01-02T030405Z.json", "2026-01-10T030405Z.json", "objects.json"):
        (tmp_path / name).touch()
    assert page.newest(tmp_path).name == "2026-01-10T030405Z.json"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("build/none.json", "", "No such file"),
        (page.PAGE, "[]", "docs/performance.md: no figures of a run"),
        (page.PAGE, "{}", "docs/performance.md: no figures of a run"),
        (page.PAGE, "no marks", "Expecting value"),
        ("build/run.json", "no marks", "put them back"),
    ],
)
def test_what_is_no_run_or_has_no_place_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, words: str
) -> None:
    (root / page.PAGE).write_text(text)
    assert page.main([str(root / file)], root) == 2
    assert words in capsys.readouterr().err
    assert (root / page.PAGE).read_text() == text
    assert not (root / page.PICTURE).exists()
