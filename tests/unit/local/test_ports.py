import socket

import pytest

from finetuning.local import ports


def listening(family: socket.AddressFamily, address: str) -> socket.socket:
    try:
        return socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"no {family.name} here")


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_port_that_somebody_has_on_one_address_is_not_free(
    family: socket.AddressFamily, address: str
) -> None:
    with listening(family, address) as taken:
        port = taken.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.choose(port, None) != port
    assert ports.is_free(port)
