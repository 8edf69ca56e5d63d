"""From samples to tokens, with a mark on each token that is trained.

The marks come from rendering a conversation turn by turn, so they need no tags in the template and
hold for every template that renders a conversation as a continuation of its beginning. Where it
does not, a conversation becomes one example for each of the assistant's turns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.base.errors import DatasetError
from finetuning.base.rows import BadRow, Rows
from finetuning.base.shapes import Chat, Completion, Message, Preference, Sample, Text

Span = tuple[int, int]
Ids = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]

CHATML = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{{{ message['content'] }}}}{end}\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
"""For tokenizers without a chat template. A turn ends with the tokenizer's own end of sequence:
generation stops at that one, whatever the base model's settings."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence; `trained[i]` says whether predicting `ids[i]` counts."""

    ids: Ids
    trained: Marks

    @property
    def targets(self) -> int:
        """Nothing predicts the first token."""
        return int(self.trained[1:].sum())


Pack = list[Example]
"""What a batch is counted in: examples that share one sequence without seeing each other (a single
one without packing), or the chosen and the rejected answer of a pair."""


@dataclass(frozen=True)
class Encoded:
    """The examples of each row, in order, and what the length limit did to them."""

    rows: list[list[Example]]
    cut: int
    dropped: int
    bad: list[BadRow]
    """What the chat template refuses."""
    lengths: list[int]
    """Tokens of every example before the cut."""


def chatml_for(tokenizer: Any) -> str:
    return CHATML.format(end=tokenizer.eos_token or "<|im_end|>")


def encode(samples: list[Sample], rows: Rows, tokenizer: Any, limit: int) -> Encoded:
    """Encode every sample; examples over `limit` tokens are cut at the end.

    Raises:
        DatasetError: nothing to train on is left after the cut.
    """
    encoded: list[list[Example]] = []
    bad: list[BadRow] = []
    lengths: list[int] = []
    cut = dropped = 0
    for sample, row in zip(samples, rows.rows, strict=True):
        try:
            whole = list(_examples(sample, tokenizer))
        except _RefusedError as error:
            bad.append(BadRow(row.line, str(error)))
            continue
        lengths += [len(example.ids) for example in whole]
        kept = [short for short in (_cut(example, limit) for example in whole) if short.targets]
        if isinstance(sample, Preference) and len(kept) < len(whole):
            kept = []  # One answer alone says nothing.
        cut += sum(len(example.ids) > limit for example in whole)
        dropped += len(whole) - len(kept)
        if kept:
            encoded.append(kept)
    if lengths and not encoded:
        raise DatasetError(
            f"{rows.source}: every answer lies beyond the first {limit} tokens, so nothing is left "
            "to train on; raise --max-seq-length"
        )
    return Encoded(encoded, cut, dropped, bad, lengths)


class _RefusedError(Exception):
    """Why a sample cannot be encoded, without its place."""


def _examples(sample: Sample, tokenizer: Any) -> Iterator[Example]:
    match sample:
        case Chat():
            for text, spans in _rendered(sample, tokenizer):
                yield _marked(text, spans, tokenizer, special=False)
        case Completion(prompt, completion):
            text = prompt + completion
            yield _ended(_marked(text, [(len(prompt), len(text))], tokenizer), tokenizer)
        case Preference(chosen, rejected):
            yield _last_turn(chosen, tokenizer)
            yield _last_turn(rejected, tokenizer)
        case Text(text):
            yield _ended(_marked(text, [(0, len(text))], tokenizer), tokenizer)


def _last_turn(sample: Chat | Completion, tokenizer: Any) -> Example:
    """The answer of a pair: what the assistant said before is prompt."""
    if isinstance(sample, Completion):
        (example,) = _examples(sample, tokenizer)
        return example
    text, span = _turn(sample, len(sample.messages) - 1, tokenizer)
    return _marked(text, [span], tokenizer, special=False)


def _cut(example: Example, limit: int) -> Example:
    return Example(example.ids[:limit], example.trained[:limit])


def _marked(text: str, spans: list[Span], tokenizer: Any, *, special: bool = True) -> Example:
    """Tokens that begin inside a span are trained; one that straddles its start is not."""
    out = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    offsets = np.array(out["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    trained = np.zeros(len(offsets), dtype=np.bool_)
    for start, end in spans:
        trained |= (offsets[:, 0] >= start) & (offsets[:, 0] < end)
    trained &= offsets[:, 1] > offsets[:, 0]
    return Example(np.array(out["input_ids"], dtype=np.int32), trained)


def _ended(example: Example, tokenizer: Any) -> Example:
    """Append the end of sequence, which is trained so that generation stops."""
    end = tokenizer.eos_token_id
    if end is None or (len(example.ids) and example.ids[-1] == end):
        return example
    return Example(
        np.append(example.ids, np.int32(end)), np.append(example.trained, np.bool_(True))
    )


def _rendered(chat: Chat, tokenizer: Any) -> list[tuple[str, list[Span]]]:
    """The conversation as one text with its trained spans, or one text per assistant's turn."""
    whole = _render(chat.messages, chat, tokenizer)
    turns = [i for i, message in enumerate(chat.messages) if message["role"] == "assistant"]
    parts = [_turn(chat, turn, tokenizer) for turn in turns]
    if all(whole.startswith(text) for text, _ in parts):
        return [(whole, [span for _, span in parts])]
    return [(text, [span]) for text, span in parts]


def _turn(chat: Chat, turn: int, tokenizer: Any) -> tuple[str, Span]:
    """The text up to the end of one assistant's turn, and that turn's span in it."""
    before = _render(chat.messages[:turn], chat, tokenizer)
    asked = _render(chat.messages[:turn], chat, tokenizer, ask=True)
    text = _render(chat.messages[: turn + 1], chat, tokenizer)
    start = _common(asked, text)
    if not text.startswith(before) or start < len(before):
        raise _RefusedError(
            "the model's chat template rewrites earlier turns, so the assistant's tokens cannot be "
            "told from the prompt; use rows of prompt and completion"
        )
    text = _with_end(text, chat.messages[turn], tokenizer)
    return text, (start, len(text.rstrip()))


def _common(one: str, other: str) -> int:
    """How many characters two texts share from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _with_end(text: str, message: Message, tokenizer: Any) -> str:
    """A template that ends a turn with its content would teach the model never to stop."""
    content = (message.get("content") or "").strip()
    if content and text.rstrip().endswith(content):
        return text.rstrip() + (tokenizer.eos_token or "")
    return text


def _render(messages: list[Message], chat: Chat, tokenizer: Any, *, ask: bool = False) -> str:
    try:
        text = tokenizer.apply_chat_template(
            messages, tools=chat.tools, tokenize=False, add_generation_prompt=ask
        )
    except Exception as error:  # Templates raise what they like.
        reason = (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0]
        raise _RefusedError(f"the model's chat template refuses the row: {reason}") from error
    return str(text)
