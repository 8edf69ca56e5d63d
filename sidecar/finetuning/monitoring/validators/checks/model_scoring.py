"""What a loaded model makes of the prompts and of the held-out rows; used by model_process."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetuning.artifacts.reference import TEXTS
from finetuning.dataset.conversation import RefusedError
from finetuning.dataset.encode import Example
from finetuning.monitoring.validators.checks.model_benchmarks import BenchmarkError, run_tasks
from finetuning.monitoring.validators.checks.model_texts import RowError, encode, examples_in
from finetuning.monitoring.validators.checks.probe import (
    LONG_ENOUGH,
    Answer,
    HeldOutRow,
    ProbeRequest,
    RowLoss,
    Score,
)

if TYPE_CHECKING:
    import torch

LONGEST_ANSWER = 20_000
"""Characters of an answer that are kept."""

LONGEST_ROW = 2048
"""Tokens of a held-out row; what is longer is cut."""


@dataclass
class Seen:
    """One model's answers, the logits at the end of each prompt, and its losses."""

    answers: list[Answer] = field(default_factory=list)
    logits: "list[torch.Tensor]" = field(default_factory=list)
    losses: list[RowLoss] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    scores_problem: str = ""
    seconds: float = 0.0


def observe(model: Any, tokenizer: Any, request: ProbeRequest) -> Seen:
    import torch  # noqa: PLC0415 - loaded with the model

    seen, began = Seen(), time.monotonic()
    with torch.inference_mode():
        for prompt in request.prompts:
            answer, first = _generate(model, tokenizer, prompt, request.max_new_tokens)
            seen.answers.append(answer)
            seen.logits.append(first)
        seen.losses, seen.refused = _losses(model, tokenizer, request.held_out)
    if request.benchmarks:
        try:
            seen.scores = run_tasks(model, tokenizer, request.benchmarks)
        except BenchmarkError as error:
            seen.scores_problem = str(error)
    seen.seconds = time.monotonic() - began
    return seen


def let_end(
    model: Any, tokenizer: Any, request: ProbeRequest, tuned: Seen, before: Seen | None
) -> None:
    """Give each answer more time that is not at its end where the base model's is.

    Who was taught long answers gives long answers. The first that does not end then either decides
    the verdict, so that no other has to be waited for.
    """
    import torch  # noqa: PLC0415 - loaded with the model

    others = before.answers if before is not None else []
    for place, (answer, other) in enumerate(zip(tuned.answers, others, strict=False)):
        if answer.stopped is not False or not other.stopped:
            continue
        if request.max_new_tokens < LONG_ENOUGH:
            with torch.inference_mode():
                longer, _ = _generate(model, tokenizer, request.prompts[place], LONG_ENOUGH)
            tuned.answers[place] = longer
        if tuned.answers[place].stopped is False:
            return


def _within(model: Any, asked: int, limit: int) -> int:
    """New tokens that the model has positions for after those `asked`, at most `limit`."""
    positions = _positions(model)
    return max(1, min(limit, positions - asked)) if positions else limit


def _positions(model: Any) -> int | None:
    """How long a text may be; a model that learnt a vector for each place has no more."""
    found = getattr(model.config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def difference(tuned: Seen, base: Seen) -> float | None:
    """The largest difference of any logit; None where the two cannot be compared."""
    pairs = list(zip(tuned.logits, base.logits, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return None
    value = max(float((one - other).abs().max()) for one, other in pairs)
    return value if value == value else None  # noqa: PLR0124 - NaN is reported as not finite


def _generate(model: Any, tokenizer: Any, prompt: str, limit: int) -> "tuple[Answer, torch.Tensor]":
    """Greedy, so that the same model gives the same answer."""
    import torch  # noqa: PLC0415 - loaded with the model

    inputs = encode(tokenizer, prompt).to(model.device)
    output = model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        max_new_tokens=_within(model, int(inputs["input_ids"].shape[1]), limit),
        pad_token_id=_padding(model, tokenizer),
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    finite = all(bool(torch.isfinite(step).all()) for step in output.logits)
    # A vocabulary may hold a token of any length.
    text = tokenizer.decode(new, skip_special_tokens=True).strip()[:LONGEST_ANSWER]
    ends = _ends(model)
    stopped = new[-1] in ends if ends and new else None
    first = output.logits[0][0].float().cpu()
    return Answer(text=text, tokens=new, finite=finite, stopped=stopped), first


def _ends(model: Any) -> list[int]:
    """The tokens that end an answer."""
    end = model.generation_config.eos_token_id
    return end if isinstance(end, list) else [] if end is None else [end]


def _padding(model: Any, tokenizer: Any) -> int | None:
    """Without one the library prints a warning for every prompt; nothing is padded here."""
    known = (tokenizer.pad_token_id, *_ends(model))
    return next((int(token) for token in known if token is not None), None)


def reference_losses(model: Any, tokenizer: Any) -> list[float]:
    """Of each token of the trainer's texts but the first of each."""
    import torch  # noqa: PLC0415 - loaded with the model

    with torch.inference_mode():
        return [
            float(value) for text in TEXTS for value in _nats(model, tokenizer(text).input_ids, 1)
        ]


def _losses(model: Any, tokenizer: Any, rows: list[HeldOutRow]) -> tuple[list[RowLoss], list[str]]:
    """Of each row that is left within the length limit, and what is wrong with those refused.

    Raises RowError where all are.
    """
    found: list[RowLoss] = []
    refused: list[str] = []
    for row in rows:
        try:
            examples = examples_in(tokenizer, row)
        except RefusedError as error:
            refused.append(str(error))
            continue
        parts = [part for example in examples for part in _trained(model, example)]
        if parts:
            found.append(RowLoss(tokens=len(parts), nats=sum(parts)))
    if refused and len(refused) == len(rows):
        raise RowError(refused[0])
    return found, refused


def _trained(model: Any, example: Example) -> list[float]:
    """What predicting each token costs that the trainer would train."""
    longest = min(LONGEST_ROW, _positions(model) or LONGEST_ROW)
    ids, counts = example.ids[:longest].tolist(), example.trained[1:longest].tolist()
    if True not in counts:
        return []
    first = counts.index(True)
    nats = _nats(model, ids, first + 1).tolist()
    return [cost for cost, counted in zip(nats, counts[first:], strict=True) if counted]


def _nats(model: Any, ids: list[int], start: int) -> "torch.Tensor":
    """What predicting each token from `start` on costs."""
    import torch  # noqa: PLC0415 - loaded with the model

    inputs = torch.tensor([ids], device=model.device)
    logits = model(input_ids=inputs).logits[0, start - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, inputs[0, start:], reduction="none")
