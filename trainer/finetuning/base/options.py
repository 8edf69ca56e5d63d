"""The command line: flags made from the API models, merged with the files and the environment.

One precedence: a flag beats the `--config` file, which beats $FINETUNING_RUN_CONFIG, which beats
the default.
"""

import argparse
import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from finetuning.api.hyperparameters import Hyperparameters, LoraConfig, QuantizationConfig
from finetuning.api.run_config import ENV, DatasetConfig, RunConfig
from finetuning.base.errors import ConfigError
from finetuning.base.unknown_flags import HelpfulParser

DEFAULT_METRICS_PORT = 8000
CONFIG_MAX_BYTES = 1 << 20

EXAMPLES = """examples:
  Train a LoRA adapter, with live metrics on http://localhost:8000/metrics:
    python3 -m finetuning.base.app --model-id Qwen/Qwen2.5-7B-Instruct \\
      --dataset-path templates/example_dataset.jsonl --output-dir ./output \\
      --method lora --enable-metrics --metrics-port 8000

  The same from a file, with another learning rate:
    python3 -m finetuning.base.app --config run.json --learning-rate 1e-4

  Continue after Ctrl-C, a crash or a lost node: type the same command again.

exit codes: 0 done, 1 worth another try, 2 wrong configuration, data or model,
143 saved and stopped after SIGTERM or Ctrl-C
"""


@dataclass(frozen=True)
class Options:
    """What was asked for, from all sources."""

    config: RunConfig
    overwrite: bool = False
    check_data: bool = False
    metrics_port: int | None = None
    """None: no metrics are served."""


@dataclass(frozen=True)
class Flag:
    """One flag and the place of its value in RunConfig."""

    name: str
    path: tuple[str, ...]
    field: FieldInfo
    help: str | None = None

    @property
    def dest(self) -> str:
        return ".".join(self.path)


def _all_of(model: type[BaseModel], prefix: str, skip: tuple[str, ...] = ()) -> Iterator[Flag]:
    for name, field in model.model_fields.items():
        if name not in skip:
            yield Flag("--" + name.replace("_", "-"), (prefix, name), field)


def _run(name: str, text: str) -> Flag:
    field = RunConfig.model_fields[name]
    return Flag("--" + name.replace("_", "-"), (name,), field, text)


def _data(name: str, text: str) -> Flag:
    field = DatasetConfig.model_fields[name]
    prefix = "dataset-" if name in ("path", "format", "columns") else ""
    flag = f"--{prefix}{name.replace('_', '-')}"
    return Flag(flag, ("dataset", name), field, text)


FLAGS: dict[str, list[Flag]] = {
    "model and data": [
        _run("model_id", "Hugging Face model id, or a local folder with a model."),
        _run("model_path", "Folder with the base model; the model id then only names it."),
        _run("revision", "Branch, tag or commit of the model on the Hugging Face Hub."),
        _data(
            "path",
            "File (.jsonl .json .csv .tsv .parquet), folder, s3://bucket/key or hf://org/name.",
        ),
        _data("format", "How the rows are stored; auto goes by the file's name."),
        _data("columns", "Columns by other names, as prompt=question completion=answer."),
        _data("on_bad_rows", "Fail on a row that cannot be trained on, or Skip it."),
        _data("max_bad_row_share", "The largest share of bad rows that Skip bears."),
        _data("eval_source", "Rows to evaluate on, in place of --eval-split."),
        _data("eval_split", "Share of the rows held out for evaluation, chosen by --seed."),
    ],
    "output": [
        _run("output_dir", "Folder for checkpoints and the trained model."),
        _run("state_dir", "Folder for the live state; <output-dir>/state when absent."),
        _run("job_name", "Name of the run in metrics and reports."),
        _run("profile", "Name of the AIM profile to write; auto-generate derives it."),
    ],
    "method": [_run("method", "lora, qlora (4-bit base) or full.")],
    "hyperparameters": list(
        _all_of(Hyperparameters, "hyperparameters", skip=("lora_rank", "lora_alpha"))
    ),
    "adapter (lora, qlora)": [
        Flag("--lora-rank", ("lora_config", "r"), LoraConfig.model_fields["r"]),
        *_all_of(LoraConfig, "lora_config", skip=("r",)),
    ],
    "4-bit base (qlora)": list(_all_of(QuantizationConfig, "quantization_config")),
}

