"""Finding the base model: a local folder, or the Hugging Face Hub; safetensors only.

Pickled weights run code when they are loaded, so they are never fetched and never opened.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from finetuning.api.hyperparameters import Method
from finetuning.artifacts import (
    ADAPTER_CONFIG,
    CHAT_TEMPLATES_DIR,
    GENERATION_CONFIG,
    MODEL_CONFIG,
    TOKENIZER_FILES,
    VOCABULARIES,
)
from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.failures import first_line
from finetuning.artifacts.tokenizer_settings import FILES, named_file
from finetuning.artifacts.volume import leaves
from finetuning.base.errors import ModelError
from finetuning.base.weight_files import refuse_damaged

CONFIG_FILES = (MODEL_CONFIG, GENERATION_CONFIG)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_WEIGHTS_ALONE = frozenset({".bin", ".gguf", ".onnx", ".pt", ".pth", ".safetensors"})
"""Large files, which may be links to another disk: no tokenizer is made of any."""

_NOT_WANTED = ("*/*", "consolidated*")
"""Copies of the weights in the forms of other tools."""

SERVER_TROUBLE = 500
TOO_MANY_REQUESTS = 429
_POD = "KUBERNETES_SERVICE_HOST"
"""Kubernetes sets it in every pod."""


class Named(Protocol):
    """A base model as a run names it."""

    @property
    def model_id(self) -> str: ...
    @property
    def model_path(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...


def local_folder(config: Named) -> Path | None:
    """The folder that holds the model, or None when it comes from the Hub."""
    if config.model_path is not None:
        return _existing(Path(config.model_path).expanduser(), "--model-path")
    path = Path(config.model_id).expanduser()
    if path.is_dir() or config.model_id.startswith((".", "/", "~")):
        return _existing(path, "--model-id")
    return None


def base_name(config: Named) -> str:
    """How the result names its base model: by its id, or by a path that holds from anywhere."""
    folder = local_folder(config)
    if config.model_path is None and folder is not None:
        return str(folder)
    return config.model_id


def settings_folder(config: Named) -> Path:
    """A folder with the model's configuration and tokenizer; the weights may not be there yet."""
    folder = local_folder(config) or _download(config, CONFIG_FILES + TOKENIZER_FILES)
    _refuse_adapter(folder)
    _refuse_foreign_files(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: has no config.json; give a folder as save_pretrained writes it"
        )
    if not any(path.name.endswith(VOCABULARIES) for path in folder.iterdir()):
        # transformers makes one without a token then, of which every text is nothing.
        raise ModelError(
            f"{folder}: has no tokenizer, which is one of {', '.join(VOCABULARIES[:5])}; put the "
            "tokenizer files of the model there, or take a model that has them"
        )
    return folder


