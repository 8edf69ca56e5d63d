"""The objects for aim-engine on a real API server with AMD's own definitions.

A version that the definitions do not serve is not tried.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.aim import KINDS, MISSING, definitions
from tests.unit.controller.test_serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.support import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def versions(api: Cluster) -> Iterator[set[str]]:
    """Those that both kinds serve; definitions that were there before are left as they are."""
    files = definitions()
    if not files:
        pytest.skip(MISSING)
    names = [f"crd/{kind}.aim.eai.amd.com" for kind in KINDS]
    there = [name for name in names if api.kubectl("get", name, "--ignore-not-found").strip()]
    for file in files:
        api.kubectl("apply", "--server-side", "--filename", str(file))
    api.wait_for_definitions(*names)
    found = [json.loads(api.kubectl("get", name, "--output", "json")) for name in names]
    served_by = [{v["name"] for v in each["spec"]["versions"] if v["served"]} for each in found]
    yield set.intersection(*served_by)
    for name in names:
        if name not in there:
            api.kubectl("delete", name, "--timeout=60s")


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
def test_amds_definitions_accept_what_the_status_offers(
    api: Cluster, versions: set[str], version: str
) -> None:
    if version not in versions:
        pytest.skip(f"these definitions do not serve {version}")
    objects = list(yaml.safe_load_all(getattr(served(), version)))
    for each in objects:
        each["metadata"]["namespace"] = "default"
        text = yaml.safe_dump(each)

        def created(text: str = text) -> bool:
            # The kind is offered a moment after it is established.
            command = ("create", "--dry-run=server", "--validate=strict", "--filename", "-")
            said = api.kubectl(*command, stdin=text, check=False)
            assert "is invalid" not in said, said
            assert "unknown field" not in said, said
            return "created (server dry run)" in said

        api.wait(f"{each['kind']} {version} accepted", created, 30)
