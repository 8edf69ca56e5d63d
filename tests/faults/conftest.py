"""A control plane for all of these tests, and a namespace with an operator for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.faults.controlplane import ControlPlane
from tests.faults.scene import ROOT, Site

from finetuning.controller.gateway import CUSTOMS, Gateway, Resource, wait_for_kind
from finetuning.controller.permissions import PERMISSIONS, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NAMESPACES = Resource("", "v1", "namespaces")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
RBAC = ("rbac.authorization.k8s.io", "v1")
EVERYWHERE = Resource(*RBAC, "clusterroles"), Resource(*RBAC, "clusterrolebindings")
IN_ONE = Resource(*RBAC, "roles"), Resource(*RBAC, "rolebindings")
OPERATOR, RELEASE = "finetuning-operator", "finetuning-system"
"""What the operator takes for its Deployment and its namespace where nobody tells it."""


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
    await _create(admin, NAMESPACES, {"metadata": {"name": RELEASE}})
    await _grant(admin, Scope.JOBS, "ClusterRole", EVERYWHERE, {"name": "operator"})
    here = {"name": "operator", "namespace": RELEASE}
    await _grant(admin, Scope.RELEASE, "Role", IN_ONE, here)
    assert await wait_for_kind(admin, CUSTOMS, 30)


async def _create(admin: Gateway, resource: Resource, manifest: dict[str, Any]) -> None:
    path = resource.path(manifest["metadata"].get("namespace"))
    await admin._call("create", resource, "POST", path, body=manifest)


async def _grant(
    admin: Gateway, scope: Scope, kind: str, where: tuple[Resource, Resource], meta: dict[str, str]
) -> None:
    """What the operator may do in a scope, as the chart's roles say it for its Deployment."""
    rules = [
        {
            "apiGroups": [each.group],
            "resources": [each.resource],
            "resourceNames": [name.format(deployment=OPERATOR) for name in each.resource_names],
            "verbs": list(each.verbs),
        }
        for each in PERMISSIONS
        if each.scope is scope
    ]
    roles, bindings = where
    await _create(admin, roles, {"metadata": meta, "rules": rules})
    subject = {"kind": "User", "name": "operator", "apiGroup": RBAC[0]}
    ref = {"kind": kind, "name": "operator", "apiGroup": RBAC[0]}
    await _create(admin, bindings, {"metadata": meta, "subjects": [subject], "roleRef": ref})


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
