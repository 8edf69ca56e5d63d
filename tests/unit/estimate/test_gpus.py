"""Memory of GPUs and partitions."""

import pytest

from finetuning.estimate.gpus import GIB, UnknownGpuError, of_resource, parse


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("MI210", 64),
        ("MI250X", 64),
        ("MI300A", 128),
        ("mi300x", 192),
        ("MI308X", 192),
        ("MI325X", 256),
        ("MI350X", 288),
        ("MI355X", 288),
        ("MI300X-CPX", 24),
        ("MI300X-CPX-NPS4", 24),
        ("MI300X-DPX-NPS2", 96),
        ("MI308X-CPX", 48),
        ("MI325X-QPX", 64),
        ("MI355X-CPX-NPS2", 36),
    ],
)
def test_the_share_of_a_partition(name: str, gib: int) -> None:
    assert parse(name).memory == gib * GIB


def test_a_partition_that_does_not_divide_evenly_is_rounded_down() -> None:
    assert parse("MI300A-TPX").memory == 128 * GIB // 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("H100", "known are MI210"),
        ("", "known are MI210"),
        ("MI210-CPX", "MI210 has the partitions SPX and NPS1"),
        ("MI300X-NPS4", "write MI300X or MI300X-CPX-NPS4"),
        ("MI300X-SPX-NPS4", "fewer than the memory domains"),
        ("MI350X-CPX-NPS4", "NPS1, NPS2"),
        ("MI300X-CPX-NPS4-X", "MI300X-CPX-NPS4"),
    ],
)
def test_what_is_no_gpu_is_refused_with_what_is(name: str, text: str) -> None:
    with pytest.raises(UnknownGpuError, match=text):
        parse(name)


def test_the_name_of_the_resource_tells_the_partition() -> None:
    assert of_resource("amd.com/cpx_nps4", "MI300X").name == "MI300X-CPX-NPS4"
    assert of_resource("amd.com/spx_nps1", "MI300X-CPX").memory == 192 * GIB
    assert of_resource("amd.com/gpu", "MI300X-DPX").memory == 96 * GIB
