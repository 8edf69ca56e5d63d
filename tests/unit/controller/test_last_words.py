import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controller.objects import trainer_says, validator_says

from finetuning.artifacts.plain import plain
from finetuning.controller import last_words
from finetuning.controller.observed import Container


def container(message: str) -> Container:
    return Container("finetuning", exit_code=1, exit_message=message)


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abc.def-123456",
        "password=hunter22",
        "token: s3cr3t",
    ],
)
def test_what_looks_like_a_credential_never_reaches_the_status(secret: str) -> None:
    shown = plain(f"cannot log in with {secret} today", 200)
    assert "[redacted]" in shown
    assert secret[-6:] not in shown


def test_a_password_in_an_address_is_hidden_and_the_address_is_not() -> None:
    shown = plain("GET https://me:pw12@hub.example.com/x failed", 200)
    assert shown == "GET https://[redacted]@hub.example.com/x failed"


def test_control_characters_and_line_breaks_become_spaces() -> None:
    assert plain("a\x1b[31mb\r\nc\u202ed", 99) == "a [31mb c d"


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shown_text_is_printable_and_within_its_limit(text: str, limit: int) -> None:
    shown = plain(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()


def test_the_last_line_of_a_traceback_is_what_counts() -> None:
    log = "Traceback (most recent call last):\n  File x\nValueError: wrong\n\n"
    assert last_words.last_line(container(log)) == "ValueError: wrong"


def test_results_are_read_where_there_are_any() -> None:
    result = last_words.training_result(container(trainer_says(step=7, loss=0.5)))
    assert result is not None
    assert (result.step, result.loss) == (7, 0.5)
    report = last_words.validation_result(container(validator_says()))
    assert report is not None
    assert report.total == 4


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Killed",
        "{",
        "[]",
        '{"kind": "validation"}',
        '{"kind": "training"}',
        trainer_says(step=-1),
        trainer_says(message="x" * 2000),
        "[" * 4000,
        trainer_says() + " " * 5000,
    ],
)
def test_anything_else_is_no_training_result(message: str) -> None:
    assert last_words.training_result(container(message)) is None


@pytest.mark.parametrize("message", [trainer_says(step=7), validator_says()])
def test_the_beginning_of_a_result_is_no_line_of_a_log(message: str) -> None:
    for length in range(9, len(message)):
        assert last_words.is_cut(container(message[:length]))
        assert last_words.last_line(container(message[:length])) == ""
    assert not last_words.is_cut(container(message))
    assert not last_words.is_cut(container("{ is what Python says"))


@given(st.text(max_size=200))
def test_no_message_can_raise(message: str) -> None:
    last_words.training_result(container(message))
    last_words.validation_result(container(message))
    last_words.last_line(container(message))
    last_words.is_cut(container(message))
