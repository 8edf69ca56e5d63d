"""What the model answers to a few held-out prompts, asked again at every evaluation."""

import logging
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch

from finetuning.api.hyperparameters import Objective
from finetuning.artifacts import SAMPLES
from finetuning.artifacts.history import LineWriter, SampleLine
from finetuning.base.data import Data
from finetuning.base.device import Device
from finetuning.base.group import Group, SharedStop
from finetuning.base.rank import Rank
from finetuning.base.run import Run
from finetuning.base.step import autocast
from finetuning.base.storage import space_for
from finetuning.dataset.encode import Example

TEXT_LIMIT = 2000
"""Characters of a prompt (its end) and of an answer (its beginning) that are kept."""

FILE_LIMIT = 16 << 20
"""Bytes; a run of so many evaluations has shown what there is to see."""

BEGINNING = 16
"""Tokens that stand in for the prompt where a row has none."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A prompt of the held-out rows, and how the row goes on."""

    prompt: list[int]
    expected: list[int]


def question_of(example: Example) -> Question:
    """Up to the first trained token; of running text the beginning, at most half of it."""
    ids = example.ids.tolist()
    start = int(example.trained.argmax()) or max(1, min(BEGINNING, len(ids) // 2))
    end = len(ids) - int(example.trained[::-1].argmax())
    return Question(ids[:start], ids[start:end])


def questions_of(data: Data, objective: Objective, count: int) -> list[Question]:
    """Of the first held-out rows, so that they are the same in every evaluation."""
    # Of a pair the better answer.
    end = 1 if objective is Objective.DPO else None
    examples = (example for row in data.held_out_rows for example in row[:end])
    return [question_of(example) for example in islice(examples, count)]


class Samples:
    """Asks and writes down; nothing where none are wished for, or by processes that write nothing.

    The likeliest token is taken each time, so the same weights give the same answers. Of a model in
    shards all processes ask, since each holds a part of it, and one writes.
    """

    def __init__(
        self,
        path: Path,
        questions: list[Question],
        tokenizer: Any,
        most: int,
        device: Device,
        *,
        group: Group,
        places: int | None = None,
    ) -> None:
        self._path, self._questions, self._tokenizer = path, questions, tokenizer
        self._most, self._device, self._places = most, device, places
        self._group = group
        self._writer: LineWriter[SampleLine] | None = None
        self._full = False

    @classmethod
    def of(cls, run: Run, data: Data, tokenizer: Any, device: Device, group: Group) -> Self:
        settings = run.config.hyperparameters
        alone = not settings.fsdp
        count = settings.sample_generations if group.leads or not alone else 0
        questions = questions_of(data, settings.objective, count)
        most, places = settings.sample_max_new_tokens, data.outline.places
        asking = Group(Rank(), device.device) if alone else group
        path = run.output / SAMPLES
        return cls(path, questions, tokenizer, most, device, group=asking, places=places)

    def open(self, step: int) -> None:
        """Go on after `step`; raises StorageFullError."""
        if self._questions and self._group.leads:
            with space_for(SAMPLES, self._path.parent):
                self._writer = LineWriter.open(self._path, step, SampleLine)

    def ask(self, model: Any, step: int, stop: SharedStop) -> bool:
        """Write the model's answers down as those of `step`; raises StorageFullError.

        False when a wish to stop came before the last one.
        """
        if not self._questions or self._group.first(self._is_full()):
            return True
        training = model.training
        model.eval()
        complete = True
        for number, question in enumerate(self._questions, start=1):
            complete = not stop.requested
            if not complete:
                break
            self._write(self._line(step, number, question, self._answer(model, question)))
        model.train(training)
        return complete

    def _write(self, line: SampleLine) -> None:
        if self._writer is not None:
            with space_for(SAMPLES, self._path.parent):
                self._writer.append(line)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _is_full(self) -> bool:
        if self._writer is not None and not self._full and self._path.stat().st_size >= FILE_LIMIT:
            self._full = True
            log.warning("%s is full; no more answers are written.", SAMPLES)
        return self._full

    def _answer(self, model: Any, question: Question) -> list[int]:
        from transformers import GenerationConfig  # noqa: PLC0415 - only for those who wish it

        ids = torch.tensor([question.prompt], device=self._device.device)
        ends = sorted(self._ends(model, question))
        config = GenerationConfig(
            max_new_tokens=self._room(question),
            do_sample=False,
            # The model's own settings count for what is not said here: one with a penalty_alpha
            # would be answered for by code of the Hub, and is by none.
            num_beams=1,
            penalty_alpha=0.0,
            eos_token_id=ends or None,
            pad_token_id=ends[0] if ends else 0,
        )
        with torch.no_grad(), autocast(self._device):
            whole = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                # All go on until the last one has its answer, however kernels may round.
                synced_gpus=not self._group.rank.alone,
            )
        found: list[int] = whole[0, ids.shape[1] :].tolist()
        return found

    def _room(self, question: Question) -> int:
        """Tokens of an answer: the model may have no more places for them."""
        left = self._most if self._places is None else self._places - len(question.prompt)
        return max(1, min(self._most, left))

    def _ends(self, model: Any, question: Question) -> set[int]:
        """The tokens that end an answer: the tokenizer's, the model's, and that of the row."""
        own = getattr(model, "generation_config", None)
        listed = getattr(own, "eos_token_id", None)
        known = [*(listed if isinstance(listed, list) else [listed]), self._tokenizer.eos_token_id]
        last = {*question.expected[-1:]} & {*self._tokenizer.all_special_ids}
        return {int(end) for end in (*known, *last) if end is not None}

    def _line(self, step: int, number: int, question: Question, answer: list[int]) -> SampleLine:
        decode = self._tokenizer.decode
        return SampleLine(
            step=step,
            number=number,
            prompt=decode(question.prompt)[-TEXT_LIMIT:],
            expected=decode(question.expected, skip_special_tokens=True)[:TEXT_LIMIT],
            answer=decode(answer, skip_special_tokens=True)[:TEXT_LIMIT],
            cut=len(answer) >= self._room(question),
        )
