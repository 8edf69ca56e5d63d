"""Artifacts in a real registry: complete, pulled back by ORAS, and never sent twice."""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hack.cluster import tools
from tests.built import program
from tests.ports import free_port
from tests.unit import registry_server
from tests.unit.publish import conftest
from tests.unit.publish.conftest import write_run
from tests.unit.registry_server import KEYS, PASSWORD, Registry, TokenService, running

from finetuning.artifacts.manifest import problem_with, seal, sha256_of
from finetuning.artifacts.models import PublishResult
from finetuning.publish import registry as client
from finetuning.publish.artifact import MANIFEST_TYPE

pytestmark = pytest.mark.timeout(1200)  # The first test may have to build registry and client.

REPOSITORY = "models/law"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nobody's"))
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry:
        yield registry


def place(registry: Registry, tag: str = "v1") -> str:
    return f"oci://{registry.address}/{REPOSITORY}:{tag}"


def publish(run: Path, registry: Registry, *more: str) -> tuple[int, PublishResult]:
    return conftest.publish(run, "--oci", place(registry), "--oci-plain-http", *more)


def pulled(registry: Registry, folder: Path, tag: str = "v1") -> Path:
    """By the registry's own standard client, which holds all that it gets against its digests."""
    reference = f"{registry.address}/{REPOSITORY}:{tag}"
    command = [str(program(tools.ORAS)), "pull", "--plain-http", reference]
    subprocess.run([*command, "--output", str(folder)], check=True, capture_output=True)
    return folder


def manifest(registry: Registry, tag: str = "v1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        registry.get(f"{REPOSITORY}/manifests/{tag}", accept=MANIFEST_TYPE)
    )
    return found


def tags(registry: Registry) -> list[str]:
    try:
        return list(json.loads(registry.get(f"{REPOSITORY}/tags/list"))["tags"] or [])
    except OSError:
        return []


def changes(registry: Registry) -> list[str]:
    return [*registry.asked("POST"), *registry.asked("PUT"), *registry.asked("PATCH")]


def test_a_validated_run_is_pulled_back_as_it_was_sealed(
    registry: Registry, run: Path, tmp_path: Path
) -> None:
    code, said = publish(run, registry)
    assert (code, said.reason) == (0, "")
    copy_of_it = pulled(registry, tmp_path / "copy")
    found = {str(each.relative_to(copy_of_it)) for each in copy_of_it.rglob("*") if each.is_file()}
    sealed = json.loads((run / "manifest.json").read_text())["files"]
    report = {"validation_report.txt", "validation_report.json"}
    assert found == {*sealed, *report, "manifest.json", "README.md"}
    assert problem_with(copy_of_it) is None
    (copy,) = said.copies
    assert (copy.kind, copy.location) == ("oci", place(registry))
    assert copy.files == copy.sent_files == len(found)
    assert copy.size_bytes == sum(each.stat().st_size for each in copy_of_it.iterdir())
    assert said.manifest_sha256 == sha256_of(run / "manifest.json")
    # By its digest alone, as a deployment names it.
    by_digest = registry.get(f"{REPOSITORY}/manifests/{copy.digest}", accept=MANIFEST_TYPE)
    assert json.loads(by_digest) == manifest(registry)


