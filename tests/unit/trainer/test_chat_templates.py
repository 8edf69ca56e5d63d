"""The assistant's words, exactly, in the templates of the families that people tune."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

from typing import Any

import pytest
from tests.unit.trainer import chat_templates
from tests.unit.trainer.conftest import make_tokenizer

from finetuning.dataset.conversation import RefusedError, Template
from finetuning.dataset.encode import Example, encode
from finetuning.dataset.rows import Row, Rows
from finetuning.dataset.shapes import Chat, Message

SYSTEM = {"role": "system", "content": "You are terse."}
ASK = {"role": "user", "content": "Where is Peru?"}
ANSWER = {"role": "assistant", "content": "Where is Peru? In America."}
MORE = {"role": "user", "content": "And Chad?"}
LAST = {"role": "assistant", "content": "<In> Africa."}
TALK = [ASK, ANSWER, MORE, LAST]

FIND = {"type": "function", "function": {"name": "find", "arguments": {"place": "Oslo"}}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
CALL: Message = {"role": "assistant", "content": "", "tool_calls": [FIND]}
RESULT = {"role": "tool", "content": '{"in": "Norway"}'}
CALLED: list[Message] = [ASK, CALL, RESULT, LAST]

FAMILIES: dict[str, tuple[str, str, str]] = {
    "qwen2": (chat_templates.QWEN2, "<|im_end|>", "<|im_end|>"),
    "qwen3": (chat_templates.QWEN3, "<|im_end|>", "<|im_end|>"),
    "llama3": (chat_templates.LLAMA3, "<|eot_id|>", "<|eot_id|>"),
    "mistral": (chat_templates.MISTRAL, "</s>", "</s>"),
    "gemma": (chat_templates.GEMMA, "<eos>", "<end_of_turn>"),
    "phi": (chat_templates.PHI, "<|endoftext|>", "<|end|>"),
    "r1": (chat_templates.R1, "<|end_of_sentence|>", "<|end_of_sentence|>"),
}
"""Template, end of sequence, and the end of a turn."""

SPECIAL = ("<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "[INST]", "[/INST]")
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"


def tokenizer_of(family: str) -> Any:
    from tokenizers import AddedToken

    template, end_of_sequence, end_of_turn = FAMILIES[family]
    made = make_tokenizer([str(each["content"]) for each in [SYSTEM, *TALK]])
    # Phi's tokens take the white space behind them with them.
    names = [*SPECIAL, "<|assistant|>", "<|user|>", end_of_sequence, end_of_turn]
    special = [AddedToken(name, rstrip=family == "phi", special=True) for name in names]
    made.add_tokens(special, special_tokens=True)
    made.add_special_tokens({"bos_token": "<s>", "eos_token": end_of_sequence})
    made.chat_template = template
    return made


def examples(tokenizer: Any, chat: Chat) -> list[Example]:
    found = encode([chat], Rows("d", "row", [Row(1, {})]), tokenizer, 10_000)
    assert not found.bad, found.bad
    (row,) = found.rows
    return row


def said(tokenizer: Any, example: Example) -> list[str]:
    """The trained texts of an example, one for each unbroken run of trained tokens."""
    runs: list[list[int]] = []
    before = False
    for token, trained in zip(example.ids.tolist(), example.trained.tolist(), strict=True):
        if trained and not before:
            runs.append([])
        if trained:
            runs[-1].append(token)
        before = trained
    return [str(tokenizer.decode(run)).rstrip("\n") for run in runs]


def all_said(family: str, messages: list[Message], tools: Any = None) -> list[list[str]]:
    tokenizer = tokenizer_of(family)
    return [said(tokenizer, each) for each in examples(tokenizer, Chat(messages, tools))]


TALKED = [
    ("qwen2", [["Where is Peru? In America.<|im_end|>", "<In> Africa.<|im_end|>"]]),
    (
        "qwen3",
        [
            [f"{EMPTY_THOUGHT}Where is Peru? In America.<|im_end|>"],
            [f"{EMPTY_THOUGHT}<In> Africa.<|im_end|>"],
        ],
    ),
    ("llama3", [["Where is Peru? In America.<|eot_id|>", "<In> Africa.<|eot_id|>"]]),
    ("mistral", [[" Where is Peru? In America.</s>", " <In> Africa.</s>"]]),
    ("gemma", [["Where is Peru? In America.<end_of_turn>", "<In> Africa.<end_of_turn>"]]),
    ("phi", [["Where is Peru? In America.<|end|>", "<In> Africa.<|end|>"]]),
    (
        "r1",
        [["Where is Peru? In America.<|end_of_sentence|>", "<In> Africa.<|end_of_sentence|>"]],
    ),
]


@pytest.mark.parametrize(("family", "expected"), TALKED)
def test_a_conversation_trains_what_the_assistant_says_with_its_end_and_no_more(
    family: str, expected: list[list[str]]
) -> None:
    assert all_said(family, TALK) == expected


@pytest.mark.parametrize("family", [name for name, _ in TALKED])
def test_a_system_s_message_is_in_every_prompt_and_never_trained(family: str) -> None:
    tokenizer = tokenizer_of(family)
    found = examples(tokenizer, Chat([SYSTEM, *TALK]))
    texts = [text for each in found for text in said(tokenizer, each)]
    assert len(texts) == 2
    assert not any("terse" in text for text in texts)
    assert all("You are terse." in tokenizer.decode(each.ids) for each in found)


@pytest.mark.parametrize("family", [name for name, _ in TALKED if name != "r1"])
@pytest.mark.parametrize("messages", [TALK, [SYSTEM, *TALK]], ids=["talk", "system"])
def test_what_stands_before_an_answer_is_what_the_model_is_asked_with(
    family: str, messages: list[Message]
) -> None:
    """The tokens up to each answer are those of the prompt for it, so that training is serving."""
    tokenizer = tokenizer_of(family)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    spans = [
        text[:start]
        for text, spans in Template(tokenizer).rendered(Chat(messages))
        for start, _ in spans
    ]
    assert spans == [
        tokenizer.apply_chat_template(messages[:turn], tokenize=False, add_generation_prompt=True)
        for turn in turns
    ]


def test_a_system_s_message_that_vanishes_behind_an_answer_makes_examples_apart() -> None:
    """Mistral's prompt has it in the last user's turn, and its conversations have it nowhere."""
    tokenizer = tokenizer_of("mistral")
    first, second = examples(tokenizer, Chat([SYSTEM, *TALK]))
    assert tokenizer.decode(first.ids) == (
        "<s>[INST] You are terse.\n\nWhere is Peru?[/INST] Where is Peru? In America.</s>"
    )
    assert tokenizer.decode(second.ids) == (
        "<s>[INST] Where is Peru?[/INST] Where is Peru? In America.</s>"
        "[INST] You are terse.\n\nAnd Chad?[/INST] <In> Africa.</s>"
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen2", '{"name": "find", "arguments": {"place": "Oslo"}}\n</tool_call><|im_end|>'),
        ("qwen3", '{"name": "find", "arguments": {"place": "Oslo"}}\n</tool_call><|im_end|>'),
        ("llama3", '{"name": "find", "parameters": {"place": "Oslo"}}<|eot_id|>'),
        ("mistral", '[TOOL_CALLS] [{"name": "find", "arguments": {"place": "Oslo"}}]</s>'),
    ],
)
def test_calls_of_tools_are_trained_and_their_results_are_not(family: str, expected: str) -> None:
    texts = [text for example in all_said(family, CALLED, TOOLS) for text in example]
    call, answer = texts
    assert call.endswith(expected)
    assert "Norway" not in call + answer
    assert "<In> Africa." in answer


def with_text(arguments: str) -> Message:
    """As OpenAI's files have a call."""
    return {**CALL, "tool_calls": [{**FIND, "function": {"name": "find", "arguments": arguments}}]}


