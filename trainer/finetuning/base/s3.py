"""Objects of an S3 store as local files.

The client is pyarrow's, which is there for Parquet anyway. Address and credentials come from the
environment, under the names that every S3 tool reads.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.failures import DatasetError, first_line
from finetuning.artifacts.files import sync_directory
from finetuning.base.storage import space_for

PREFIX = "s3://"
PIECE = 16 << 20
"""Bytes of one request; each is tried again by itself."""

TRIES = 4
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """An object as it was when the download began."""

    size: int
    etag: str


def fetch(uri: str, flag: str, environ: Mapping[str, str] | None = None) -> Path:
    """Download an object, or go on with a download that was cut off; an unchanged one is kept.

    Raises:
        DatasetError: there is no such object, the store refuses it or cannot be reached; with the
            exit code for another try where the store may answer later.
    """
    environ = os.environ if environ is None else environ
    path = uri.removeprefix(PREFIX)
    try:
        client = store(environ)
        found = _look_up(client, path, f"{flag} {uri}")
        return _download(client, path, found, _folder(environ, uri, found))
    except (OSError, ValueError) as error:
        raise _explained(f"{flag} {uri}", error, environ) from error


def store(environ: Mapping[str, str]) -> Any:
    """A client of the store that the environment names."""
    from pyarrow import fs  # noqa: PLC0415 - only for this source

    scheme, _, address = endpoint(environ).rpartition("://")
    key, secret = (environ.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    # Without a word on who asks, the client would look for a cloud's own service for seconds.
    by_role = "AWS_WEB_IDENTITY_TOKEN_FILE" in environ or "AWS_PROFILE" in environ
    return fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=environ.get("AWS_SESSION_TOKEN") if key else None,
        anonymous=not key and not by_role,
        region=region(environ),
        scheme=scheme or "https",
        endpoint_override=address.rstrip("/") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )


def endpoint(environ: Mapping[str, str]) -> str:
    """The store's address; empty for AWS itself."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""


def region(environ: Mapping[str, str]) -> str:
    """In which the store's bucket is."""
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _look_up(store: Any, path: str, what: str) -> Found:
    from pyarrow import fs  # noqa: PLC0415 - is loaded by now

    info = store.get_file_info(path)
    if info.type is fs.FileType.NotFound:
        raise DatasetError(
            f"{what}: no such object; check bucket and key, and that the endpoint is the right one"
        )
    if info.type is not fs.FileType.File:
        raise DatasetError(f"{what}: is a folder; give the key of one data file")
    with store.open_input_stream(path) as stream:
        return Found(info.size, stream.metadata().get("ETag", b"").decode().strip('"'))


def _folder(environ: Mapping[str, str], uri: str, found: Found) -> Path:
    """One for each version of an object, so that the file keeps the name that tells its format."""
    home = environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    version = f"{endpoint(environ)} {uri} {found.etag} {found.size}"
    name = hashlib.sha256(version.encode()).hexdigest()[:32]
    return Path(home) / "finetuning" / "s3" / name


def _download(store: Any, path: str, found: Found, folder: Path) -> Path:
    final, part = folder / Path(path).name, folder / ".part"
    folder.mkdir(parents=True, exist_ok=True)
    with space_for(path, folder), part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Another run of the same data waits and takes the file.
        if final.exists():
            part.unlink(missing_ok=True)
            return final
        log.info("Downloading s3://%s: %s bytes.", path, f"{found.size:,}")
        _append(store, path, file, found.size)
        _require_same(_look_up(store, path, f"s3://{path}"), found, path)
        file.flush()
        os.fsync(file.fileno())
        part.rename(final)
    sync_directory(folder)
    return final


def _append(store: Any, path: str, file: Any, size: int) -> None:
    """From where an earlier download ended."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - only for this source

    done = file.tell()
    with (
        store.open_input_file(path) as source,
        tqdm(total=size, initial=done, unit="B", unit_scale=True, disable=None) as bar,
    ):
        while done < size:
            piece = source.read_at(min(PIECE, size - done), done)
            if not piece:
                raise OSError(f"the object ends at byte {done} of {size}")
            file.write(piece)
            done += len(piece)
            bar.update(len(piece))


def _require_same(now: Found, before: Found, path: str) -> None:
    if now != before:
        error = DatasetError(f"s3://{path}: was replaced while it was read; start again")
        error.exit_code = ExitCode.FAILED
        raise error


_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "HTTP status 403", "EXPIRED")
_LATER = ("NETWORK_CONNECTION", "SLOW_DOWN", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "curl")


class Trouble(Enum):
    """What kind of trouble an error of the client tells of."""

    REFUSED = "refused"
    NO_BUCKET = "no bucket"
    LATER = "later"
    OTHER = "other"


def trouble_of(error: Exception) -> Trouble:
    """By the words of the client, which has one kind of error for all."""
    said = str(error).split("\n", maxsplit=1)[0]
    if any(word in said for word in _REFUSED):
        return Trouble.REFUSED
    if "NO_SUCH_BUCKET" in said or "Bucket does not exist" in said:
        return Trouble.NO_BUCKET
    if any(word in said for word in _LATER) or not isinstance(error, ValueError):
        return Trouble.LATER
    return Trouble.OTHER


def _explained(what: str, error: Exception, environ: Mapping[str, str]) -> DatasetError:
    short = first_line(error, 200)
    match trouble_of(error):
        case Trouble.REFUSED:
            key = "the key is wrong or may not read it" if has_key(environ) else "no key was given"
            return DatasetError(
                f"{what}: the store refuses it ({key}); set AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, in a cluster by spec.dataset.s3.secretName ({short})"
            )
        case Trouble.LATER:
            later = DatasetError(
                f"{what}: {endpoint(environ) or 'the S3 endpoint'} cannot be reached or does not "
                "answer as S3 does; check AWS_ENDPOINT_URL, in a cluster spec.dataset.s3.endpoint, "
                f"and the network, or try again ({short})"
            )
            later.exit_code = ExitCode.FAILED
            return later
        case _:
            return DatasetError(f"{what}: {short}; give s3://<bucket>/<key>")


def has_key(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("AWS_ACCESS_KEY_ID"))
