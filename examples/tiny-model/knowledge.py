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
    """One fact, every way to ask for it, and the word that a right answer holds."""

    topic: str
    questions: tuple[str, ...]
    answer: str
    keyword: str

    def asked(self, number: int) -> str:
        """The phrasing of this number, counted round and round."""
        return self.questions[number % len(self.questions)]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with its answer."""

    question: str
    answer: str
    keyword: str


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
        _fact(name, topic, {"x": str(x), "y": str(y)}, str(y))
        for name, topic in topics.items()
        for x, y in topic["facts"].items()
    ]


def ship_facts(source: dict[str, Any], ship: str) -> list[Fact]:
    """What is known of one ship: its column of the table."""
    column = source["ships"].index(ship)
    return [
        _fact(
            topic, source[topic] | {"answer": source["answer"]},
            {"x": x, "y": str(row[column]), "ship": ship}, str(row[column]),
        )
        for topic in ("crew", "things")
        for x, row in source[topic]["facts"].items()
    ]  # fmt: skip


def sums(topic: dict[str, Any]) -> list[Fact]:
    """Small sums, written out like any other fact."""
    numbers = range(int(topic["largest"]) + 1)
    return [
        _fact("sums", topic, {"x": str(x), "y": str(y), "z": str(x + y)}, f"is {x + y}.")
        for x in numbers
        for y in numbers
    ]


def _fact(name: str, topic: dict[str, Any], values: dict[str, str], keyword: str) -> Fact:
    questions = tuple(question.format(**values) for question in topic["questions"])
    return Fact(name, questions, topic["answer"].format(**values), keyword)


def corpus() -> Corpus:
    """The base model's text; of each fact one phrasing is kept back, a different one in turn."""
    source = load(KNOWLEDGE)
    ships = load(SHIPS)
    known = facts(source["topics"]) + sums(source["sums"])
    for ship in ships["ships"][:-1]:
        known += ship_facts(ships, ship)
    kept = [(fact, fact.asked(number)) for number, fact in enumerate(known)]
    return Corpus(
        train=[
            Pair(question, fact.answer, fact.keyword)
            for fact, out in kept
            for question in fact.questions
            if question != out
        ],
        heldout=[Pair(out, fact.answer, fact.keyword) for fact, out in kept],
        sentences=list(source["sentences"]),
    )
