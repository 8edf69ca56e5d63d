"""What must not be read in a log: a tracker's variables, which may be credentials."""

from collections.abc import Mapping
from urllib.parse import urlsplit

PREFIXES = ("MLFLOW_", "WANDB_", "DATABRICKS_", "AWS_", "AZURE_", "GOOGLE_", "HF_TOKEN")
SHORTEST = 6
"""Shorter values are words such as `true`, not secrets."""


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """The text with the name of a variable where its value, or a password in it, stood."""
    for value, name in sorted(_secrets(environ), key=lambda pair: len(pair[0]), reverse=True):
        text = text.replace(value, f"${name}")
    return text


def _secrets(environ: Mapping[str, str]) -> set[tuple[str, str]]:
    found = set()
    for name, value in environ.items():
        if name.startswith(PREFIXES):
            found |= {(part, name) for part in (value, *_logins(value)) if len(part) >= SHORTEST}
    return found


def _logins(value: str) -> list[str]:
    """User and password inside an address."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return []
    return [part for part in (parts.username, parts.password) if part]
