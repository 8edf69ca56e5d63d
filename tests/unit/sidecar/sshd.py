"""A real SSH server on a loopback port, and tunnels through it.

The server is the machine's own where there is one. Else Debian's package is unpacked into a
folder: installing it would open port 22 of whoever runs the tests.
"""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.cluster.paths import cache
from tests.ports import free_port
from tests.unit.local.processes import running_with, until

_SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib")


class NoServerError(Exception):
    """There is no SSH server here, and none can be had."""


@dataclass(frozen=True)
class Program:
    """sshd, and what it takes to start it."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)


def program(scratch: Path) -> Program:
    """The SSH server's program; raises NoServerError."""
    found = shutil.which("sshd", path=_SYSTEM_PATH)
    return Program(found) if found else _unpacked(scratch / "debian")


def _unpacked(root: Path) -> Program:
    for package in _downloaded():
        subprocess.run(["dpkg", "--extract", package, root], check=True)
    libraries = ":".join(str(root / name) for name in _LIBRARIES)
    return Program(str(root / "usr/sbin/sshd"), {"LD_LIBRARY_PATH": libraries})


def _downloaded() -> list[Path]:
    """Debian's package and what it needs beyond this machine; it is kept for the next time."""
    if shutil.which("apt-get") is None:
        raise NoServerError("there is no sshd here: install the package openssh-server")
    folder = cache() / "debian-openssh-server"
    if not list(folder.glob("openssh-server_*.deb")):
        (folder / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::Cache::archives={folder}", "-o", "Debug::NoLocking=1"]
        command = ["apt-get", "install", "--download-only", "--yes", "--no-install-recommends"]
        done = subprocess.run(
            [*command, *options, "openssh-server"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise NoServerError(f"apt-get cannot fetch openssh-server: {last}")
    return sorted(folder.glob("*.deb"))


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Server:
    """Serves the user who may log in with the key in this folder, and nobody else.

    Without root's rights, also when the tests have them: it then needs no user and no folder of
    the system, and can only ever log in the user that it runs as.
    """

    def __init__(self, folder: Path, found: Program, **settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self.user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        for name in ("host_key", "user_key", "wrong_key"):
            make_key(folder / name)
        shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
        self._write_config(settings)
        self._own_files()
        with (folder / "sshd.log").open("w") as log:
            self._process = subprocess.Popen(
                [found.path, "-D", "-e", "-f", str(folder / "sshd_config")],
                env={"PATH": _SYSTEM_PATH, **found.environment},
                **self._other_user(),
                stderr=log,
            )
        until(lambda: listens(self.port))

    def _write_config(self, settings: dict[str, str]) -> None:
        values = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "UsePAM": "yes",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            **settings,
        }
        text = "".join(f"{name} {value}\n" for name, value in values.items())
        (self.folder / "sshd_config").write_text(text)
        client = {
            "HostName": "127.0.0.1",
            "Port": self.port,
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "IdentitiesOnly": "yes",
            "IdentityFile": self.folder / "client_key",
            "BatchMode": "yes",
        }
        text = "".join(f"    {name} {value}\n" for name, value in client.items())
        (self.folder / "ssh_config").write_text(f"Host remote-server finetuning-server\n{text}")

    def _own_files(self) -> None:
        """The server runs as another user than the client when the tests run as root."""
        shutil.copyfile(self.folder / "user_key", self.folder / "client_key")
        (self.folder / "client_key").chmod(0o600)
        if os.geteuid() == 0:
            uid = pwd.getpwnam(self.user).pw_uid
            for name in ("host_key", "authorized_keys", "sshd_config"):
                os.chown(self.folder / name, uid, -1)

    def _other_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def ssh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ssh` as it is typed, but for the file that says where `remote-server` is."""
        config = str(self.folder / "ssh_config")
        with (self.folder / "ssh.log").open("w") as log:
            done = subprocess.run(
                ["ssh", "-F", config, *arguments], stdout=log, stderr=log, check=False, timeout=60
            )
        told = (self.folder / "ssh.log").read_text()
        return subprocess.CompletedProcess(arguments, done.returncode, told)

    def tunnel(self, local: int, remote: int) -> subprocess.CompletedProcess[str]:
        """The documented command."""
        where = f"{self.user}@remote-server"
        return self.ssh("-f", "-N", "-L", f"{local}:localhost:{remote}", where)

    def close_tunnels(self) -> None:
        config = str(self.folder / "ssh_config")
        for process in running_with(config):
            os.kill(process, 15)
        until(lambda: not running_with(config))

    def stop(self) -> None:
        self.close_tunnels()
        self._process.terminate()
        self._process.wait()


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
