"""Code that a model brings: none is run, and nobody is asked whether it may."""

from importlib import import_module


def ask_nobody() -> None:
    """Of each part of a model that transformers has no code for, it would ask on the terminal.

    A part inside of another is built without what was said of the whole: `trust_remote_code=False`.
    """
    # By its name: it takes seconds to load.
    vars(import_module("transformers.dynamic_module_utils"))["TIME_OUT_REMOTE_CODE"] = 0
