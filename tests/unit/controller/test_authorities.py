"""A cluster that renews its authority: whoever trusted the old one goes on without a restart."""

import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from tests.openssl import HERE, NEEDED, NEW, openssl
from tests.unit.controller.test_gateway import config

from finetuning.controller.gateway import JOBS, ApiError, Gateway

pytestmark = NEEDED


def certificate(folder: Path, name: str) -> Path:
    """One that vouches for itself, as that of an authority."""
    path, key = folder / f"{name}.crt", folder / f"{name}.key"
    openssl(*NEW, *HERE, "-subj", f"/CN={name}", "-keyout", key, "-out", path)
    return path


@asynccontextmanager
async def server(crt: Path, port: int = 0) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(crt, crt.with_suffix(".key"))

    async def reply(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "a"}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_an_authority_that_is_renewed_is_trusted_without_a_restart(tmp_path: Path) -> None:
    old, new = certificate(tmp_path, "old"), certificate(tmp_path, "new")
    trusted = tmp_path / "ca.crt"
    shutil.copy(old, trusted)
    async with server(old) as port:
        told = yaml.safe_load(config(port))
        where = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(trusted)}
        told["clusters"][0]["cluster"] = where
        (tmp_path / "config").write_text(yaml.safe_dump(told))
        api = await Gateway.connect(str(tmp_path / "config"), lambda *_: None)
        assert await api.get(JOBS, "team", "a")
    async with server(new, port):
        for _ in range(2):
            with pytest.raises(ApiError, match="certificate verify failed"):
                await api.get(JOBS, "team", "a")
        shutil.copy(new, trusted)
        with pytest.raises(ApiError, match="certificate verify failed"):
            await api.get(JOBS, "team", "a")
        assert await api.get(JOBS, "team", "a")
    await api.close()
