"""The OpenSSF signature of a copy: whose private key vouches for which files.

`model_signing` writes and reads it, in the format of OpenSSF's model signing: a Sigstore bundle
around the sha256 of every file. By a key alone; nothing is told to any transparency log.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning.artifacts import PUBLICATION, SIGNATURE
from finetuning.artifacts.files import write_atomic
from finetuning.publish.bundle import Bundle, Item, item
from finetuning.publish.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from model_signing.hashing import Config

KEY_ENV = "FINETUNING_SIGNING_KEY"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MEND = (
    "make one with `openssl ecparam -name prime256v1 -genkey -noout -out key.pem` and give its text"
)


def signed(bundle: Bundle, work: Path, environ: Mapping[str, str]) -> Bundle:
    """With a signature of all its files.

    One that the same key made of the same files is kept: each is another text, and would be sent
    anew by every try.

    Raises:
        UsageError: the library or a key that can sign is missing.
    """
    try:
        import model_signing  # noqa: F401, PLC0415 - only who signs needs it
    except ImportError as error:
        raise UsageError(
            f"--sign: {error}; install the extra: pip install 'finetuning-operator[signing]'"
        ) from error
    key, path = _key(environ), work / SIGNATURE
    with tempfile.TemporaryDirectory() as scratch:
        model = _tree(bundle.items, Path(scratch))
        if not _is_signed(model, path, key, Path(scratch)):
            _sign(model, path, key, Path(scratch))
    return replace(bundle, items={**bundle.items, SIGNATURE: item(path)})


def _key(environ: Mapping[str, str]) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    text = environ.get(KEY_ENV, "")
    if not text:
        raise UsageError(f"--sign: {KEY_ENV} is empty; {_MEND}")
    try:
        found = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError) as error:
        # Without the library's words, which may quote the key.
        raise UsageError(
            f"{KEY_ENV}: is no private key in PEM without a password; {_MEND}"
        ) from error
    if not isinstance(found, ec.EllipticCurvePrivateKey) or found.curve.name not in CURVES:
        raise UsageError(f"{KEY_ENV}: a key on one of {', '.join(CURVES)} is wanted; {_MEND}")
    return found


def _tree(items: Mapping[str, Item], scratch: Path) -> Path:
    """The copy as it will lie there, of links: the files come from two folders."""
    root = scratch / "model"
    for name, each in items.items():
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(each.path.resolve())
    return root


def _sign(model: Path, path: Path, key: "EllipticCurvePrivateKey", scratch: Path) -> None:
    from model_signing import signing  # noqa: PLC0415

    made = scratch / SIGNATURE
    with _file(scratch / "key.pem", _private(key)) as private:
        config = signing.Config().use_elliptic_key_signer(private_key=private)
        config.set_hashing_config(_hashing()).sign(model, made)
    write_atomic(path, made.read_bytes())


def _is_signed(model: Path, path: Path, key: "EllipticCurvePrivateKey", scratch: Path) -> bool:
    from model_signing import verifying  # noqa: PLC0415

    if not path.is_file():
        return False
    with _file(scratch / "key.pub", _public(key)) as public:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        try:
            config.set_hashing_config(_hashing()).verify(model, path)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, another is made
            return False
    return True


def _hashing() -> "Config":
    from model_signing import hashing  # noqa: PLC0415

    # publication.json is written last of all, and not there yet.
    return hashing.Config().set_allow_symlinks(True).set_ignored_paths(paths=[PUBLICATION])


def _private(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def _public(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415

    kind = form.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(form.Encoding.PEM, kind)


@contextmanager
def _file(path: Path, data: bytes) -> Iterator[Path]:
    """The library reads keys from files: for nobody else, and no longer than it needs."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    try:
        yield path
    finally:
        path.unlink()
