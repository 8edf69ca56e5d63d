from pathlib import Path

import pytest
from hack.cluster import tools
from hack.cluster.shell import ClusterError
from tests.unit.gitops.moments import Moment, moments


@pytest.fixture(scope="session")
def lives() -> list[Moment]:
    return moments()


@pytest.fixture(scope="session")
def readers() -> Path:
    """What Flux and others read a job with, built as the cluster's tools are."""
    try:
        return tools.build_all([tools.READERS])[tools.READERS.name]
    except ClusterError as error:
        pytest.skip(f"no kstatus, and none could be built: {error}")
