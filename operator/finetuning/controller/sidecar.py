"""The metrics sidecar's live state: one GET with a time limit and a size limit, nothing more."""

import aiohttp
from pydantic import ValidationError

from finetuning.artifacts.models import STATE_MAX_BYTES, TrainingState
from finetuning.controller import naming

TIMEOUT_SECONDS = 2.0
_WHO = {"User-Agent": naming.MANAGED_BY}
"""By which the sidecar of a trainer that was killed knows whom to wait for."""


async def fetch(
    session: aiohttp.ClientSession, ip: str, port: int = naming.METRICS_PORT
) -> TrainingState | None:
    """The sidecar's live state; None when there is none yet, or nobody answers."""
    # Local runs use this module as well, where no aiohttp need be installed.
    import aiohttp  # noqa: PLC0415

    host = f"[{ip}]" if ":" in ip else ip
    url = f"http://{host}:{port}/status"
    limit = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with session.get(url, timeout=limit, headers=_WHO, allow_redirects=False) as response:
            data = await response.content.read(STATE_MAX_BYTES + 1)
            # A body may come in pieces; what is larger than allowed is no state at all.
            while len(data) <= STATE_MAX_BYTES and not response.content.at_eof():
                data += await response.content.read(STATE_MAX_BYTES + 1 - len(data))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return parse(data) if response.status == 200 else None  # noqa: PLR2004 - OK


def parse(data: bytes) -> TrainingState | None:
    if len(data) > STATE_MAX_BYTES:
        return None
    try:
        return TrainingState.model_validate_json(data)
    except ValidationError:
        return None
