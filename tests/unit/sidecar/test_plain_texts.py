"""No text that somebody else chose leaves the validator as it is."""

import pytest

from finetuning.artifacts.plain import harmless, plain
from finetuning.monitoring.validators.outcome import Finding, outcome


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnop",
        "ghp_0123456789abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "sk-proj-0123456789abcdef",
    ],
)
def test_a_credential_leaves_by_no_message_and_no_detail(secret: str) -> None:
    finding = Finding("WrongType", f"env_vars is {{'X': '{secret}'}}")
    found = outcome("aim_profile", finding, details={"told": [{secret: secret}]})
    assert secret not in found.model_dump_json()
    assert "[redacted]" in found.message


def test_what_is_called_a_token_in_an_object_is_hidden() -> None:
    assert plain("{'HF_TOKEN': 'abc', \"api_key\": 'x y'}", 99).count("[redacted]") == 2
    unsuspicious = "tokenizer_config.json: eos_token is '<|end|>', the base model's '</s>'"
    assert plain(unsuspicious, 99) == unsuspicious


@pytest.mark.parametrize(
    "told",
    [
        "Authorization: Basic dXNlcjpDQU5BUlk=CANARY",
        "{'Authorization': 'token CANARY0123'}",
        "AWS_SECRET_ACCESS_KEY=wJalrCANARY/K7MDENG",
        "aws_secret_access_key = CANARY",
        "GET https://bucket.example/x?y=1&X-Amz-Signature=CANARY0123&z=2",
        "https://account.example/x?se=2026&sig=CANARY%3D",
        '"private-key": "CANARY"',
    ],
)
def test_logins_of_stores_and_registries_are_hidden(told: str) -> None:
    assert "CANARY" not in plain(told, 300)


def test_words_about_keys_and_signatures_are_not() -> None:
    told = (
        "authorization: denied; no access key; sig=no; key: value; tokens: 5; SECRET_ACCESS_KEY=…"
    )
    assert plain(told, 300) == told


def test_no_escape_moves_the_cursor_or_turns_the_text() -> None:
    hostile = "x\x1b[1A\x1b[2K\r✓ PASS\u202e\x07\x00\ud800"
    found = outcome("checkpoint_integrity", Finding("FileEmpty", hostile))
    assert found.message == "x [1A [2K ✓ PASS"


def test_answers_keep_their_lines() -> None:
    assert harmless("one\n\ttwo\x1b[0m") == "one\n\ttwo [0m"
