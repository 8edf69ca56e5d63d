"""Which tokens are trained: only the assistant's, and the end of its turn."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

from typing import Any

import pytest
from tests.unit.trainer.conftest import TEMPLATE, make_tokenizer

from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.base.bad_rows import settle
from finetuning.dataset.conversation import chatml_for
from finetuning.dataset.encode import Encoded, Example, encode
from finetuning.dataset.rows import Row, Rows
from finetuning.dataset.shapes import Chat, Completion, Sample, Text

ASK = {"role": "user", "content": "Where is Peru?"}
ANSWER = {"role": "assistant", "content": "Peru is on the map."}
MORE = {"role": "user", "content": "And Chad?"}
LAST = {"role": "assistant", "content": "Chad too."}
CHAT = Chat([ASK, ANSWER, MORE, LAST])

NO_HISTORY_OF_THOUGHT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n</think>\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Thinking only in the last turn: earlier turns are rendered differently once more follow."""

OPENS_THOUGHT = TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
"""The prompt opens a thought that the recorded answers do not have."""

NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
REWRITES = "{{ messages[-1]['role'] }}! {% for m in messages %}{{ m['content'] }}{% endfor %}"
BACKWARDS = "{% for m in messages | reverse %}{{ m['content'] }}\n{% endfor %}"
PAIRS_ONLY = (
    "{% for m in messages if m['role'] == 'assistant' %}"
    "{{ messages[2 * loop.index0]['content'] }} {{ m['content'] }}\n{% endfor %}"
)
"""Shows a question only together with its answer."""

REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    + TEMPLATE
)


@pytest.fixture
def tokenizer() -> Any:
    made = make_tokenizer([str(m["content"]) for m in (ASK, ANSWER, MORE, LAST)])
    made.chat_template = TEMPLATE
    return made


def encoded(tokenizer: Any, *samples: Sample, limit: int = 1000) -> Encoded:
    rows = Rows("d.jsonl", "line", [Row(n, {}) for n in range(1, len(samples) + 1)])
    found = encode(list(samples), rows, tokenizer, limit)
    settle(rows.without(found.bad), DatasetConfig(path=rows.source))
    return found


def only(tokenizer: Any, sample: Sample) -> Example:
    ((example,),) = encoded(tokenizer, sample).rows
    return example


def trained_text(tokenizer: Any, example: Example) -> str:
    return str(tokenizer.decode(example.ids[example.trained]))


def whole_text(tokenizer: Any, example: Example) -> str:
    return str(tokenizer.decode(example.ids))


def test_every_turn_of_the_assistant_is_trained_with_its_end_and_nothing_else(
    tokenizer: Any,
) -> None:
    example = only(tokenizer, CHAT)
    assert trained_text(tokenizer, example) == "Peru is on the map.<|im_end|>Chad too.<|im_end|>"
    assert whole_text(tokenizer, example) == tokenizer.apply_chat_template(
        CHAT.messages, tokenize=False
    )


