"""Between what people have (a file, a model, a mapping) and what the API server keeps."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from finetuning.api.text import JobName, NamespaceName
from finetuning.api.v1alpha1 import GROUP, KIND, VERSION, FineTuningJob
from finetuning.artifacts.plain import plain
from finetuning.client.errors import ClientError, InvalidJobError
from finetuning.controller import status
from finetuning.local import manifest
from finetuning.local.problems import InputError

Raw = dict[str, Any]
JobLike = FineTuningJob | Mapping[str, Any] | str | Path
"""A model, a manifest as a mapping, or the path of a manifest."""

_NAME = TypeAdapter(JobName)
_NAMESPACE: TypeAdapter[str] = TypeAdapter(NamespaceName)
_NOT_SENT = {"uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp"}


def named(name: str) -> str:
    """A name that a job can have: it becomes part of an address, where others lead elsewhere.

    Raises:
        InvalidJobError: no job can be called so.
    """
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        raise InvalidJobError(f"name: Invalid value: {name!r}: {_why(error)}") from None


def namespaced(namespace: str) -> str:
    """The same of a namespace; an empty one, which a manifest may have, is none here."""
    try:
        return _NAMESPACE.validate_python(namespace or " ")
    except ValidationError as error:
        raise InvalidJobError(f"namespace: Invalid value: {namespace!r}: {_why(error)}") from None


def _why(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")


def to_submit(job: JobLike, name: str | None = None) -> Raw:
    """The manifest to send, checked as the API server will check it; `name` chooses in a file.

    Raises:
        InvalidJobError: it cannot be accepted; a line for each mistake.
    """
    if isinstance(job, FineTuningJob):
        return _of_model(job)
    if isinstance(job, Mapping):
        return _of_mapping(job)
    return _of_file(Path(job).expanduser(), name)


def _of_model(job: FineTuningJob) -> Raw:
    """Only what was set, also later, so that the API server's defaults are its own."""
    changed = job.model_copy(deep=True)
    _count_as_set(changed)
    told = changed.model_dump(
        mode="json",
        by_alias=True,
        exclude_unset=True,
        exclude_none=True,
        exclude={"status"},
        warnings=False,
    )
    meta = {name: value for name, value in told["metadata"].items() if name not in _NOT_SENT}
    # The model fills in an adapter, which nobody has asked for while it is empty.
    spec = {name: value for name, value in told["spec"].items() if value != {}}
    return _of_mapping(
        {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": meta, "spec": spec}
    )


def _count_as_set(part: BaseModel) -> None:
    """What was changed inside a default: pydantic remembers only the fields of a constructor."""
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            _count_as_set(value)
        if value != field.get_default(call_default_factory=True, validated_data={}):
            part.model_fields_set.add(name)


def _of_mapping(job: Mapping[str, Any]) -> Raw:
    kept = {name: value for name, value in job.items() if name != "status"}
    try:
        FineTuningJob.from_body(manifest.as_created(kept))
    except ValidationError as error:
        raise InvalidJobError(*_lines(error)) from None
    return kept


def _of_file(path: Path, name: str | None) -> Raw:
    try:
        found = manifest.load(path, name, to_create=True)
    except InputError as error:
        raise InvalidJobError(*error.lines) from None
    if others := [*(f"ConfigMap {each}" for each in found.config_maps), *found.ignored]:
        raise InvalidJobError(
            f"{found.file}: holds {', '.join(others)} beside the {KIND}; create all of it with "
            f"kubectl apply -f {found.file}"
        )
    return {key: value for key, value in found.document.body.items() if key != "status"}


def _lines(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
        for each in error.errors(include_url=False)
    ]


def parsed(raw: Raw) -> FineTuningJob:
    """The typed job; fields of a newer operator are left out.

    Raises:
        ClientError: a value of another version, which this one cannot read.
    """
    try:
        job = _known({key: raw[key] for key in raw if key != "status"})
    except ValidationError as error:
        name = plain(str(raw["metadata"].get("name")), 100)
        raise ClientError(
            f"{name}: this version of finetuning cannot read it ({plain(_lines(error)[0], 200)}); "
            "install the version that the cluster's operator has"
        ) from None
    job.status = status.parse(raw.get("status"))
    return job


def _known(body: Raw) -> FineTuningJob:
    """The API server fills in defaults of fields that an older client has never heard of."""
    try:
        return FineTuningJob.from_body(body)
    except ValidationError as error:
        kept: Any = copy.deepcopy(body)
        for each in error.errors(include_url=False):
            if each["type"] == "extra_forbidden":
                *parents, name = each["loc"]
                parent = kept
                for part in parents:
                    parent = parent[part]
                del parent[name]
        return FineTuningJob.from_body(kept)