def test_the_artifact_is_of_the_modelpack_kind(registry: Registry, run: Path) -> None:
    publish(run, registry)
    found = manifest(registry)
    assert found["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert found["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    kinds = {
        each["annotations"]["org.cncf.model.filepath"]: each["mediaType"]
        for each in found["layers"]
    }
    prefix = "application/vnd.cncf.model"
    assert kinds["adapter_model.safetensors"] == f"{prefix}.weight.v1.raw"
    assert kinds["tokenizer.json"] == kinds["manifest.json"] == f"{prefix}.weight.config.v1.raw"
    assert kinds["README.md"] == kinds["validation_report.json"] == f"{prefix}.doc.v1.raw"
    config = json.loads(registry.get(f"{REPOSITORY}/blobs/{found['config']['digest']}"))
    assert config == {
        "descriptor": {"name": "demo", "createdAt": "2026-11-29T05:37:09Z"},
        "config": {
            "architecture": "transformer",
            "format": "safetensors",
            "precision": "bfloat16",
        },
        "modelfs": {"type": "layers", "diffIds": [each["digest"] for each in found["layers"]]},
    }


def test_a_second_publication_changes_nothing(registry: Registry, run: Path) -> None:
    _, first = publish(run, registry)
    before = changes(registry)
    code, again = publish(run, registry)
    assert code == 0
    assert changes(registry) == before
    assert again.copies[0].sent_files == 0
    assert again.copies[0].digest == first.copies[0].digest


def test_a_registry_that_dies_in_between_gets_the_rest_later_and_no_tag_before(
    registry: Registry, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Path] = []
    read = client._Body.__iter__

    def dying(self: client._Body) -> Iterator[bytes]:
        sent.append(self._path)
        if len(sent) == 4:
            registry.stop()
        return read(self)

    monkeypatch.setattr(client, "PAUSES", (0.0,))
    with monkeypatch.context() as patch:
        patch.setattr(client._Body, "__iter__", dying)
        code, said = publish(run, registry)
    assert (code, said.reason, said.copies) == (1, "PlaceUnavailable", [])
    registry.start()
    assert tags(registry) == []

    before = len(registry.asked("PUT"))
    code, said = publish(run, registry)
    assert code == 0
    assert said.copies[0].sent_files == said.copies[0].files - 3
    # Each of those, the artifact's configuration and the tag.
    assert len(registry.asked("PUT")) - before == said.copies[0].sent_files + 2
    assert tags(registry) == ["v1"]


def test_a_registry_that_is_back_soon_costs_no_try(
    registry: Registry, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Timer(0.2, registry.start)
    read = client._Body.__iter__

    def dying_once(self: client._Body) -> Iterator[bytes]:
        if not back.ident:
            registry.stop()
            back.start()
        return read(self)

    monkeypatch.setattr(client, "PAUSES", (3.0,))
    monkeypatch.setattr(client._Body, "__iter__", dying_once)
    assert publish(run, registry)[0] == 0
    back.join()
    assert back.ident


def test_a_newer_model_takes_the_tag_and_sends_only_what_changed(
    registry: Registry, run: Path, tmp_path: Path
) -> None:
    _, first = publish(run, registry)
    write_run(run, adapter_model__safetensors="v" * 100_000)
    code, said = publish(run, registry)
    assert code == 0
    # Weights, manifest, card, and the report that is about the new manifest.
    assert said.copies[0].sent_files == 4
    assert said.copies[0].digest != first.copies[0].digest
    newest = pulled(registry, tmp_path / "copy") / "adapter_model.safetensors"
    assert newest.read_bytes() == b"v" * 100_000
    # Who named the older one by its digest still has it.
    assert registry.get(f"{REPOSITORY}/manifests/{first.copies[0].digest}", accept=MANIFEST_TYPE)


def test_somebody_elses_tag_is_never_moved(registry: Registry, run: Path) -> None:
    publish(run, registry)
    theirs = manifest(registry)
    del theirs["annotations"]
    registry.put(f"{REPOSITORY}/manifests/v1", json.dumps(theirs).encode(), MANIFEST_TYPE)
    before = changes(registry)
    code, said = publish(run, registry)
    assert (code, said.reason) == (2, "PlaceTaken")
    assert "give another tag" in said.message
    assert changes(registry) == before


def test_a_file_that_changes_while_it_is_sent_gets_no_tag(
    registry: Registry, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = run / "adapter_model.safetensors"
    sealed = weights.read_text()
    for changed in (sealed + "!", sealed[:-1], sealed[:-1] + "!"):

        def change(text: str, changed: str = changed) -> None:
            if text.startswith(weights.name):
                weights.write_text(changed)

        weights.write_text(sealed)
        with monkeypatch.context() as patch:
            patch.setattr("finetuning.publish.__main__._say", change)
            code, said = publish(run, registry)
        assert (code, said.reason) == (2, "ModelChanged"), said.message
        assert f"{weights}: changed while it was sent" in said.message
    assert tags(registry) == []


def test_an_adapter_and_a_merged_model_share_what_is_the_same_in_both(
    registry: Registry, run: Path, tmp_path: Path
) -> None:
    from finetuning.api.v1alpha1 import ModelForm  # noqa: PLC0415
    from finetuning.publish import bundle, facts, oci  # noqa: PLC0415

    merged = run / "publish" / "merged"
    merged.mkdir(parents=True)
    for name in ("tokenizer.json", "model.safetensors"):
        (merged / name).write_text("{}")
    seal(merged, ["tokenizer.json", "model.safetensors"])
    (run / "publish" / "README.md").write_text("the card\n")
    digest = bundle.manifest_digest(run)
    whole = bundle.gather(run, run / "publish", ModelForm.BOTH, digest, {})
    told = facts.read(run, digest)
    copy = oci.publish(whole, told, place(registry), {}, print, plain_http=True)
    # The three files that say {} are one.
    assert copy.sent_files == copy.files - 2
    copied = pulled(registry, tmp_path / "copy")
    assert problem_with(copied) is None
    assert problem_with(copied / "merged") is None


def auths(host: str, **entry: str) -> str:
    return json.dumps({"auths": {host: entry}})


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with running(tmp_path, registry_server.by_password(tmp_path)) as registry:
        yield registry


def test_keys_come_from_a_secret_or_from_what_docker_login_left(
    guarded: Registry, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(auths(guarded.address, auth=KEYS))
    assert publish(run, guarded)[0] == 0
    (tmp_path / "config.json").unlink()
    monkeypatch.setenv(
        "DOCKER_AUTH_CONFIG",
        auths(f"http://{guarded.address}", username="someone", password=PASSWORD),
    )
    assert publish(run, guarded)[0] == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "none were given"),
        ("elsewhere", "none were given"),
        ("wrong", "they may not write there"),
    ],
)
def test_keys_that_are_refused_are_told_and_never_shown(
    guarded: Registry, run: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str
) -> None:
    host = "registry.example.com" if given == "elsewhere" else guarded.address
    secret = PASSWORD if given == "elsewhere" else "not-that"
    if given:
        text = auths(host, username="someone", password=secret)
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    code, said = publish(run, guarded)
    assert (code, said.reason) == (2, "PlaceRefused")
    assert words in said.message
    assert "spec.output.publish.oci.secretName" in said.message
    assert secret not in said.message


def test_keys_that_are_no_docker_file_are_told_and_never_shown(
    guarded: Registry, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("pa55word", '{"auths": "pa55word"}', auths(guarded.address, auth="pa55word")):
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
        code, said = publish(run, guarded)
        assert (code, said.reason) == (2, "ConfigInvalid"), said.message
        assert "kubectl create secret docker-registry" in said.message
        assert "pa55word" not in said.message


@pytest.mark.parametrize("entry", [{"auth": KEYS}, {"identitytoken": "stands for both"}])
def test_a_registry_may_send_us_to_a_service_for_short_lived_tokens(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, str]
) -> None:
    service = TokenService(tmp_path)
    with (
        registry_server.giving_tokens(service) as port,
        running(tmp_path, service.auth(port)) as registry,
    ):
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", auths(registry.address, **entry))
        code, said = publish(run, registry)
        assert code == 0, said.message
    (asked,) = service.asked
    assert asked["scope"] == [f"repository:{REPOSITORY}:pull,push"]
    assert asked["service"] == ["registry"]


def test_a_token_that_ends_in_between_is_asked_for_anew(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The registry allows for a minute of difference between clocks.
    service = TokenService(tmp_path, seconds=-58)
    read = client._Body.__iter__

    def slowly(self: client._Body) -> Iterator[bytes]:
        if service.seconds < 0:
            time.sleep(3)
        service.seconds = 300
        return read(self)

    monkeypatch.setattr(client._Body, "__iter__", slowly)
    with (
        registry_server.giving_tokens(service) as port,
        running(tmp_path, service.auth(port)) as registry,
    ):
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", auths(registry.address, auth=KEYS))
        code, said = publish(run, registry)
        assert code == 0, said.message
    assert len(service.asked) == 2


def test_without_a_word_nothing_is_sent_without_tls(
    registry: Registry, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSES", ())
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", auths(registry.address, auth=KEYS))
    code, said = conftest.publish(run, "--oci", place(registry))
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert "spec.output.publish.oci.plainHttp" in said.message
    assert base64.b64decode(KEYS).decode() not in registry.log.read_text()
    assert "/v2/" not in registry.log.read_text()


def test_a_registry_that_does_not_answer_is_worth_another_try(run: Path) -> None:
    port = free_port()
    code, said = conftest.publish(
        run, "--oci", f"oci://127.0.0.1:{port}/models/law:v1", "--oci-plain-http"
    )
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert f"127.0.0.1:{port}/models/law: cannot be reached" in said.message


def test_one_place_does_not_wait_for_another(
    registry: Registry, store: Any, server: Any, run: Path
) -> None:
    wanted = ("--s3", "s3://models/law", "--oci", place(registry), "--oci-plain-http")
    server.post("/moto-api/reset-auth", b"0")
    code, said = conftest.publish(run, *wanted)
    assert (code, said.reason) == (2, "PlaceRefused")
    assert [each.kind for each in said.copies] == ["oci"]
    server.post("/moto-api/reset-auth", b"1000000")
    code, said = conftest.publish(run, *wanted)
    assert code == 0
    assert [(each.kind, each.sent_files > 0) for each in said.copies] == [
        ("s3", True),
        ("oci", False),
    ]


def test_another_try_is_made_when_one_of_two_places_may_answer_later(
    registry: Registry, store: Any, server: Any, run: Path
) -> None:
    registry.stop()
    server.post("/moto-api/reset-auth", b"0")
    wanted = ("--s3", "s3://models/law", "--oci", place(registry), "--oci-plain-http")
    code, said = conftest.publish(run, *wanted)
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert f"{place(registry).rpartition(':')[0]}: cannot be reached" in said.message
    assert "; besides, PlaceRefused: s3://models/law: " in said.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--oci", "registry.example.com/law:v1"], "must be oci://<registry>/<repository>:<tag>"),
        (["--oci", "oci://registry.example.com/law"], "must be oci://"),
        (["--oci", "oci://user@registry.example.com/law:v1"], "must be oci://"),
        (["--oci-plain-http"], "give --oci too"),
    ],
)
def test_a_wrong_command_line_says_what_is_allowed(
    run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in conftest.refused(run, arguments, capsys)