def test_turns_that_a_template_rewrites_become_examples_of_their_own(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_HISTORY_OF_THOUGHT
    ((first, second),) = encoded(tokenizer, CHAT).rows
    think = "<think>\n</think>\n"
    assert trained_text(tokenizer, first) == f"{think}Peru is on the map.<|im_end|>"
    assert trained_text(tokenizer, second) == f"{think}Chad too.<|im_end|>"
    assert "map.<|im_end|>\n<|im_start|>user\nAnd Chad?" in whole_text(tokenizer, second)
    assert whole_text(tokenizer, second).count("<think>") == 1


def test_a_prompt_that_opens_a_thought_does_not_hide_the_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = OPENS_THOUGHT
    example = only(tokenizer, Chat([ASK, ANSWER]))
    assert trained_text(tokenizer, example) == "Peru is on the map.<|im_end|>"


def test_a_template_without_an_end_of_turn_gets_one(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_END
    ((first, second),) = encoded(tokenizer, CHAT).rows
    assert trained_text(tokenizer, first).endswith("Peru is on the map.<|im_end|>")
    assert trained_text(tokenizer, second).endswith("Chad too.<|im_end|>")
    assert "Where is Peru?" not in trained_text(tokenizer, first)


def test_a_prompt_that_looks_different_once_it_is_answered_is_trained_as_asked(
    tokenizer: Any,
) -> None:
    tokenizer.chat_template = REWRITES
    example = only(tokenizer, Chat([ASK, ANSWER]))
    assert trained_text(tokenizer, example) == "Peru is on the map.<|im_end|>"
    assert whole_text(tokenizer, example).startswith("user! Where is Peru?")


def test_a_template_that_hides_where_answers_begin_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = BACKWARDS
    with pytest.raises(DatasetError, match=r"d.jsonl: line 1: .* leaves content of the assistant"):
        encoded(tokenizer, Chat([ASK, ANSWER]))
    tokenizer.chat_template = PAIRS_ONLY
    with pytest.raises(DatasetError, match=r"d.jsonl: line 1: .* leaves message 1 \(user\) out"):
        encoded(tokenizer, Chat([ASK, ANSWER]))


def test_what_a_template_says_against_a_row_is_told_with_the_line(tokenizer: Any) -> None:
    tokenizer.chat_template = REFUSES_SYSTEM
    system = {"role": "system", "content": "x"}
    with pytest.raises(DatasetError, match=r"line 2: .* refuses the row: no system here"):
        encoded(tokenizer, Chat([ASK, ANSWER]), Chat([system, ASK, ANSWER]))


def test_chatml_ends_each_turn_with_the_tokenizers_own_end(tokenizer: Any) -> None:
    tokenizer.chat_template = chatml_for(tokenizer)
    example = only(tokenizer, CHAT)
    assert trained_text(tokenizer, example) == "Peru is on the map.<|im_end|>Chad too.<|im_end|>"
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.chat_template = chatml_for(tokenizer)
    assert trained_text(tokenizer, only(tokenizer, CHAT)).endswith("Chad too.<|endoftext|>")


def test_a_completion_is_trained_to_its_end_and_its_prompt_is_not(tokenizer: Any) -> None:
    example = only(tokenizer, Completion("Q: Peru?\nA:", " on the map"))
    assert trained_text(tokenizer, example) == " on the map<|im_end|>"
    assert whole_text(tokenizer, example) == "Q: Peru?\nA: on the map<|im_end|>"


def test_a_token_across_the_border_of_prompt_and_completion_is_not_trained(
    tokenizer: Any,
) -> None:
    whole = tokenizer("Peru is on the map")["input_ids"]
    first = tokenizer.decode(whole[:1])
    cut = len(first) // 2
    text = "Peru is on the map"
    example = only(tokenizer, Completion(text[:cut], text[cut:]))
    assert len(first) > 1
    assert not example.trained[0]
    assert example.trained[1:].all()
    assert example.joined


def test_an_answer_that_is_one_token_with_the_end_of_its_prompt_is_refused(tokenizer: Any) -> None:
    """Its end alone would be trained, and nothing would tell."""
    assert " map" in tokenizer.tokenize("on the map", add_special_tokens=False)[-1].replace(
        "Ġ", " "
    )
    with pytest.raises(DatasetError, match=r"line 1: all of the answer is one token with the end"):
        encoded(tokenizer, Completion("Peru is on the ", "map"))
    found = encoded(tokenizer, Completion("Peru is on the ", "map."), CHAT)
    assert found.joined == 1
    ((example,), _) = found.rows
    assert trained_text(tokenizer, example) == ".<|im_end|>"
    assert encoded(tokenizer, Completion("Peru is on the", " map"), CHAT).joined == 0


def test_all_of_a_text_is_trained(tokenizer: Any) -> None:
    example = only(tokenizer, Text("Peru is on the map."))
    assert example.trained.all()
    assert whole_text(tokenizer, example) == "Peru is on the map.<|im_end|>"
    assert example.targets == len(example.ids) - 1


def code_tokenizer(processor: Any) -> Any:
    """GPT-NeoX's kind: tokens of spaces alone, which its last step leaves out of where they are."""
    made = make_tokenizer(["if peru:\n\n        return   on   map"] * 3)
    made.chat_template = TEMPLATE
    made.backend_tokenizer.post_processor = processor
    return made


@pytest.mark.parametrize("alone", [True, False])
def test_white_space_between_the_words_of_an_answer_is_trained(*, alone: bool) -> None:
    from tokenizers import processors

    trims = processors.ByteLevel(trim_offsets=True)
    tokenizer = code_tokenizer(trims if alone else processors.Sequence([trims]))
    code = "if peru:\n\n        return   on   map"
    tokens = tokenizer.tokenize(code)
    assert [each for each in tokens if not each.strip("Ġ")], "some are of spaces alone"
    said = only(tokenizer, Completion("Code:\n", code))
    assert trained_text(tokenizer, said) == f"{code}<|im_end|>"
    answer = {"role": "assistant", "content": code}
    assert trained_text(tokenizer, only(tokenizer, Chat([ASK, answer]))) == f"{code}<|im_end|>"
    assert encoded(tokenizer, Completion("Peru: ", "return   on.")).joined == 1


def test_an_end_of_sequence_that_the_tokenizer_appends_is_trained_once() -> None:
    from tokenizers import processors

    end = ("<|im_end|>", 2)
    tokenizer = code_tokenizer(processors.TemplateProcessing("$A <|im_end|>", special_tokens=[end]))
    assert tokenizer.eos_token_id == 2
    for sample, said in (
        (Completion("Where?", " on map"), " on map<|im_end|>"),
        (Text("on map"), "on map<|im_end|>"),
    ):
        found = encoded(tokenizer, sample)
        ((example,),) = found.rows
        assert trained_text(tokenizer, example) == said
        assert found.endless == 0


def test_long_examples_are_cut_and_counted_and_those_without_an_answer_left_are_dropped(
    tokenizer: Any,
) -> None:
    long = Completion("Peru " * 50 + "on", " the map")
    found = encoded(tokenizer, Text("Peru " * 50), long, Text("map"), limit=20)
    assert (found.cut, found.dropped, len(found.rows)) == (2, 1, 2)
    assert [len(example.ids) for (example,) in found.rows] == [20, 2]


def test_nothing_left_after_cutting_is_an_error_with_a_remedy(tokenizer: Any) -> None:
    with pytest.raises(DatasetError, match=r"first 5 tokens.*raise --max-seq-length"):
        encoded(tokenizer, Completion("Peru " * 50 + "on", " the map"), limit=5)
