"""What a flag that is not there was meant to be."""

import argparse
import difflib
from typing import NoReturn

from typing_extensions import override

_ELSEWHERE = {
    "--cutoff-len": "--max-seq-length",
    "--dataset": "--dataset-path",
    "--dataset-name": "--dataset-path",
    "--load-in-8bit": "--method qlora, which is 4 bit",
    "--lora-r": "--lora-rank",
    "--lr": "--learning-rate",
    "--max-length": "--max-seq-length",
    "--model": "--model-id",
    "--model-name-or-path": "--model-id",
    "--num-train-epochs": "--epochs",
    "--per-device-train-batch-size": "--batch-size",
    "--resume-from-checkpoint": "the same command again, which continues",
    "--train-file": "--dataset-path",
    "--use-peft": "--method lora",
}
"""Names that the command lines of transformers, TRL and LLaMA-Factory have, and their like here."""

_UNKNOWN = "unrecognized arguments: "


class HelpfulParser(argparse.ArgumentParser):
    """Says of what it does not know what would be right."""

    @override
    def error(self, message: str) -> NoReturn:
        if message.startswith(_UNKNOWN):
            words = message.removeprefix(_UNKNOWN).split()
            known = [flag for action in self._actions for flag in action.option_strings]
            hints = [hint for word in words if (hint := hint_for(word, known))]
            message = "; ".join([message, *(hints or ["see --help for the flags there are"])])
        super().error(message)


def hint_for(word: str, known: list[str]) -> str | None:
    """What to type in place of a word that is no flag; None where nothing comes near."""
    if word.lower() in ("true", "false"):
        return f"a flag that is on or off takes no {word}: --name sets it, --no-name clears it"
    if not word.startswith("--"):
        return None
    flag = word.partition("=")[0].replace("_", "-")
    if flag in known:
        return f"{flag} is written with hyphens"
    found = _ELSEWHERE.get(flag) or next(iter(difflib.get_close_matches(flag, known, n=1)), None)
    return f"for {flag} give {found}" if found else None
