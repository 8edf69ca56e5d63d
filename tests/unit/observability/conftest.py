"""The real promtool and Prometheus, as the cluster's tools build them."""

from pathlib import Path

import pytest
from hack.cluster import tools
from tests.built import program


@pytest.fixture(scope="session")
def promtool() -> Path:
    return program(tools.PROMTOOL)
