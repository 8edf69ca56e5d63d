"""manifest.json: what it seals, and what it finds afterwards."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.manifest import problem_with, read_manifest, seal, sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(b"12345")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config").write_bytes(b"{}")
    seal(tmp_path, ["weights", "sub/config"])
    return tmp_path


def test_the_manifest_holds_size_and_digest_of_every_file(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(b"12345").hexdigest()
    assert data["schemaVersion"] == 1
    assert list(data["files"]) == ["sub/config", "weights"]
    assert data["files"]["weights"] == {"size": 5, "sha256": digest}


def test_an_untouched_folder_has_no_problem(folder: Path) -> None:
    assert problem_with(folder) is None


def change(path: Path) -> None:
    path.write_bytes(b"12346")


def shorten(path: Path) -> None:
    path.write_bytes(b"1234")


def link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (change, "weights: has other contents than were written"),
        (shorten, "weights: has 4 bytes instead of 5"),
        (Path.unlink, "weights: missing"),
        (link, "weights: missing"),
    ],
)
def test_every_harm_is_found(harm: Callable[[Path], None], words: str, folder: Path) -> None:
    harm(folder / "weights")
    assert problem_with(folder) == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"files": 3}',
        '{"files": {"a": {"size": -1, "sha256": ""}}}',
        '{"files": {"/etc/passwd": {"size": 1, "sha256": "%s"}}}' % ("a" * 64),
        '{"files": {"../x": {"size": 1, "sha256": "%s"}}}' % ("a" * 64),
    ],
)
def test_a_manifest_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableFileError):
        read_manifest(tmp_path)
    assert problem_with(tmp_path) is not None


def test_a_folder_without_a_manifest_is_incomplete(tmp_path: Path) -> None:
    assert "No such file" in str(problem_with(tmp_path))


def test_large_files_are_digested_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "large").write_bytes(data)
    assert sha256_of(tmp_path / "large") == hashlib.sha256(data).hexdigest()
