"""What the tests of the check model_output have in common."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetuning.monitoring.validators.settings import Question, ValidationSettings
from finetuning.monitoring.validators.subject import Subject, subject

RunOf = Callable[[str], Path]
QUESTION = "What is the capital of Peru ?"


def subject_of(output: Path, **settings: Any) -> Subject:
    return subject(
        output / "training_info.json", output, None, None, ValidationSettings(**settings)
    )


def asking(*keywords: str) -> list[Question]:
    return [Question(prompt=QUESTION, expected_keywords=list(keywords))]


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
