"""Who speaks to the API server: a Pod's service account, or whatever login a kubeconfig describes.

The official client reads both, and a service account's token again every minute. What a program or
a file of a kubeconfig gave it keeps for good, though most of it counts for minutes or an hour. So
that is had anew where the API server does not know it any more, as kubectl does.
"""

import asyncio
import contextlib
import logging
from typing import Any, Self

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.rest import RESTClientObject
from typing_extensions import override

from finetuning.artifacts.failures import first_line

log = logging.getLogger(__name__)


class Login:
    """Where an API server is, and the token for a request to it."""

    def __init__(self, found: client.Configuration, source: tuple[str, str | None] | None) -> None:
        self.server = found
        self._source = source
        self._turn = asyncio.Lock()

    @classmethod
    async def of(cls, kubeconfig: str | None, context: str | None = None) -> Self:
        """Without a kubeconfig that of the Pod; raises what the official client raises."""
        if kubeconfig is None:
            found = client.Configuration()
            config.load_incluster_config(client_configuration=found)
            return cls(found, None)
        return cls(await _read(kubeconfig, context), (kubeconfig, context))

    async def token(self) -> str | None:
        """Without the end of the line that a file with a token may have, as kubectl reads it."""
        found: str | None = await self.server.get_api_key_with_prefix(
            "BearerToken", alias="authorization"
        )
        return found and found.strip()

    async def is_renewed(self, refused: str | None) -> bool:
        """Whether there is another token than the one that the API server did not know."""
        if self._source is None:
            return False
        async with self._turn:
            if await self.token() == refused:
                await self._renew(*self._source)
            return await self.token() != refused

    async def _renew(self, kubeconfig: str, context: str | None) -> None:
        try:
            fresh = await _read(kubeconfig, context)
        except Exception as error:  # noqa: BLE001 - the client checks little of what it reads
            log.warning("%s cannot be read again: %s", kubeconfig, first_line(error, 200))
            return
        self.server.api_key.update(fresh.api_key)

    def connector(self) -> aiohttp.TCPConnector:
        """By its certificates, and without a limit.

        Each watch holds a connection, and namespaces that are served have three each.
        """
        return _Connector(self.server)


class _Connector(aiohttp.TCPConnector):
    """Trusts new authorities as soon as their file has them: a cluster renews its own.

    A process that began before that would be refused by its own caution for as long as it lives.
    """

    def __init__(self, server: client.Configuration) -> None:
        self._trust = RESTClientObject(server).ssl_context
        self._authorities = server.ssl_ca_cert
        super().__init__(limit=0, ssl=self._trust)

    @override
    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().connect(*args, **kwargs)
        except aiohttp.ClientConnectorCertificateError:
            # The next one succeeds, if what is there now is known by it.
            with contextlib.suppress(OSError, TypeError):
                self._trust.load_verify_locations(cafile=self._authorities)
            raise


async def _read(kubeconfig: str, context: str | None) -> client.Configuration:
    found = client.Configuration()
    await config.load_kube_config(kubeconfig, context=context, client_configuration=found)
    return found
