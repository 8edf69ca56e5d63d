"""What is read of the JSON that lists, watches and writes are answered with, and nothing besides.

An object of the API server is ten times what the operator looks at: managed fields, environments,
probes. msgspec walks over the rest without making anything of it, which takes a fifth of the time
of a decoder that builds it all (docs/decisions, 0038).
"""

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import msgspec

from finetuning.controller import observed
from finetuning.controller.observed import BatchJob, Custom, Pod, Raw

T = TypeVar("T")


class _Metadata(TypedDict, total=False):
    namespace: Any
    name: Any
    uid: Any
    generation: Any
    resourceVersion: Any
    creationTimestamp: Any
    deletionTimestamp: Any
    labels: Any
    annotations: Any
    ownerReferences: Any


class _Volume(TypedDict, total=False):
    name: Any
    persistentVolumeClaim: Any


class _Container(TypedDict, total=False):
    volumeMounts: Any


class _PodSpec(TypedDict, total=False):
    nodeName: Any
    volumes: list[_Volume] | None
    containers: list[_Container] | None


class _Template(TypedDict, total=False):
    spec: _PodSpec | None


class _JobSpec(TypedDict, total=False):
    suspend: Any
    activeDeadlineSeconds: Any
    ttlSecondsAfterFinished: Any
    template: _Template | None


class _Custom(TypedDict, total=False):
    apiVersion: Any
    kind: Any
    metadata: _Metadata
    spec: Any
    status: Any


class _Job(TypedDict, total=False):
    metadata: _Metadata
    spec: _JobSpec | None
    status: Any


class _Pod(TypedDict, total=False):
    metadata: _Metadata
    spec: _PodSpec | None
    status: Any


class Event(msgspec.Struct):
    """One line of a watch; the object is still text."""

    type: str
    object: msgspec.Raw


class ListMeta(msgspec.Struct):
    """Where a list stands in the history of its kind; `more` asks for its next page."""

    version: str = msgspec.field(default="", name="resourceVersion")
    more: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """Some of the objects of a list, each still text."""

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class Uid(msgspec.Struct):
    """Of metadata, who it is."""

    uid: str


class Name(msgspec.Struct):
    """Of an object, who it is: managed fields are most of what is left without spec and status."""

    metadata: Uid


class Names(msgspec.Struct):
    """Some of the objects of a list, by their uids alone."""

    metadata: ListMeta
    items: list[Name] | None = None


class Details(msgspec.Struct):
    """More about a refusal."""

    after: float | None = msgspec.field(default=None, name="retryAfterSeconds")


class Status(msgspec.Struct):
    """Why a watch cannot go on."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: Details | None = None


class Bookmark(msgspec.Struct):
    """How far a watch has come when nothing happened."""

    metadata: ListMeta


event = msgspec.json.Decoder(Event).decode
page = msgspec.json.Decoder(Page).decode
names = msgspec.json.Decoder(Names).decode
status = msgspec.json.Decoder(Status).decode
bookmark = msgspec.json.Decoder(Bookmark).decode
_written = msgspec.json.Decoder(_Custom).decode


def written(text: bytes) -> dict[str, Any]:
    """An object as the API server answers a write: without managed fields."""
    return dict(_written(text))


def _reader(shape: Any, view: Callable[[Raw], T]) -> Callable[[msgspec.Raw], T]:
    decode = msgspec.json.Decoder(shape).decode
    return lambda text: view(decode(text))


custom: Callable[[msgspec.Raw], Custom] = _reader(_Custom, observed.custom)
job: Callable[[msgspec.Raw], BatchJob] = _reader(_Job, observed.batch_job)
pod: Callable[[msgspec.Raw], Pod] = _reader(_Pod, observed.pod)
