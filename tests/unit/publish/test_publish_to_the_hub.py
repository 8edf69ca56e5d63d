"""Copies on a Hub, by its real client: complete, in one commit, private, and never sent twice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.unit.publish import conftest, hub_server
from tests.unit.publish.conftest import write_run
from tests.unit.publish.hub_server import TOKEN, Hub, Repository

from finetuning.artifacts.manifest import problem_with, sha256_of
from finetuning.artifacts.models import PublishResult

NAME = "team/law"
PLACE = f"hf://{NAME}"
SEAL = "publication.json"

# The client's own, on its way without Xet.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    # Xet's chunks have a protocol of their own; the Hub takes whole files as well.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("FINETUNING_HUB_TOKEN", TOKEN)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with hub_server.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def publish(run: Path, *more: str) -> tuple[int, PublishResult]:
    return conftest.publish(run, "--hub", PLACE, *more)


def test_a_validated_run_becomes_a_private_repository(hub: Hub, run: Path, tmp_path: Path) -> None:
    code, said = publish(run)
    assert (code, said.reason) == (0, ""), said.message
    repository = hub.repositories[NAME]
    assert repository.private
    found = hub.contents(NAME)
    sealed = json.loads((run / "manifest.json").read_text())["files"]
    about = {"validation_report.txt", "validation_report.json", "manifest.json", "README.md", SEAL}
    assert set(found) == {*sealed, *about, ".gitattributes"}
    (tmp_path / "copy").mkdir()
    for name, data in found.items():
        (tmp_path / "copy" / name).write_bytes(data)
    assert problem_with(tmp_path / "copy") is None
    (copy,) = said.copies
    assert (copy.kind, copy.location, copy.digest) == ("hf", PLACE, repository.head)
    assert copy.files == copy.sent_files == len(found) - 2
    assert said.manifest_sha256 == sha256_of(run / "manifest.json")
    # All of it at once: nobody ever sees a half of it.
    assert len(repository.commits) == 2
    assert json.loads(found[SEAL])["complete"] is True


def test_a_run_on_a_model_in_a_folder_is_taken_too(hub: Hub, tmp_path: Path) -> None:
    """The Hub refuses a card that names a folder as the base model."""
    told = json.dumps(conftest.INFO | {"model_id": "/models/tiny"})
    run = write_run(tmp_path / "run", training_info__json=told)
    conftest.judge(run)
    code, said = publish(run)
    assert (code, said.reason) == (0, ""), said.message


def test_a_second_publication_changes_nothing(hub: Hub, run: Path) -> None:
    _, first = publish(run)
    before = hub.changes()
    code, again = publish(run)
    assert code == 0
    assert hub.changes() == before
    assert again.copies[0].sent_files == 0
    assert again.copies[0].digest == first.copies[0].digest


def test_a_publication_that_was_broken_off_does_not_send_its_weights_again(
    hub: Hub, run: Path
) -> None:
    hub.refusals["/commit/"] = 409
    code, said = publish(run)
    assert (code, said.reason, said.copies) == (1, "PlaceUnavailable", [])
    assert len(hub.repositories[NAME].commits) == 1
    hub.refusals.clear()
    code, said = publish(run)
    assert code == 0
    assert len([each for each in hub.asked if each.startswith("PUT ")]) == 1


def test_a_newer_model_replaces_the_older_one_and_nothing_else(hub: Hub, run: Path) -> None:
    write_run(run, model__extra="only in the older one")
    publish(run)
    hub.repositories[NAME].commits[-1]["NOTES.txt"] = b"by hand"
    (run / "model.extra").unlink()
    write_run(run, adapter_model__safetensors="v" * 100_000)
    code, said = publish(run)
    found = hub.contents(NAME)
    assert code == 0
    assert found["adapter_model.safetensors"] == b"v" * 100_000
    assert found["NOTES.txt"] == b"by hand"
    assert "model.extra" not in found
    # Weights, manifest, card, and the report that is about the new manifest.
    assert said.copies[0].sent_files == 4


def test_somebody_elses_files_are_never_replaced(hub: Hub, run: Path) -> None:
    theirs = Repository(private=True)
    theirs.commits[-1]["tokenizer.json"] = b"another model's"
    hub.repositories[NAME] = theirs
    code, said = publish(run)
    assert (code, said.reason) == (2, "PlaceTaken")
    assert "holds tokenizer.json that no publication wrote" in said.message
    assert hub.changes() == []


def test_a_public_repository_gets_a_model_only_where_that_is_said(hub: Hub, run: Path) -> None:
    hub.repositories[NAME] = Repository(private=False)
    code, said = publish(run)
    assert (code, said.reason) == (2, "ConfigInvalid")
    assert "spec.output.publish.hub.private" in said.message
    assert hub.changes() == []
    assert publish(run, "--hub-public")[0] == 0


def test_a_private_repository_stays_private(hub: Hub, run: Path) -> None:
    publish(run)
    assert publish(run, "--hub-public")[0] == 0
    assert hub.repositories[NAME].private


def test_a_public_one_is_made_where_that_is_said(hub: Hub, run: Path) -> None:
    assert publish(run, "--hub-public")[0] == 0
    assert not hub.repositories[NAME].private


def test_a_hub_that_gives_back_other_bytes_is_found_out(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Hub._commit

    def corrupting(self: Hub, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        done = commit(self, name, lines)
        self.repositories[name].commits[-1]["tokenizer.json"] = b"[]"
        return done

    monkeypatch.setattr(Hub, "_commit", corrupting)
    code, said = publish(run)
    assert (code, said.copies) == (1, [])
    assert "tokenizer.json is not there as it was sealed" in said.message


def test_somebody_who_writes_meanwhile_is_not_overwritten(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = Hub._mode

    def meanwhile(self: Hub, file: dict[str, object]) -> dict[str, object]:
        hub.repositories[NAME].commits.append({"tokenizer.json": b"theirs"})
        return mode(file)

    monkeypatch.setattr(Hub, "_mode", meanwhile)
    code, said = publish(run)
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert "somebody else changed it meanwhile" in said.message
    assert hub.contents(NAME) == {"tokenizer.json": b"theirs"}


@pytest.mark.parametrize("token", ["hf_wrong_token", ""])
def test_a_token_that_is_refused_is_told_and_never_shown(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("FINETUNING_HUB_TOKEN", token)
    code, said = publish(run)
    assert (code, said.reason) == (2, "PlaceRefused")
    assert "spec.output.publish.hub.tokenSecretRef" in said.message
    assert "hf_" not in said.message.replace(PLACE, "")
    assert hub.repositories == {}


def test_a_place_of_others_is_refused(hub: Hub, run: Path) -> None:
    code, said = conftest.publish(run, "--hub", "hf://others/law")
    assert (code, said.reason) == (2, "PlaceRefused")


def test_a_repository_that_the_token_may_not_read_is_a_refusal(hub: Hub, run: Path) -> None:
    hub.repositories[NAME] = Repository(private=True)
    hub.hidden.add(NAME)
    code, said = publish(run)
    assert (code, said.reason) == (2, "PlaceRefused")
    assert "may not read it" in said.message


@pytest.mark.parametrize(
    ("sign", "status", "expected"),
    [
        ("/preupload/", 400, (2, "ConfigInvalid")),
        ("GET /api/models/", 503, (1, "PlaceUnavailable")),
        ("/repos/create", 429, (1, "PlaceUnavailable")),
    ],
)
def test_what_else_a_hub_answers_is_told_with_what_to_expect(
    hub: Hub, run: Path, sign: str, status: int, expected: tuple[int, str]
) -> None:
    hub.refusals[sign] = status
    code, said = publish(run)
    assert (code, said.reason) == expected, said.message
    assert str(status) in said.message


def test_an_address_that_lets_anybody_write_is_never_told(hub: Hub, run: Path) -> None:
    hub.refusals["PUT /upload/"] = 403
    code, said = publish(run)
    assert code == 2
    assert "/upload/" not in said.message


def test_a_hub_that_does_not_answer_is_worth_another_try(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    code, said = publish(run)
    assert (code, said.reason) == (1, "PlaceUnavailable")


def test_offline_is_told_as_what_it_is(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = publish(run)
    assert (code, said.reason) == (2, "ConfigInvalid")
    assert "HF_HUB_OFFLINE" in said.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hub", "team/law"], "must be hf://<owner>/<name>"),
        (["--hub", "hf://law"], "must be hf://<owner>/<name>"),
        (["--hub-public"], "give --hub too"),
    ],
)
def test_a_wrong_command_line_says_what_is_allowed(
    run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in conftest.refused(run, arguments, capsys)
