import json
from pathlib import Path

import pytest

from finetuning.local import paths

FOLDERS = {
    "/workspace": "/home/me",
    "/workspace/output": "/runs/a",
    "/workspace/model": "/claims/models",
    "/tmp": "/runs/a/.run/tmp",
    "/dev/termination-log": "/runs/a/.run/words",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/workspace/output", "/runs/a"),
        ("/workspace/output/", "/runs/a/"),
        ("/workspace/output/training_info.json", "/runs/a/training_info.json"),
        ("--output=/workspace/output/x", "--output=/runs/a/x"),
        ("/workspace/output:/workspace/model/m", "/runs/a:/claims/models/m"),
        ("/workspace/data/rows.jsonl", "/home/me/data/rows.jsonl"),
        ("/dev/termination-log", "/runs/a/.run/words"),
        # What only looks like a mount stays as it is.
        ("/workspace/output2", "/home/me/output2"),
        ("/workspaces/output", "/workspaces/output"),
        ("/tmp.bak", "/tmp.bak"),
        ("/tmp-1", "/tmp-1"),
        ("/var/tmp", "/var/tmp"),
        ("./tmp", "./tmp"),
        ("~/tmp", "~/tmp"),
        ("https://host/tmp/x", "https://host/tmp/x"),
        ("pvc://claim/workspace/output", "pvc://claim/workspace/output"),
        ("8000", "8000"),
        ("", ""),
    ],
)
def test_only_whole_path_prefixes_move(text: str, expected: str) -> None:
    assert paths.localized(text, FOLDERS) == expected


def test_a_moved_path_is_not_moved_again() -> None:
    folders = {"/a": "/b/x", "/b": "/c"}
    assert paths.localized("/a/1 /b/2", folders) == "/b/x/1 /c/2"
    assert paths.moved("/a/1", folders) == "/b/x/1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"outputDir": "/workspace/output"}, {"outputDir": "/runs/a"}),
        (
            {"a": {"b": ["/tmp/x", 1, None, True]}},
            {"a": {"b": ["/runs/a/.run/tmp/x", 1, None, True]}},
        ),
        ({"/tmp": "key"}, {"/tmp": "key"}),
        ({"prompt": "What is in /tmp today?"}, {"prompt": "What is in /tmp today?"}),
        ({"prompt": "See /workspace/output"}, {"prompt": "See /workspace/output"}),
        (["/workspace/output"], ["/runs/a"]),
    ],
)
def test_in_json_only_whole_strings_move(value: object, expected: object) -> None:
    assert json.loads(paths.localized(json.dumps(value), FOLDERS)) == expected


def test_text_that_only_begins_like_json_is_text() -> None:
    assert paths.localized("[see /tmp/x", FOLDERS) == "[see /runs/a/.run/tmp/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(JOB)", "demo"),
        ("--name=$(JOB)-$(N)", "--name=demo-1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(JOB)", "$(JOB)"),
        ("$$$(JOB)", "$demo"),
        ("$JOB", "$JOB"),
        ("cost: 5$", "cost: 5$"),
        ("$(JOB", "$(JOB"),
        ("$()", "$()"),
        ("$$", "$"),
    ],
)
def test_variables_expand_as_kubelet_does_it(text: str, expected: str) -> None:
    assert paths.expand(text, {"JOB": "demo", "N": "1"}) == expected


def test_a_path_with_no_folder_stays(tmp_path: Path) -> None:
    assert paths.moved(str(tmp_path), {}) == str(tmp_path)
    assert paths.localized(str(tmp_path), {}) == str(tmp_path)
