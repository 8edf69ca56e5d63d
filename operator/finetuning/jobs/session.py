"""One command's talk with a cluster: the connection, and every failure as one line."""

import asyncio
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from finetuning.local.problems import InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning.client import AsyncFineTuningClient

FAILED, WRONG, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, slots=True)
class Where:
    """The cluster and namespace that were named; None takes the context's own."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


def main(where: Where, work: "Callable[[AsyncFineTuningClient], Awaitable[int]]") -> int:
    """Exit code of `work`; 1 when the cluster refuses, 2 when what was given is wrong."""
    if find_spec("kubernetes") is None or find_spec("aiohttp") is None:
        return complain(
            WRONG,
            "for a cluster the operator's libraries are needed: pip install "
            "'finetuning-operator[operator]'",
        )
    from finetuning.client import ClientError, InvalidJobError, NoClusterError  # noqa: PLC0415 - takes a second

    try:
        return asyncio.run(_work(where, work))
    except (InvalidJobError, InputError) as error:
        return complain(WRONG, *error.lines)
    except ClientError as error:
        return complain(WRONG if isinstance(error, NoClusterError) else FAILED, str(error))
    except KeyboardInterrupt:
        return INTERRUPTED


async def _work(where: Where, work: "Callable[[AsyncFineTuningClient], Awaitable[int]]") -> int:
    from finetuning.client import AsyncFineTuningClient  # noqa: PLC0415 - takes a second

    async with await AsyncFineTuningClient.connect(
        kubeconfig=where.kubeconfig, context=where.context, namespace=where.namespace
    ) as client:
        code = await work(client)
    sys.stdout.flush()
    return code


def complain(code: int, *lines: str) -> int:
    """Write each line to stderr."""
    for line in lines:
        sys.stderr.write(f"finetuning: {line}\n")
    return code


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def hint(text: str) -> None:
    """What scripts have no use for."""
    sys.stderr.write(f"{text}\n")
