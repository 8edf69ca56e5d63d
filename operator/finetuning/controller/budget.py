"""So many calls a second and no more, however many jobs ask for them."""

from collections.abc import Callable


class Budget:
    """Fills at a steady rate up to a limit, and starts full."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        """`clock` is a monotonic one, in seconds."""
        self._rate, self._burst, self._clock = per_second, burst, clock
        self._left, self._filled = burst, clock()

    def take(self, *, leaving: float = 0.0) -> bool:
        """Spend one, unless that leaves fewer than `leaving`."""
        now = self._clock()
        earned = (now - self._filled) * self._rate
        self._left, self._filled = min(self._burst, self._left + earned), now
        if self._left < 1 + leaving:
            return False
        self._left -= 1
        return True
