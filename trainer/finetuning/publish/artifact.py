"""A copy as an OCI artifact of the ModelPack kind: a pure function of the files and the run.

A layer is a file as it is. Its digest is then the one that the training sealed, nothing has to be
packed before it is sent, and a file that two models share is stored once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetuning.publish.bundle import Bundle
from finetuning.publish.facts import Facts

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
SETTINGS = "application/vnd.cncf.model.weight.config.v1.raw"
DOCUMENT = "application/vnd.cncf.model.doc.v1.raw"

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
FILE_PATH = "org.cncf.model.filepath"
UNTESTED = "org.cncf.model.file.mediatype.untested"
SEAL = "finetuning.aim.amd.com/manifest-sha256"
"""Tells an artifact of ours, and the run that it is of."""

_DOCUMENTS = (".md", ".txt", "_report.json")
_PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Artifact:
    """What a registry keeps beside the files: both as the bytes that their digests are of."""

    manifest: bytes
    config: bytes


def compose(bundle: Bundle, facts: Facts) -> Artifact:
    """The same files and the same run give the same bytes."""
    layers = [_layer(name, bundle) for name in bundle.items]
    config = _as_bytes(_config(facts, [layer["digest"] for layer in layers]))
    title = {TITLE: name} if (name := _name(facts)) else {}
    created = {CREATED: when} if (when := _when(facts)) else {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest(config), "size": len(config)},
        "layers": layers,
        "annotations": {SEAL: bundle.manifest_sha256, **title, **created},
    }
    return Artifact(_as_bytes(manifest), config)


def digest(data: bytes) -> str:
    """As registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_ours(manifest: bytes) -> bool:
    """Whether a publication wrote it."""
    try:
        found = json.loads(manifest)
        return SEAL in found["annotations"]
    except (ValueError, KeyError, TypeError):
        return False


def _layer(name: str, bundle: Bundle) -> dict[str, Any]:
    entry = bundle.items[name].entry
    return {
        "mediaType": _media_type(name),
        "digest": f"sha256:{entry.sha256}",
        "size": entry.size,
        # Clients for models read the one, others, such as ORAS, the other.
        "annotations": {FILE_PATH: name, TITLE: name, UNTESTED: "false"},
    }


def _media_type(name: str) -> str:
    if name.endswith(".safetensors"):
        return WEIGHTS
    return DOCUMENT if name.endswith(_DOCUMENTS) else SETTINGS


def _config(facts: Facts, diff_ids: list[str]) -> Json:
    described = {"name": _name(facts), "createdAt": _when(facts)}
    precision = _PRECISIONS.get(str(facts.profile.get("precision")))
    known = {"architecture": "transformer", "format": "safetensors", "precision": precision}
    return {
        "descriptor": dict(_said(described)),
        "config": dict(_said(known)),
        # Of a file that is neither packed nor compressed, this is the layer's own digest.
        "modelfs": {"type": "layers", "diffIds": diff_ids},
    }


def _said(values: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in values.items() if value)


def _name(facts: Facts) -> str:
    found = facts.info.get("job_name") or facts.profile.get("model_id")
    return found if isinstance(found, str) else ""


def _when(facts: Facts) -> str:
    """When the training began; empty when the run does not say."""
    try:
        moment = datetime.fromtimestamp(float(facts.info["started_at"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _as_bytes(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
