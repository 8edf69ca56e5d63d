"""etcd is restored from a backup under an operator that works: versions go back, jobs are gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.controlplane import ControlPlane
from tests.faults.install import connect, install, restricted_namespace
from tests.faults.scene import Site, judged

from finetuning.controller.gateway import CUSTOMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SERVED_SECONDS = 150.0
"""A watch at a version that is yet to come says nothing, and is given up after a minute."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """On a control plane that nobody else uses."""
    plane = ControlPlane(tmp_path / "plane")
    plane.folder.mkdir()
    try:
        plane.start()
        admin = await connect(plane)
        await install(admin)
        await restricted_namespace(admin, "case")
        found = Site(plane, admin, "case")
        await found.proxy.start()
        yield found
        await found.close()
        await admin.close()
    finally:
        plane.stop()


@pytest.mark.fault(
    "etcd restored from a backup (real etcd and API server)",
    "what the backup has counts; new jobs are served, none twice",
)
async def test_what_the_backup_has_counts(site: Site, record_property: Any) -> None:
    site.start_operator()
    await site.submit("before")
    await site.until("a verdict", judged, name="before")
    await asyncio.to_thread(site.plane.back_up)
    for name in ("after-1", "after-2"):
        await site.submit(name)
        await site.until("a verdict", judged, 120, name=name, restart=True)
    for number in range(100):
        note = {"metadata": {"annotations": {"tests/number": str(number)}}}
        await site.admin.patch(CUSTOMS, site.namespace, "before", note)
    await asyncio.to_thread(site.plane.restore)
    begun = time.monotonic()
    await site.submit("anew")
    await site.until("a verdict", judged, SERVED_SECONDS, name="anew", restart=True)
    took = time.monotonic() - begun
    assert judged(await site.status("before"))
    names = sorted(raw["metadata"]["name"] for raw in await site.jobs())
    assert names == ["anew-train", "anew-validate", "before-train", "before-validate"]
    record_property("happened", f"a new job judged after {took:.0f} s, {site.starts} lives")
    assert site.starts <= 2
    assert "this is a bug" not in site.log.read_text()
