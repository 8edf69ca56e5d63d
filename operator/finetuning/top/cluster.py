"""The FineTuningJobs of a cluster, by whatever login the kubeconfig describes."""

from collections.abc import Sequence
from typing import Self

from finetuning.api.v1alpha1 import Phase
from finetuning.artifacts.plain import plain
from finetuning.client.connection import connect
from finetuning.client.errors import ClusterError, explained
from finetuning.controller import observed, status
from finetuning.controller.gateway import CUSTOMS, ApiError, Gateway, Raw
from finetuning.top.rows import Curve, Row
from finetuning.top.source import SourceError


class ClusterSource:
    """Lists the jobs at each look; curves grow while it watches, since a status has no past."""

    def __init__(self, gateway: Gateway, name: str, namespace: str | None) -> None:
        self._gateway, self._name, self._namespace = gateway, name, namespace
        self._curves: dict[str, tuple[Curve, Curve]] = {}

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None,
        namespace: str | None,
        *,
        every: bool,
        context: str | None = None,
    ) -> Self:
        """Raises SourceError when there is no usable kubeconfig, or no such context."""
        try:
            found = await connect(kubeconfig, context, namespace)
        except ClusterError as error:
            raise SourceError(str(error)) from None
        wanted = None if every else found.namespace
        return cls(found.gateway, f"{found.context}/{wanted or 'all namespaces'}", wanted)

    @property
    def name(self) -> str:
        return self._name

    async def rows(self) -> Sequence[Row]:
        try:
            found = [raw async for raw in self._gateway.items(CUSTOMS, self._namespace)]
        except ApiError as error:
            raise SourceError(str(explained(error))) from None
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
