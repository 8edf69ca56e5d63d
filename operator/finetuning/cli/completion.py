"""`finetuning completion`: its arguments."""

import argparse
import sys

EXAMPLES = """\
examples:
  source <(finetuning completion bash)
      In this shell; put the line into ~/.bashrc for every shell. Names of jobs are asked of the
      cluster while you type.

  source <(finetuning completion zsh)
      For zsh, in ~/.zshrc below compinit.

  finetuning completion fish > ~/.config/fish/completions/finetuning.fish
      For fish.

exit codes:
  0 printed     2 wrong usage
"""
HELP = "completion for bash, zsh or fish"
DESCRIPTION = "Print what makes a shell complete commands, options and the names of jobs."


def add_arguments(completion: argparse.ArgumentParser) -> None:
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


def execute(given: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - help needs it not

    # zsh understands bash's code, which tells the two apart by itself.
    shell = "bash" if given.shell == "zsh" else given.shell
    sys.stdout.write(shellcode(["finetuning"], shell=shell) + "\n")
    return 0