@pytest.mark.parametrize("family", ["qwen2", "llama3", "mistral"])
def test_arguments_as_json_in_a_text_are_trained_as_the_object_that_they_are(family: str) -> None:
    calls: list[Message] = [CALL, with_text('{"place": "Oslo"}')]
    objects, texts = (
        [text for each in all_said(family, [ASK, call, RESULT, LAST], TOOLS) for text in each]
        for call in calls
    )
    assert '{"place": "Oslo"}' in objects[0]
    assert texts == objects


def test_a_template_that_takes_arguments_as_text_alone_gets_the_row_s() -> None:
    tokenizer = tokenizer_of("qwen2")
    tokenizer.chat_template = chat_templates.QWEN2.replace(
        "(call.function | tojson)", "call.function.name + call.function.arguments"
    )
    first = examples(tokenizer, Chat([ASK, with_text('{"place":  "Oslo"}')], TOOLS))[0]
    assert 'find{"place":  "Oslo"}' in said(tokenizer, first)[0]


def test_a_turn_of_weight_0_is_read_and_not_trained() -> None:
    talk: list[Message] = [ASK, {**ANSWER, "weight": 0}, MORE, {**LAST, "weight": 1}]
    for family in ("qwen2", "qwen3"):
        (texts,) = all_said(family, talk)
        assert [text.removeprefix(EMPTY_THOUGHT) for text in texts] == ["<In> Africa.<|im_end|>"]


