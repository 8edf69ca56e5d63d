"""Asks an API server for all that the doctor judges; the facts themselves need no cluster."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from finetuning.api.v1alpha1 import GROUP, KIND, VERSION
from finetuning.artifacts.plain import plain
from finetuning.controller.gateway import (
    ACCESS_REVIEWS,
    CUSTOMS,
    DEPLOYMENTS,
    LEASES,
    NODES,
    POD_MONITORS,
    SERVICE_MONITORS,
    STORAGE_CLASSES,
    ApiError,
    Gateway,
    Resource,
)
from finetuning.doctor.facts import USER_RIGHTS, Facts, Raw, Right, Unknown

OPERATOR = "app.kubernetes.io/name=finetuning-operator"


async def gather(gateway: Gateway, context: str, namespace: str) -> Facts:
    """Ask everything at once; raises nothing, since each refusal is a finding of its own."""
    found = await asyncio.gather(
        _tried(gateway.document(CUSTOMS, "/version")),
        _tried(gateway.serves(CUSTOMS)),
        _tried(_schema(gateway)),
        _tried(_operators(gateway, namespace)),
        _tried(_nodes(gateway)),
        _tried(_monitors(gateway)),
        _tried(_items(gateway, STORAGE_CLASSES, None)),
        _tried(_rights(gateway, namespace)),
        _tried(gateway.document(CUSTOMS, f"/api/v1/namespaces/{namespace}")),
    )
    server, served, schema, operators, nodes, monitors, storage_classes, rights, space = found
    return Facts(
        context=context,
        namespace=namespace,
        server=server if server is not None else Unknown("no answer at /version"),
        kind_served=served,
        schema=schema,
        operators=operators,
        leases=await _tried(_leases(gateway, operators)),
        nodes=nodes,
        monitors=monitors,
        storage_classes=storage_classes,
        rights=rights,
        namespace_there=space if isinstance(space, Unknown) else space is not None,
    )


async def _tried(asking: Awaitable[Any]) -> Any:
    try:
        return await asking
    except ApiError as error:
        return Unknown(plain(str(error), 200))


async def _items(gateway: Gateway, resource: Resource, where: str | None, **by: str) -> list[Raw]:
    return [raw async for raw in gateway.items(resource, where, **by)]


async def _schema(gateway: Gateway) -> Raw | None:
    """The kind's schema as the API server publishes it to everybody who may log in."""
    found = await gateway.document(CUSTOMS, f"/openapi/v3/apis/{GROUP}/{VERSION}")
    schemas = ((found or {}).get("components") or {}).get("schemas") or {}
    return next((each for name, each in schemas.items() if name.endswith(f".{KIND}")), None)


async def _operators(gateway: Gateway, namespace: str) -> list[Raw]:
    """In all namespaces; whoever may not look there still may in his own or the usual one."""
    try:
        return await _items(gateway, DEPLOYMENTS, None, labelSelector=OPERATOR)
    except ApiError as error:
        refusal = error
    for where in ("finetuning-system", namespace):
        try:
            return await _items(gateway, DEPLOYMENTS, where, labelSelector=OPERATOR)
        except ApiError:
            continue
    raise refusal


async def _leases(gateway: Gateway, operators: Sequence[Raw] | Unknown) -> list[Raw]:
    """The Lease of each operator has its Deployment's name."""
    names = [] if isinstance(operators, Unknown) else [each["metadata"] for each in operators]
    found = [await gateway.get(LEASES, each["namespace"], each["name"]) for each in names]
    return [each for each in found if each is not None]


async def _nodes(gateway: Gateway) -> list[Raw]:
    return await _items(gateway, NODES, None)


async def _monitors(gateway: Gateway) -> dict[str, bool]:
    kinds = {"ServiceMonitor": SERVICE_MONITORS, "PodMonitor": POD_MONITORS}
    return {name: await gateway.serves(kind) for name, kind in kinds.items()}


async def _rights(gateway: Gateway, namespace: str) -> dict[Right, bool]:
    answers = await asyncio.gather(*(_may(gateway, namespace, right) for right in USER_RIGHTS))
    return dict(zip(USER_RIGHTS, answers, strict=True))


async def _may(gateway: Gateway, namespace: str, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    wish = {
        "namespace": namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wish},
    }
    answer = await gateway.review(ACCESS_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))
