"""The resource definition is deleted under a running training, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.faults.install import CRDS, DEFINITION, create
from tests.faults.scene import ROOT, judged

from finetuning.controller.gateway import CUSTOMS, ApiError, wait_for_kind

if TYPE_CHECKING:
    from tests.faults.scene import Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KNOWN_SECONDS = 40.0
"""The garbage collector looks for new kinds every thirty; before that it misses their ends."""
GONE_SECONDS = 60.0
CALM_SECONDS = 20.0


@pytest.mark.fault(
    "Definition deleted under a running training, and made again (real API server)",
    "the jobs and all that they own go; no crash loop; new jobs are served",
)
async def test_without_its_definition_the_operator_waits(site: Site, record_property: Any) -> None:
    site.start_operator()
    site.node.ending = lambda _pod: None
    await site.submit()
    await site.until("training", lambda status: status.get("phase") == "Running")
    await asyncio.sleep(KNOWN_SECONDS)
    manifest = yaml.safe_load((ROOT / DEFINITION).read_text())
    path = CRDS.path(None, manifest["metadata"]["name"])
    await site.admin._call("delete", CRDS, "DELETE", path)
    begun = time.monotonic()
    while await site.jobs():
        assert time.monotonic() - begun < GONE_SECONDS
        with contextlib.suppress(ApiError):
            await site.node.look()
        await asyncio.sleep(0.2)
    took = time.monotonic() - begun
    calls = len(site.plane.audited())
    await asyncio.sleep(CALM_SECONDS)
    asked = len(site.plane.audited()) - calls
    await create(site.admin, CRDS, manifest)
    assert await wait_for_kind(site.admin, CUSTOMS, 30)
    site.node = type(site.node)(site.admin, site.namespace)
    await site.submit("anew")
    await site.until("a verdict", judged, 120, name="anew", restart=True)
    lives = site.starts
    words = f"collected after {took:.0f} s, {asked} calls in {CALM_SECONDS:.0f} s without it"
    record_property("happened", f"{words}, {lives} lives of the operator")
    assert lives <= 2
    assert asked <= 4 * CALM_SECONDS
