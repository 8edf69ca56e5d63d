"""A copy of the model in a repository of the Hugging Face Hub, by the Hub's own client."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from finetuning.artifacts import PUBLICATION
from finetuning.artifacts.failures import first_line
from finetuning.artifacts.models import CopiedModel
from finetuning.artifacts.plain import plain
from finetuning.publish import seal
from finetuning.publish.bundle import Bundle, Item, Say
from finetuning.publish.errors import (
    PublishError,
    RefusedError,
    TakenError,
    UnavailableError,
    UsageError,
)
from finetuning.publish.seal import Publication

PREFIX = "hf://"
TOKEN_ENV = "FINETUNING_HUB_TOKEN"  # noqa: S105 - a name
"""Of one who may write; apart from HF_TOKEN, by which a pod reads a base model."""

_REFUSED = (401, 403)
_MEANWHILE = (409, 412)
_BUSY = (408, 429)


def publish(
    bundle: Bundle, uri: str, environ: Mapping[str, str], say: Say, *, public: bool
) -> CopiedModel:
    """Send what the repository lacks, in one commit; a complete copy is left as it is.

    `public` is for a repository that is made; one that is there stays what it is.

    Raises:
        PublishError: the Hub cannot be reached, refuses, or has somebody else's files there.
    """
    disable_progress_bars()
    try:
        return _Repository(uri, environ, say).bring_about(bundle, public=public)
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        raise _explained(uri, error) from error


class _Repository:
    """A repository, as it is at its newest commit."""

    def __init__(self, uri: str, environ: Mapping[str, str], say: Say) -> None:
        self._uri = uri
        self._id = uri.removeprefix(PREFIX)
        token = environ.get(TOKEN_ENV) or environ.get("HF_TOKEN")
        self._api = HfApi(endpoint=environ.get("HF_ENDPOINT"), token=token)
        self._say = say

    def bring_about(self, bundle: Bundle, *, public: bool) -> CopiedModel:
        wanted, info = Publication.of(bundle), self._found_or_made(public=public)
        files = self._files(info.sha)
        sizes = {name: file.size for name, file in files.items()}
        older = self._read_seal(info.sha) if _is_readable(files.get(PUBLICATION)) else None
        self._require_ours(seal.foreign(wanted, older, sizes))
        missing = _missing(bundle, files)
        surplus = seal.left_over(wanted, older, sizes)
        commit = info.sha or ""
        if missing or surplus or older != wanted:
            commit = self._commit(wanted, missing, surplus, info.sha)
            self._require_complete(bundle, commit)
        return CopiedModel(
            kind="hf",
            location=self._uri,
            digest=commit,
            files=len(bundle.items),
            size_bytes=bundle.size,
            sent_files=len(missing),
        )

    def _found_or_made(self, *, public: bool) -> ModelInfo:
        try:
            info = self._api.model_info(self._id)
        except RepositoryNotFoundError:
            self._make(public=public)
            return self._api.model_info(self._id)
        if not public and not info.private:
            raise UsageError(
                f"{self._uri}: is public, and a private one is asked for; make it private there, "
                "or say that it may be public: spec.output.publish.hub.private: false, --hub-public"
            )
        return info

    def _make(self, *, public: bool) -> None:
        try:
            self._api.create_repo(self._id, private=not public)
        except HfHubHTTPError as error:
            if error.response.status_code != httpx2.codes.CONFLICT:
                raise
            # There is one, and it was not shown.
            raise _refusal(self._uri, httpx2.codes.FORBIDDEN, "may not read it") from error

    def _files(self, commit: str | None) -> dict[str, RepoFile]:
        tree = self._api.list_repo_tree(self._id, recursive=True, revision=commit)
        return {each.path: each for each in tree if isinstance(each, RepoFile)}

    def _read_seal(self, commit: str | None) -> Publication | None:
        with TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(
                self._id, PUBLICATION, revision=commit, cache_dir=folder
            )
            return Publication.parse(Path(path).read_bytes())

    def _require_ours(self, others: list[str]) -> None:
        if others:
            more = f" and {len(others) - 1} more" if others[1:] else ""
            raise TakenError(
                f"{self._uri}: holds {others[0]}{more} that no publication wrote; name another "
                "repository, or delete them"
            )

    def _commit(
        self,
        wanted: Publication,
        missing: Mapping[str, Item],
        surplus: list[str],
        parent: str | None,
    ) -> str:
        for name, item in missing.items():
            self._say(f"{name}: {item.entry.size:,} bytes")
        done = self._api.create_commit(
            self._id,
            [
                *(CommitOperationAdd(name, item.path) for name, item in missing.items()),
                *(CommitOperationDelete(name) for name in surplus),
                CommitOperationAdd(PUBLICATION, wanted.to_bytes()),
            ],
            commit_message=f"Publish {wanted.manifest_sha256[:12]}",
            parent_commit=parent,
        )
        return str(done.oid)

    def _require_complete(self, bundle: Bundle, commit: str) -> None:
        if others := list(_missing(bundle, self._files(commit))):
            raise UnavailableError(
                f"{self._uri}: {others[0]} is not there as it was sealed; it may have changed "
                "while it was sent: try again"
            )


def _is_readable(file: RepoFile | None) -> bool:
    return file is not None and file.size <= seal.MAX_BYTES


def _missing(bundle: Bundle, files: Mapping[str, RepoFile]) -> dict[str, Item]:
    """What the repository does not have, by the digests that it tells of its files."""
    return {
        name: item
        for name, item in bundle.items.items()
        if name not in files or not _is_same(item, files[name])
    }


def _is_same(item: Item, file: RepoFile) -> bool:
    if file.size != item.entry.size:
        return False
    if file.lfs is not None:
        return file.lfs.sha256 == item.entry.sha256
    return file.blob_id == _as_git(item.path)


def _as_git(path: Path) -> str:
    """How git calls contents; only small files are asked for."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _explained(uri: str, error: Exception) -> PublishError:
    """In the Hub's words, without addresses, which may let anybody write."""
    cause = error.__cause__ if isinstance(error.__cause__, HfHubHTTPError) else error
    if isinstance(cause, HfHubHTTPError):
        return _refusal(uri, cause.response.status_code, plain(cause.server_message or "", 160))
    if isinstance(error, OfflineModeIsEnabled):
        return UsageError(f"{uri}: HF_HUB_OFFLINE forbids asking the Hub; unset it")
    if isinstance(error, ValueError):
        return UsageError(f"{uri}: the Hub does not take the model ({first_line(error, 200)})")
    return UnavailableError(
        f"{uri}: the Hub cannot be reached; check HF_ENDPOINT and the network, or try again "
        f"({first_line(error, 200)})"
    )


def _refusal(uri: str, status: int, words: str) -> PublishError:
    said = f"{status} {words}".strip()
    if status in _REFUSED:
        return RefusedError(
            f"{uri}: the Hub refuses the token; give one that may write there, in a cluster by "
            f"spec.output.publish.hub.tokenSecretRef, else by {TOKEN_ENV} or `hf auth login` "
            f"({said})"
        )
    if status in _MEANWHILE:
        return UnavailableError(f"{uri}: somebody else changed it meanwhile; try again ({said})")
    if status in _BUSY or httpx2.codes.is_server_error(status):
        return UnavailableError(f"{uri}: the Hub does not answer now; try again ({said})")
    return UsageError(f"{uri}: the Hub does not take the model ({said})")
