"""Who fetches the figures or the state, and who of them has seen how the run ended."""

import threading
import time
from collections.abc import Callable

MOST_CLIENTS = 256
"""Anybody can ask under any name; the one seen longest ago is forgotten first."""
APART_SECONDS = 5.0
"""Of two looks that are closer one is no regular visit, but somebody who tries something."""
_COME_AGAIN = ("prometheus", "finetuning-operator")
"""How the User-Agents begin, in whatever case, of those who do."""


class Scrapers:
    """Told of every scrape, from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._visits: dict[str, tuple[float, float]] = {}
        """When a client came last, and when before that; the one seen longest ago is the first."""
        self._served: frozenset[str] = frozenset()

    def saw(self, address: str, agent: str, *, final: bool) -> None:
        """This client asks, or (`final`) has had a whole answer that said how the run ended.

        Several can come from one address: through a node's, or one that is forwarded to us.
        """
        client = f"{agent} {address}"
        with self._lock:
            now = self._clock()
            last, before = self._visits.pop(client, (now, float("-inf")))
            self._visits[client] = (now, last if now - last >= APART_SECONDS else before)
            if len(self._visits) > MOST_CLIENTS:
                del self._visits[next(iter(self._visits))]
            others = self._served & self._visits.keys() - {client}
            self._served = others | {client} if final else others

    def regular(self, seconds: float) -> frozenset[str]:
        """Those who came within so many seconds and will again: by their name, or who came twice.

        Their visit before was as many seconds earlier at most.
        """
        with self._lock:
            now = self._clock()
            return frozenset(
                name
                for name, (last, before) in self._visits.items()
                if now - last <= seconds
                and (name.lower().startswith(_COME_AGAIN) or last - before <= seconds)
            )

    @property
    def served(self) -> frozenset[str]:
        """Those whose last scrape was one of the final state."""
        return self._served
