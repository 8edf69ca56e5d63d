"""Keys and certificates, made by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDED = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make keys")
NEW = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
"""A certificate with a key of its own; for 127.0.0.1 with `HERE`."""
HERE = ("-addext", "subjectAltName=IP:127.0.0.1")


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
