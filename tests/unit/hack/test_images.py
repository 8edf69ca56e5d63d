from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hack.cluster import paths
from hack.cluster.native import containers
from hack.cluster.shell import ClusterError
from hack.images import base, inputs, oci, pip_settings, storage
from hack.images.inputs import OPERATOR, TORCH_CPU, TRAINER, Recipe

from finetuning.api.hyperparameters import ReportTo

ROOT = Path(__file__).resolve().parents[3]


def copied(recipe: Recipe) -> set[str]:
    text = (ROOT / recipe.dockerfile).read_text()
    for name, value in re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE):
        text = text.replace(f"${{{name}}}", value)
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    return {name for line in lines for name in line.split()}


@pytest.mark.parametrize("recipe", [OPERATOR, TRAINER, TORCH_CPU])
def test_the_build_folder_holds_exactly_what_the_dockerfile_copies(recipe: Recipe) -> None:
    wheel = {"dist/*.whl"} if recipe.has_wheel else set()
    assert copied(recipe) == {*recipe.files, *wheel}


@pytest.mark.parametrize("recipe", [OPERATOR, TRAINER])
def test_a_plain_docker_build_sees_what_it_copies(recipe: Recipe) -> None:
    shown = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[:1] == "!"]
    for name in copied(recipe):
        assert any(fnmatch(name, pattern) for pattern in shown), name


@pytest.mark.parametrize("lock", ["trainer", "eval"])
def test_nothing_installs_torch_over_that_of_the_base_image(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text()
    names = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    assert "torch" not in names
    assert "triton" not in names
    assert "transformers" in names
    assert ("lm-eval" in names) is (lock == "eval")


@pytest.mark.parametrize("lock", ["trainer", "eval"])
def test_the_trainers_image_has_the_library_of_every_tracker(lock: str) -> None:
    """The documented resource with a reportTo needs no image but that one."""
    text = (ROOT / f"requirements/{lock}.lock").read_text()
    names = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for tracker in ReportTo:
        (package,) = extras[tracker.value]
        assert re.split(r"[^\w-]", package)[0] in names


def test_an_image_is_named_after_its_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*inputs.WHEEL_INPUTS, OPERATOR.dockerfile, *OPERATOR.files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    first = inputs.image_name(OPERATOR, "base:1")
    assert inputs.image_name(OPERATOR, "base:1") == first
    assert re.fullmatch(r"localhost/finetuning-operator:[0-9a-f]{12}", first)
    assert inputs.image_name(OPERATOR, "base:2") != first
    (tmp_path / "README.md").write_text("changed")
    assert inputs.image_name(OPERATOR, "base:1") != first


def test_bytecode_beside_the_sources_does_not_change_an_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached = tmp_path / "package" / "__pycache__"
    cached.mkdir(parents=True)
    (tmp_path / "package" / "module.py").write_text("x = 1")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    before = inputs.digest(["package"])
    (cached / "module.pyc").write_bytes(b"\0")
    assert inputs.digest(["package"]) == before


def test_the_base_image_of_the_operator_is_read_from_its_dockerfile() -> None:
    assert base.published().startswith("python:3.")


def test_the_settings_of_the_machine_stand_over_those_of_files() -> None:
    listed = (
        "global.index-url='https://file.example/simple'\n"
        "global.cert='/etc/ssl/ca.pem'\n"
        ":env:.index-url='https://env.example/simple'\n"
        "global.find-links='/opt/wheels'\n"
        "install.trusted-host='a.example\\nb.example'\n"
    )
    assert pip_settings.parse_list(listed) == {
        "index-url": "https://env.example/simple",
        "trusted-host": "a.example b.example",
    }


@pytest.mark.parametrize("has_ca", [True, False])
def test_the_certificate_named_in_a_build_is_the_one_mounted_there(*, has_ca: bool) -> None:
    text = pip_settings.pip_conf({"timeout": "60"}, has_ca=has_ca)
    assert ("cert = /run/secrets/ca_certificates" in text) == has_ca
    assert "timeout = 60" in text


def scratch(tmp_path: Path) -> oci.ScratchImage:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    return oci.ScratchImage("localhost/x:1", {"/bin/x": program}, ("/bin/x",), writable=("/tmp",))


def archived(image: oci.ScratchImage) -> bytes:
    out = io.BytesIO()
    oci.write_archive(image, out)
    return out.getvalue()


def test_a_scratch_image_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    assert archived(scratch(tmp_path)) == archived(scratch(tmp_path))


def test_everything_in_a_scratch_image_is_found_under_its_digest(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archived(scratch(tmp_path)))) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar.getmembers()]
        blobs = {name: file.read() for name, file in files if file}
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    entry = json.loads(blobs["index.json"])["manifests"][0]
    manifest = json.loads(blobs[oci.blob_path(entry["digest"])])
    config = json.loads(blobs[oci.blob_path(manifest["config"]["digest"])])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["Entrypoint"] == ["/bin/x"]


def stored_layer(root: Path, content: bytes) -> tuple[storage.Layer, bytes]:
    """A storage with one layer of one file, split as the builder's storage splits archives."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("opt/file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    whole = buffer.getvalue()
    head, tail = whole[:512], whole[512 + len(content) :]
    log = [
        {"type": 2, "payload": base64.b64encode(head).decode()},
        {"type": 1, "name": "opt/file", "size": len(content)},
        {"type": 2, "payload": base64.b64encode(tail).decode()},
    ]
    file = root / "overlay" / "abc" / "diff" / "opt" / "file"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    (root / "overlay-layers").mkdir()
    with gzip.open(root / "overlay-layers" / "abc.tar-split.gz", "wt") as out:
        out.write("\n".join(map(json.dumps, log)))
    digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
    return storage.Layer("abc", digest, len(whole)), whole


def test_a_layer_is_put_together_byte_for_byte(tmp_path: Path) -> None:
    layer, whole = stored_layer(tmp_path, b"weights" * 40_000)
    reader = storage.Reader(storage.archive(tmp_path, layer))
    read = b"".join(iter(lambda: reader.read(1000), b""))
    assert read == whole


def test_a_damaged_layer_is_refused(tmp_path: Path) -> None:
    layer, _ = stored_layer(tmp_path, b"weights")
    (tmp_path / "overlay" / "abc" / "diff" / "opt" / "file").write_bytes(b"WEIGHTS")
    with pytest.raises(ClusterError, match=r"is damaged: delete .* and build again"):
        list(storage.archive(tmp_path, layer))


def test_an_image_that_was_never_built_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "overlay-images").mkdir()
    (tmp_path / "overlay-images" / "images.json").write_text("[]")
    with pytest.raises(ClusterError, match="no image localhost/x:1: build it with `make images`"):
        storage.read_image(tmp_path, "localhost/x:1")


def test_only_references_to_images_without_a_name_are_given_up() -> None:
    known = {"localhost/x:dev": "sha256:aa", "sha256:1": "sha256:aa", "sha256:2": "sha256:bb"}
    assert containers.unnamed(known) == ["sha256:2"]
