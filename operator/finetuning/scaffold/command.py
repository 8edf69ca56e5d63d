"""`finetuning init`: gather the answers, check the manifest, write it, say what comes next."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from finetuning.artifacts.files import write_atomic
from finetuning.scaffold import data
from finetuning.scaffold.answers import Answers
from finetuning.scaffold.ask import ask
from finetuning.scaffold.checked import RULE, problems
from finetuning.scaffold.data import DataError
from finetuning.scaffold.page import page

STDOUT = Path("-")
FAILED, WRONG, INTERRUPTED = 1, 2, 130
_NEEDED = ("model", "data")


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed; `said` names the fields that were given, and so are not asked for."""

    output: Path
    answers: Answers
    said: frozenset[str]
    force: bool = False


def main(options: Options) -> int:
    """0 written, 1 it cannot be written, 2 something is wrong or missing, 130 interrupted."""
    if (wrong := _in_the_way(options)) is not None:
        return _complain(wrong)
    answers = options.answers
    if sys.stdin.isatty() and options.output != STDOUT:
        try:
            answers = ask(answers, options.said)
        except (EOFError, KeyboardInterrupt):
            sys.stderr.write("\n")
            return INTERRUPTED
    elif missing := [f"--{field}" for field in _NEEDED if field not in options.said]:
        return _complain(f"{' and '.join(missing)} must be given where nobody can be asked")
    return _write(options, answers)


def _in_the_way(options: Options) -> str | None:
    if options.output == STDOUT or options.force or not options.output.exists():
        return None
    return f"{options.output} exists; name another file, or replace it with --force"


def _write(options: Options, answers: Answers) -> int:
    try:
        answers, file = data.placed(answers)
    except DataError as error:
        return _complain(f"--data {error}")
    if wrong := problems(answers):
        return _complain(*(f"{_option(each)}{told}" for each, told in wrong.items()))
    text = page(answers)
    if options.output == STDOUT:
        sys.stdout.write(text)
        if file is not None:
            sys.stderr.write(f"its rows: {_rows_step(answers, file)}\n")
        return 0
    try:
        write_atomic(options.output, text.encode())
    except OSError as error:
        _complain(f"{options.output}: {error.strerror}")
        return FAILED
    sys.stdout.write("\n".join(next_steps(options.output, answers, file)) + "\n")
    return 0


def _option(name: str) -> str:
    return "" if name == RULE else f"--{name} "


def next_steps(manifest: Path, answers: Answers, file: Path | None) -> list[str]:
    """What to type now, beginning with the data when it is a file of this machine."""
    name, where = shlex.quote(str(manifest)), answers.namespace
    space = f" -n {where}" if where else ""
    told, here = [f"wrote {manifest}", "", "Next:"], ""
    if file is not None:
        told.append(f"  {_rows_step(answers, file)}")
        here = f" --configmap {data.config_map(answers)}={shlex.quote(str(file))}"
    return [
        *told,
        f"  finetuning estimate {name} --gpu MI300X   # will it fit?",
        f"  finetuning submit {name} --wait{space}",
        "",
        "Without a cluster:",
        f"  finetuning run {name}{here}",
    ]


def _rows_step(answers: Answers, file: Path) -> str:
    """What brings a file of this machine into the cluster."""
    space = f" -n {answers.namespace}" if answers.namespace else ""
    source = shlex.quote(str(file))
    return f"kubectl create configmap {data.config_map(answers)} --from-file={source}{space}"


def _complain(*lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"finetuning: {line}\n")
    return WRONG
