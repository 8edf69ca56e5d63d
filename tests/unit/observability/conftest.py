"""The real promtool and Prometheus, as the cluster's tools build them."""

from pathlib import Path

import pytest
from hack.cluster import tools
from hack.cluster.shell import ClusterError


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return tools.build_all([tools.PROMTOOL])[tools.PROMTOOL.name]
    except ClusterError as error:
        pytest.skip(f"no promtool, and none could be built: {error}")
