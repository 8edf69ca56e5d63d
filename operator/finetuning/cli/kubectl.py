"""`kubectl_complete-finetune`: kubectl runs it while somebody types `kubectl finetune …`.

It gets the words after `kubectl finetune`, the last of them unfinished, and prints what that may
become, each with its help behind a tab, and in the end how the shell goes on.
"""

import io
import os
import re
import sys
from collections.abc import Sequence

from finetuning.cli.__main__ import parser

_NO_FILES, _NO_SPACE = 4, 2
"""The directives of kubectl's completion: the shell adds neither names of files nor a space."""
_ASKED = {
    "_ARGCOMPLETE": "1",
    # Words as they are, with their descriptions: fish is asked for the same.
    "_ARGCOMPLETE_SHELL": "fish",
    "_ARGCOMPLETE_DFS": "\t",
    "_ARGCOMPLETE_IFS": "\n",
    "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    found = completions(words)
    unfinished = any(each.partition("\t")[0].endswith(("/", "=")) for each in found)
    directive = _NO_FILES | (_NO_SPACE if unfinished else 0)
    sys.stdout.write("\n".join([*found, f":{directive}"]) + "\n")
    return 0


def completions(words: Sequence[str]) -> list[str]:
    """What the last of the words may become."""
    import argcomplete  # noqa: PLC0415 - only while a shell completes

    line = " ".join(["finetuning", *map(_escaped, words)])
    os.environ |= {**_ASKED, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    told = io.StringIO()
    argcomplete.autocomplete(
        parser(), always_complete_options=False, exit_method=lambda _: None, output_stream=told
    )
    return [each.rstrip("\t") for each in told.getvalue().split("\n") if each]


def _escaped(word: str) -> str:
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", word)


if __name__ == "__main__":
    sys.exit(main())
