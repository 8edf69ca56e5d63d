"""The metrics server over https, with certificates made by openssl."""

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.openssl import HERE, NEEDED, NEW, openssl
from tests.unit.sidecar.test_metrics_server import Server, refused
from tests.unit.sidecar.test_validate_metrics_remote import run as check_remotely

pytestmark = NEEDED


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority (ca), a server's certificate for 127.0.0.1 and a client's, both by it."""
    folder = tmp_path_factory.mktemp("keys")
    ca = ("-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=authority")
    openssl(*NEW, *ca)
    for name in ("server", "client"):
        out = ("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
        signed = ("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-subj", f"/CN={name}")
        openssl(*NEW, *out, *signed, *HERE, "-addext", "basicConstraints=CA:FALSE")
    return folder


@pytest.fixture
def arguments(keys: Path, tmp_path: Path) -> list[str]:
    info = ["--training-info", str(tmp_path / "training_info.json")]
    return [*info, "--tls-cert", str(keys / "server.crt"), "--tls-key", str(keys / "server.key")]


def fetch(port: int, context: ssl.SSLContext) -> str:
    address = f"https://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(address, timeout=10, context=context) as reply:
        return str(reply.read().decode())


def stopped(server: Server) -> str:
    """Ends the server and gives what it wrote after its greeting."""
    assert server.stop() == 0
    assert server.process.stderr is not None
    said = server.process.stderr.read()
    server.process.stderr.close()
    return said


def test_metrics_are_served_over_https_and_no_longer_over_http(
    arguments: list[str], keys: Path
) -> None:
    server = Server(arguments)
    assert server.greeting.startswith("metrics_server: serving https://")
    trusting = ssl.create_default_context(cafile=keys / "ca.crt")
    # A client that connects and says nothing holds nobody up.
    with socket.create_connection(("127.0.0.1", server.port)):
        assert "finetuning_job_status" in fetch(server.port, trusting)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10)
    assert stopped(server) == ""


def test_only_clients_of_the_authority_get_an_answer(arguments: list[str], keys: Path) -> None:
    server = Server([*arguments, "--tls-client-ca", str(keys / "ca.crt")])
    stranger = ssl.create_default_context(cafile=keys / "ca.crt")
    with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
        fetch(server.port, stranger)
    known = ssl.create_default_context(cafile=keys / "ca.crt")
    known.load_cert_chain(keys / "client.crt", keys / "client.key")
    assert "finetuning_job_status" in fetch(server.port, known)
    assert stopped(server) == ""


def test_a_wrong_option_is_named(keys: Path, tmp_path: Path) -> None:
    certificate, key = str(keys / "server.crt"), str(keys / "server.key")
    assert "--tls-key are needed together" in refused("--tls-cert", certificate)
    assert "--tls-key are needed together" in refused("--tls-client-ca", certificate)
    missing = str(tmp_path / "none.crt")
    told = refused("--tls-cert", missing, "--tls-key", key)
    assert f"--tls-cert {missing}: No such file or directory" in told
    swapped = refused("--tls-cert", key, "--tls-key", certificate)
    assert f"--tls-cert {key}: " in swapped
    told = refused("--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", key)
    assert f"--tls-client-ca {key}: " in told


@pytest.mark.parametrize("ours_too", [False, True], ids=["server alone", "clients as well"])
def test_the_check_of_a_remote_endpoint_says_that_it_is_encrypted(
    arguments: list[str], keys: Path, *, ours_too: bool
) -> None:
    server = Server([*arguments, *(["--tls-client-ca", str(keys / "ca.crt")] if ours_too else [])])
    done = check_remotely(str(server.port))
    assert done.returncode == 1
    assert "speaks https, which this check does not" in done.stdout
    assert f"https://localhost:{server.port}/metrics" in done.stdout
    assert "not accessible" not in done.stdout
    assert stopped(server) == ""
