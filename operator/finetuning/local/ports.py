"""Which port the metrics server of a local run gets."""

import errno
import socket

from finetuning.local.problems import InputError


def is_free(port: int) -> bool:
    """Whether a server can listen there now; raises InputError when the port is not ours to use."""
    with _probe() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise InputError(f"--metrics-port {port}: {error.strerror}") from None
    return True


def any_free() -> int:
    with _probe() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def _probe() -> socket.socket:
    """On all addresses, as the server will listen: IPv6's too, where the machine has any."""
    if not socket.has_dualstack_ipv6():
        return socket.socket()
    probe = socket.socket(socket.AF_INET6)
    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return probe


def choose(usual: int, insisted: int | None) -> int:
    """The port insisted on, else the usual one, else any; raises InputError."""
    if insisted is None:
        return usual if is_free(usual) else any_free()
    if not is_free(insisted):
        raise InputError(
            f"--metrics-port {insisted}: in use; `ss -ltnp` shows by whom. "
            "Without the option a free port is chosen"
        )
    return insisted
