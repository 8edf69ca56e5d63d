"""`python -m hack.cluster`: a real Kubernetes for development, tests and the demo."""

from __future__ import annotations

import sys
from hack.cluster.native import up as native

if __name__ == "__main__":
    {"up": native.up, "down": lambda: native.down(anybody=True)}[sys.argv[1]]()
