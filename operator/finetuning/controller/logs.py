"""Structured log lines: time, severity, then key=value text; no line repeats what status says."""

import logging
import sys
import time

from typing_extensions import override

_QUIET = ("aiohttp.access", "asyncio", "kopf", "kubernetes", "urllib3")


class Formatter(logging.Formatter):
    """UTC times, and a traceback on the lines after its message."""

    def __init__(self) -> None:
        super().__init__("time=%(asctime)sZ level=%(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    @override
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
