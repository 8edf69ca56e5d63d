"""An API server's answers, and the way to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.server import Api, served


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[Api]:
    found = Api()
    with served(found, kubeconfig):
        yield found
