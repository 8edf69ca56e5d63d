"""From an earlier operator and definition to these, back, and here again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.faults.releases import STAGES, Cast, Release, unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.faults.scene import Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

EARLIER = "3095bfc8f29a4870a01fbe1e33e87e55db0b04e4"
"""A week of work ago: half of the fields, no Lease. To be a release once there is one."""
QUIET_SECONDS = 5.0
"""After a job of its own has ended, in which an operator would have touched those of another."""


@pytest.fixture
async def earlier(site: Site, tmp_path: Path) -> AsyncIterator[Release]:
    if not unpack(EARLIER, tmp_path):
        pytest.skip(f"this clone lacks commit {EARLIER}: git fetch --unshallow")
    yield Release(site, tmp_path)
    await Release(site).define()


@pytest.mark.fault(
    "Upgrade from an earlier operator and definition, back, and again",
    "no child made anew, none lost, none doubled; every job stands where it stood, and ends",
)
async def test_every_job_stands_where_it_stood_and_ends(
    site: Site, earlier: Release, record_property: Callable[[str, object], None]
) -> None:
    cast, this = Cast(site), Release(site)
    await earlier.install()
    await cast.enter("old")
    for release, name in ((this, "new"), (earlier, "back"), (this, "again")):
        before, pods = await cast.state(), list(site.node.started)
        await release.install()
        await cast.enter(name)
        await asyncio.sleep(QUIET_SECONDS)
        after = await cast.state()
        assert {each: after.get(each) for each in before} == before
        assert [pod for pod in site.node.started if not pod.startswith(f"{name}-")] == pods
    await cast.go_on()
    ended = await cast.state()
    assert {each: ended[each][0] for each in after} == {each: after[each][0] for each in after}
    assert Counter(pod.rpartition("-")[0] for pod in site.node.started) == pods_of(cast.names)
    assert site.node.most_writers == 1
    record_property("happened", f"{len(cast.names)} jobs at {len(STAGES)} stages, four releases")


def pods_of(jobs: list[str]) -> Counter[str]:
    """One trainer each, one more after a pause, and a validator for what was trained."""
    found = Counter({f"{job}-train": 1 + job.endswith("-paused") for job in jobs})
    return found + Counter(f"{job}-validate" for job in jobs if not job.endswith("-fails"))
