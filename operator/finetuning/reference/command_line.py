"""Every command with its options, read from the parsers that run.

Not the text of `--help`: its layout depends on Python's version and the terminal's width.
"""

# ruff: noqa: SLF001 - argparse tells what a parser knows through no other names.

import argparse
from collections.abc import Iterable, Iterator, Sequence

from finetuning.base import options, torchrun
from finetuning.cli.__main__ import parser as finetuning
from finetuning.controller.command import parser as controller
from finetuning.monitoring import metrics_server
from finetuning.monitoring.validators import command_line as validate_job
from finetuning.publish import arguments as publish
from finetuning.reference.cells import cell

_LEFT_OUT = (argparse._HelpAction, argparse._SubParsersAction)


def reference() -> Iterator[str]:
    """Lines of the page: the command line first, then what the containers run."""
    yield from _family(finetuning())
    modules = (
        options.command_line(),
        torchrun.command_line(),
        validate_job.command_line(),
        metrics_server.command_line(),
        publish.parser(),
        controller(),
    )
    for parser in modules:
        yield from _chapter(parser)


def _family(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A parser with commands of its own, and these."""
    yield from _chapter(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                command.prog = f"{parser.prog} {name}"
                helps = (each.help for each in action._choices_actions if each.dest == name)
                yield from _chapter(command, otherwise=f"{next(helps)}.".capitalize())


def _chapter(parser: argparse.ArgumentParser, otherwise: str = "") -> Iterator[str]:
    title = parser.prog.removeprefix("python3 -m ").removeprefix("python -m ")
    about = " ".join((parser.description or otherwise).split())
    yield from (f"## {title}", "", cell(about), "", "```text", _usage(parser), "```", "")
    own = (parser._positionals, parser._optionals)
    yield from _table(parser, [action for group in own for action in group._group_actions])
    for group in parser._action_groups:
        if group not in own:
            yield from (f"**{group.title}**", "")
            yield from _table(parser, group._group_actions)
    if parser.epilog:
        yield from ("```text", parser.epilog.rstrip(), "```", "")


def _usage(parser: argparse.ArgumentParser) -> str:
    """On one line, the options without their names."""
    if parser.usage:
        return parser.usage % {"prog": parser.prog}
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
        return f"{parser.prog} COMMAND ..."
    told = _told(parser._actions)
    required = [_shown(parser, a) for a in told if a.option_strings and a.required]
    optional = any(a.option_strings and not a.required for a in told)
    places = [_shown(parser, a) for a in told if not a.option_strings]
    return " ".join([parser.prog, *required, *["[options]"] * optional, *places])


def _table(parser: argparse.ArgumentParser, actions: Iterable[argparse.Action]) -> Iterator[str]:
    if told := _told(actions):
        yield from ("| argument | meaning |", "|---|---|")
        yield from (f"| {_names(parser, a)} | {cell(_help(parser, a))} |" for a in told)
        yield ""


def _told(actions: Iterable[argparse.Action]) -> Sequence[argparse.Action]:
    return [a for a in actions if not isinstance(a, _LEFT_OUT) and a.help != argparse.SUPPRESS]


def _names(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """All spellings, the last one with its value."""
    *others, last = action.option_strings or [""]
    value = _value(parser, action)
    names = (*others, f"{last} {value}".strip())
    return ", ".join(f"`{name}`".replace("|", "\\|") for name in names)


def _shown(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return " ".join([*action.option_strings[-1:], _value(parser, action)]).strip()


def _value(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    name = action.dest.upper() if action.option_strings else action.dest
    return parser._get_formatter()._format_args(action, name)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""
