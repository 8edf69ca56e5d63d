"""What is asked in every namespace that is served: one that refuses stops none of the others.

Rights may go with a namespace that is deleted, or be taken away by whoever looks after it.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from finetuning.controller.gateway import ApiError

log = logging.getLogger(__name__)

T = TypeVar("T")
_FORBIDDEN = 403


async def in_each(
    namespaces: Iterable[str],
    ask: Callable[[str | None], AsyncIterator[T]],
    refused: Callable[[], None] = lambda: None,
) -> AsyncIterator[T]:
    """What `ask` finds in each of them, or in all at once (None) where none is named.

    `refused` is told of each that is left out.

    Raises ApiError where nobody answers, and where all refuse.
    """
    where: list[str | None] = [*namespaces] or [None]
    refusal, answered = None, False
    for namespace in where:
        try:
            async for found in ask(namespace):
                yield found
            answered = True
        except ApiError as error:
            if error.code != _FORBIDDEN:
                raise
            refusal = error
            refused()
            log.debug("left out: %s", error)
    if refusal is not None and not answered:
        raise refusal
