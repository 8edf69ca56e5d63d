from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hack.cluster import kind, tools
from hack.cluster.machine import Way, choose, docker_refusal
from hack.cluster.native import prerequisites
from hack.cluster.shell import ClusterError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("docker", "machine", "way"),
    [
        ("", "", Way.KIND),
        ("", "not root", Way.KIND),
        ("no daemon", "", Way.NATIVE),
        ("no daemon", "not root", None),
    ],
)
def test_docker_is_preferred_and_root_on_linux_is_the_other_way(
    docker: str, machine: str, way: Way | None
) -> None:
    assert choose(docker, machine) is way


@pytest.mark.parametrize(
    ("system", "user", "marks", "said"),
    [
        ("Linux", 0, [], ""),
        ("Darwin", 501, [], "on Darwin it takes Docker, so start or install it"),
        ("Linux", 1000, [], "install Docker (and join its group), or run as root"),
        ("Linux", 0, [Path("/etc/kubernetes/kubelet.conf")], "use another machine"),
    ],
)
def test_a_refusal_is_one_line_with_its_remedy(
    system: str, user: int, marks: list[Path], said: str
) -> None:
    refusal = prerequisites.refuse(system, user, marks)
    assert said in refusal
    assert bool(refusal) == bool(said)
    assert "\n" not in refusal


def test_without_docker_kind_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker_refusal() == "docker is not installed"


def test_a_docker_client_without_a_daemon_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert docker_refusal() == "the Docker daemon does not answer"


def test_a_daemon_that_refuses_privileged_containers_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = tmp_path / "docker"
    client.write_text(
        "#!/bin/sh\ncase $1 in run) echo 'unable to apply caps' >&2; exit 126;; esac\n"
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert docker_refusal() == "Docker cannot run a privileged container (unable to apply caps)"


def test_missing_programs_are_named_as_packages_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = prerequisites.missing_packages()
    assert {"containerd", "runc", "nftables"} <= set(missing)
    with pytest.raises(ClusterError, match=r"install the packages .*containerd.*runc") as raised:
        prerequisites.install(missing, "the node's programs")
    assert "\n" not in str(raised.value)


def test_a_command_without_a_cluster_says_what_to_type() -> None:
    code = "from hack.cluster import commands, paths; commands.WAY_FILE = paths.Path('nowhere')\n"
    code += "import sys; from hack.cluster.__main__ import main; sys.exit(main(['status']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "cluster: this checkout has no cluster: type `make cluster-up` first\n"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.27 darwin/arm64", (1, 27, 0)),
        ("go version devel", (0,)),
    ],
)
def test_the_version_of_go_is_read_from_its_own_words(text: str, version: tuple[int, ...]) -> None:
    assert tools.go_version(text) == version


def test_every_tool_is_pinned_by_sums() -> None:
    for tool in (*tools.NATIVE, *tools.MONITORING, tools.KIND):
        folder = ROOT / "hack" / "cluster" / "tools" / tool.module
        assert (folder / "go.mod").exists(), tool.name
        assert tool.module == "pause" or (folder / "go.sum").read_text().count("h1:") > 10


def test_each_checkout_has_a_kind_cluster_of_its_own() -> None:
    names = {kind.cluster_name(Path(path)) for path in ("/a", "/b")}
    assert len(names) == 2
    assert all(len(name) <= 32 for name in names)


def test_the_kind_node_writes_the_audit_log_where_the_native_one_does() -> None:
    node = kind.settings(Path("/s/policy.yaml"), Path("/s/audit"))["nodes"][0]
    patch = json.loads(node["kubeadmConfigPatches"][0])["apiServer"]
    flags = {flag["name"]: flag["value"] for flag in patch["extraArgs"]}
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in node["extraMounts"]}
    assert mounts[str(Path(flags["audit-log-path"]).parent)] == "/s/audit"
    assert mounts[flags["audit-policy-file"]] == "/s/policy.yaml"
    assert {volume["hostPath"] for volume in patch["extraVolumes"]} == set(mounts)
