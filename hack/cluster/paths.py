"""Where the cluster keeps what: the checkout, the user's cache, the machine."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".cluster"
KUBECONFIG = STATE / "kubeconfig"
AUDIT_LOG = STATE / "audit.log"
LOGS = STATE / "logs"
BIN = STATE / "bin"
IMAGES_FILE = STATE / "images.json"
TOOLS = ROOT / "hack" / "cluster" / "tools"
MANIFESTS = ROOT / "hack" / "cluster" / "manifests"

# A machine holds one native node. Its state lies at a fixed place, so that any checkout can find
# and clear what another one left, and so that socket paths stay below the kernel's 108 bytes.
NODE = Path("/var/lib/finetuning-cluster")
RUN = Path("/run/finetuning-cluster")


def cache() -> Path:
    """Give the folder that outlives the checkout: built binaries and image layers."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "finetuning-operator"
