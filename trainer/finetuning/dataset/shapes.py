"""From rows of known shapes to conversations, prompts with completions, or plain text."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, overload

from typing_extensions import override

from finetuning.api.hyperparameters import Objective
from finetuning.artifacts.data_report import RowShape
from finetuning.artifacts.failures import DatasetError
from finetuning.dataset.rows import EMPTY, BadRow, Row, Rows, StoredRows

_ASKED = 1000
"""Rows that are asked for a shape before none is found."""

_SHOWN = 20
"""Characters of a text that lead to what is wrong in it."""

Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"} | {
    "system": "system",
    "tool": "tool",
}

KNOWN_SHAPES = (
    "messages (or conversations) | instruction, [input], output | prompt, completion | text"
)


KNOWN_PAIRS = "prompt, chosen, rejected | chosen, rejected (conversations)"


class Shape(StrEnum):
    """What the columns say that a row is."""

    MESSAGES = "messages"
    CONVERSATIONS = "conversations"
    INSTRUCTION = "instruction"
    PROMPT = "prompt"
    TEXT = "text"
    PREFERENCE = "chosen"


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation; the assistant's turns are trained."""

    messages: list[Message]
    tools: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt in the model's raw text; the completion is trained."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Text:
    """Running text; all of it is trained."""

    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the better one first; only the answers count."""

    chosen: Chat | Completion
    rejected: Chat | Completion


Sample = Chat | Completion | Text | Preference


def shape_of(samples: Sequence[Sample]) -> RowShape | None:
    """What all of them are, as the first is; None where there is none."""
    match next(iter(samples), None):
        case Chat():
            return RowShape.CONVERSATIONS
        case Completion():
            return RowShape.COMPLETIONS
        case Text():
            return RowShape.TEXTS
        case Preference():
            return RowShape.PREFERENCES
        case None:
            return None


def is_trained(message: Message) -> bool:
    """Whether it is the assistant's, and meant to be learned: OpenAI's `weight` of 0 says not."""
    return message["role"] == "assistant" and message.get("weight") != 0


class _BadRowError(Exception):
    """What is wrong with one row, without its place."""


def interpret(rows: Rows, objective: Objective = Objective.SFT) -> tuple[Rows, Sequence[Sample]]:
    """The good rows, and each as a sample in the same order; all must have the first one's shape.

    Raises:
        DatasetError: the shape is unknown.
    """
    if not rows.rows:
        return rows, []
    shape = _shape_of(rows, objective)
    if isinstance(rows.rows, StoredRows):
        return _interpreted_later(rows, rows.rows, shape)
    samples: list[Sample] = []
    problems: list[BadRow] = []
    for row in rows.rows:
        try:
            samples.append(_sample(row, shape))
        except _BadRowError as error:
            problems.append(BadRow(row.line, str(error)))
    return rows.without(problems), samples


def _interpreted_later(
    rows: Rows, stored: StoredRows, shape: Shape
) -> tuple[Rows, Sequence[Sample]]:
    """The same of rows that stay on the disk: only what is bad is known now."""
    problems: list[BadRow] = []
    for row in stored:
        try:
            _sample(row, shape)
        except _BadRowError as error:
            problems.append(BadRow(row.line, str(error)))
    good = rows.without(problems)
    return good, StoredSamples(good.rows, _READERS[shape])


@dataclass(frozen=True)
class StoredSamples(Sequence[Sample]):
    """What good rows say, found out whenever it is asked for."""

    rows: Sequence[Row]
    reader: Callable[[Mapping[str, Any]], Sample]

    @override
    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> list[Sample]: ...
    @override
    def __getitem__(self, at: int | slice) -> Sample | list[Sample]:
        if isinstance(at, slice):
            return [self.reader(row.data) for row in self.rows[at]]
        return self.reader(self.rows[at].data)


def _sample(row: Row, shape: Shape) -> Sample:
    if not any(map(_says, row.data.values())):
        raise _BadRowError(EMPTY)
    sample = _READERS[shape](row.data)
    if half := _half_character(sample):
        raise _BadRowError(
            f"holds half a character, the last in '{half}'; write the whole one, such as an "
            "emoji's both halves, or remove it"
        )
    return sample


def _half_character(said: Any) -> str:
    r"""The first surrogate alone (\ud83d) and what stands before it, escaped; no token is of it."""
    if isinstance(said, str):
        try:
            said.encode()
        except UnicodeEncodeError as error:
            return ascii(said[max(0, error.start - _SHOWN) : error.start + 1])[1:-1]
        return ""
    return next(filter(None, map(_half_character, _parts(said))), "")


def _parts(said: Any) -> Iterable[Any]:
    match said:
        case Chat(messages, tools):
            return messages, tools
        case Completion(prompt, completion):
            return prompt, completion
        case Preference(chosen, rejected):
            return chosen, rejected
        case Text(text):
            return (text,)
        case dict():
            return said.values()
        case _:
            return said if isinstance(said, list) else ()


def _says(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value is not None and value != [])


def _shape_of(rows: Rows, objective: Objective) -> Shape:
    """By the first row that has one, so that one bad row does not stand for all of a file.

    Raises:
        DatasetError: none of the first rows has.
    """
    pairs = objective is Objective.DPO
    known = (_known_shape(row, pairs=pairs) for row in islice(rows.rows, _ASKED))
    if shape := next(filter(None, known), None):
        return shape
    filled = (row for row in islice(rows.rows, _ASKED) if any(map(_says, row.data.values())))
    first = next(filled, rows.rows[0])
    names = ", ".join(sorted(map(str, first.data))) or "none"
    raise DatasetError(
        f"{rows.where(first)}: cannot train on the columns found ({names}); "
        f"known shapes for --objective {objective}: {KNOWN_PAIRS if pairs else KNOWN_SHAPES}; "
        f"{_remedy(_columns(first), pairs=pairs)}"
    )


def _known_shape(row: Row, *, pairs: bool) -> Shape | None:
    columns = _columns(row)
    candidates = (shape for shape in Shape if (shape is Shape.PREFERENCE) is pairs)
    fits = (s for s in candidates if s in columns and columns & _TARGETS.get(s, {s}))
    return next(fits, None)


def _columns(row: Row) -> set[str]:
    return {name for name, value in row.data.items() if value is not None}


def _remedy(columns: set[str], *, pairs: bool) -> str:
    divider = next((each for each in ";|\t" if any(each in name for name in columns)), None)
    if divider and len(columns) == 1:
        return f"a file whose columns are divided by {divider!r} must be saved with commas, as .csv"
    if not pairs and {"prompt", "chosen", "rejected"} <= columns:
        return "for pairs set --objective to dpo"
    example = (
        "prompt=question chosen=better rejected=worse"
        if pairs
        else "prompt=question completion=answer"
    )
    return f"of columns by other names, say which is which with --dataset-columns ({example})"


_ANSWERS = ("output", "response")
_CONTEXTS = ("input", "context")
_COMPLETIONS = ("completion", "response")
_TARGETS: dict[Shape, set[str]] = {
    Shape.INSTRUCTION: set(_ANSWERS),
    Shape.PROMPT: set(_COMPLETIONS),
    Shape.PREFERENCE: {"rejected"},
}


def _from_turns(column: str, data: Mapping[str, Any]) -> Sample:
    """In either column files have either spelling."""
    turns = _from_json(data.get(column))
    if isinstance(turns, list):
        turns = [_spoken(turn, column) for turn in turns]
    return _chat(turns, column, data)


def _spoken(turn: Any, column: str) -> Any:
    """A turn of {from, value} as one of {role, content}."""
    if not isinstance(turn, dict) or "from" not in turn or "role" in turn:
        return turn
    role = SPEAKERS.get(str(turn["from"]))
    if role is None:
        known = ", ".join(SPEAKERS)
        raise _BadRowError(f"`{column}`: unknown speaker {turn['from']!r}; known: {known}")
    return {"role": role, "content": turn.get("value")}


def _from_instruction(data: Mapping[str, Any]) -> Sample:
    instruction = _text(data, ("instruction",))
    context = _optional(data, _CONTEXTS)
    question = f"{instruction}\n\n{context}" if context else instruction
    system = _optional(data, ("system",))
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": _text(data, _ANSWERS)})
    return Chat(messages)


def _from_prompt(data: Mapping[str, Any]) -> Sample:
    if str(data.get("label")).strip().lower() == "false":  # CSV has texts alone.
        raise _BadRowError(
            "`label` is false: an answer that was not wanted would be learned; remove such rows, "
            "or name the columns to read with --dataset-columns if it says something else"
        )
    data = _opened(data, ("prompt", *_COMPLETIONS))
    prompt = data.get("prompt")
    if isinstance(prompt, list):
        answer = next((data[name] for name in _COMPLETIONS if data.get(name)), None)
        if not isinstance(answer, list):
            raise _BadRowError("`completion` must be a list of messages when `prompt` is one")
        return _chat([*prompt, *answer], "prompt and completion", data)
    return Completion(_text(data, ("prompt",)), _text(data, _COMPLETIONS))


def _from_preference(data: Mapping[str, Any]) -> Sample:
    data = _with_prompt(_opened(data, ("prompt", "chosen", "rejected")))
    chosen, rejected = (_answer(data, name) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise _BadRowError("`chosen` and `rejected` are the same, so there is nothing to prefer")
    return Preference(chosen, rejected)


def _with_prompt(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of two whole conversations, the prompt is what comes before their last messages.

    Some files repeat its question in a column `prompt`, as text.
    """
    prompt, chosen, rejected = (data.get(name) for name in ("prompt", "chosen", "rejected"))
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        raise _BadRowError(
            "`chosen` and `rejected` are texts and there is no `prompt`: where it stands inside of "
            "both, as in hh-rlhf, nothing tells where the answers begin; divide each row into "
            "`prompt` (up to the last 'Assistant:'), and the two answers without it"
        )
    if isinstance(prompt, list) or not (isinstance(chosen, list) and isinstance(rejected, list)):
        return data
    shared = chosen[:-1]
    if not shared or rejected[:-1] != shared:
        raise _BadRowError(
            "`chosen` and `rejected` must be the same conversation up to their last messages when "
            "`prompt` is no list of messages"
        )
    if prompt and prompt not in [turn.get("content") for turn in shared if isinstance(turn, dict)]:
        raise _BadRowError("`prompt` is in none of the messages that `chosen` and `rejected` share")
    return {**data, "prompt": shared, "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _answer(data: Mapping[str, Any], name: str) -> Chat | Completion:
    """One of the two answers with the prompt before it."""
    prompt, answer = data.get("prompt"), data.get(name)
    if not isinstance(prompt, list):
        return Completion(_text(data, ("prompt",)), _text(data, (name,)))
    if not isinstance(answer, list) or len(answer) != 1:
        raise _BadRowError(f"`{name}` must be a list of one message when `prompt` is a list")
    chat = _chat([*prompt, *answer], f"prompt and {name}", data)
    if chat.messages[-1]["role"] != "assistant":
        raise _BadRowError(f"`{name}` must be a message of the assistant")
    return chat


def _from_text(data: Mapping[str, Any]) -> Sample:
    return Text(_text(data, ("text",)))


_READERS: dict[Shape, Callable[[Mapping[str, Any]], Sample]] = {
    Shape.MESSAGES: partial(_from_turns, "messages"),
    Shape.CONVERSATIONS: partial(_from_turns, "conversations"),
    Shape.INSTRUCTION: _from_instruction,
    Shape.PROMPT: _from_prompt,
    Shape.TEXT: _from_text,
    Shape.PREFERENCE: _from_preference,
}


def _text(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these columns that holds text; a row without it cannot be trained on."""
    for name in names:
        value = data.get(name)
        if value is not None and not isinstance(value, str):
            raise _BadRowError(f"`{name}` must be text, found {type(value).__name__}")
        if value and value.strip():
            return value
    raise _BadRowError(f"`{names[0]}` is missing or empty; fill it or remove the row")


def _optional(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    found = [name for name in names if data.get(name)]
    return _text(data, (found[0],)) if found and str(data[found[0]]).strip() else ""


def _chat(messages: Any, column: str, data: Mapping[str, Any]) -> Chat:
    """The conversation, with what the columns `system` and `tools` of its row add to it.

    A table of texts, as CSV is, has it as JSON.
    """
    messages = _from_json(messages)
    if not isinstance(messages, list) or not messages:
        raise _BadRowError(f"`{column}` must be a list of {{role, content}} with a turn at least")
    messages = [_with_text(message) for message in messages]
    for number, message in enumerate(messages, start=1):
        _check_message(message, f"`{column}`, message {number}")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise _BadRowError(f"`{column}` has no assistant's turn, so there is nothing to learn")
    if not any(map(is_trained, messages)):
        raise _BadRowError(f"`{column}`: every assistant's turn has `weight` 0; remove the row")
    if not set(roles[: roles.index("assistant")]) & {"user", "tool"}:
        raise _BadRowError(f"`{column}`: a user's turn must come before the first assistant's")
    return Chat(_with_system(messages, _optional(data, ("system",))), _tools(data.get("tools")))


def _with_system(messages: list[Message], system: str) -> list[Message]:
    """The column's text as the first message, where it is not that already."""
    first = messages[0]
    if not system or (first["role"] == "system" and first.get("content") == system):
        return messages
    if first["role"] == "system":
        raise _BadRowError(
            "the column `system` says something else than the first message, which is the "
            "system's too; keep one of them"
        )
    return [{"role": "system", "content": system}, *messages]


def _tools(found: Any) -> list[Any] | None:
    """The tools of a row; many files have the list, or each of its members, as JSON in a text."""
    tools = _from_json(found)
    if tools is None or tools in ("", []):
        return None
    each = list(map(_from_json, tools)) if isinstance(tools, list) else []
    if not each or not all(isinstance(tool, dict) for tool in each):
        raise _BadRowError(
            "`tools` must be a list of descriptions of functions, or such a list as JSON in a "
            f"text, found {str(found)[:_SHOWN]!r}; mend it, or empty it where there are none"
        )
    return each


def _from_json(value: Any) -> Any:
    """What a text says as JSON; the text where it says nothing, and all else, as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value.strip()


def _opened(data: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    """A row of texts, as CSV has it, with the lists of messages that stand there as JSON."""
    found = {name: _from_json(data.get(name)) for name in names if name in data}
    lists = {name: value for name, value in found.items() if _is_spoken(value)}
    return {**data, **lists}


def _is_spoken(value: Any) -> bool:
    """Whether it is a list of messages and nothing else; any other list in a text is text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and "role" in each for each in value)
    )


