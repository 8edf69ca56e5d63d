"""What was typed as a Job, and what can be wrong with it before anything is judged."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import find_checkpoints


class UsageError(Exception):
    """What was typed cannot work; one line of text for each mistake."""


@dataclass(frozen=True)
class Job:
    """What to validate and where the report goes."""

    training_info: Path
    model_path: Path
    checkpoint_path: Path | None
    profile_path: Path | None
    output: Path | None
    as_json: bool
    settings: ValidationSettings


def read_arguments(args: argparse.Namespace) -> Job:
    """Flags over $FINETUNING_VALIDATION_CONFIG over defaults; raises UsageError."""
    settings = _settings(args)
    job = Job(
        args.training_info,
        args.model_path,
        args.checkpoint_path,
        args.profile_path,
        args.output,
        args.json,
        settings,
    )
    if mistakes := [*_bad_inputs(job), *_bad_output(job.output)]:
        raise UsageError("\n".join(mistakes))
    return job


def _settings(args: argparse.Namespace) -> ValidationSettings:
    try:
        known = ValidationSettings.from_environment()
        given = {
            "require_all": True if args.require_all else None,
            "base_model_path": args.base_model,
            "max_loss": args.max_loss,
            "prompts": _prompts(args.asked),
            "max_new_tokens": args.max_new_tokens,
            "held_out": None
            if args.held_out is None
            else {**known.held_out.model_dump(), "source": args.held_out},
        }
        if benchmarks := _benchmarks(args, known.benchmarks.tasks):
            given["benchmarks"] = {**known.benchmarks.model_dump(), **benchmarks}
        update = {name: value for name, value in given.items() if value is not None}
        return ValidationSettings.model_validate({**known.model_dump(), **update})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(f"{_flag(first['loc'])}: {first['msg']}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _benchmarks(args: argparse.Namespace, tasks: list[str]) -> dict[str, Any]:
    found = {
        "tasks": args.tasks.split(",") if args.tasks is not None else None,
        "include_path": args.include_path,
        "limit": args.limit,
        "num_fewshot": args.num_fewshot,
        "max_drop": args.max_drop,
    }
    given = {name: value for name, value in found.items() if value is not None}
    if given and not tasks and "tasks" not in given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise UsageError(f"{flag}: is about benchmarks; name them with --tasks, or leave it out")
    return given


def _prompts(asked: list[tuple[str, str]] | None) -> list[dict[str, Any]] | None:
    """Each --expect goes to the --prompt before it."""
    if asked is None:
        return None
    prompts: list[dict[str, Any]] = []
    for kind, text in asked:
        if kind == "prompt":
            prompts.append({"prompt": text, "expected_keywords": []})
        elif prompts:
            prompts[-1]["expected_keywords"].append(text)
        else:
            raise UsageError("--expect: give the --prompt that it belongs to first")
    return prompts


def _bad_inputs(job: Job) -> list[str]:
    """Where everything is required the paths are the operator's: what is missing fails a check."""
    if job.settings.require_all:
        return []
    checkpoints = find_checkpoints(job.checkpoint_path, job.model_path)
    profile = job.profile_path
    wrong = {
        "--training-info": None if job.training_info.is_file() else job.training_info,
        "--model-path": None if job.model_path.is_dir() else job.model_path,
        "--checkpoint-path": None if not checkpoints or checkpoints.is_dir() else checkpoints,
        "--profile-path": None if not profile or profile.is_file() else profile,
        "--base-model": _bad_folder(job.settings.base_model_path),
        "--held-out": _bad_file(job.settings.held_out.source),
        "--include-path": _bad_folder(job.settings.benchmarks.include_path),
    }
    kinds = {"--training-info": "file", "--profile-path": "file", "--held-out": "file"}
    return [
        f"{flag}: there is no {kinds.get(flag, 'folder')} {path}; {_remedy(flag)}"
        for flag, path in wrong.items()
        if path is not None
    ]


def _bad_folder(path: str | None) -> str | None:
    return None if path is None or Path(path).is_dir() else path


def _flag(place: tuple[int | str, ...]) -> str:
    """Of the setting that is wrong; a part of the benchmarks has a flag of its own."""
    name = str(place[1] if place[0] == "benchmarks" and place[1:] else place[0])
    return "--" + name.replace("_", "-").replace("prompts", "prompt")


def _bad_file(path: str | None) -> str | None:
    return None if path is None or Path(path).is_file() else path


def _remedy(flag: str) -> str:
    remedies = {
        "--training-info": "the trainer writes training_info.json when it has finished",
        "--model-path": "give the trainer's --output-dir",
        "--checkpoint-path": "the trainer keeps them in <output>/checkpoints",
        "--profile-path": "the trainer writes <output>/aim_profile.json when it has finished",
        "--base-model": "give the folder that holds its config.json",
        "--held-out": "give a .jsonl, .json, .csv or .parquet file with rows like those trained on",
        "--include-path": "give the folder with the *.yaml files of the tasks",
    }
    return remedies[flag]


def _bad_output(path: Path | None) -> list[str]:
    """Known before a large model is loaded for nothing."""
    if path is None:
        return []
    if path.suffix in (".json", ".html"):
        return [
            f"--output {path}: this is the text report; JSON and HTML go beside it by themselves"
        ]
    if path.is_dir():
        return [f"--output {path}: is a folder; name a file in it"]
    if not path.parent.is_dir():
        return [f"--output {path}: there is no folder {path.parent}; make it first"]
    if not os.access(path.parent, os.W_OK):
        return [f"--output {path}: the folder {path.parent} cannot be written to"]
    return []
