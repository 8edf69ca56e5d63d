"""Which cluster a client speaks to, and as whom."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.client.server import Api
from tests.unit.controller.objects import job_body

from finetuning.client import (
    AsyncFineTuningClient,
    ClusterError,
    FineTuningClient,
    InvalidJobError,
    NoClusterError,
)


def test_two_namespaces_contradict_each_other(api: Api, kubeconfig: Path) -> None:
    with (
        FineTuningClient(kubeconfig=kubeconfig, namespace="mine") as client,
        pytest.raises(InvalidJobError, match="the namespace mine was asked for"),
    ):
        client.submit(job_body())
    assert api.requests == []


async def test_a_kubeconfig_is_a_path_too(api: Api, kubeconfig: Path) -> None:
    async with await AsyncFineTuningClient.connect(kubeconfig=kubeconfig) as asking:
        assert await asking.list() == []


def test_a_tilde_is_the_home_that_no_shell_has_put_in_its_place(
    api: Api, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(kubeconfig.parent))
    body = job_body("mine")
    (kubeconfig.parent / "job.yaml").write_text(yaml.safe_dump(body))
    with FineTuningClient(kubeconfig=f"~/{kubeconfig.name}") as client:
        assert client.submit("~/job.yaml").metadata.name == "mine"


def test_another_context_has_its_own_namespace(api: Api, kubeconfig: Path) -> None:
    with FineTuningClient(kubeconfig=kubeconfig, context="other") as client:
        assert (client.context, client.namespace) == ("other", "default")
    with pytest.raises(ClusterError, match='no context "x"; it has lab, other'):
        FineTuningClient(kubeconfig=kubeconfig, context="x")


@pytest.mark.parametrize("current", ["gone", "", None])
def test_a_context_that_is_named_needs_no_current_one(
    api: Api, kubeconfig: Path, current: str | None
) -> None:
    """As `kind delete cluster` leaves a kubeconfig; kubectl takes it."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["current-context"] = current
    kubeconfig.write_text(yaml.safe_dump(config))
    api.keep()
    with FineTuningClient(kubeconfig=kubeconfig, context="lab") as client:
        assert client.get("demo").metadata.name == "demo"
    with pytest.raises(NoClusterError, match=r"current context.*; name one .*: lab, other"):
        FineTuningClient(kubeconfig=kubeconfig)


@pytest.mark.parametrize("program", ["/nowhere/login", "false"])
def test_a_login_that_cannot_be_had_is_told(api: Api, kubeconfig: Path, program: str) -> None:
    """The library goes on without one, and the answer is that of somebody else."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": program}
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    with pytest.raises(NoClusterError, match="the program that logs in"):
        FineTuningClient(kubeconfig=kubeconfig)
    assert api.requests == []


@pytest.mark.parametrize("usual", [False, True], ids=["named", "in its usual place"])
def test_a_kubeconfig_counts_in_a_pod_too(
    api: Api, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, *, usual: bool
) -> None:
    """A pipeline that runs in one cluster submits to another, as its kubectl does."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOME", str(kubeconfig.parent))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    if usual:
        (kubeconfig.parent / ".kube").mkdir()
        kubeconfig.rename(kubeconfig.parent / ".kube" / "config")
    else:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    api.keep()
    with FineTuningClient() as client:
        assert (client.context, client.get("demo").metadata.name) == ("lab", "demo")


@pytest.mark.parametrize("named", ["", "/nowhere/config"], ids=["none", "one that is not there"])
def test_without_one_a_pod_has_its_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", named)
    with pytest.raises(NoClusterError, match="service account: "):
        FineTuningClient()


PROGRAM = """#!/bin/sh
echo >> runs
[ -s token ] || exit 1
printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": '
printf '{"token": "%s"}}' "$(cat token)"
"""
"""As those of the clouds, whose tokens count for minutes or an hour."""


@pytest.fixture
def logs_in(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the token, which a kubeconfig's program hands out."""
    monkeypatch.chdir(kubeconfig.parent)
    program = Path("login")
    program.write_text(PROGRAM)
    program.chmod(0o755)
    use(
        kubeconfig,
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login"}},
    )
    token = Path("token")
    token.write_text("t0ken")
    return token


def use(kubeconfig: Path, user: dict[str, Any]) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = user
    kubeconfig.write_text(yaml.safe_dump(config))


def logins() -> int:
    return len(Path("runs").read_text())


def run_out(api: Api, token: Path) -> None:
    """Another token counts from now on, which the program hands out."""
    api.token = "another"
    token.write_text(api.token)


def test_a_login_that_ran_out_is_had_anew(api: Api, logs_in: Path, kubeconfig: Path) -> None:
    """A training takes longer than the token of a cloud counts."""
    api.keep()
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        changes = client.watch("demo", seconds=0.01)
        next(changes)
        run_out(api, logs_in)
        client.pause("demo")
        assert next(changes).spec.suspend
        assert client.list(all_namespaces=True)
    assert logins() == 2


async def test_many_questions_at_once_take_one_login(
    api: Api, logs_in: Path, kubeconfig: Path
) -> None:
    async with await AsyncFineTuningClient.connect(kubeconfig=kubeconfig) as asking:
        run_out(api, logs_in)
        await asyncio.gather(*(asking.list() for _ in range(10)))
    assert logins() == 2


def test_a_login_that_cannot_be_renewed_is_told(api: Api, logs_in: Path, kubeconfig: Path) -> None:
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        api.token = "another"
        for nothing in ("t0ken", ""):
            logs_in.write_text(nothing)
            with pytest.raises(ClusterError, match="does not know this login; log in again"):
                client.list()


def test_a_token_in_a_file_is_read_again(api: Api, kubeconfig: Path, tmp_path: Path) -> None:
    """Most files end with a line's end, which no header may have."""
    file = tmp_path / "token"
    file.write_text(f"{api.token}\n")
    use(kubeconfig, {"tokenFile": str(file)})
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        assert client.list() == []
        api.token = "another"
        file.write_text(f"{api.token}\n")
        assert client.list() == []


async def test_it_works_where_a_loop_runs_already(api: Api, kubeconfig: Path) -> None:
    """As in a notebook's cell."""
    api.keep()
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        assert client.get("demo").metadata.name == "demo"
    client.close()
