"""Where model, rows and result are: what the pod mounts, and the path that the trainer is told."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.errors import InvalidSpecError

WORKSPACE = "/workspace"
OUTPUT = f"{WORKSPACE}/output"
STATE = f"{WORKSPACE}/state"
TEMPLATES = f"{WORKSPACE}/templates"
DATA = f"{WORKSPACE}/data"
MODEL = f"{WORKSPACE}/model"

_FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".txt", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class Source:
    """A path in the pod, the volume behind it if it has one of its own, and whether it is local."""

    path: str
    volume: Manifest | None = None
    mount: Manifest | None = None
    local: bool = True


def model(job: FineTuningJob) -> Source | None:
    """The base model's folder; None when it comes from the Hub."""
    uri = job.spec.base_model.source
    return _claim("model", uri, MODEL, "spec.baseModel.source") if uri else None


def dataset(job: FineTuningJob) -> Source:
    """The rows, by the scheme of their source."""
    source = job.spec.dataset.source
    if source.startswith("configmap:"):
        return _configmap(source)
    if source.startswith("pvc://"):
        return _claim("data", source, DATA, "spec.dataset.source")
    if source.startswith("hf://"):
        return Source(source, local=False)
    if _SCHEME.match(source):
        raise InvalidSpecError(
            "spec.dataset.source",
            source,
            "cannot be read yet. Use pvc://<claim>/<path>, configmap:<name>:<key>, "
            "hf://<org>/<name> or a path inside the pod.",
        )
    return _bare(source)


def _bare(source: str) -> Source:
    """A path, or the id of a data set on the Hub, as people write both."""
    if source.startswith("/"):
        return Source(str(_inside("/", source, "spec.dataset.source")))
    if source.endswith(_FILE_SUFFIXES) or source.startswith("./"):
        return Source(str(_inside(WORKSPACE, source, "spec.dataset.source")))
    if _HUB_ID.fullmatch(source):
        return Source(f"hf://{source}", local=False)
    raise InvalidSpecError(
        "spec.dataset.source", source, "is neither an absolute path nor the id of a Hub data set."
    )


def _configmap(source: str) -> Source:
    _, _, rest = source.partition(":")
    name, _, key = rest.partition(":")
    if not name or not key:
        raise InvalidSpecError("spec.dataset.source", source, "must be configmap:<name>:<key>.")
    path = _inside(DATA, key, "spec.dataset.source")
    items = [{"key": key, "path": key}]
    return Source(
        path=str(path),
        volume={"name": "data", "configMap": {"name": name, "items": items}},
        mount={"name": "data", "mountPath": DATA, "readOnly": True},
    )


def _claim(volume: str, uri: str, mount_path: str, field: str) -> Source:
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    if not claim:
        raise InvalidSpecError(field, uri, "must be pvc://<claim>/<path>.")
    return Source(
        path=str(_inside(mount_path, path, field)),
        volume={"name": volume, "persistentVolumeClaim": {"claimName": claim}},
        mount={"name": volume, "mountPath": mount_path, "readOnly": True},
    )


def _inside(root: str, path: str, field: str) -> PurePosixPath:
    if ".." in PurePosixPath(path).parts:
        raise InvalidSpecError(field, path, "must not contain '..'.")
    return PurePosixPath(root) / path


@dataclass(frozen=True)
class Output:
    """The folder of the result: a claim and, in a claim of the user's own, a folder in it."""

    claim: str
    sub_path: str | None

    @property
    def volume(self) -> Manifest:
        return {"name": "output", "persistentVolumeClaim": {"claimName": self.claim}}

    def mount(self, folder: str = "", path: str = OUTPUT, *, read_only: bool = False) -> Manifest:
        """Mount the result, or a folder in it, at `path`."""
        parts = "/".join(part for part in (self.sub_path, folder) if part)
        mount: Manifest = {"name": "output", "mountPath": path}
        if parts:
            mount["subPath"] = parts
        if read_only:
            mount["readOnly"] = True
        return mount

    def uri(self, path: str = "") -> str:
        """Where people find a file of the result: pvc://<claim>/<path>."""
        return "/".join(part for part in (f"pvc://{self.claim}", self.sub_path, path) if part)


def output(job: FineTuningJob) -> Output:
    storage = job.spec.output.storage
    if storage.claim_name:
        return Output(storage.claim_name, storage.sub_path or job.metadata.name)
    return Output(naming.names(job.metadata.name).claim, None)
