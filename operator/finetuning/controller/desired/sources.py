"""Where model, rows and result are: what the pod mounts, and the path that the trainer is told."""

import re
from dataclasses import dataclass
from functools import lru_cache
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
HELD_OUT = f"{WORKSPACE}/heldout"
EVALUATION = f"{WORKSPACE}/evaluation"
TASKS = f"{WORKSPACE}/tasks"

_FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".txt", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


@dataclass(frozen=True)
class Source:
    """A path in the pod, the volume behind it if it has one of its own, and whether it is local."""

    path: str
    volume: Manifest | None = None
    mount: Manifest | None = None
    local: bool = True
    config_map: tuple[str, str] | None = None
    """Name and key, when the volume is a ConfigMap; no key when it is the whole of it."""
    claim: str | None = None
    """Name, when the volume is a claim."""


@dataclass(frozen=True)
class _Place:
    """A volume of the pod, where it is mounted, and the field of the spec that asks for it."""

    volume: str
    path: str
    field: str


_MODEL = _Place("model", MODEL, "spec.baseModel.source")
_DATA = _Place("data", DATA, "spec.dataset.source")
_EVALUATION = _Place("evaluation", EVALUATION, "spec.dataset.evalSource")
_HELD_OUT = _Place("heldout", HELD_OUT, "spec.validation.heldOut.source")

_TASKS = _Place("tasks", TASKS, "spec.validation.benchmarks.includePath")


def model(job: FineTuningJob) -> Source | None:
    """The base model's folder; None when it comes from the Hub."""
    uri = job.spec.base_model.source
    return _claim(uri, _MODEL) if uri else None


def dataset(job: FineTuningJob) -> Source:
    """The rows, by the scheme of their source."""
    return _rows(job.spec.dataset.source, _DATA)


def evaluation(job: FineTuningJob) -> Source | None:
    """The rows that the training is evaluated on; None when they are a part of the data set."""
    source = job.spec.dataset.eval_source
    return None if source is None else _rows(source, _EVALUATION)


def _rows(source: str, place: _Place) -> Source:
    if source.startswith(("hf://", "s3://")):
        return Source(source, local=False)
    return _volume(source, place) or _bare(source, place)


def held_out(job: FineTuningJob) -> Source | None:
    """The rows that the validation compares models on; None when the job names none."""
    rows = job.spec.validation.held_out
    if rows is None:
        return None
    return _volume(rows.source, _HELD_OUT) or Source(str(_inside("/", rows.source, _HELD_OUT)))


def tasks(job: FineTuningJob) -> Source | None:
    """The folder of the benchmarks; None when only those of the library are run."""
    wanted = job.spec.validation.benchmarks
    if wanted is None or wanted.include_path is None:
        return None
    folder = wanted.include_path
    if folder.startswith("configmap:"):
        return _whole_configmap(folder.removeprefix("configmap:"), _TASKS)
    return _volume(folder, _TASKS) or Source(str(_inside("/", folder, _TASKS)))


def _whole_configmap(name: str, place: _Place) -> Source:
    return Source(
        path=place.path,
        volume={"name": place.volume, "configMap": {"name": name}},
        mount={"name": place.volume, "mountPath": place.path, "readOnly": True},
        config_map=(name, ""),
    )


def _volume(source: str, place: _Place) -> Source | None:
    """A ConfigMap or a claim; None when the source names neither."""
    if source.startswith("configmap:"):
        return _configmap(source, place)
    if source.startswith("pvc://"):
        return _claim(source, place)
    return None


def _bare(source: str, place: _Place) -> Source:
    """A path, or the id of a data set on the Hub, as people write both."""
    if source.startswith("/"):
        return Source(str(_inside("/", source, place)))
    if source.endswith(_FILE_SUFFIXES) or source.startswith("./"):
        return Source(str(_inside(WORKSPACE, source, place)))
    if _HUB_ID.fullmatch(source):
        return Source(f"hf://{source}", local=False)
    raise InvalidSpecError(
        place.field, source, "is neither an absolute path nor the id of a Hub data set."
    )


def _configmap(source: str, place: _Place) -> Source:
    _, _, rest = source.partition(":")
    name, _, key = rest.partition(":")
    if not name or not key:
        raise InvalidSpecError(place.field, source, "must be configmap:<name>:<key>.")
    items = [{"key": key, "path": key}]
    return Source(
        path=str(_inside(place.path, key, place)),
        volume={"name": place.volume, "configMap": {"name": name, "items": items}},
        mount={"name": place.volume, "mountPath": place.path, "readOnly": True},
        config_map=(name, key),
    )


def _claim(uri: str, place: _Place) -> Source:
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    if not claim:
        raise InvalidSpecError(place.field, uri, "must be pvc://<claim>/<path>.")
    return Source(
        path=str(_inside(place.path, path, place)),
        volume={"name": place.volume, "persistentVolumeClaim": {"claimName": claim}},
        mount={"name": place.volume, "mountPath": place.path, "readOnly": True},
        claim=claim,
    )


@lru_cache(maxsize=1024)
def _inside(root: str, path: str, place: _Place) -> PurePosixPath:
    if ".." in PurePosixPath(path).parts:
        raise InvalidSpecError(place.field, path, "must not contain '..'.")
    return PurePosixPath(root) / path


@dataclass(frozen=True)
class Output:
    """The folder of the result: a claim and, in a claim of the user's own, a folder in it."""

    claim: str
    sub_path: str | None

    @property
    def folder(self) -> str:
        """Claim and path, by which the outputs of two jobs are told apart."""
        return f"{self.claim}/{self.sub_path or ''}"

    @property
    def volume(self) -> Manifest:
        return {
            "name": naming.OUTPUT_VOLUME,
            "persistentVolumeClaim": {"claimName": self.claim},
        }

    def mount(self, folder: str = "", path: str = OUTPUT, *, read_only: bool = False) -> Manifest:
        """Mount the result, or a folder in it, at `path`."""
        parts = "/".join(part for part in (self.sub_path, folder) if part)
        mount: Manifest = {"name": naming.OUTPUT_VOLUME, "mountPath": path}
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
