"""The ways in which jobs are written for scripts, as kubectl writes them."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml

from finetuning.api.v1alpha1 import GROUP, SINGULAR
from finetuning.artifacts.plain import plain


class Format(StrEnum):
    """What `-o` takes."""

    JSON = "json"
    YAML = "yaml"
    WIDE = "wide"
    NAME = "name"


Raw = Mapping[str, Any]


def one(job: Raw, how: Format) -> str:
    """One object; raises ValueError for `wide`, which is no way to write an object."""
    match how:
        case Format.NAME:
            return f"{SINGULAR}.{GROUP}/{plain(str(job['metadata']['name']), 300)}"
        case Format.JSON:
            return json.dumps(_shown(job), indent=2, ensure_ascii=False)
        case Format.YAML:
            return yaml.safe_dump(_shown(job), sort_keys=False, allow_unicode=True).rstrip()
        case Format.WIDE:
            raise ValueError(how)


def many(jobs: Sequence[Raw], how: Format) -> str:
    """A List as kubectl's, or a name per line."""
    if how is Format.NAME:
        return "\n".join(one(job, how) for job in jobs)
    found = {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"name": ""},
        "items": [_shown(job) for job in jobs],
    }
    return one(found, how)


def _shown(job: Raw) -> dict[str, Any]:
    """Without the bookkeeping of field managers, which kubectl leaves out as well."""
    meta = {name: value for name, value in job["metadata"].items() if name != "managedFields"}
    return {**job, "metadata": meta}
