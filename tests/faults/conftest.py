"""A control plane for all of these tests, and a namespace with an operator for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from tests.faults.controlplane import ControlPlane
from tests.faults.scene import ROOT, Site

from finetuning.controller.gateway import CUSTOMS, Gateway, Resource, wait_for_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NAMESPACES = Resource("", "v1", "namespaces")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    found = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
async def admin(plane: ControlPlane) -> AsyncIterator[Gateway]:
    gateway = await Gateway.connect(str(plane.kubeconfig("admin")), lambda *_: None, sender="tests")
    await _install(gateway)
    yield gateway
    await gateway.close()


async def _install(admin: Gateway) -> None:
    """The definition, and the operator's rights as the permissions say; once."""
    if await admin.serves(CUSTOMS):
        return
    definition = yaml.safe_load((ROOT / "crds/finetuningjobs.aim.amd.com.yaml").read_text())
    await _create(admin, CRDS, definition)
    await _create(admin, ROLES, _role())
    subject = {"kind": "User", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}
    ref = {"kind": "ClusterRole", "name": "operator", "apiGroup": "rbac.authorization.k8s.io"}
    await _create(
        admin, BINDINGS, {"metadata": {"name": "operator"}, "subjects": [subject], "roleRef": ref}
    )
    assert await wait_for_kind(admin, CUSTOMS, 30)


async def _create(admin: Gateway, resource: Resource, manifest: dict[str, object]) -> None:
    await admin._call("create", resource, "POST", resource.path(None), body=manifest)


def _role() -> dict[str, object]:
    from finetuning.controller.permissions import PERMISSIONS, Scope  # noqa: PLC0415

    rules = [
        {"apiGroups": [each.group], "resources": [each.resource], "verbs": list(each.verbs)}
        for each in PERMISSIONS
        if each.scope is Scope.JOBS
    ]
    return {"metadata": {"name": "operator"}, "rules": rules}


@pytest.fixture
async def site(
    plane: ControlPlane, admin: Gateway, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    """A namespace that enforces the restricted profile, with an operator that is not yet up."""
    number = request.session.stash.setdefault(_NUMBER, 0) + 1
    request.session.stash[_NUMBER] = number
    namespace = f"case-{number}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await _create(admin, NAMESPACES, {"metadata": {"name": namespace, "labels": labels}})
    found = Site(plane, admin, namespace)
    await found.proxy.start()
    yield found
    await found.close()


_NUMBER = pytest.StashKey[int]()
