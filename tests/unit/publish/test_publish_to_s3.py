"""Copies in a real S3 store: complete, read back, sealed, and never sent twice."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.unit.publish import conftest
from tests.unit.publish.conftest import judge, write_run
from tests.unit.s3_server import Server

from finetuning.artifacts.manifest import problem_with, sha256_of
from finetuning.artifacts.models import PublishResult
from finetuning.publish import s3, s3_put
from finetuning.publish.__main__ import main
from finetuning.publish.s3_seal import Seal

PLACE = "s3://models/law/demo"
SEAL = "publication.json"


def publish(run: Path, *more: str) -> tuple[int, PublishResult]:
    return conftest.publish(run, "--s3", PLACE, *more)


def published(store: Any) -> dict[str, bytes]:
    from pyarrow import fs  # noqa: PLC0415 - collecting tests should not cost its seconds

    wish = fs.FileSelector("models/law", recursive=True, allow_not_found=True)
    files = [info.path for info in store.get_file_info(wish) if info.type is fs.FileType.File]
    found = {}
    for path in files:
        with store.open_input_stream(path) as stream:
            found[path.removeprefix("models/law/demo/")] = bytes(stream.read())
    return found


def test_a_validated_run_is_copied_whole_and_the_copy_proves_itself(
    store: Any, run: Path, tmp_path: Path
) -> None:
    code, said = publish(run)
    assert (code, said.reason) == (0, "")
    found = published(store)
    sealed = json.loads((run / "manifest.json").read_text())["files"]
    report = {"validation_report.txt", "validation_report.json"}
    assert set(found) == {*sealed, *report, "manifest.json", "README.md", SEAL}

    (tmp_path / "copy").mkdir()
    for name, data in found.items():
        (tmp_path / "copy" / name).write_bytes(data)
    assert problem_with(tmp_path / "copy") is None
    (copy,) = said.copies
    assert (copy.kind, copy.location) == ("s3", PLACE)
    assert copy.digest == sha256_of(tmp_path / "copy" / SEAL)
    assert copy.files == copy.sent_files == len(found) - 1
    assert copy.size_bytes == sum(map(len, found.values())) - len(found[SEAL])
    assert said.manifest_sha256 == sha256_of(run / "manifest.json")
    assert json.loads(found[SEAL])["complete"] is True


def test_a_second_publication_changes_nothing(store: Any, run: Path, server: Server) -> None:
    _, first = publish(run)
    before = len(server.changes())
    code, again = publish(run)
    assert code == 0
    assert server.changes()[before:] == []
    assert again.copies[0].sent_files == 0
    assert again.copies[0].digest == first.copies[0].digest


def test_a_publication_that_was_broken_off_goes_on_where_it_was(
    store: Any, run: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, sent = s3._copied, []

    def breaking(item: Any, write: Any) -> str:
        sent.append(item.path.name)
        if len(sent) > 3:
            raise OSError("When completing: AWS Error NETWORK_CONNECTION: connection lost")
        return copied(item, write)

    with monkeypatch.context() as patch:
        patch.setattr(s3, "_copied", breaking)
        code, said = publish(run)
    assert (code, said.reason, said.copies) == (1, "PlaceUnavailable", [])
    half = published(store)
    assert json.loads(half[SEAL])["complete"] is False

    before = len(server.changes())
    code, said = publish(run)
    assert code == 0
    changed = " ".join(server.changes()[before:])
    assert [name for name in sent[:3] if f"/{name}" in changed] == []
    assert said.copies[0].sent_files == said.copies[0].files - 3
    assert json.loads(published(store)[SEAL])["complete"] is True


def test_of_two_publications_at_once_none_seals_what_the_other_sent(
    store: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_run(tmp_path / "other", adapter_model__safetensors="v" * 100_000)
    bring, last = s3._Folder._bring, "validation_report.txt"

    def bringing(folder: Any, name: str, item: Any, sizes: Any) -> bool:
        """The other one comes in before the last file, and gets as far as that."""
        if name == last and item.path.is_relative_to(other):
            raise OSError("When completing: AWS Error NETWORK_CONNECTION: connection lost")
        if name == last:
            assert publish(other)[0] == 1
        return bring(folder, name, item, sizes)

    with monkeypatch.context() as patch:
        patch.setattr(s3._Folder, "_bring", bringing)
        code, said = publish(run)
    assert (code, said.reason, said.copies) == (1, "PlaceUnavailable", [])
    assert "published there at the same time" in said.message
    half = published(store)
    assert json.loads(half[SEAL])["complete"] is False
    assert half["adapter_model.safetensors"] == b"v" * 100_000

    assert publish(run)[0] == 0
    found = published(store)
    assert found["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
    assert json.loads(found[SEAL])["complete"] is True


def test_who_begins_after_the_last_look_is_not_sealed_over(
    store: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store itself refuses the seal: it is not the one that was seen any more."""
    other, close = write_run(tmp_path / "other", adapter_model__safetensors="v" * 9), Seal.close

    def late(seal: Any, complete: Any) -> None:
        patch.undo()
        assert publish(other)[0] == 0
        close(seal, complete)

    with monkeypatch.context() as patch:
        patch.setattr(Seal, "close", late)
        code, said = publish(run)
    assert (code, said.reason, said.copies) == (1, "PlaceUnavailable", [])
    assert "published there at the same time" in said.message
    found = published(store)
    assert found["adapter_model.safetensors"] == b"v" * 9
    assert json.loads(found[SEAL])["manifestSha256"] == sha256_of(other / "manifest.json")


