"""Ask a model the same questions before and after fine-tuning, and show both answers.

Usage: python examples/ask.py --base DIR (--adapter DIR | --model DIR) --prompts FILE [--show N]

The prompts are a .jsonl file of `instruction` (and `input`) or `prompt`; where a row has an
`output` or `completion` as well, the answers that equal it are counted.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Read when torch is loaded; waiting threads that spin slow a busy machine down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BATCH = 16


class AskError(Exception):
    """What cannot be asked, and what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and, where it is known, its right answer."""

    text: str
    expected: str | None


def read_questions(path: Path) -> list[Question]:
    """Every row of the prompts file."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    questions = [
        _question(line, f"{path}: line {number}") for number, line in lines if line.strip()
    ]
    if not questions:
        raise AskError(f"--prompts {path} is empty; give one JSON object per line")
    return questions


def _question(line: str, where: str) -> Question:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise AskError(f"{where}: no JSON object: {error}") from error
    text = (row.get("instruction") or row.get("prompt")) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise AskError(f"{where}: needs a column `instruction` or `prompt` with text")
    context = row.get("input")
    expected = row.get("output") or row.get("completion")
    return Question(
        f"{text}\n\n{context}" if context else text, str(expected) if expected else None
    )


def load_base(folder: Path) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def load_adapter(base: "PreTrainedModel", folder: Path) -> Any:
    from peft import PeftModel  # noqa: PLC0415

    return PeftModel.from_pretrained(base, str(folder)).eval()


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def answers(model: Any, tokenizer: "PreTrainedTokenizerBase", questions: list[str]) -> list[str]:
    """Greedy answers, a batch at a time."""
    found: list[str] = []
    for start in range(0, len(questions), BATCH):
        chats = [[{"role": "user", "content": q}] for q in questions[start : start + BATCH]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        ).to(model.device)
        out = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        found += [str(text).strip() for text in texts]
    return found


def table(questions: list[Question], before: list[str], after: list[str]) -> Table:
    """Right answers are green where the right one is known."""
    shown = Table("question", "before", "after", expand=False, show_lines=False)
    for question, *given in zip(questions, before, after, strict=True):
        shown.add_row(Text(question.text), *(Text(a, _style(question, a)) for a in given))
    return shown


def _style(question: Question, answer: str) -> str:
    if question.expected is None:
        return ""
    return "green" if answer == question.expected else "dim"


def right(questions: list[Question], given: list[str]) -> int:
    return sum(q.expected == answer for q, answer in zip(questions, given, strict=True))


def ask(base: Path, adapter: Path | None, model: Path | None, questions: list[Question]) -> Any:
    """Both lists of answers: the base model's and the tuned one's."""
    # What the libraries say about GPUs that are not there would bury the answers.
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    tokenizer = load_tokenizer(base)
    texts = [question.text for question in questions]
    first = load_base(base)
    before = answers(first, tokenizer, texts)
    tuned = load_adapter(first, adapter) if adapter else load_base(model or base)
    return before, answers(tuned, tokenizer, texts)


def _folder_with(name: str) -> Callable[[str], Path]:
    """A folder that holds this file; transformers would look for it on the Hub."""

    def checked(text: str) -> Path:
        if not (Path(text) / name).is_file():
            raise argparse.ArgumentTypeError(f"{text!r} is no folder with a file {name}")
        return Path(text)

    return checked


def _parser() -> argparse.ArgumentParser:
    about = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="ask.py", description=about)
    parser.add_argument(
        "--base", type=_folder_with("config.json"), required=True, help="the base model's folder"
    )
    tuned = parser.add_mutually_exclusive_group(required=True)
    tuned.add_argument(
        "--adapter", type=_folder_with("adapter_config.json"), help="output folder of lora or qlora"
    )
    tuned.add_argument(
        "--model", type=_folder_with("config.json"), help="output folder of full fine-tuning"
    )
    parser.add_argument("--prompts", type=Path, required=True, help="the questions, as .jsonl")
    parser.add_argument("--show", type=int, help="rows in the table; all are counted")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit code 2 when something that is needed is not there."""
    given = _parser().parse_args(arguments)
    try:
        questions = read_questions(given.prompts)
        before, after = ask(given.base, given.adapter, given.model, questions)
    except (AskError, OSError, ValueError) as error:
        print(f"ask: {error}", file=sys.stderr)
        return 2
    shown = given.show or len(questions)
    console = Console()
    console.print(table(questions[:shown], before[:shown], after[:shown]))
    if total := sum(question.expected is not None for question in questions):
        console.print(
            f"Answered word for word as expected: before {right(questions, before)} of {total}, "
            f"after {right(questions, after)} of {total}."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
