"""Conversations as text, and where in it the assistant speaks.

Templates need no tags for it. The model's own answer is what a rendering with the answer has behind
the prompt, and the prompt is what the template gives a model that is asked for that answer. What a
template leaves out of a row is found out: nothing is trained that the row does not say.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetuning.artifacts.failures import first_line
from finetuning.dataset.shapes import Chat, Message, is_trained

Span = tuple[int, int]

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys under which a message has the thinking before its answer."""

_MARK = "finetuning-mark-8d1f"
"""Stands in for a message to find its place; in no real row, and no template trims it."""

CHATML = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{{{ message['content'] }}}}{end}\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
"""For tokenizers without a chat template. A turn ends with the tokenizer's own end of sequence:
generation stops at that one, whatever the base model's settings."""


def chatml_for(tokenizer: Any) -> str:
    return CHATML.format(end=tokenizer.eos_token or "<|im_end|>")


class RefusedError(Exception):
    """Why a sample cannot be encoded, without its place."""


@dataclass(frozen=True)
class Template:
    """The chat template of one tokenizer."""

    tokenizer: Any

    def rendered(self, chat: Chat) -> list[tuple[str, list[Span]]]:
        """The conversation as one text with its trained spans, or one text per assistant's turn.

        One text where every turn stands in it as it did when it was the last one. A template that
        drops earlier thoughts, or moves the system's message, shows later turns another past.

        Raises:
            RefusedError: the template refuses the conversation, or hides a part of it.
        """
        turns = [i for i, message in enumerate(chat.messages) if is_trained(message)]
        parts = [self.turn(chat, turn) for turn in turns]
        whole = self._render(chat.messages, chat).removesuffix(self.trailer)
        if all(whole.startswith(text) for text, _ in parts):
            return [(whole, [span for _, span in parts])]
        return [(text, [span]) for text, span in parts]

    def turn(self, chat: Chat, turn: int) -> tuple[str, Span]:
        """The text up to the end of one assistant's turn, and that turn's span in it."""
        asked = self._render(chat.messages[:turn], chat, ask=True)
        text = self._render(chat.messages[: turn + 1], chat).removesuffix(self.trailer)
        start = len(asked)
        if not text.startswith(asked):
            text, start = self._rejoined(chat, turn, asked)
        _require_prompt(text[:start], chat, turn)
        _require_answer(text[start:], chat.messages[turn])
        text = self._with_end(text, chat.messages[turn])
        return text, (start, len(text.rstrip()))

    @cached_property
    def trailer(self) -> str:
        """The end of sequence, where the template puts it behind every rendering as Phi's does.

        It belongs to no turn: no more follows it in a conversation.
        """
        end = self.tokenizer.eos_token or ""
        chat = Chat([{"role": "user", "content": _MARK}])
        try:
            bare, asked = (self._render(chat.messages, chat, ask=ask) for ask in (False, True))
        except RefusedError:
            return ""
        closes = end and bare.endswith(end) and not asked.startswith(bare)
        return str(end) if closes else ""

    def _rejoined(self, chat: Chat, turn: int, asked: str) -> tuple[str, int]:
        """The prompt as asked, with the answer behind it: the template renders the two apart.

        Both are cut behind the last message of the prompt. Where the prompt opens the answer in
        another way than the rendering of the answer does, the latter counts.
        """
        *before, last = chat.messages[:turn]
        answer = chat.messages[turn]
        marked = [*before, {**last, "content": _MARK}]
        tail_asked = _behind_mark(self._render(marked, chat, ask=True))
        tail = _behind_mark(self._render([*marked, answer], chat).removesuffix(self.trailer))
        same = _common(tail_asked, tail)
        if same < len(tail_asked):
            probe = self._render([*marked, {**answer, "content": _MARK}], chat)
            begin = _behind_mark(probe.removesuffix(self.trailer), skip=1).find(_MARK)
            same = min(same, begin) if begin >= 0 else same
        prompt = asked[: len(asked) - len(tail_asked) + same]
        return prompt + tail[same:], len(prompt)

    def _with_end(self, text: str, message: Message) -> str:
        """A template that ends a turn with its content would teach the model never to stop."""
        content = (message.get("content") or "").strip()
        if content and text.rstrip().endswith(content):
            return text.rstrip() + (self.tokenizer.eos_token or "")
        return text

    def _render(self, messages: list[Message], chat: Chat, *, ask: bool = False) -> str:
        """With the arguments of calls as objects, as servers give them to a template.

        The few templates that take them as a text alone get the row's.
        """
        given = list(map(_with_objects, messages))
        try:
            return self._applied(given, chat, ask=ask)
        except RefusedError:
            if given == messages:
                raise
        return self._applied(messages, chat, ask=ask)

    def _applied(self, messages: list[Message], chat: Chat, *, ask: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tools=chat.tools, tokenize=False, add_generation_prompt=ask
            )
        except Exception as error:  # Templates raise what they like.
            reason = first_line(error, None)
            raise RefusedError(f"the model's chat template refuses the row: {reason}") from error
        return str(text)


