"""Links are followed where they stay on their volume, and nowhere else."""

import os
from pathlib import Path

import pytest

from finetuning.artifacts.volume import leaves


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model" / "tokenizer.json"


def test_files_and_links_on_one_volume_stay(link: Path) -> None:
    assert not leaves(link), "it is not there"
    link.write_text("{}")
    assert not leaves(link)
    link.rename(link.parent.parent / "blob")
    link.symlink_to("../blob")
    assert not leaves(link)


@pytest.mark.parametrize("target", ["/proc/self/environ", "/proc/self/root/proc/version", "/dev"])
def test_links_to_the_kernels_files_leave(link: Path, target: str) -> None:
    link.symlink_to(target)
    assert leaves(link)


def test_a_link_into_another_volume_of_the_same_disk_leaves(
    link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two claims of one node are, each mounted for itself."""
    is_mount, root = os.path.ismount, link.parent
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == root or is_mount(path))
    (root.parent / "secret").write_text("x")
    link.symlink_to("../secret")
    assert leaves(link)
    link.unlink()
    (root / "..data").mkdir()
    (root / "..data" / "tokenizer.json").write_text("{}")
    link.symlink_to("..data/tokenizer.json")
    assert not leaves(link), "as in a mounted ConfigMap"
    assert not leaves(root)
