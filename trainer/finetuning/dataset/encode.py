"""From samples to tokens, with a mark on each token that is trained."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from finetuning.artifacts.failures import DatasetError
from finetuning.dataset.conversation import RefusedError, Span, Template
from finetuning.dataset.rows import BadRow, Rows
from finetuning.dataset.shapes import Chat, Completion, Preference, Sample, Text

Ids = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence; `trained[i]` says whether predicting `ids[i]` counts."""

    ids: Ids
    trained: Marks
    joined: bool = False
    """Whether the first token of an answer begins in its prompt, and so is not trained."""

    @property
    def targets(self) -> int:
        """Nothing predicts the first token."""
        return int(self.trained[1:].sum())


_JOINED = (
    "all of the answer is one token with the end of the prompt, so nothing of it would be trained; "
    "move the white space at the end of the prompt to the beginning of the answer"
)

Pack = list[Example]
"""What a batch is counted in: examples that share one sequence without seeing each other (a single
one without packing), or the chosen and the rejected answer of a pair."""


@dataclass(frozen=True)
class Encoded:
    """The examples of each row, in order, and what the length limit did to them."""

    rows: Sequence[list[Example]]
    cut: int
    dropped: int
    bad: list[BadRow]
    """What the chat template refuses."""
    lengths: Sequence[int]
    """Tokens of every example before the cut."""
    highest: int
    """The largest token of all that is kept; -1 where nothing is."""
    endless: int = 0
    """Examples of which no end is trained: the last token before any cut is one of plain text."""
    joined: int = 0
    """Examples with an answer whose first token begins in the prompt."""


class Sink(Protocol):
    """Takes the examples of each row in turn, and has all of them in the end."""

    def append(self, row: list[Example], /) -> None: ...
    def finished(self) -> Sequence[list[Example]]: ...


class _InMemory(list[list[Example]]):
    def finished(self) -> Sequence[list[Example]]:
        return self


def encode(
    samples: Sequence[Sample],
    rows: Rows,
    tokenizer: Any,
    limit: int,
    *,
    into: Sink | None = None,
    remedy: str = "raise --max-seq-length",
) -> Encoded:
    """Encode every sample; examples over `limit` tokens are cut at the end.

    Raises:
        DatasetError: nothing to train on is left after the cut.
    """
    encoded = _InMemory() if into is None else into
    bad: list[BadRow] = []
    lengths = array("q")
    cut, dropped, highest, endless, joined = 0, 0, -1, 0, 0
    template, ends = Template(tokenizer), _ends(tokenizer)
    for sample, row in zip(samples, rows.rows, strict=True):
        try:
            whole = examples_of(sample, template)
        except RefusedError as error:
            bad.append(BadRow(row.line, str(error)))
            continue
        lengths.extend(len(example.ids) for example in whole)
        kept = [short for short in (_cut(example, limit) for example in whole) if short.targets]
        if isinstance(sample, Preference) and len(kept) < len(whole):
            kept = []  # One answer alone says nothing.
        cut += sum(len(example.ids) > limit for example in whole)
        endless += sum(int(example.ids[example.trained][-1]) not in ends for example in whole)
        joined += sum(example.joined for example in whole)
        dropped += len(whole) - len(kept)
        if kept:
            encoded.append(kept)
            highest = max(highest, *(int(example.ids.max()) for example in kept))
    found = encoded.finished()
    if lengths and not found:
        raise DatasetError(
            f"{rows.source}: every answer lies beyond the first {limit} tokens, so nothing is left "
            f"to train on; {remedy}"
        )
    return Encoded(found, cut, dropped, bad, lengths, highest, endless, joined)


def _ends(tokenizer: Any) -> set[int]:
    """Tokens that are no text, one of which ends a turn."""
    return {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}


def examples_of(sample: Sample, template: Template) -> list[Example]:
    """A row's examples before any is cut, each with something to learn.

    Raises:
        RefusedError: the chat template refuses it or leaves some of it out, or it says nothing.
    """
    _count_white_space(template.tokenizer)
    whole = list(_examples(sample, template))
    if not all(example.targets for example in whole):
        raise RefusedError("no token of it would be trained; lengthen it or remove the row")
    return whole


def _count_white_space(tokenizer: Any) -> None:
    """Have a token begin and end with its white space, as text does.

    Many tokenizers leave it out of where a token stands (GPT-NeoX's and those of its time, and what
    is made by the library's defaults): one of spaces alone, as in front of lines of code, stands
    nowhere then, and would not be trained.
    """
    last: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "post_processor", None)
    steps: Any = last if hasattr(last, "__getitem__") else (last,)
    for each in steps:
        if getattr(each, "trim_offsets", False):
            each.trim_offsets = False


def _examples(sample: Sample, template: Template) -> Iterator[Example]:
    tokenizer = template.tokenizer
    match sample:
        case Chat():
            for text, spans in template.rendered(sample):
                yield _marked(text, spans, tokenizer, special=False)
        case Completion(prompt, completion):
            text = prompt + completion
            said = _marked(text, [(len(prompt), len(text))], tokenizer)
            if said.joined and not said.targets:
                raise RefusedError(_JOINED)
            yield _ended(said, tokenizer)
        case Preference(chosen, rejected):
            yield _last_turn(chosen, template)
            yield _last_turn(rejected, template)
        case Text(text):
            yield _ended(_marked(text, [(0, len(text))], tokenizer), tokenizer)


def _last_turn(sample: Chat | Completion, template: Template) -> Example:
    """The answer of a pair: what the assistant said before is prompt."""
    if isinstance(sample, Completion):
        (example,) = _examples(sample, template)
        return example
    text, span = template.turn(sample, len(sample.messages) - 1)
    return _marked(text, [span], template.tokenizer, special=False)


def _cut(example: Example, limit: int) -> Example:
    return replace(example, ids=example.ids[:limit], trained=example.trained[:limit])


def _marked(text: str, spans: list[Span], tokenizer: Any, *, special: bool = True) -> Example:
    """Tokens that begin inside a span are trained; one that straddles its start is not."""
    out = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
    offsets = np.array(out["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    trained = np.zeros(len(offsets), dtype=np.bool_)
    for start, end in spans:
        trained |= (offsets[:, 0] >= start) & (offsets[:, 0] < end)
    trained &= offsets[:, 1] > offsets[:, 0]
    joined = any(((offsets[:, 0] < start) & (offsets[:, 1] > start)).any() for start, _ in spans)
    return Example(np.array(out["input_ids"], dtype=np.int32), trained, joined)


def _ended(example: Example, tokenizer: Any) -> Example:
    """Append the end of sequence, which is trained so that generation stops."""
    end = tokenizer.eos_token_id
    if end is None:
        return example
    there = int(len(example.ids) > 0 and example.ids[-1] == end)  # Some tokenizers put it there.
    before = len(example.ids) - there
    return replace(
        example,
        ids=np.append(example.ids[:before], np.int32(end)),
        trained=np.append(example.trained[:before], np.bool_(True)),
    )
