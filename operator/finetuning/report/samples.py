"""How the answers to the held-out prompts changed while the model learnt."""

from collections.abc import Iterable, Sequence

from finetuning.artifacts.history import SampleLine
from finetuning.report.files import brief
from finetuning.report.markup import Node, table

_MOST_QUESTIONS = 16


def shown(lines: Sequence[SampleLine]) -> Node:
    """A row for each question: what the data says, and the answers of up to three evaluations."""
    steps = first_middle_last({line.step for line in lines})
    # A step that was done again after a resume counts with its later answer.
    said = {(line.number, line.step): line for line in lines}
    questions = {line.number: line for line in lines}
    columns = {"Prompt": "said", "In the data": "said"}
    columns |= {f"After step {step:,}": "said" for step in steps}
    return table(
        columns,
        [
            (
                brief(question.prompt),
                brief(question.expected),
                *(_answer(said.get((number, step))) for step in steps),
            )
            for number, question in sorted(questions.items())[:_MOST_QUESTIONS]
        ],
    )


def first_middle_last(steps: Iterable[int]) -> list[int]:
    """At most three of them, in order."""
    found = sorted(steps)
    return sorted({found[0], found[len(found) // 2], found[-1]})


def _answer(line: SampleLine | None) -> str:
    if line is None:
        return "—"
    return brief(line.answer) + (" …" if line.cut else "")