THOUGHT = {"role": "assistant", "content": "In America.", "reasoning_content": "Near Chile."}
INLINE = {"role": "assistant", "content": "<think>\nNear Chile.\n</think>\n\nIn America."}


@pytest.mark.parametrize("answer", [THOUGHT, INLINE], ids=["key", "inline"])
def test_thoughts_are_trained_in_their_own_turn_and_gone_from_later_prompts(
    answer: Message,
) -> None:
    tokenizer = tokenizer_of("qwen3")
    first, second = examples(tokenizer, Chat([ASK, answer, MORE, LAST]))
    assert said(tokenizer, first) == ["<think>\nNear Chile.\n</think>\n\nIn America.<|im_end|>"]
    assert said(tokenizer, second) == [f"{EMPTY_THOUGHT}<In> Africa.<|im_end|>"]
    assert "Near Chile" not in tokenizer.decode(second.ids)


def refusal(family: str, messages: list[Message], tools: Any = None) -> str:
    with pytest.raises(RefusedError) as caught:
        Template(tokenizer_of(family)).rendered(Chat(messages, tools))
    return str(caught.value)


def test_thoughts_that_a_template_drops_are_refused() -> None:
    assert "leaves thinking of the assistant's turn out (`content`)" in refusal("r1", [ASK, INLINE])
    words = refusal("llama3", [ASK, THOUGHT])
    assert "leaves thinking of the assistant's turn out (`reasoning_content`)" in words


def test_what_a_template_does_not_show_is_refused() -> None:
    assert "does not show `tools` (find)" in refusal("phi", TALK, TOOLS)
    assert "does not show `tool_calls` (find)" in refusal("phi", [ASK, CALL])
    assert "refuses the row: roles must alternate" in refusal("gemma", [ASK, MORE, LAST])
    assert "refuses the row: no such role" in refusal("mistral", [SYSTEM, SYSTEM, *TALK])


def test_white_space_as_sentencepiece_writes_it_begins_with_the_answer() -> None:
    """There a space is a part of the word behind it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.Unigram())
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    words.decoder = decoders.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    words.train_from_iterator([f" {each['content']}" for each in TALK] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = chat_templates.MISTRAL
    (example,) = examples(tokenizer, Chat(TALK))
    ids = example.ids[example.trained]
    assert tokenizer.decode(ids) == " Where is Peru? In America.</s> <In> Africa.</s>"
