"""Loading the tokenizer and the base model, and putting the method's adapter on it."""

import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.api.hyperparameters import ALL_LINEAR, ComputeDtype, Method, Precision
from finetuning.api.run_config import RunConfig
from finetuning.artifacts import CHAT_TEMPLATES_DIR
from finetuning.artifacts.failures import first_line
from finetuning.artifacts.foreign_code import ask_nobody
from finetuning.base.device import Device
from finetuning.base.errors import ConfigError, ModelError
from finetuning.base.hub import read_settings
from finetuning.dataset.conversation import chatml_for

if TYPE_CHECKING:
    import torch

_SHOWN_TENSORS = 3
_ANY_TEXT = "The capital of Peru is Lima."

_MAMBAS = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
_READ_BY_KERNELS = frozenset({"conv1d", "out_proj"})
"""Layers of these models whose weights are read past an adapter, so that peft refuses one."""

_PEFT_REMEDIES = {
    "lora_dropout": "give --lora-dropout 0: it adapts experts that share a matrix without dropout",
    "DoRA": "leave out --use-dora",
    "use_dora": "leave out --use-dora",
}
"""By a word of what peft says."""

log = logging.getLogger(__name__)


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer; ChatML is its template when it has none."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - loads torch

    ask_nobody()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ModelError(
            f"{folder}: has no tokenizer that can be loaded: {type(error).__name__}: "
            f"{first_line(error).rstrip('.')}; put the model's own tokenizer files there"
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{folder}: its tokenizer cannot tell where its tokens stand in the text; "
            "add a tokenizer.json"
        )
    if not tokenizer(_ANY_TEXT, add_special_tokens=False).input_ids:
        raise ModelError(
            f"{folder}: its tokenizer has no token for any text; put the model's own "
            "tokenizer.json there"
        )
    if any((folder / CHAT_TEMPLATES_DIR).glob("*.jinja")):
        # One is in the result, which has to answer by what it was trained with.
        known = tokenizer.chat_template
        tokenizer.chat_template = known.get("default") if isinstance(known, dict) else known
    if not tokenizer.chat_template:
        log.info("The tokenizer has no chat template; using ChatML, and writing it to the result.")
        tokenizer.chat_template = chatml_for(tokenizer)
    return tokenizer


def load_base(folder: Path, config: RunConfig, device: Device) -> Any:
    """The causal language model in the format that the method trains it in.

    Raises:
        ModelError: no causal model of a known architecture, or damaged weights.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - loads torch

    ask_nobody()
    _quieten()
    quantization = _quantization(config, device)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_weights_dtype(config.method, device),
            quantization_config=quantization,
            device_map=_device_map(device, quantized=quantization is not None),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # Told below: the library's error has no names.
        )
    except ImportError as error:
        raise ConfigError(f"--method {config.method}: {first_line(error)}") from error
    except Exception as error:
        raise load_error(folder, error) from error
    _check_complete(folder, report)
    if quantization:
        _repair_cpu_quantization(model)
    return model


def load_whole(folder: Path) -> Any:
    """The model on the CPU in the format that its weights are stored in.

    Raises:
        ModelError: no causal model of a known architecture, or damaged weights.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - loads torch

    ask_nobody()
    _quieten()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        raise load_error(folder, error) from error
    _check_complete(folder, report)
    return model


def add_adapter(model: Any, config: RunConfig) -> Any:
    """A trainable low-rank adapter in 32 bit on the frozen base.

    Raises:
        ConfigError: the layers that it was asked for are not there, or peft takes none of them.
    """
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - takes seconds

    lora = config.lora_config
    whole = whole_modules(lora.modules_to_save, trainable_names(model))
    others = parts_beside_text(model)
    targets = target_modules(lora.target_modules, linear_names(model, others))
    refuse_both(whole, targets, [name for name, _ in model.named_modules()])
    adapter = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        exclude_modules=rf"({'|'.join(map(re.escape, others))})\..*" if others else None,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        modules_to_save=whole or None,
        ensure_weight_tying=_tied(model, whole),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config.hyperparameters.seed)
    with warnings.catch_warnings():
        # peft asks for an attribute that transformers renames.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        try:
            tuned = get_peft_model(model, adapter)
        except (ValueError, NotImplementedError) as error:
            raise _refused_by_peft(error, targets) from error
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


