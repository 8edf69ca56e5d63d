"""torch.compile for the layers of a model, in place: what is written and read keeps its names.

Layer by layer, since all layers of a model are one piece of code, which is compiled once.
"""

import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters
from finetuning.artifacts.failures import first_line
from finetuning.base.device import Device
from finetuning.base.distribute import layers_of
from finetuning.base.errors import ConfigError

CACHE = ("TORCHINDUCTOR_CACHE_DIR", "~/.cache/finetuning/torchinductor")
"""A folder of the user's own, where torch takes one below /tmp: what lies there is run."""

log = logging.getLogger(__name__)


def require_compiler(device: Device) -> None:
    """Found out before a model is loaded.

    Raises:
        ConfigError: what torch.compile needs for this device is not there.
    """
    names = ("CC", "gcc", "clang") if device.on_gpu else ("CXX", "g++")
    variable, *usual = names
    wished = [os.environ[variable]] if os.environ.get(variable) else usual
    if not any(map(shutil.which, wished)):
        raise ConfigError(
            f"--torch-compile: there is no {' or '.join(wished)} here, and torch compiles for "
            f"{device.name} with it: use an image that has one, name another in ${variable}, or "
            "leave out --torch-compile"
        )
    if device.on_gpu and importlib.util.find_spec("triton") is None:
        raise ConfigError(
            f"--torch-compile: Triton is not installed, and torch compiles for {device.name} with "
            "it: use an image whose torch came with it, or leave out --torch-compile"
        )


def compile_layers(model: Any) -> None:
    """Each layer is compiled when it first computes; lengths of rows are left open.

    Dropout draws the numbers that it draws without compilation, so that losses stay the same.

    Raises:
        ConfigError: the model does not say what its layers are.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigError(
            f"--torch-compile: models of the type {model.config.model_type} do not name their "
            "layers, so there is nothing to compile; leave out --torch-compile"
        )
    os.environ.setdefault(CACHE[0], str(Path(CACHE[1]).expanduser()))
    for layer in layers:
        layer.compile(dynamic=True, options={"fallback_random": True})


@contextmanager
def as_written(settings: Hyperparameters) -> Iterator[None]:
    """In here nothing is compiled: what is no step would take programs of its own."""
    if not settings.torch_compile:
        yield
        return
    import torch  # noqa: PLC0415 - loaded by whoever made the model

    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def explained(settings: Hyperparameters) -> Iterator[None]:
    """Raises ConfigError where torch cannot compile a layer of the model."""
    if not settings.torch_compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 - takes a second

    try:
        yield
    except TorchDynamoException as error:
        raise ConfigError(
            "--torch-compile: a layer of this model cannot be compiled here "
            f"({first_line(error)}); leave out --torch-compile"
        ) from error
