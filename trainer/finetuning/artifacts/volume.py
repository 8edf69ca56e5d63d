"""Files that somebody else chose: no link among them may lead out of the volume that they lie on.

A model that anybody has packed could bring a link to /proc/self/environ, where the tokens are.
"""

import os
from pathlib import Path


def leaves(path: Path) -> bool:
    """Whether links lead from it to another volume, or to the kernel's own files.

    Those that stay are followed: the Hub's cache is made of them, and so is a mounted ConfigMap.
    """
    volume, real = _volume(path.absolute()), Path(os.path.realpath(path))
    if not real.exists():
        return False
    stays = real.is_relative_to(os.path.realpath(volume))
    return not (stays and real.stat().st_dev == volume.stat().st_dev)


def _volume(path: Path) -> Path:
    """The mount that a path is on, as it is written."""
    # That of pathlib follows links.
    return next(each for each in (path, *path.parents) if os.path.ismount(each))