def _with_text(message: Any) -> Any:
    """A message whose content is a list of parts, all of them text, with the text itself."""
    parts = message.get("content") if isinstance(message, dict) else None
    if not isinstance(parts, list) or not parts:
        return message
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(parts):
        return message
    return {**message, "content": "".join(texts)}


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise _BadRowError(f"{where}: expected {{role, content}}, found {type(message).__name__}")
    if message.get("role") not in ROLES:
        raise _BadRowError(
            f"{where}: unknown role {message.get('role')!r}; known: {', '.join(ROLES)}"
        )
    if message.get("weight") not in (None, 0, 1):
        raise _BadRowError(
            f"{where}: `weight` must be 1, or 0 for a turn that is not learned, found "
            f"{message['weight']!r}"
        )
    content = message.get("content")
    spoken = isinstance(content, str) and bool(content.strip())
    if message["role"] == "assistant" and not (spoken or message.get("tool_calls")):
        raise _BadRowError(f"{where}: the assistant says nothing; fill `content` or remove it")
    if content is None and message["role"] != "assistant":
        raise _BadRowError(
            f"{where}: no `content`, which templates show as None; fill or remove it"
        )
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise _BadRowError(
            f"{where}: `tool_calls` must be a list of calls, found {type(calls).__name__}"
        )
    if content is not None and not isinstance(content, str):
        raise _BadRowError(
            f"{where}: `content` must be text, or a list of parts with text alone, found "
            f"{type(content).__name__}"
        )
