"""Whose keys a registry is shown, and that nobody else is."""

import json
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from finetuning.publish.errors import UsageError
from finetuning.publish.registry import Reference
from finetuning.publish.registry_keys import Keys, Pass, challenge, find

BASE = "https://registry.example.com:5000"
SCOPE = "repository:models/law:pull,push"
SOMEONE = Keys("someone", "something")


def entries(*names: str) -> dict[str, str]:
    """A file in which each registry knows us by its own name."""
    return {
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {each: {"username": each} for each in names}})
    }


@pytest.mark.parametrize(
    ("place", "names", "found"),
    [
        ("r.example.com", ["r.example.com"], "r.example.com"),
        ("r.example.com", ["https://r.example.com/v1/"], "https://r.example.com/v1/"),
        ("r.example.com", ["r.example.com", "r.example.com/models"], "r.example.com/models"),
        ("r.example.com", ["r.example.com/model"], None),
        ("r.example.com", ["r.example.com:5000", "example.com", "r.example.co"], None),
        ("r.example.com:5000", ["r.example.com:5000"], "r.example.com:5000"),
        ("docker.io", ["https://index.docker.io/v1/"], "https://index.docker.io/v1/"),
        ("docker.io", ["docker.io"], "docker.io"),
        ("r.example.com", [], None),
    ],
)
def test_the_entry_that_says_most_of_the_place_counts(
    place: str, names: list[str], found: str | None
) -> None:
    keys = find(entries(*names), place, "models/law")
    assert (keys and keys.user) == found


def test_without_any_file_there_are_no_keys(tmp_path: Path) -> None:
    assert find({"DOCKER_CONFIG": str(tmp_path)}, "r.example.com", "law") is None


def test_a_reference_is_taken_apart_at_its_last_colon() -> None:
    found = Reference.parse("oci://registry.example.com:5000/models/law:v1")
    assert (found.host, found.repository, found.tag) == (
        "registry.example.com:5000",
        "models/law",
        "v1",
    )


def asked(
    url: str, answers: Mapping[str, str], keys: Keys | None = SOMEONE
) -> list[httpx2.Request]:
    """All that is sent for one request, to a registry that answers with these headers."""
    flow = Pass(keys, BASE, SCOPE).auth_flow(httpx2.Request("GET", url))
    sent = [next(flow)]
    try:
        sent.append(flow.send(httpx2.Response(401, headers=dict(answers))))
        sent.append(flow.send(httpx2.Response(200, json={"access_token": "short-lived"})))
        flow.send(httpx2.Response(200))
    except StopIteration:
        return sent
    raise AssertionError("more was asked")


def shown(request: httpx2.Request) -> str:
    return str(request.headers.get("Authorization", ""))


def test_a_password_is_shown_where_it_is_asked_for() -> None:
    first, second = asked(f"{BASE}/v2/", {"WWW-Authenticate": 'Basic realm="tests"'})
    assert shown(second) == "Basic c29tZW9uZTpzb21ldGhpbmc="
    assert first is second


def test_a_token_is_asked_for_with_the_password_and_shown_instead_of_it() -> None:
    wanted = 'Bearer realm="https://auth.example.com/token?a=b",service="registry",scope="other"'
    _, token, last = asked(f"{BASE}/v2/", {"WWW-Authenticate": wanted})
    assert dict(token.url.params) == {"a": "b", "service": "registry", "scope": SCOPE}
    assert token.url.host == "auth.example.com"
    assert shown(token).startswith("Basic ")
    assert shown(last) == "Bearer short-lived"


def test_without_keys_a_token_for_anybody_is_asked_for() -> None:
    wanted = {"WWW-Authenticate": 'Bearer realm="https://auth.example.com/token"'}
    _, token, last = asked(f"{BASE}/v2/", wanted, keys=None)
    assert shown(token) == ""
    assert shown(last) == "Bearer short-lived"


@pytest.mark.parametrize(
    "url",
    [
        "https://store.example.com/upload",
        "https://registry.example.com/v2/",
        "http://registry.example.com/v2/",
    ],
)
def test_another_host_and_another_port_are_shown_nothing(url: str) -> None:
    (only,) = asked(url, {"WWW-Authenticate": 'Basic realm="tests"'})
    assert shown(only) == ""


def test_keys_are_not_sent_to_a_service_without_tls() -> None:
    wanted = {"WWW-Authenticate": 'Bearer realm="http://auth.example.com/token"'}
    with pytest.raises(UsageError, match=r"wants keys sent to auth\.example\.com without TLS"):
        asked(f"{BASE}/v2/", wanted)


@pytest.mark.parametrize("header", ["", "Negotiate", "Bearer", 'bearer service="x"'])
def test_a_challenge_of_another_kind_is_no_token_service(header: str) -> None:
    assert "realm" not in challenge(header)