def _refused_by_peft(error: Exception, targets: list[str]) -> ConfigError:
    text = first_line(error)
    remedy = next(
        (known for word, known in _PEFT_REMEDIES.items() if word in text),
        "name other layers there, without those that it names",
    )
    return ConfigError(
        f"--target-modules {' '.join(targets)}: peft refuses an adapter there: "
        f"{text.rstrip('.')}; {remedy}"
    )


def load_adapter(model: Any, folder: Path) -> None:
    """Give the adapter the weights of a checkpoint."""
    from peft import set_peft_model_state_dict  # noqa: PLC0415 - the model is peft's already
    from safetensors.torch import load_file  # noqa: PLC0415 - loads torch

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def parts_beside_text(model: Any) -> list[str]:
    """Of a model that sees or hears as well, what no row reaches: an adapter there stays as it is.

    Its layers are often called as those for text are.
    """
    text = model.get_decoder()
    path = next((name for name, module in model.named_modules() if module is text), "")
    parent = path.rpartition(".")[0]
    if not parent:
        return []
    around = model.get_submodule(parent).named_children()
    return [f"{parent}.{name}" for name, module in around if module is not text]


def freeze_beside_text(model: Any) -> None:
    """What no row reaches is not trained: no gradient comes, for which other processes wait."""
    head = model.get_output_embeddings()
    for name in parts_beside_text(model):
        part = model.get_submodule(name)
        if all(module is not head for module in part.modules()):
            part.requires_grad_(requires_grad=False)


def linear_names(model: Any, others: list[str]) -> set[str]:
    """The last part of the name of every linear layer for text but the head.

    Without those that peft refuses.
    """
    import torch  # noqa: PLC0415 - loaded by whoever made the model
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    head = model.get_output_embeddings()
    named = {
        name.rsplit(".", maxsplit=1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not head
        and not name.startswith(tuple(f"{other}." for other in others))
    }
    # A layer in a list is called by its number, as other lists' members are.
    named = {name for name in named if not name.isdigit()}
    return named - (_READ_BY_KERNELS if model.config.model_type in _MAMBAS else set())


def target_modules(wish: list[str], there: set[str]) -> list[str]:
    """The wished layers as leaf names, sorted so that every adapter reads the same.

    Raises:
        ConfigError: a name matches nothing, which would train less than was asked for.
    """
    if wish == [ALL_LINEAR]:
        return sorted(there)
    unknown = sorted({name for name in wish if name.rsplit(".", maxsplit=1)[-1] not in there})
    if unknown:
        raise ConfigError(
            f"--target-modules: this model has no linear layer named {', '.join(unknown)}; "
            f"it has {', '.join(sorted(there))}; or give {ALL_LINEAR}"
        )
    return sorted(set(wish))


def _tied(model: Any, whole: list[str]) -> bool:
    """Whether a head that is trained in full shares its weights with the embeddings, as before."""
    from peft.utils.constants import EMBEDDING_LAYER_NAMES  # noqa: PLC0415 - takes seconds

    shares = bool(model.config.get_text_config().tie_word_embeddings)
    return shares and any(name.rsplit(".")[-1] in EMBEDDING_LAYER_NAMES for name in whole)


def trainable_names(model: Any) -> set[str]:
    """The last part of the name of every module whose own weights are no 4-bit ones."""
    return {
        name.rsplit(".", maxsplit=1)[-1]
        for name, module in model.named_modules()
        if (own := list(module.parameters(recurse=False)))
        and all(parameter.is_floating_point() for parameter in own)
    }


def whole_modules(wish: list[str], there: set[str]) -> list[str]:
    """The layers that are trained in full, sorted so that every adapter reads the same.

    Raises:
        ConfigError: a name matches nothing that can be trained, which peft passes over in silence.
    """
    unknown = sorted({name for name in wish if name.rsplit(".", maxsplit=1)[-1] not in there})
    if unknown:
        raise ConfigError(
            f"--modules-to-save: this model has no layer that can be trained in full named "
            f"{', '.join(unknown)}; it has {', '.join(sorted(there))}"
        )
    return sorted(set(wish))


def refuse_both(whole: list[str], targets: list[str], modules: list[str]) -> None:
    """A layer is trained in full or by the adapter.

    Raises:
        ConfigError: it is named for both, perhaps under two spellings.
    """
    for name in modules:
        full = [wish for wish in whole if f".{name}".endswith(f".{wish}")]
        adapted = [wish for wish in targets if f".{name}".endswith(f".{wish}")]
        if full and adapted:
            raise ConfigError(
                f"--modules-to-save {full[0]} and --target-modules {adapted[0]} both name {name}: "
                "leave it to one of them"
            )


def _device_map(device: Device, *, quantized: bool) -> dict[str, str] | None:
    """Straight to the device, tensor by tensor: a large model never stands in the host's memory."""
    direct = device.on_gpu or not device.computes or quantized
    return {"": str(device.device)} if direct else None


def _weights_dtype(method: Method, device: Device) -> "torch.dtype":
    """Weights that are trained stay in 32 bit; frozen ones need no more than they compute in."""
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded

    return torch.float32 if method is Method.FULL else device.compute_dtype


def _quantization(config: RunConfig, device: Device) -> Any:
    wish = config.quantization_config
    if config.method is not Method.QLORA or not wish.load_in_4bit:
        return None
    from transformers import BitsAndBytesConfig  # noqa: PLC0415 - loads torch

    compute, note = four_bit_dtype(wish.bnb_4bit_compute_dtype, device)
    if note:
        level = logging.WARNING if device.on_gpu else logging.INFO
        log.log(level, "4-bit weights are multiplied in %s: %s.", compute, note)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=compute.value,
        bnb_4bit_use_double_quant=wish.bnb_4bit_use_double_quant,
        bnb_4bit_quant_type=wish.bnb_4bit_quant_type.value,
    )


