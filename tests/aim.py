"""AMD's definitions of what aim-engine serves; they are not part of this repository.

AIM_CRDS names a folder with the files of aim-engine's config/crd/bases.
"""

import os
from pathlib import Path

KINDS = ("aimmodels", "aimservices")
MISSING = "AIM_CRDS names no folder with aim-engine's definitions"


def definitions() -> list[Path]:
    """One file for each kind; empty where they cannot be had."""
    folder = Path(os.environ.get("AIM_CRDS", "."))
    files = [folder / f"aim.eai.amd.com_{kind}.yaml" for kind in KINDS]
    return files if all(file.is_file() for file in files) else []
