"""The operator's own HTTP: /livez, /readyz, /metrics and /metrics?name[]=of_one."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


async def serve(port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> web.AppRunner:
    """Start serving; the caller cleans the runner up. Raises OSError when the port is taken."""

    async def livez(_: web.Request) -> web.Response:
        # An answer is the proof: one event loop does all the work of this process.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="not all is listed yet, or there is no definition\n")

    async def metrics(request: web.Request) -> web.Response:
        names = request.query.getall("name[]", [])
        wanted: Any = registry.restricted_registry(names) if names else registry
        # Beside the event loop: with a thousand jobs the text takes longer than a look at one.
        text = await asyncio.to_thread(generate_latest, wanted)
        response = web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
        response.enable_compression()
        return response

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz)])
    app.add_routes([web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
    except OSError as error:
        await runner.cleanup()
        remedy = "choose another with --http-port or FINETUNING_OPERATOR_HTTP_PORT"
        raise OSError(f"port {port} cannot be used: {error.strerror}; {remedy}") from error
    return runner
