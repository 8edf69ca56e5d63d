"""The memory of AMD Instinct GPUs and of their partitions.

Memory sizes are the commonly published ones, in GiB. Those of MI325X, MI350X and MI355X
were compared with third parties' pages, the partition modes with AMD SMI's page on GPU
partitioning. The other sizes, and which NPS modes a GPU has, were not compared with AMD's data
sheets.

A partition counts with its share of the memory. In NPS1 each partition can address all of it, yet
has to share it with its neighbours, so the share is what a job can rely on.
"""

import re
from dataclasses import dataclass

GIB = 1 << 30

_SPX, _EIGHT = {"SPX": 1}, {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}


@dataclass(frozen=True)
class _Product:
    """Memory in GiB, how many partitions each mode makes, and the NPS modes there are."""

    memory: int
    modes: dict[str, int]
    nps: tuple[int, ...] = (1,)


PRODUCTS = {
    "MI210": _Product(64, _SPX),
    # One of two dies, each of which ROCm and Kubernetes show as a GPU of its own.
    "MI250X": _Product(64, _SPX),
    "MI300A": _Product(128, {"SPX": 1, "TPX": 3, "CPX": 6}),
    "MI300X": _Product(192, _EIGHT, (1, 2, 4)),
    "MI308X": _Product(192, {"SPX": 1, "DPX": 2, "CPX": 4}, (1, 2, 4)),
    "MI325X": _Product(256, _EIGHT, (1, 2, 4)),
    "MI350X": _Product(288, _EIGHT, (1, 2)),
    "MI355X": _Product(288, _EIGHT, (1, 2)),
}

_RESOURCE = re.compile(r"amd\.com/([a-z]px)_nps(\d+)")


class UnknownGpuError(ValueError):
    """No such GPU, or a partition that it has not."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as a pod gets it: whole, or one of its partitions."""

    name: str
    memory: int
    """Bytes."""


def parse(name: str) -> Gpu:
    """`MI300X`, `MI300X-CPX` or `MI300X-CPX-NPS4`; raises UnknownGpuError."""
    product, *rest = name.upper().split("-")
    found = PRODUCTS.get(product)
    if found is None:
        raise UnknownGpuError(f"{name}: no such GPU; known are {', '.join(PRODUCTS)}")
    mode = rest[0] if rest else "SPX"
    nps = rest[1] if len(rest) > 1 else "NPS1"
    modes, domains = list(found.modes), [f"NPS{number}" for number in found.nps]
    if mode not in modes or nps not in domains or len(rest) > 2:  # noqa: PLR2004 - mode and NPS
        raise UnknownGpuError(
            f"{name}: {product} has the partitions {', '.join(modes)} and {', '.join(domains)}; "
            f"write {product} or {product}-{modes[-1]}-{domains[-1]}"
        )
    parts = found.modes[mode]
    if int(nps[3:]) > parts:
        raise UnknownGpuError(
            f"{name}: {mode} makes {parts} of it, fewer than the memory domains of {nps}"
        )
    return Gpu("-".join([product, *rest]), found.memory * GIB // parts)


def of_resource(resource: str, product: str) -> Gpu:
    """What one unit of a Kubernetes resource is, on nodes with this product.

    AMD's device plugin names partitions such as amd.com/cpx_nps4 when nodes have mixed ones.
    """
    mode = _RESOURCE.fullmatch(resource)
    if mode is None:
        return parse(product)
    return parse(f"{product.split('-', maxsplit=1)[0]}-{mode[1]}-nps{mode[2]}")
