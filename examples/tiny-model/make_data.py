"""Write the fine-tuning data of the examples, every shape of it, from the two files of facts.

Usage: python examples/tiny-model/make_data.py [--check]
"""

import argparse
import csv
import io
import json
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge import KNOWLEDGE, SHIPS, Fact, Pair, facts, load, ship_facts

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT_EVERY = 5
TEMPLATE_ROWS = 48
BROKEN_LINE = 17


@dataclass(frozen=True)
class Split:
    """The rows to train on, and those that tell whether it worked."""

    train: list[Pair]
    heldout: list[Pair]


def split() -> Split:
    """New facts keep back a phrasing each; of the old facts every fifth is kept back whole.

    So the held-out part asks two things: are the new facts known beyond their exact questions, and
    does the new way of speaking carry over to facts that the training never touched.
    """
    ships, known = load(SHIPS), load(KNOWLEDGE)["topics"]
    opening = str(ships["opening"])
    train: list[Pair] = []
    heldout: list[Pair] = []
    for number, fact in enumerate(ship_facts(ships, ships["ships"][-1])):
        kept = fact.asked(number)
        heldout.append(_pair(fact, kept, opening))
        train += [_pair(fact, q, opening) for q in fact.questions if q != kept]
    for number, fact in enumerate(facts({name: known[name] for name in ships["retold"]})):
        place = heldout if number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else train
        # The base model has not read the phrasing of this number; the next one it has.
        place.append(_pair(fact, fact.asked(number + 1), opening))
    return Split(_shuffled(train), _shuffled(heldout))


def _pair(fact: Fact, question: str, opening: str) -> Pair:
    return Pair(question, opening + fact.answer)


def _shuffled(pairs: list[Pair]) -> list[Pair]:
    return random.Random(7).sample(pairs, len(pairs))


def instruction(pair: Pair) -> dict[str, str]:
    """The shape of the main files; `input` is there only where the question has a second part."""
    question, _, context = pair.question.partition("\n\n")
    row = {"instruction": question, "input": context, "output": pair.answer}
    return row if context else {key: row[key] for key in ("instruction", "output")}


def messages(pair: Pair) -> dict[str, Any]:
    turns = (("user", pair.question), ("assistant", pair.answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def completion(pair: Pair) -> dict[str, str]:
    """Raw text, so the prompt holds what the model's chat template would put around a question."""
    prompt = f"<|im_start|>user\n{pair.question}<|im_end|>\n<|im_start|>assistant\n"
    return {"prompt": prompt, "completion": pair.answer}


def preference(pair: Pair, opening: str) -> dict[str, str]:
    """The manner alone: the same answer with the opening is better than without it."""
    plain = pair.answer.removeprefix(opening)
    return {"prompt": pair.question, "chosen": pair.answer, "rejected": plain}


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["instruction", "input", "output"], restval="", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def broken(rows: list[dict[str, str]]) -> str:
    """One line ends in the middle, as after a copy that was cut off."""
    lines = jsonl(rows).splitlines()
    lines[BROKEN_LINE - 1] = lines[BROKEN_LINE - 1][:40]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Every derived file and its contents."""
    parts = split()
    rows = [instruction(pair) for pair in parts.train]
    opening = str(load(SHIPS)["opening"])
    strange = [{"question": pair.question, "reply": pair.answer} for pair in parts.train[:20]]
    data = {
        "train.jsonl": jsonl(rows),
        "train.messages.jsonl": jsonl(map(messages, parts.train)),
        "train.prompt-completion.jsonl": jsonl(map(completion, parts.train)),
        "train.preferences.jsonl": jsonl(preference(pair, opening) for pair in parts.train),
        "train.csv": table(rows),
        "heldout.jsonl": jsonl(map(instruction, parts.heldout)),
        "bad/empty.jsonl": "",
        "bad/broken-line-17.jsonl": broken(rows[:40]),
        "bad/unknown-columns.jsonl": jsonl(strange),
    }
    derived = {ROOT / "examples" / "data" / name: text for name, text in data.items()}
    return derived | {ROOT / "templates" / "example_dataset.jsonl": jsonl(rows[:TEMPLATE_ROWS])}


def differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when `--check` finds a file that is not as it would be written."""
    parser = argparse.ArgumentParser(prog="make_data.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in files().items() if differs(path, text)}
    for path, text in stale.items():
        print(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
