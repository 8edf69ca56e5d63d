"""Reads the file given to `finetuning run` as the API server would read it, with line numbers."""

import base64
import binascii
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.api.v1alpha1 import GROUP, KIND, VERSION, FineTuningJob
from finetuning.local.complaints import complaints, dotted
from finetuning.local.problems import InputError
from finetuning.local.yaml_text import Document, documents

MAX_BYTES = 32 << 20
"""A manifest is small; a ConfigMap holds at most 1 MiB."""

_GENERATED = "x7k2p"
"""As many characters as the API server adds, of those that it takes."""

ConfigMaps = dict[str, dict[str, bytes]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The job to run and what else the file holds for it."""

    file: str
    document: Document
    job: FineTuningJob
    config_maps: ConfigMaps
    ignored: tuple[str, ...]

    def at(self, *loc: int | str) -> str:
        """`job.yaml:9: spec.dataset.source`, to begin a message with."""
        return f"{self.file}:{self.document.line(loc)}: {dotted(loc)}"


def load(path: Path, name: str | None = None, *, to_create: bool = False) -> Manifest:
    """Read `path` (`-` is standard input); raises InputError that names line, field and remedy.

    A job `to_create` may leave its name to the API server.
    """
    file = "<stdin>" if path == Path("-") else str(path)
    found = list(_objects(documents(_read(path), file), file))
    chosen = _chosen([each for each in found if each.body["kind"] == KIND], name, file)
    maps = [each for each in found if each.body["kind"] == "ConfigMap"]
    others = Counter(each.body["kind"] for each in found)
    return Manifest(
        file=file,
        document=chosen,
        job=_job(chosen, file, to_create=to_create),
        config_maps=dict(_config_map(each, file) for each in maps),
        ignored=tuple(
            f"{count} {kind}" for kind, count in others.items() if kind not in (KIND, "ConfigMap")
        ),
    )


def _read(path: Path) -> str:
    try:
        if path == Path("-"):
            return sys.stdin.read(MAX_BYTES)
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the manifest of a {KIND}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give the YAML file of a {KIND}") from None


def _objects(found: Sequence[Document], file: str) -> Iterator[Document]:
    """The objects of a file; those inside a `kind: List` count on their own, as for kubectl."""
    for document in found:
        body = document.body
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            where = f"{file}:{document.line(())}"
            raise InputError(f"{where}: not a Kubernetes object: it needs apiVersion and kind")
        if body["kind"] != "List":
            yield document
            continue
        yield from _objects(list(_items(document, file)), file)


def _items(document: Document, file: str) -> Iterator[Document]:
    """Raises InputError where a list holds something else than a list."""
    found = document.body.get("items") or []
    if not isinstance(found, list):
        where = f"{file}:{document.line(('items',))}"
        raise InputError(f"{where}: items: must be of type array, a list of objects")
    nodes = {key.value: value for key, value in document.node.value}
    # A list that an alias stands for, or that is merged in, has its lines elsewhere.
    lines = nodes["items"].value if "items" in nodes else [document.node] * len(found)
    for body, node in zip(found, lines, strict=True):
        yield Document(body, node)


def _name(document: Document) -> str:
    metadata = document.body.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _chosen(jobs: Sequence[Document], name: str | None, file: str) -> Document:
    names = [_name(job) for job in jobs]
    chosen = [job for job in jobs if name in (None, _name(job))]
    if not jobs:
        raise InputError(f"{file}: no {KIND} in it (apiVersion: {GROUP}/{VERSION}, kind: {KIND})")
    if not chosen:
        raise InputError(f'{file}: no {KIND} "{name}"; it has {", ".join(names)}')
    if len(chosen) > 1:
        raise InputError(
            f"{file}: {len(chosen)} FineTuningJobs ({', '.join(names)}); "
            f"choose one with --name {names[0]}"
        )
    return chosen[0]


def as_created(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a name such as the API server makes of generateName, where there is no other."""
    found = body.get("metadata")
    meta = found if isinstance(found, Mapping) else {}
    begin = meta.get("generateName")
    if meta.get("name") or not isinstance(begin, str):
        return body
    return {**body, "metadata": {**meta, "name": f"{begin}{_GENERATED}"}}


def _job(document: Document, file: str, *, to_create: bool) -> FineTuningJob:
    body = as_created(document.body) if to_create else document.body
    given = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
    try:
        job = FineTuningJob.from_body(given)
    except ValidationError as error:
        raise InputError(*complaints(document, file, error)) from None
    if unknown := complaints(document, file, None):
        raise InputError(*unknown)
    return job


def _config_map(document: Document, file: str) -> tuple[str, dict[str, bytes]]:
    body: dict[str, Any] = document.body
    where = f"{file}:{document.line(('data',))}: ConfigMap {_name(document)}"
    data = body.get("data") or {}
    if not isinstance(data, dict):
        raise InputError(f"{where}: data: must be of type object, a text for each key")
    if bad := [key for key, value in data.items() if not isinstance(value, str)]:
        raise InputError(f"{where}: data.{bad[0]}: must be of type string; put it in quotes")
    try:
        binary = {
            key: base64.b64decode(value, validate=True)
            for key, value in (body.get("binaryData") or {}).items()
        }
    except (AttributeError, binascii.Error, TypeError, ValueError):
        raise InputError(f"{where}: binaryData must be base64") from None
    return _name(document), {key: value.encode() for key, value in data.items()} | binary
