"""An operator whose rights lie in several namespaces loses those in one of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.faults.install import IN_ONE, grant, restricted_namespace
from tests.faults.scene import Site, judged

from finetuning.controller.gateway import JOBS
from finetuning.controller.permissions import Scope

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

USER = "confined"


async def allow(site: Site, namespace: str) -> None:
    meta = {"name": "jobs", "namespace": namespace}
    await grant(site.admin, Scope.JOBS, "Role", IN_ONE, meta, user=USER)


@pytest.mark.fault(
    "Rights in one of the served namespaces taken away (real API server)",
    "an operator that begins then serves the others, and that one when it may again",
)
async def test_the_others_are_served(site: Site, record_property: Any) -> None:
    other = f"{site.namespace}-other"
    await restricted_namespace(site.admin, other)
    await allow(site, site.namespace)
    site.user, site.served = USER, (site.namespace, other)
    begun = time.monotonic()
    site.start_operator()
    await site.submit()
    await site.until("a verdict", judged)
    took = time.monotonic() - begun
    record_property("happened", f"a verdict {took:.0f} s after the start")
    await allow(site, other)
    await Site(site.plane, site.admin, other).submit("elsewhere")
    async with asyncio.timeout(60):
        while await site.admin.get(JOBS, other, "elsewhere-train") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert site.starts == 1
    assert not site.process_is_gone()
