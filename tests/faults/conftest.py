"""On the control plane of all of these tests a namespace with an operator for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.install import connect, install, restricted_namespace
from tests.faults.scene import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.controlplane import ControlPlane

    from finetuning.controller.gateway import Gateway


@pytest.fixture
async def admin(plane: ControlPlane) -> AsyncIterator[Gateway]:
    gateway = await connect(plane)
    await install(gateway)
    yield gateway
    await gateway.close()


@pytest.fixture
async def site(
    plane: ControlPlane, admin: Gateway, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """A namespace that enforces the restricted profile, with an operator that is not yet up."""
    number = request.session.stash.setdefault(_NUMBER, 0) + 1
    request.session.stash[_NUMBER] = number
    namespace = f"case-{number}"
    await restricted_namespace(admin, namespace)
    found = Site(plane, admin, namespace)
    await found.proxy.start()
    yield found
    await found.close()


_NUMBER = pytest.StashKey[int]()
