"""A signed copy in a real S3 store, verified by the command of OpenSSF's own library."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.unit.publish.conftest import publish, refused
from tests.unit.publish.test_publish_to_s3 import PLACE, published

from finetuning.publish.signature import KEY_ENV

ROOT = Path(__file__).resolve().parents[3]
SIGNED = ("--s3", PLACE, "--sign")


def pem(key: Any, password: bytes | None = None) -> str:
    locked = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    text: bytes = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    return text.decode()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The public key; the private one is in the environment."""
    return use(ec.generate_private_key(ec.SECP256R1()), monkeypatch, tmp_path / "key.pub")


def use(key: Any, monkeypatch: pytest.MonkeyPatch, public: Path) -> Path:
    monkeypatch.setenv(KEY_ENV, pem(key))
    kind = form.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, kind))
    return public


def downloaded(store: Any, folder: Path) -> Path:
    for name, data in published(store).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def verified(copy: Path, key: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "model_signing", "verify", "key", str(copy), "--public_key", str(key)]
    command += ["--signature", str(copy / "model.sig")]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_who_has_the_public_key_can_tell_that_nothing_was_changed(
    store: Any, run: Path, key: Path, tmp_path: Path
) -> None:
    code, said = publish(run, *SIGNED)
    assert (code, said.reason) == (0, "")
    copy = downloaded(store, tmp_path / "copy")
    found = verified(copy, key)
    assert found.returncode == 0, found.stderr
    assert "model_signing verify key" in (copy / "README.md").read_text()
    for name in ("adapter_model.safetensors", "README.md", "validation_report.json"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b" ")
        assert verified(copy, key).returncode != 0, name
        (copy / name).write_bytes(before)
    (copy / "more.bin").write_bytes(b"pickled")
    assert verified(copy, key).returncode != 0, "a file that nobody signed"


def test_the_documented_commands_make_a_key_that_signs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of their own; what they made signs, and verifies what lies there."""
    page = (ROOT / "docs/publishing.md").read_text()
    commands = [
        line for line in page.splitlines() if line.startswith(("openssl ", "python3 -m mod"))
    ]
    assert len(commands) == 3
    *making, verifying = (shlex.split(each) for each in commands)
    for command in making:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv(KEY_ENV, (tmp_path / "signing.pem").read_text())
    assert publish(run, "--sign")[0] == 0
    law = tmp_path / "law"
    shutil.copytree(run, law, ignore=shutil.ignore_patterns("publish", "validation"))
    for each in ((run / "validation"), (run / "publish")):
        shutil.copytree(each, law, dirs_exist_ok=True)
    found = subprocess.run(
        [sys.executable, *verifying[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.long
def test_another_try_sends_nothing_and_another_key_signs_anew(
    store: Any, run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run, *SIGNED)
    _, again = publish(run, *SIGNED)
    assert again.copies[0].sent_files == 0
    other = use(ec.generate_private_key(ec.SECP521R1()), monkeypatch, tmp_path / "other.pub")
    _, anew = publish(run, *SIGNED)
    assert anew.copies[0].sent_files == 1
    copy = downloaded(store, tmp_path / "copy")
    assert verified(copy, other).returncode == 0
    assert verified(copy, key).returncode != 0


@pytest.mark.long
def test_without_signing_an_old_signature_goes(store: Any, run: Path, key: Path) -> None:
    publish(run, *SIGNED)
    assert "model.sig" in published(store)
    assert publish(run, "--s3", PLACE)[0] == 0
    assert "model.sig" not in published(store)
    assert key.is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("not a key", "is no private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "without a password"),
        (pem(rsa.generate_private_key(65537, 2048)), "a key on one of secp256r1"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "a key on one of secp256r1"),
    ],
)
def test_a_key_that_cannot_sign_is_told_and_not_shown(
    text: str,
    words: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(KEY_ENV, text)
    line = refused(run, ["--sign"], capsys)
    assert words in line
    assert "openssl ecparam" in line
    assert not any(len(part) > 20 and part in line for part in text.splitlines())


def test_without_the_library_the_extra_is_named(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert "finetuning-operator[signing]" in refused(run, ["--sign"], capsys)
    assert key.is_file()


def test_the_private_key_is_left_nowhere(
    run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert publish(run, "--sign")[0] == 0
    assert list(scratch.iterdir()) == []
    files = [path for path in (run / "publish").rglob("*") if path.is_file()]
    assert "model.sig" in {path.name for path in files}
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in files)
    assert key.is_file()
