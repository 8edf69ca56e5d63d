"""Resources of a pod, as in a container, with the rules that the API server has for Pods."""

from typing import ClassVar

from pydantic import Field

from finetuning.api.base import ApiModel, Rule
from finetuning.api.text import MEBIBYTE, Resources, amount, at_least

_PARTS = ("requests", "limits")
_STORED = ("memory", "ephemeral-storage")
_SHARED = ("cpu", *_STORED)
"""Of which a pod may get more than is set aside for it."""


def _devices_agree(resources: "ResourceSpec") -> bool:
    shared = resources.requests.keys() & resources.limits.keys()
    return all(
        str(resources.requests[name]) == str(resources.limits[name])
        for name in shared
        if "/" in name
    )


def _devices_are_whole(resources: "ResourceSpec") -> bool:
    entries = [*resources.requests.items(), *resources.limits.items()]
    return all(str(value).isdecimal() for name, value in entries if "/" in name)


def _requests_fit(resources: "ResourceSpec") -> bool:
    """Each amount is known to be a quantity here: its own rule comes first."""
    shared = resources.requests.keys() & resources.limits.keys() & set(_SHARED)
    pairs = [(amount(resources.requests[name]), amount(resources.limits[name])) for name in shared]
    return all(least <= most for least, most in pairs if least is not None and most is not None)


def _bytes_have_a_unit(resources: "ResourceSpec") -> bool:
    entries = [*resources.requests.items(), *resources.limits.items()]
    return all(at_least(MEBIBYTE, value) for name, value in entries if name in _STORED)


# What is asked of an amount as text is dear on older API servers, see MOST_RESOURCES: so resources
# that have names are asked for by them, and the rest as little as possible.


def _whole_in_cel(part: str) -> str:
    each = f"self.{part}[name]"
    return (
        f"(!has(self.{part}) || self.{part}.all(name, !name.contains('/') || "
        rf"type({each}) == int || !{each}.matches('\\D')))"
    )


def _fits_in_cel(name: str) -> str:
    least, most = (f"self.{part}['{name}']" for part in _PARTS)
    known = [f"(type({each}) != int && !isQuantity({each}))" for each in (least, most)]
    return (
        f"(!('{name}' in self.requests) || !('{name}' in self.limits) || {' || '.join(known)} || "
        f"quantity(string({least})).compareTo(quantity(string({most}))) <= 0)"
    )


def _stored_in_cel(part: str, name: str) -> str:
    each = f"self.{part}['{name}']"
    return (
        f"(!has(self.{part}) || !('{name}' in self.{part}) || (type({each}) == int "
        f"? int({each}) >= {MEBIBYTE} "
        f": !isQuantity({each}) || quantity({each}).compareTo(quantity('1Mi')) >= 0))"
    )


class ResourceSpec(ApiModel):
    """Resources of the training pod, as in a container."""

    RULES: ClassVar = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, "
            "!name.contains('/') || !(name in self.limits) || "
            "string(self.requests[name]) == string(self.limits[name]))",
            _devices_agree,
            "requests and limits of a device such as amd.com/gpu must be equal; naming it under "
            "limits alone is enough",
        ),
        Rule(
            " && ".join(map(_whole_in_cel, _PARTS)),
            _devices_are_whole,
            "a device such as amd.com/gpu is given whole: 1, 2, 8 and so on",
        ),
        Rule(
            "!has(self.requests) || !has(self.limits) || "
            f"({' && '.join(map(_fits_in_cel, _SHARED))})",
            _requests_fit,
            "no request may be larger than its limit: raise the limit or lower the request",
        ),
        Rule(
            " && ".join(_stored_in_cel(part, name) for part in _PARTS for name in _STORED),
            _bytes_have_a_unit,
            "memory and ephemeral-storage are bytes unless they have a unit: give 32Gi, not 32",
        ),
    )

    requests: Resources = Field(
        default_factory=dict,
        description="What the scheduler sets aside, as in a container: cpu, memory, amd.com/gpu. "
        "Equal to limits for GPUs.",
    )
    limits: Resources = Field(
        default_factory=dict,
        description="What the pod may use at most, as in a container. One `amd.com/gpu` when "
        "neither map names the resource.",
    )

    def gpus(self, gpu_resource: str) -> int:
        """GPUs of the pod, partitions of one counted each; one where no device is named."""
        vendor = gpu_resource.partition("/")[0] + "/"
        devices = {**self.requests, **self.limits}
        named = [int(count) for name, count in devices.items() if name.startswith(vendor)]
        return sum(named) if named else 1
