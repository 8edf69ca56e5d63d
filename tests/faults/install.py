"""What a control plane needs before an operator can serve it: the definition and its rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from tests.faults.scene import ROOT

from finetuning.controller.gateway import CUSTOMS, Gateway, Resource, wait_for_kind
from finetuning.controller.permissions import PERMISSIONS, Scope

if TYPE_CHECKING:
    from tests.faults.controlplane import ControlPlane

NAMESPACES = Resource("", "v1", "namespaces")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
RBAC = ("rbac.authorization.k8s.io", "v1")
EVERYWHERE = Resource(*RBAC, "clusterroles"), Resource(*RBAC, "clusterrolebindings")
PATIENCE_SECONDS = 120.0
"""With a control plane that has just been started on a machine with much to do."""
IN_ONE = Resource(*RBAC, "roles"), Resource(*RBAC, "rolebindings")
DEFINITION = "crds/finetuningjobs.aim.amd.com.yaml"
OPERATOR, RELEASE = "finetuning-operator", "finetuning-system"
"""What the operator takes for its Deployment and its namespace where nobody tells it."""


async def connect(plane: ControlPlane) -> Gateway:
    """As somebody who may do everything."""
    return await Gateway.connect(str(plane.kubeconfig("admin")), lambda *_: None, sender="tests")


async def create(admin: Gateway, resource: Resource, manifest: dict[str, Any]) -> None:
    path = resource.path(manifest["metadata"].get("namespace"))
    await admin._ask("create", resource, "POST", path, body=manifest, limit=PATIENCE_SECONDS)


async def install(admin: Gateway) -> None:
    """The definition, and the operator's rights as the permissions say; once."""
    if await admin.serves(CUSTOMS):
        return
    await create(admin, CRDS, yaml.safe_load((ROOT / DEFINITION).read_text()))
    await create(admin, NAMESPACES, {"metadata": {"name": RELEASE}})
    await grant(admin, Scope.JOBS, "ClusterRole", EVERYWHERE, {"name": "operator"})
    here = {"name": "operator", "namespace": RELEASE}
    await grant(admin, Scope.RELEASE, "Role", IN_ONE, here)
    assert await wait_for_kind(admin, CUSTOMS, PATIENCE_SECONDS)


async def restricted_namespace(admin: Gateway, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await create(admin, NAMESPACES, {"metadata": {"name": name, "labels": labels}})


async def grant(
    admin: Gateway,
    scope: Scope,
    kind: str,
    where: tuple[Resource, Resource],
    meta: dict[str, str],
    *,
    user: str = "operator",
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
    await create(admin, roles, {"metadata": meta, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": RBAC[0]}
    ref = {"kind": kind, "name": meta["name"], "apiGroup": RBAC[0]}
    await create(admin, bindings, {"metadata": meta, "subjects": [subject], "roleRef": ref})
