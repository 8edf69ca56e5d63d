"""What the rules about a profile look at: the profile, and what else is known of its run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetuning.artifacts import ADAPTER_CONFIG
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.base_model import base_folder
from finetuning.monitoring.validators.checks.serving import cache_bytes_per_token
from finetuning.monitoring.validators.checks.values import is_count
from finetuning.monitoring.validators.checks.weights import Tensor, read_header
from finetuning.monitoring.validators.subject import Subject

REQUIRED_TEXT = ("model_id", "base_model_id", "fine_tuning_method")
MEMORY_REQUIRED = "memory_gb"
MEMORY_OPTIONAL = "recommended_partition_gb"
RESULTS = ("train_loss", "final_loss", "eval_loss", "global_step")
"""Of `training_info` in a profile."""

BITS = {"fp4": 4, "int4": 4, "fp8": 8, "int8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
STORED_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_TEXTS_AT_ONCE = 16
"""Whose cache a server keeps beside the weights, each of full length."""


@dataclass(frozen=True)
class Facts:
    """The profile and what else is known of the run; None is unknown."""

    profile: Mapping[str, Any]
    model_ids: tuple[str, ...]
    """All that may be the base model's name; empty where it is not known."""
    method: str | None
    weights: tuple[Tensor, ...]
    """Of the result, without those of a base model."""
    base_weights: tuple[Tensor, ...] | None
    """None where the result is an adapter whose base model is not at hand."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """adapter_config.json of the result; empty for a whole model."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """What training_info.json tells of the run's end."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json of the base model, or of the whole one."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """The run's settings; empty where the profile is not the trainer's own."""

    @property
    def positions(self) -> int | None:
        """The longest text, in tokens, that the model was made for."""
        found = self.config.get("max_position_embeddings")
        return found if is_count(found) else None

    @property
    def cache_gb(self) -> float | None:
        """What texts of full length take beside the weights; None where it is unknown."""
        each = cache_bytes_per_token(self.config)
        length = max(self.profile.get("context_tokens") or 0, self.positions or 0)
        return None if each is None or not length else _TEXTS_AT_ONCE * each * length / 2**30

    @property
    def weights_gb(self) -> float:
        """What the weights take in the profile's precision, 2^30 bytes each.

        2^30 and not 10^9: whichever of the two the profile means, this is the milder reading.
        """
        bits = BITS.get(self.profile.get("precision", "auto"))
        both = (*self.weights, *(self.base_weights or ()))
        return sum(_bytes_in(tensor, bits) for tensor in both) / 2**30


def gather(profile: Mapping[str, Any], subject: Subject) -> Facts:
    info, folder = subject.info, subject.model_path
    config = _adapter_config(folder)
    base = base_folder(subject) if config else None
    return Facts(
        profile,
        _names(subject),
        subject.settings.method or (info.method if info else None),
        _tensors(folder, links=False),
        (_tensors(base, links=True) or None) if config else (),
        config,
        info.results.model_dump(exclude_none=True) if info else {},
        _object(base or folder, "config.json", links=base is not None),
        _trained(info),
    )


def _names(subject: Subject) -> tuple[str, ...]:
    told = subject.settings.model_id
    if told is None:
        return (subject.info.model_id,) if subject.info and subject.info.model_id else ()
    # A run names a folder by a path that holds from anywhere.
    return (told, str(Path(told).resolve())) if Path(told).is_dir() else (told,)


def _adapter_config(folder: Path | None) -> Mapping[str, Any]:
    return _object(folder, ADAPTER_CONFIG)


def _trained(info: TrainingInfo | None) -> Mapping[str, Any]:
    """The trainer says where it ran; whoever writes a description by hand does not."""
    return {"model_id": info.model_id, **info.training_config} if info and info.environment else {}


def _object(folder: Path | None, name: str, *, links: bool = False) -> Mapping[str, Any]:
    path = folder / name if folder else None
    try:
        found = read_json(path.resolve() if links else path) if path else None
    except UnreadableFileError:
        return {}
    return found if isinstance(found, dict) else {}


def _tensors(folder: Path | None, *, links: bool) -> tuple[Tensor, ...]:
    """From the headers; a file that is none is the other check's business.

    A base model may be one of the Hub's cache, which is made of links; a result may not.
    """
    found: list[Tensor] = []
    for path in sorted(folder.glob("*.safetensors")) if folder and folder.is_dir() else ():
        try:
            found += (
                read_header(path).tensors
                if path.is_file() and (links or not path.is_symlink())
                else ()
            )
        except (ImportError, UnreadableFileError):
            continue
    return tuple(found)


def _bytes_in(tensor: Tensor, bits: int | None) -> float:
    """In the profile's precision, where it is smaller than the stored one; else as stored."""
    stored = STORED_BITS.get(tensor.dtype)
    return tensor.size if bits is None or stored is None else tensor.size * min(bits / stored, 1)


def value_at(profile: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = profile
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
