"""Kinds of arguments that commands share."""

import argparse
from pathlib import Path


def assignment(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=PATH")
    return name, Path(path).expanduser()


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - all ports there are
        raise argparse.ArgumentTypeError(f"{text!r} must be a port from 1 to 65535")
    return int(text)


def seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.2 <= found <= 3600:  # noqa: PLR2004 - a flicker, and an hour
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.2 to 3600")
    return found
