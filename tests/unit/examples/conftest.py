"""The scripts of examples/, which are no package, as modules; and the model that they make."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """ask.py silences the libraries for its own process, which here is everybody's."""
    yield
    logging.disable(logging.NOTSET)


def imported(folder: Path, name: str) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def knowledge() -> ModuleType:
    return imported(EXAMPLES / "tiny-model", "knowledge")


@pytest.fixture(scope="session")
def make_data() -> ModuleType:
    return imported(EXAMPLES / "tiny-model", "make_data")


@pytest.fixture(scope="session")
def ask() -> ModuleType:
    return imported(EXAMPLES, "ask")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model of the examples, from the user's cache where it has been made before."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    make_model = EXAMPLES / "tiny-model" / "make_model.py"
    subprocess.run([sys.executable, make_model, "--output", folder], check=True)
    return folder
