"""An operator's process with the rights of the chart, a real API server, and AMD's definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.aim import KINDS, MISSING, definitions
from tests.faults.install import CRDS, create

from finetuning.controller import naming
from finetuning.controller.gateway import CUSTOMS, Gateway, Resource, wait_for_kind
from finetuning.controller.serving import AIM_GROUP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OUTPUT = {
    "publish": {"form": "Both", "s3": {"uri": "s3://models/law", "secretName": "store"}},
    "serve": {"image": "amdenterpriseai/aim-base:0.9", "create": "Service", "gpuModel": "MI300X"},
}


@pytest.fixture
async def aim(admin: Gateway) -> AsyncIterator[tuple[Resource, ...]]:
    """The kinds of the newest version that the definitions serve; they go afterwards."""
    files = definitions()
    if not files:
        pytest.skip(MISSING)
    made = [yaml.safe_load(file.read_text()) for file in files]
    version = max(v["name"] for v in made[0]["spec"]["versions"] if v["served"])
    yield tuple(Resource(AIM_GROUP, version, kind) for kind in KINDS)
    for each in made:
        path = CRDS.path(None, each["metadata"]["name"])
        await admin._call("delete", CRDS, "DELETE", path)


async def installed(admin: Gateway, kinds: tuple[Resource, ...]) -> None:
    for file, kind in zip(definitions(), kinds, strict=True):
        await create(admin, CRDS, yaml.safe_load(file.read_text()))
        assert await wait_for_kind(admin, kind, 30)


def told(status: Raw) -> str:
    conditions = {each["type"]: each["reason"] for each in status.get("conditions", ())}
    return str(conditions.get("ServingCreated"))


async def asked_again(site: Site, value: str) -> None:
    patch: dict[str, Any] = {"metadata": {"annotations": {naming.SERVE_ANNOTATION: value}}}
    await site.admin.patch(CUSTOMS, site.namespace, "demo", patch)


@pytest.mark.documented
async def test_a_published_model_gets_what_serves_it_and_keeps_it(
    site: Site, aim: tuple[Resource, ...]
) -> None:
    site.start_operator()
    await site.submit(output=OUTPUT)
    await site.until("AIM is missing", lambda status: told(status) == "AIMCRDMissing")
    await installed(site.admin, aim)
    await asked_again(site, "installed")
    await site.until("both are created", lambda status: told(status) == "ServingCreated")
    before = [await site.admin.get(kind, site.namespace, "demo") for kind in aim]
    for each in before:
        assert each is not None
        assert "ownerReferences" not in each["metadata"]
        assert each["metadata"]["annotations"] == {naming.MANIFEST_ANNOTATION: "c" * 64}
    first = (await site.status())["serving"]["wish"]
    await asked_again(site, "once more")
    status = await site.until(
        "another answer", lambda status: status["serving"].get("wish") not in {None, first}
    )
    assert told(status) == "ServingCreated", "what is there counts, as the API server completed it"
    await site.remove()
    assert [await site.admin.get(kind, site.namespace, "demo") for kind in aim] == before