def test_a_file_that_another_publication_sends_late_is_not_sealed(
    store: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = s3._Folder._bring

    def bringing(folder: Any, name: str, item: Any, sizes: Any) -> bool:
        done = bring(folder, name, item, sizes)
        if name == "validation_report.txt":
            with store.open_output_stream("models/law/demo/adapter_model.safetensors") as stream:
                stream.write(b"w" * 99_999 + b"v")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(s3._Folder, "_bring", bringing)
        code, said = publish(run)
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert "and sent adapter_model.safetensors again" in said.message
    assert json.loads(published(store)[SEAL])["complete"] is False
    assert publish(run)[0] == 0


def test_a_store_that_passes_over_conditions_is_told_and_taken(
    store: Any, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = s3_put.signed
    monkeypatch.setattr(
        s3_put, "signed", lambda address, data, _, keys, now: signed(address, data, {}, keys, now)
    )
    assert publish(run)[0] == 0
    assert "no conditional writes there (it passes over them)" in capsys.readouterr().err
    assert json.loads(published(store)[SEAL])["complete"] is True


@pytest.mark.parametrize("token", ["", "t0ken"])
def test_a_conditional_write_is_signed_as_amazons_own_library_does(token: str) -> None:
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415 - takes its time
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    address = "https://s3.eu-west-1.amazonaws.com/models/a%20b/publication.json"
    keys = s3_put.Keys("someone", "something", token, "eu-west-1")
    ours = s3_put.signed(address, b"{}", {"if-match": '"e7a9"'}, keys, datetime.now(UTC))
    request = AWSRequest("PUT", address, {"if-match": '"e7a9"'}, b"{}")
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials("someone", "something", token or None), "s3", "eu-west-1").add_auth(
        request
    )
    assert {name.lower(): value for name, value in request.headers.items()} == {
        name: value for name, value in ours.items() if name != "host"
    }


def test_a_newer_model_replaces_the_older_one_and_nothing_else(
    store: Any, run: Path, server: Server
) -> None:
    write_run(run, model__extra="only in the older one")
    publish(run)
    with store.open_output_stream("models/law/demo/NOTES.txt") as stream:
        stream.write(b"by hand")
    (run / "model.extra").unlink()
    write_run(run, adapter_model__safetensors="v" * 100_000)
    before = len(server.changes())
    code, said = publish(run)
    found = published(store)
    assert code == 0
    assert found["adapter_model.safetensors"] == b"v" * 100_000
    assert found["NOTES.txt"] == b"by hand"
    assert "model.extra" not in found
    assert not any("tokenizer.json" in each for each in server.changes()[before:])
    # Weights, manifest, card, and the report that is about the new manifest.
    assert said.copies[0].sent_files == 4


def test_somebody_elses_files_are_never_replaced(store: Any, run: Path, server: Server) -> None:
    with store.open_output_stream("models/law/demo/tokenizer.json") as stream:
        stream.write(b"another model's")
    before = len(server.changes())
    code, said = publish(run)
    assert (code, said.reason) == (2, "PlaceTaken")
    assert "holds tokenizer.json that no publication wrote" in said.message
    assert server.changes()[before:] == []


def test_a_store_that_gives_back_other_bytes_is_found_out(
    store: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupting(item: Any, write: Any) -> str:
        write(item.path.read_bytes()[::-1] + b"\0")
        return str(item.entry.sha256)

    monkeypatch.setattr(s3, "_copied", corrupting)
    code, said = publish(run)
    assert (code, said.copies) == (1, [])
    assert "reads back other than it was sent" in said.message
    assert json.loads(published(store)[SEAL])["complete"] is False


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "training_info.json"])
def test_a_file_that_changed_after_its_training_is_not_published(
    store: Any, run: Path, name: str
) -> None:
    data = bytearray((run / name).read_bytes())
    data[-3] ^= 1
    (run / name).write_bytes(data)
    code, said = publish(run)
    assert (code, said.reason) == (2, "ModelChanged")
    assert f"{name}: is not what was sealed" in said.message
    assert published(store) == {}


