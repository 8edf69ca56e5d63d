"""Upstream programs that tests run, built as the cluster's tools are."""

from pathlib import Path

import pytest
from hack.cluster import tools
from hack.cluster.shell import ClusterError
from hack.cluster.tools import Tool


def program(tool: Tool) -> Path:
    """Its path; a test that needs it is skipped where it cannot be built."""
    try:
        return tools.build_all([tool])[tool.name]
    except ClusterError as error:
        pytest.skip(f"no {tool.name}, and none could be built: {error}")
