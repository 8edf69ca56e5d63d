"""Which images those who write jobs may have the operator run, as the admin of the cluster says."""

import re

from finetuning.controller.settings import Settings

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def refusal(image: str, settings: Settings) -> str:
    """Why an image may not be run, and what is allowed; empty where it may."""
    allowed = settings.serving_images
    if allowed and not any(_is_below(_repository(image), each) for each in allowed):
        return f"is not one of {', '.join(allowed)}, which the chart's serving.images allows"
    if settings.serving_images_by_digest and not _DIGEST.search(image):
        return "has no digest (name@sha256:...), which the chart's serving.imagesByDigest asks for"
    return ""


def _repository(image: str) -> str:
    """Without tag and digest: the port of a registry is neither."""
    name, _, _ = image.partition("@")
    registry, slash, last = name.rpartition("/")
    return f"{registry}{slash}{last.partition(':')[0]}"


def _is_below(repository: str, allowed: str) -> bool:
    """A whole part of the path: `team` does not allow `team-of-others`."""
    return f"{repository}/".startswith(f"{allowed.rstrip('/')}/")