def _refuse_adapter(folder: Path) -> None:
    """An adapter that lies beside a model would be put into it by transformers, unasked.

    Raises:
        ModelError: there is one, with its model or without.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: holds an adapter, not a model; give the model it was made for")
    raise ModelError(
        f"{folder}: holds a model and an adapter for it ({ADAPTER_CONFIG}), and nothing tells "
        "whether the adapter belongs to the base; move the adapter's files away, or merge it into "
        "the model and give the folder with that"
    )


def _refuse_foreign_files(folder: Path) -> None:
    """What a result gets from its base model, and whoever it is published to with it, is its own.

    Raises:
        ModelError: one of these files is a link to what the model did not bring, or names it.
    """
    for path in _read_beside_weights(folder):
        if leaves(folder.resolve() / path.relative_to(folder)):
            raise ModelError(
                f"{path}: is a link out of the volume that the model is on; put the file "
                "itself there, or remove the link"
            )
    if named := named_file(folder / name for name in FILES):
        raise ModelError(
            f"{folder}: {named}, which would be read as a part of the tokenizer; take that setting "
            "out, or take another model"
        )


def _read_beside_weights(folder: Path) -> Iterator[Path]:
    """Whatever a tokenizer may be made of: each class has names of its own for its files."""
    yield from sorted(path for path in folder.iterdir() if path.suffix not in _WEIGHTS_ALONE)
    yield from sorted((folder / CHAT_TEMPLATES_DIR).glob("*"))


def require_weights(config: Named) -> None:
    """Of a model that lies here, before the seconds that torch takes; the Hub's are not here yet.

    Raises:
        ModelError: they are not there, not whole, or pickled.
    """
    folder = local_folder(config)
    if folder is not None:
        refuse_damaged(folder)
        weights_folder(config)


def refuse_four_bit(settings: Path, method: Method) -> None:
    """Weights that somebody else has put into 4 bit are trained on by qlora alone.

    Raises:
        ModelError: they are of that kind, and the method is another.
    """
    told = read_settings(settings, "config.json").get("quantization_config")
    kind = told.get("quant_method") if isinstance(told, dict) else None
    if kind == "bitsandbytes" and method is not Method.QLORA:
        raise ModelError(
            f"{settings}: its weights are quantised by bitsandbytes already; train it with "
            f"--method qlora, or take the model in 16 bit for --method {method}"
        )


def weights_folder(config: Named) -> Path:
    """The same folder with the weights in it."""
    wanted = CONFIG_FILES + TOKENIZER_FILES + WEIGHTS
    folder = local_folder(config) or _download(config, wanted)
    _refuse_adapter(folder)
    _refuse_foreign_files(folder)
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only pickled ones ({pickled[0]}), which can run code" if pickled else "none"
        raise ModelError(
            f"{config.model_id}: needs weights as *.safetensors and has {found}; "
            "convert it with save_pretrained of transformers, or take another revision"
        )
    return folder


def _existing(path: Path, flag: str) -> Path:
    if not path.is_dir():
        raise ModelError(f"{flag} {path}: no such folder; give a model's folder or a Hub id")
    return path.resolve()


def _download(config: Named, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only without a local folder

    try:
        return Path(
            snapshot_download(
                config.model_id,
                revision=config.revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(_NOT_WANTED),
            )
        )
    except Exception as error:
        raise _explained(config, error) from error


def _explained(config: Named, error: Exception) -> ModelError:
    """The Hub's client hides the cause behind what it tried next, so the whole chain counts."""
    explanations = (_explain(config, cause) for cause in _chain(error))
    text = next((text for text in explanations if text), None)
    return ModelError(text) if text else _network_error(config.model_id, error)


def _explain(config: Named, error: BaseException) -> str | None:
    from huggingface_hub import errors  # noqa: PLC0415 - only after a failure

    model = config.model_id
    match error:
        case errors.GatedRepoError():
            return (
                f"{model}: is gated; accept its terms at https://huggingface.co/{model} and "
                "set HF_TOKEN to a token of that account"
            )
        case errors.RevisionNotFoundError():
            return f"{model}: has no revision {config.revision!r}; check --revision"
        case errors.RepositoryNotFoundError():
            return (
                f"{model}: not found on the Hugging Face Hub, or private; check --model-id, "
                "or set HF_TOKEN"
            )
        case errors.HFValidationError():
            return f"--model-id {model}: neither a local folder nor a Hub id such as org/name"
        case _:
            return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _network_error(model: str, error: Exception) -> ModelError:
    """Not reached, or not answered: the second may be over at the next try."""
    if status := trouble_of(error):
        result = ModelError(f"{model}: the Hugging Face Hub answers {status}; try again later")
        result.exit_code = ExitCode.FAILED
        return result
    first = first_line(error, 200)
    result = ModelError(
        f"{model}: no such folder, and the Hugging Face Hub cannot be reached ({first}); check the "
        "network and HF_HUB_OFFLINE, or give a local folder with --model-path"
    )
    if in_a_pod():
        result.exit_code = ExitCode.FAILED
    return result


def trouble_of(error: BaseException) -> int:
    """The Hub's answer where the next one may be another; 0 where it gave none of that kind."""
    responses = (getattr(cause, "response", None) for cause in _chain(error))
    status = next((int(r.status_code) for r in responses if r is not None), 0)
    return status if status >= SERVER_TROUBLE or status == TOO_MANY_REQUESTS else 0


def is_unreachable(error: BaseException) -> bool:
    """Whether no answer came at all, as the Hub's client and that of its data sets tell it."""
    return any(isinstance(cause, ConnectionError | TimeoutError) for cause in _chain(error))


def in_a_pod() -> bool:
    """A node's network comes back, and the Job tries again; a person has to mend the command."""
    return _POD in os.environ


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """One of the model's JSON files, often a link into the Hub's cache; empty when absent."""
    try:
        data = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        text = f"{folder / name}: not readable as JSON: {error}; download the model again"
        raise ModelError(text) from error
    return data if isinstance(data, dict) else {}