def four_bit_dtype(wish: ComputeDtype, device: Device) -> tuple[ComputeDtype, str]:
    """What 4-bit weights are multiplied in, and what to know of it."""
    if wish is not ComputeDtype.FLOAT16:
        return wish, ""
    if not device.on_gpu:
        return ComputeDtype.FLOAT32, "bnb4bitComputeDtype float16 needs a GPU, and none was found"
    if device.precision is not Precision.BF16:
        return wish, ""
    return wish, (
        "what bf16 holds beyond 65,504 becomes infinite there, and the loss no number with some "
        "models; set bnb4bitComputeDtype (--bnb-4bit-compute-dtype) to bfloat16 with bf16"
    )


def _repair_cpu_quantization(model: Any) -> None:
    """Keep bitsandbytes from repacking the weights of a CPU in evaluation.

    On a CPU with AVX512-BF16 the repacking cannot be undone, and the next training step fails.
    """
    from bitsandbytes.nn import Linear4bit  # noqa: PLC0415 - takes a second

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _quieten() -> None:
    """Keep lines away that nobody can act on, such as bitsandbytes' about an optional package."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - loads torch

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def load_error(folder: Path, error: Exception) -> ModelError:
    text = first_line(error)
    if "trust_remote_code" in str(error):
        text = (
            "it needs Python code of its own, which is never run here; take a model that does not"
        )
    kind = read_settings(folder, "config.json").get("model_type", "unknown")
    return ModelError(
        f"{folder}: cannot be loaded as a causal language model ({kind}): {text.rstrip('.')}; "
        "compare its files with those where it comes from, or take another model"
    )


def _check_complete(folder: Path, report: Any) -> None:
    """Weights that are missing, or of other sizes, would be made up at random."""
    for name, there, wanted in sorted(report["mismatched_keys"], key=str):
        raise ModelError(
            f"{folder}: {name} is {list(there)} in its weights, by its config.json it is "
            f"{list(wanted)}; the two are of different models, so download the model again"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        names = ", ".join(missing[:_SHOWN_TENSORS])
        raise ModelError(
            f"{folder}: its weights lack {len(missing)} tensors of the architecture, such as "
            f"{names}; the model is incomplete or no causal language model: download it again, or "
            "take another"
        )
