"""Carry the building machine's pip settings into a build without leaving them in the image."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster.shell import attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

CARRIED = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
CA_IN_BUILD = "/run/secrets/ca_certificates"
CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def parse_list(text: str) -> dict[str, str]:
    """Read `pip config list`; the environment stands over files, as in pip."""
    found: dict[str, str] = {}
    for scope, key, value in re.findall(r"^(\S+?)\.([\w-]+)='(.*)'$", text, re.MULTILINE):
        if key in CARRIED and (key not in found or scope == ":env:"):
            found[key] = value.replace("\\n", " ").strip()
    return found


def pip_conf(settings: Mapping[str, str], *, has_ca: bool) -> str:
    """Write the build's pip.conf."""
    lines = [f"{key} = {value}" for key, value in settings.items()]
    lines += [f"cert = {CA_IN_BUILD}"] if has_ca else []
    return "\n".join(["[global]", "disable-pip-version-check = true", *lines, ""])


def certificates(environment: Mapping[str, str]) -> Path | None:
    """Find the certificates that the user's own tools are told to trust."""
    named = (environment.get(variable, "") for variable in CA_VARIABLES)
    return next((Path(name) for name in named if name and Path(name).is_file()), None)


def secrets(folder: Path) -> dict[str, Path]:
    """Write the build's secrets into a folder and give them by id."""
    listed = attempt(sys.executable, "-m", "pip", "config", "list").stdout
    trusted = certificates(os.environ)
    conf = folder / "pip.conf"
    conf.write_text(pip_conf(parse_list(listed), has_ca=trusted is not None))
    return {"pip_conf": conf, **({"ca_certificates": trusted} if trusted else {})}
