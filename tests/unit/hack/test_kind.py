"""The kind way: the real kind, above a stand-in for Docker that records what it is asked.

A machine that refuses privileged containers has no kind cluster. What kind makes of our settings,
which commands it gives Docker, and where it writes kubeconfigs is the same here as elsewhere.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hack.cluster import kind, paths, tools
from hack.cluster.shell import attempt
from tests.built import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)  # The first test may have to build kind.

DOCKER = f"""#!{sys.executable} -S
import json, os, sys
from pathlib import Path

here, words = Path(__file__).parent, sys.argv[1:]
said = sys.stdin.read() if "-i" in words else ""
with (here / "log").open("a") as log:
    log.write(json.dumps([words, said]) + "\\n")
asked = " ".join(words)
if words[0] == "run":
    (here / "node").write_text(words[words.index("--name") + 1])
elif words[0] == "rm":
    (here / "node").unlink()
elif words[0] == "save":
    Path(words[words.index("-o") + 1]).write_text("the archive")
node = (here / "node").read_text() if (here / "node").exists() else ""
if words[0] == "ps" and node:
    print(node if "{{{{.Names}}}}" in words else node.removesuffix("-control-plane"))
elif words[0] != "ps":
    answers = json.loads((here / "answers").read_text())
    print(next((answer for sign, answer in answers if sign in asked), ""), end="")
"""
ADMIN = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "kubernetes-admin@kubernetes",
    "clusters": [{"name": "kubernetes", "cluster": {"server": "https://inside:6443"}}],
    "users": [{"name": "kubernetes-admin", "user": {"token": "t0ken"}}],
    "contexts": [
        {
            "name": "kubernetes-admin@kubernetes",
            "context": {"cluster": "kubernetes", "user": "kubernetes-admin"},
        }
    ],
}
ENDPOINT = "127.0.0.1\t40001"
IMAGES = {"images": [{"repoTags": ["localhost/finetuning-operator:old"]}]}
CONTAINERD = 'version = 3\n[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "overlayfs"\n'
ANSWERS = [
    ["SecurityOptions", "[]"],
    ["{{json .}}", json.dumps({"CgroupVersion": "2", "CgroupDriver": "systemd"})],
    ["network ls", "abc"],
    ["network inspect", json.dumps([{"Id": "abc", "Containers": {}}])],
    ["logs -f", "Reached target Multi-User System."],
    ["kind.role", "control-plane"],
    ["desktop.docker.io", ""],
    ["NetworkSettings.Ports", ENDPOINT],
    ["NetworkSettings.Networks", "172.18.0.2,"],
    ["cat /kind/version", tools.kubernetes_version()],
    ["cat /etc/kubernetes/admin.conf", json.dumps(ADMIN)],
    ["conditions[-1:].status", "'True'"],
    ["crictl images --output json", json.dumps(IMAGES)],
    ["image inspect", "sha256:0123"],
    ["crictl inspecti", json.dumps({"status": {"id": "sha256:other", "repoTags": []}})],
    ["containerd config dump", CONTAINERD],
    [f"{kind.NODE_PORT}/tcp", f"127.0.0.1:{kind.NODE_PORT}\n"],
]
"""What Docker says to the first of these words, as kind 0.33 asks it."""

Calls = list[tuple[str, str]]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Calls]:
    """What Docker was asked, and what was written to it; the checkout's state lies elsewhere."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "answers").write_text(json.dumps(ANSWERS))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "own"))
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "docker")
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(paths, "KUBECONFIG", tmp_path / "state" / "kubeconfig")
    monkeypatch.setattr(paths, "AUDIT_LOG", tmp_path / "state" / "audit.log")
    monkeypatch.setattr(kind, "owner_file", lambda name: tmp_path / "owners" / name)

    def calls() -> Calls:
        lines = (folder / "log").read_text().splitlines()
        return [(" ".join(words), said) for words, said in map(json.loads, lines)]

    return calls


@pytest.fixture(scope="module")
def real() -> Path:
    return program(tools.KIND)


@pytest.fixture(scope="module")
def kubeadm() -> Path:
    return program(tools.kubernetes("kubeadm"))


def written(calls: Calls, file: str) -> str:
    (found,) = (said for asked, said in calls if asked.endswith(f"cp /dev/stdin {file}"))
    return found


def test_kind_takes_the_settings_and_kubeadm_what_it_makes_of_them(
    docker: Callable[[], Calls], real: Path, kubeadm: Path, tmp_path: Path
) -> None:
    kind.create(real)
    calls = docker()
    (node,) = (asked for asked, _ in calls if asked.startswith("run --name"))
    assert f"--name {kind.NODE} " in node
    assert f"--volume={paths.STATE}/audit-policy.yaml:/etc/kubernetes/audit-policy.yaml:ro" in node
    assert f"--volume={paths.STATE}/audit:/var/log/audit" in node
    assert "--publish=127.0.0.1:" in node
    assert f":{kind.NODE_PORT}/TCP" in node
    config = written(calls, "/kind/kubeadm.conf")
    parts: dict[str, Any] = {each["kind"]: each for each in yaml.safe_load_all(config)}
    server = parts["ClusterConfiguration"]["apiServer"]
    flags = {each["name"]: each["value"] for each in server["extraArgs"]}
    assert flags["audit-log-path"] == "/var/log/audit/audit.log", "no patch that kind passes over"
    assert {each["hostPath"] for each in server["extraVolumes"]} == {
        "/etc/kubernetes/audit-policy.yaml",
        "/var/log/audit",
    }
    assert parts["KubeletConfiguration"]["syncFrequency"] == "5s"
    (tmp_path / "kubeadm.yaml").write_text(config)
    judged = attempt(kubeadm, "config", "validate", "--config", tmp_path / "kubeadm.yaml")
    assert judged.returncode == 0, judged.stderr


def test_the_kubeconfig_is_the_checkouts_own_and_goes_with_the_cluster(
    docker: Callable[[], Calls], real: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.write_text("kind: Config\n")
    kind.create(real)
    found = yaml.safe_load(paths.KUBECONFIG.read_text())
    (cluster,) = found["clusters"]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:40001"
    assert found["current-context"] == f"kind-{kind.NAME}"
    assert kind.clusters(real) == [kind.NAME]
    kind.remove_orphans(real)
    assert kind.clusters(real) == [kind.NAME], "its checkout is there"
    kind.owner_file(kind.NAME).write_text(str(tmp_path / "gone"))
    kind.remove_orphans(real)
    assert any(asked.startswith("rm ") for asked, _ in docker())
    assert kind.clusters(real) == []
    assert not (yaml.safe_load(paths.KUBECONFIG.read_text()) or {}).get("clusters")
    assert own.read_text() == "kind: Config\n"


def test_an_image_is_loaded_under_both_of_its_names_and_once(
    docker: Callable[[], Calls], real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind.create(real)
    monkeypatch.setattr(tools, "target", lambda _: real)
    name = "localhost/finetuning-operator:0123456789ab"
    kind.load_image(name)
    saved = [asked for asked, _ in docker() if asked.startswith("save ")]
    assert len(saved) == 1
    assert saved[0].endswith(f" {name} localhost/finetuning-operator:dev")
    ((imported, archive),) = ((asked, data) for asked, data in docker() if "import" in asked)
    assert f" {kind.NODE} " in imported
    assert archive == "the archive"
    kind.load_image("localhost/finetuning-operator:old")
    assert [asked for asked, _ in docker() if "import" in asked] == [imported], "it is there"
    assert kind.node_port() == f"127.0.0.1:{kind.NODE_PORT}"