_INERT: dict[tuple[str, ...], Any] = {
    ("lora_config", "bias"): "none",
    ("lora_config", "task_type"): "CAUSAL_LM",
    ("trust_remote_code",): False,
}
"""Keys of older configuration files that say what holds here anyway."""


def parse(argv: list[str] | None, environ: Mapping[str, str] | None = None) -> Options:
    """What `options_of` says of these flags; argparse itself exits with 2 on an unknown one."""
    return options_of(command_line().parse_args(argv), environ)


def options_of(typed: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Options:
    """Flags, file and environment, merged.

    Raises:
        ConfigError: a value is not allowed, or a file cannot be read.
    """
    environ = os.environ if environ is None else environ
    given = vars(typed)
    flags = _nested(given)
    file = _from_file(Path(given["config"])) if "config" in given else {}
    inherited = _from_json(environ[ENV], f"${ENV}") if environ.get(ENV) else {}
    merged = _apply_older_spelling(_merge(_merge(inherited, file), flags))
    config = _validated(merged, given, given.get("config") or f"${ENV}")
    return Options(config, given["overwrite_output_dir"], given["check_data"], _metrics_port(given))


def command_line() -> argparse.ArgumentParser:
    parser = HelpfulParser(
        prog="python3 -m finetuning.base.app",
        usage="%(prog)s --model-id ID --dataset-path PATH [--output-dir DIR] [--method METHOD] ...",
        description="Fine-tune a causal language model with LoRA, QLoRA or in full.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="JSON file with these settings in snake_case or camelCase.",
    )
    groups = {title: parser.add_argument_group(title) for title in FLAGS}
    for title, flags in FLAGS.items():
        for flag in flags:
            _add(groups[title], flag)
    groups["model and data"].add_argument(
        "--check-data",
        action="store_true",
        help="Check every row, write data_report.json and stop before the model is loaded.",
    )
    groups["output"].add_argument(
        "--overwrite-output-dir",
        action="store_true",
        help="Delete the checkpoints and results of an earlier run there, and begin anew.",
    )
    _add_metrics(parser)
    return parser


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("metrics")
    group.add_argument(
        "--enable-metrics", action="store_true", help="Serve Prometheus metrics while training."
    )
    group.add_argument(
        "--metrics-port",
        metavar="PORT",
        default=str(DEFAULT_METRICS_PORT),
        help=f"Port of /metrics, on all addresses. (default: {DEFAULT_METRICS_PORT})",
    )


def _add(group: argparse._ArgumentGroup, flag: Flag) -> None:
    kind = _inner_type(flag.field.annotation)
    text = _help(flag).replace("%", "%%")
    common: dict[str, Any] = {"dest": flag.dest, "default": argparse.SUPPRESS, "help": text}
    if kind is bool:
        group.add_argument(flag.name, action=argparse.BooleanOptionalAction, **common)
    elif get_origin(kind) is list:
        group.add_argument(flag.name, nargs="+", metavar="NAME", **common)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        group.add_argument(flag.name, nargs="+", metavar="NAME=VALUE", type=_pair, **common)
    else:
        group.add_argument(flag.name, metavar=_metavar(kind), **common)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE")
    return name, value


def _help(flag: Flag) -> str:
    text = flag.help or flag.field.description or ""
    default = flag.field.get_default(call_default_factory=False)
    if flag.field.is_required() or default in (None, []):
        return text
    return f"{text} (default: {' '.join(default) if isinstance(default, list) else default})"


def _inner_type(annotation: Any) -> Any:
    if get_origin(annotation) is UnionType:
        return next(part for part in get_args(annotation) if part is not NoneType)
    return annotation


def _metavar(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "{" + ",".join(kind) + "}"
    return {int: "N", float: "X"}.get(kind, "VALUE")


def _metrics_port(given: Mapping[str, Any]) -> int | None:
    text = given["metrics_port"]
    if not text.isdigit() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - the range of ports
        raise ConfigError(f"--metrics-port: {text!r} is not a port; give a number from 1 to 65535")
    return int(text) if given["enable_metrics"] else None


def _nested(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as the nested dictionary that RunConfig reads; `a,b c` names three modules or two."""
    result: dict[str, Any] = {}
    for flag in (flag for flags in FLAGS.values() for flag in flags if flag.dest in given):
        value = given[flag.dest]
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            value = dict(value)
        elif isinstance(value, list):
            value = [name for part in value for name in part.split(",") if name]
        inner = result
        for key in flag.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[flag.path[-1]] = value
    return result


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"--config {path}: {error.strerror}; give the path of a readable JSON file"
        ) from error
    if len(data) > CONFIG_MAX_BYTES:
        raise ConfigError(f"--config {path}: larger than {CONFIG_MAX_BYTES} bytes; is it the data?")
    return _from_json(data, f"--config {path}")


_EXPECTED = 'give one object with settings, such as {"hyperparameters": {"num_epochs": 1}}'


def _from_json(text: str | bytes, source: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid JSON: {error}; {_EXPECTED}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: found a JSON {type(data).__name__}; {_EXPECTED}")
    return _without_inert(_canonical(RunConfig, data))


def _canonical(model: type[BaseModel], data: dict[str, Any]) -> dict[str, Any]:
    """Field names in place of aliases, so that sources in different spellings merge."""
    names = {field.alias: name for name, field in model.model_fields.items() if field.alias}
    result: dict[str, Any] = {}
    for key, value in data.items():
        name = names.get(key, key)
        field = model.model_fields.get(name)
        kind = _inner_type(field.annotation) if field else None
        nested = isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict)
        result[name] = _canonical(kind, value) if nested and kind else value
    return result


def _without_inert(data: dict[str, Any]) -> dict[str, Any]:
    for (*parents, key), harmless in _INERT.items():
        inner: Any = data
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and inner.get(key) == harmless:
            inner.pop(key, None)
    return data


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both and old is not None else value
    return merged


def _apply_older_spelling(data: dict[str, Any]) -> dict[str, Any]:
    """hyperparameters.lora_rank and lora_alpha count where lora_config does not say it itself."""
    hyperparameters, lora = data.get("hyperparameters"), data.get("lora_config", {})
    if not isinstance(hyperparameters, dict) or not isinstance(lora, dict):
        return data
    older = {"r": hyperparameters.get("lora_rank"), "lora_alpha": hyperparameters.get("lora_alpha")}
    update = {key: value for key, value in older.items() if value is not None}
    return {**data, "lora_config": {**update, **lora}}


def _validated(data: dict[str, Any], given: Mapping[str, Any], source: str) -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        problems = [_explain(dict(problem), given, source) for problem in error.errors()]
        raise ConfigError("; ".join(problems)) from error


def _explain(problem: dict[str, Any], given: Mapping[str, Any], source: str) -> str:
    where = tuple(str(part) for part in problem["loc"])
    flag = _flag_at(where)
    if problem["type"] == "missing":
        return f"{_required_flag(where)} is required; see --help"
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return in_flags(problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "extra_forbidden":
        if flag is not None and flag.dest in given:
            return f"{flag.name}: unknown name {where[-1]!r}; known: {_names_in(flag)}"
        return f"{source}: unknown setting {'.'.join(where)!r}{_did_you_mean(where[-1])}"
    by_flag = flag is not None and flag.dest in given
    name = flag.name if flag and by_flag else f"{source}: {'.'.join(where)}"
    wish = problem["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    return f"{name}: {problem['input']!r} is not allowed: {wish}"


def _names_in(flag: Flag) -> str:
    """Those that a flag with NAME=VALUE takes."""
    return ", ".join(_inner_type(flag.field.annotation).model_fields)


def in_flags(text: str) -> str:
    """A rule between settings names fields of the resource; whoever types knows the flags."""
    names = {flag.field.alias: flag.name for flags in FLAGS.values() for flag in flags}
    return re.sub(r"\b[a-zA-Z]{2,}\b", lambda found: names.get(found[0], found[0]), text)


def _required_flag(where: tuple[str, ...]) -> str:
    flag = _flag_at(where) or _flag_at((*where, "path"))
    return flag.name if flag else ".".join(where)


def _flag_at(where: tuple[str, ...]) -> Flag | None:
    """The flag whose value stands at `where`; pydantic names aliases, and list items one deeper."""
    for flag in (flag for flags in FLAGS.values() for flag in flags):
        alias = (*flag.path[:-1], flag.field.alias or flag.path[-1])
        if tuple(_snake(part) for part in where[: len(alias)]) in (
            tuple(_snake(part) for part in alias),
            flag.path,
        ):
            return flag
    return None


def _snake(name: str) -> str:
    return "".join("_" + char.lower() if char.isupper() else char for char in name)


def _did_you_mean(key: str) -> str:
    known = [flag.path[-1] for flags in FLAGS.values() for flag in flags]
    close = difflib.get_close_matches(_snake(key), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; see --help for those there are"
