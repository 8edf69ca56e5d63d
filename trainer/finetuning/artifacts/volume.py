"""Files that somebody else chose: no link among them may lead out of the volume that they lie on.

A model that anybody has packed could bring a link to /proc/self/environ, where the tokens are.
"""

import os
from pathlib import Path


def leaves(path: Path) -> bool:
    """Whether links lead from it to another volume, or to the kernel's own files.

    Those that stay are followed: the Hub's cache is made of them, and so is a mounted ConfigMap.
    """
    real = Path(os.path.realpath(path))
    return real.exists() and _mount(real) != Path(os.path.realpath(_mount(path.absolute())))


def _mount(path: Path) -> Path:
    """That a path is on, as it is written.

    By folders alone: the layers of an image may give their files other devices than it has.
    """
    folders = (each for each in (path, *path.parents) if each.is_dir())
    # That of pathlib follows links.
    return next(each for each in folders if os.path.ismount(each))