def test_only_the_model_that_was_judged_is_published(store: Any, run: Path) -> None:
    code, said = publish(run, "--manifest-sha256", "0" * 64)
    assert (code, said.reason) == (2, "ModelChanged")
    assert "the model changed after it was judged" in said.message
    assert publish(run, "--manifest-sha256", sha256_of(run / "manifest.json"))[0] == 0


def test_a_link_in_the_place_of_a_file_is_not_followed(store: Any, run: Path) -> None:
    (run / "tokenizer.json").rename(run.parent / "outside.json")
    (run / "tokenizer.json").symlink_to(run.parent / "outside.json")
    code, said = publish(run)
    assert (code, said.reason) == (2, "ModelChanged")
    assert "tokenizer.json: not a regular file" in said.message


def test_without_a_verdict_on_these_files_nothing_is_published(store: Any, run: Path) -> None:
    judge(run, "Fail")
    code, said = publish(run)
    assert (code, said.reason) == (2, "NotValidated")
    assert "did not pass" in said.message
    judge(run, manifestSha256="0" * 64)
    assert "is about other files than these" in publish(run)[1].message
    (run / "validation" / "validation_report.json").unlink()
    assert "there is no such report" in publish(run)[1].message
    assert published(store) == {}
    assert publish(run, "--policy", "always")[0] == 0
    assert b"Not validated: the report there is no such report." in published(store)["README.md"]


def test_a_key_that_is_refused_is_told_and_never_shown(
    store: Any, run: Path, server: Server
) -> None:
    server.post("/moto-api/reset-auth", b"0")
    code, said = publish(run)
    assert (code, said.reason) == (2, "PlaceRefused")
    assert "spec.output.publish.s3.secretName" in said.message
    assert "something" not in said.message


def test_a_bucket_that_is_not_there_is_no_reason_to_try_again(
    store: Any, run: Path, server: Server
) -> None:
    server.post("/moto-api/reset")
    code, said = publish(run)
    assert (code, said.reason) == (2, "ConfigInvalid"), said.message
    assert "no such bucket" in said.message


def test_a_store_that_does_not_answer_is_worth_another_try(
    run: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    code, said = publish(run)
    assert (code, said.reason) == (1, "PlaceUnavailable")
    assert f"http://127.0.0.1:{port} cannot be reached" in said.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--s3", "models/demo"], "must be s3://<bucket>/<folder>"),
        (["--form", "gguf"], "'gguf' is none of Adapter, Merged, Both"),
        (["--policy", "never"], "'never' is none of IfValidated, Always"),
        (["--gguf"], "unrecognized arguments: --gguf"),
    ],
)
def test_a_wrong_command_line_says_what_is_allowed(
    run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model-path", str(run), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model-path", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
