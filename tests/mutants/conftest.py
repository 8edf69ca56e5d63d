"""One session: a trainer and a prober that stay warm, and the matrix that the tests fill."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.mutants.matrix import PAGE, Matrix, in_the_docs
from tests.mutants.prober import Prober
from tests.mutants.runs import ROOT, Maker
from tests.unit.trainer.warm import WarmTrainer

SHOW = pytest.StashKey[Matrix]()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model of the examples, from the user's cache where it has been made before."""
    folder = tmp_path_factory.mktemp("base") / "tiny-qwen2"
    make_model = ROOT / "examples" / "tiny-model" / "make_model.py"
    subprocess.run([sys.executable, make_model, "--output", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def prober() -> Iterator[Prober]:
    with Prober.started() as prober:
        yield prober


@pytest.fixture(scope="session")
def maker(base: Path, prober: Prober, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    root = tmp_path_factory.mktemp("runs")
    with WarmTrainer.started(tmp_path_factory.mktemp("warm")) as trainer:
        yield Maker(root, base, trainer, prober)


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Matrix:
    return pytestconfig.stash.setdefault(SHOW, Matrix())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """`MUTANTS=print` shows the matrix, `MUTANTS=write` puts it into the documentation as well."""
    wish, matrix = os.environ.get("MUTANTS"), config.stash.get(SHOW, None)
    if matrix is None or not wish:
        return
    terminalreporter.write_line(matrix.text())
    if wish == "write":
        PAGE.write_text(in_the_docs(PAGE.read_text(), matrix.markdown()))
