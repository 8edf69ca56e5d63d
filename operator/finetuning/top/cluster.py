"""The FineTuningJobs of a cluster, by whatever login the kubeconfig describes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from kubernetes.aio.config import list_kube_config_contexts

from finetuning.api.v1alpha1 import Phase
from finetuning.controller import observed, status
from finetuning.controller.gateway import CUSTOMS, ApiError, Gateway, Raw
from finetuning.controller.last_words import plain
from finetuning.top.rows import Curve, Row
from finetuning.top.source import SourceError

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


class ClusterSource:
    """Lists the jobs at each look; curves grow while it watches, since a status has no past."""

    def __init__(self, gateway: Gateway, name: str, namespace: str | None) -> None:
        self._gateway, self._name, self._namespace = gateway, name, namespace
        self._curves: dict[str, tuple[Curve, Curve]] = {}

    @classmethod
    async def connect(cls, kubeconfig: str | None, namespace: str | None, *, every: bool) -> Self:
        """Raises SourceError when there is no usable kubeconfig."""
        path = _kubeconfig(kubeconfig)
        try:
            context, own = _context(path)
            gateway = await Gateway.connect(path, lambda *_: None)
        except Exception as error:  # noqa: BLE001 - the client checks little of what it reads
            words = plain(str(error), 200) or "not a kubeconfig"
            raise SourceError(f"{path or 'service account'}: {words}") from None
        wanted = None if every else namespace or own
        return cls(gateway, f"{context}/{wanted or 'all namespaces'}", wanted)

    @property
    def name(self) -> str:
        return self._name

    async def rows(self) -> Sequence[Row]:
        try:
            found = [raw async for raw in self._gateway.items(CUSTOMS, self._namespace)]
        except ApiError as error:
            raise SourceError(_explained(error)) from None
        present = {raw["metadata"]["uid"] for raw in found}
        self._curves = {uid: curves for uid, curves in self._curves.items() if uid in present}
        return [self._row(raw) for raw in found]

    async def close(self) -> None:
        await self._gateway.close()

    def _row(self, raw: Raw) -> Row:
        meta, now = observed.meta(raw), status.parse(raw.get("status"))
        losses, speeds = self._curves.setdefault(meta.uid, (Curve(), Curve()))
        if now.phase is Phase.RUNNING and now.current_step:
            losses.add(now.current_step, now.train_loss)
            speeds.add(now.current_step, now.tokens_per_second)
        return Row(
            name=meta.name,
            namespace="" if self._namespace else meta.namespace,
            status=now,
            about=_about(raw),
            losses=tuple(losses.values),
            speeds=tuple(speeds.values),
            created=meta.created,
        )


def _about(raw: Raw) -> str:
    """As the API server keeps it, also where another version would refuse the spec."""
    try:
        method, model = raw["spec"]["method"], raw["spec"]["baseModel"]["modelId"]
    except (KeyError, TypeError):
        return ""
    return plain(f"{method} · {model}", 300)


def _kubeconfig(given: str | None) -> str | None:
    """None in a Pod, where the service account is used unless a file is named."""
    if given is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    return given or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _context(path: str | None) -> tuple[str, str]:
    """Name of the current context, and its namespace."""
    if path is None:
        return "this cluster", _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    _, active = list_kube_config_contexts(config_file=path)
    return str(active["name"]), str(active["context"].get("namespace") or "default")


def _explained(error: ApiError) -> str:
    match error.code:
        case 0:
            return f"the API server does not answer: {plain(error.message, 200)}"
        case code if code == _UNAUTHORIZED:
            return "the API server does not know this login; log in again"
        case code if code == _FORBIDDEN:
            return f"{plain(error.message, 200)}; name a namespace of yours with -n"
        case code if code == _NOT_FOUND:
            return "the cluster has no FineTuningJobs: install the operator's chart first"
        case _:
            return plain(str(error), 200)
