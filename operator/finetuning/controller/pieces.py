"""Text that comes in pieces, which end anywhere."""

from collections.abc import AsyncIterator

LONGEST_LINE = 1 << 20
"""Bytes; who waits for the end of a longer one would wait, and fill the memory, for nothing."""


async def whole_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Held back until the line ends, so that no character is cut; a long one comes in parts."""
    rest = b""
    async for piece in pieces:
        whole, end, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            whole, end, rest = whole + end + rest, b"", b""
        if whole or end:
            yield (whole + end).decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