def _with_objects(message: Message) -> Message:
    """A message whose calls have their arguments as objects; OpenAI's files have JSON in a text."""
    calls = message.get("tool_calls")
    return (
        {**message, "tool_calls": list(map(_opened, calls))} if isinstance(calls, list) else message
    )


def _opened(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _opened(call["function"])}
    try:
        found = json.loads(call.get("arguments"))  # type: ignore[arg-type]  # Or it is no text.
    except (TypeError, ValueError, RecursionError):
        return call
    return {**call, "arguments": found} if isinstance(found, dict) else call


def _common(one: str, other: str) -> int:
    """How many characters two texts share from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _behind_mark(text: str, skip: int = 0) -> str:
    """What follows the mark, or the one that has `skip` others behind it."""
    parts = text.split(_MARK)
    if len(parts) < skip + 2:
        raise RefusedError(
            "the model's chat template hides where the assistant's answer begins; use rows of "
            "prompt and completion"
        )
    return _MARK.join(parts[-1 - skip :])


def _require_prompt(prompt: str, chat: Chat, turn: int) -> None:
    """The model must see what the row says, or it learns answers to questions that nobody asked."""
    for number, message in enumerate(chat.messages[:turn], start=1):
        content = message.get("content") or ""
        if message["role"] in ("system", "developer", "user") and not _holds(prompt, content):
            raise RefusedError(
                f"the model's chat template leaves message {number} ({message['role']}) out of the "
                "prompt; move its text into another message, or remove it"
            )
    unseen = [name for name in _names(chat.tools or []) if name not in prompt]
    if unseen:
        raise RefusedError(
            f"the model's chat template does not show `tools` ({unseen[0]}) to the model; take a "
            "model whose template does, or leave the column out"
        )


def _require_answer(answer: str, message: Message) -> None:
    """All that the assistant says must be in the trained span."""
    said = {name: message.get(name) for name in ("content", *THOUGHTS)}
    for name, text in said.items():
        if isinstance(text, str) and not _holds(answer, text):
            what = "thinking" if name != "content" or "</think>" in text else "content"
            raise RefusedError(
                f"the model's chat template leaves {what} of the assistant's turn out (`{name}`), "
                "so it cannot be learnt; remove it from the row, or take a model whose template "
                "keeps it"
            )
    unsaid = [name for name in _names(message.get("tool_calls") or []) if name not in answer]
    if unsaid:
        raise RefusedError(
            f"the model's chat template does not show `tool_calls` ({unsaid[0]}) of the "
            "assistant's turn; take a model whose template does, or remove the row"
        )


def _names(functions: Any) -> list[str]:
    """The names of tools, or of calls to them, in either common spelling."""
    items = [each for each in functions if isinstance(each, dict)]
    inner = [each["function"] if isinstance(each.get("function"), dict) else each for each in items]
    return [each["name"] for each in inner if isinstance(each.get("name"), str)]


def _holds(rendered: str, text: str) -> bool:
    """Whether a text is there, whatever the white space and the quoting of the template."""
    spellings = (text.strip(), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    return any(each in rendered for each in spellings) or _squashed(text) in _squashed(rendered)


def _squashed(text: str) -> str:
    return "".join(text.split())
