"""How a bench ends that has started processes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from hack.cluster.shell import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable


def exit_code(run: Callable[[], int]) -> int:
    """That of `run`; 1 with a line for what does not start or answer, 130 where somebody ends it.

    SIGTERM ends it as Ctrl-C does, so that whoever started processes ends them too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left running", file=sys.stderr)
        return 130
    except (ClusterError, RuntimeError, TimeoutError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
