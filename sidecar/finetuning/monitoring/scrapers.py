"""Who fetches the figures, and who of them has seen how the run ended."""

import threading
import time
from collections.abc import Callable

MOST_CLIENTS = 256
"""Anybody can ask under any name; the one seen longest ago is forgotten first."""


class Scrapers:
    """Told of every scrape, from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._served: frozenset[str] = frozenset()

    def saw(self, client: str, *, final: bool) -> None:
        """This client asks, or (`final`) has had a whole answer that said how the run ended."""
        with self._lock:
            self._last.pop(client, None)
            self._last[client] = self._clock()
            if len(self._last) > MOST_CLIENTS:
                del self._last[next(iter(self._last))]
            others = self._served & self._last.keys() - {client}
            self._served = others | {client} if final else others

    def since(self, seconds: float) -> frozenset[str]:
        """Those who came within so many seconds: who comes regularly will come again."""
        with self._lock:
            earliest = self._clock() - seconds
            return frozenset(name for name, last in self._last.items() if last >= earliest)

    @property
    def served(self) -> frozenset[str]:
        """Those whose last scrape was one of the final state."""
        return self._served
