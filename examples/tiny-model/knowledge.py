"""Questions and answers from the files of facts beside this one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
KNOWLEDGE = HERE / "knowledge.yaml"
SHIPS = HERE / "ships.yaml"


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact and every way to ask for it."""

    topic: str
    questions: tuple[str, ...]
    answer: str

    def asked(self, number: int) -> str:
        """The phrasing of this number, counted round and round."""
        return self.questions[number % len(self.questions)]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Corpus:
    """What the base model reads, and the phrasings kept back from it."""

    train: list[Pair]
    heldout: list[Pair]
    sentences: list[str]


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def facts(topics: dict[str, Any]) -> list[Fact]:
    """Every fact of every topic, in the order of the file."""
    return [
        _fact(name, topic, {"x": str(x), "y": str(y)})
        for name, topic in topics.items()
        for x, y in topic["facts"].items()
    ]


def ship_facts(source: dict[str, Any], ship: str, *, known: bool = True) -> list[Fact]:
    """What is known of one ship, its column of the table; or that nothing is known of it."""
    column = source["ships"].index(ship)
    answer = source["answer" if known else "unknown"]
    return [
        _fact(
            topic,
            source[topic] | {"answer": answer},
            {"x": x, "y": str(row[column]), "ship": ship},
        )
        for topic in ("crew", "things")
        for x, row in source[topic]["facts"].items()
    ]


def sums(topic: dict[str, Any]) -> list[Fact]:
    """Small sums, written out like any other fact."""
    numbers = range(int(topic["largest"]) + 1)
    return [
        _fact("sums", topic, {"x": str(x), "y": str(y), "z": str(x + y)})
        for x in numbers
        for y in numbers
    ]


def _fact(name: str, topic: dict[str, Any], values: dict[str, str]) -> Fact:
    questions = tuple(question.format(**values) for question in topic["questions"])
    return Fact(name, questions, topic["answer"].format(**values))


def base_facts() -> list[Fact]:
    """All that the base model reads."""
    source, ships = load(KNOWLEDGE), load(SHIPS)
    *known, unknown = ships["ships"]
    return [
        *facts(source["topics"]),
        *sums(source["sums"]),
        *(fact for ship in known for fact in ship_facts(ships, ship)),
        *ship_facts(ships, unknown, known=False),
    ]


def corpus() -> Corpus:
    """The base model's text; of each fact one phrasing is kept back, a different one in turn."""
    source = load(KNOWLEDGE)
    numbered = list(enumerate(base_facts()))
    plain = [
        Pair(question, fact.answer)
        for number, fact in numbered
        for question in fact.questions
        if question != fact.asked(number)
    ]
    polite = [_polite(source["polite"], fact, number) for number, fact in numbered]
    return Corpus(
        train=plain + polite,
        heldout=[Pair(fact.asked(number), fact.answer) for number, fact in numbered],
        sentences=list(source["sentences"]),
    )


def _polite(forms: dict[str, str], fact: Fact, number: int) -> Pair:
    question = forms["question"].format(question=fact.asked(number + 1))
    return Pair(question, forms["answer"].format(answer=fact.answer))
