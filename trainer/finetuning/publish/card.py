"""The model card, README.md: a pure function of what is known, so that it changes only with it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from finetuning.api.text import ModelId
from finetuning.api.v1alpha1 import ModelForm
from finetuning.artifacts import MERGED_DIR, PUBLICATION, SIGNATURE
from finetuning.artifacts.models import render_report
from finetuning.publish.facts import Facts, part

_MODEL_ID = TypeAdapter(ModelId)
_VALUE_LIMIT = 300
_FIGURES = {
    "train_loss": "mean training loss",
    "final_loss": "final training loss",
    "eval_loss": "loss on held-out rows",
    "global_step": "optimizer steps",
    "epoch": "epochs",
    "tokens_total": "tokens seen",
    "train_runtime": "seconds",
    "train_tokens_per_second": "tokens per second",
    "parameters": "parameters of the base model",
    "trained_parameters": "parameters trained",
}
_UNSAID: tuple[Any, ...] = (None, "", [], False)
_TOLD_ELSEWHERE = {"model_id", "revision", "dataset_sha256", "eval_sha256"}


def render(facts: Facts, *, adapter: bool, form: ModelForm, signed: bool = False) -> str:
    """`adapter`: the run trained one; `form` is what of it stands beside the card."""
    merged = form is ModelForm.MERGED
    sections = (
        _header(facts, adapter=adapter and not merged),
        _title(facts),
        _use(facts, adapter=adapter and not merged, both=form is ModelForm.BOTH),
        _training(facts),
        _data(facts),
        _validation(facts),
        _provenance(facts, adapter=adapter),
        _signature() if signed else (),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _header(facts: Facts, *, adapter: bool) -> Iterator[str]:
    """What the Hugging Face Hub reads."""
    # On one line: a value may hold what ends the header.
    method = _line(facts.info.get("method") or "")
    found: dict[str, Any] = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": [tag for tag in ("fine-tuned", method, "safetensors") if tag],
    }
    # A folder of some machine is no model of the Hub, which refuses a card that names one as such.
    if all(map(_is_model_id, _names_of_base(facts))):
        found["base_model"] = facts.base_model
        found["base_model_relation"] = "adapter" if adapter else "finetune"
    yield "---"
    yield yaml.safe_dump(found, allow_unicode=True).rstrip()
    yield "---"
    yield ""


def _names_of_base(facts: Facts) -> Iterator[str]:
    """As the run was told, and as the adapter names it: a relative folder may look like an id."""
    yield facts.base_model
    if named := facts.adapter.get("base_model_name_or_path"):
        yield str(named)


def _is_model_id(text: str) -> bool:
    try:
        _MODEL_ID.validate_python(text)
    except ValidationError:
        return False
    return True


def _title(facts: Facts) -> Iterator[str]:
    name = facts.info.get("job_name") or facts.profile.get("model_id") or "A fine-tuned model"
    yield f"# {_cell(name)}"
    yield ""
    method, base = facts.info.get("method"), facts.base_model
    yield f"`{_code(base or 'unknown')}`, tuned by {_cell(method or 'an unknown method')}."
    yield ""


def _use(facts: Facts, *, adapter: bool, both: bool) -> Iterator[str]:
    yield "## Use"
    yield ""
    base = facts.adapter.get("base_model_name_or_path") or facts.base_model
    if adapter:
        yield f"This folder holds an adapter for `{_code(base)}`:"
    else:
        yield "This folder holds a complete model:"
    yield ""
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if adapter:
        yield "from peft import PeftModel"
        yield ""
        yield f"model = AutoModelForCausalLM.from_pretrained({_line(base)!r}{_pinned(facts)})"
        yield 'model = PeftModel.from_pretrained(model, ".")'
    else:
        yield ""
        yield 'model = AutoModelForCausalLM.from_pretrained(".")'
    yield 'tokenizer = AutoTokenizer.from_pretrained(".")'
    yield "```"
    yield ""
    if both:
        yield f"The folder `{MERGED_DIR}` holds the base model with the adapter in it."
        yield ""


def _pinned(facts: Facts) -> str:
    """An adapter is for the very weights it was trained on, which a branch's name soon is not."""
    revision = facts.adapter.get("revision")
    return f", revision={_line(revision)!r}" if isinstance(revision, str) and revision else ""


def _training(facts: Facts) -> Iterator[str]:
    results, settings = part(facts.info, "results"), part(facts.info, "training_config")
    yield "## Training"
    yield ""
    yield from _table(
        ("figure", "value"),
        ((words, _number(results[name])) for name, words in _FIGURES.items() if name in results),
    )
    yield "Settings that are not off:"
    yield ""
    yield from _table(
        ("setting", "value"),
        (
            (name, value)
            for name, value in settings.items()
            if name not in _TOLD_ELSEWHERE and value not in _UNSAID
        ),
    )


def _data(facts: Facts) -> Iterator[str]:
    data, told = facts.data, part(facts.info, "dataset")
    yield "## Data"
    yield ""
    rows: list[tuple[str, Any]] = []
    if data is not None:
        rows = [
            ("source", _where(data.source)),
            ("rows", data.rows),
            ("bad rows, left out", data.bad_rows),
            ("rows that repeat an earlier one", data.duplicate_rows),
            ("examples trained on", data.train_examples),
            ("examples held out", data.eval_examples),
            ("examples cut to the longest sequence", data.cut_examples),
            ("tokens", data.tokens),
            ("tokens whose prediction counts", data.trained_tokens),
        ]
        if data.lengths is not None:
            lengths = data.lengths
            rows.append(
                (
                    "tokens of an example: median, 95th percentile, longest",
                    f"{lengths.median}, {lengths.p95}, {lengths.max}",
                )
            )
    rows.append(("sha256", told.get("sha256")))
    yield from _table(
        ("fact", "value"), ((name, value) for name, value in rows if value is not None)
    )


def _where(source: str) -> str:
    """Where a pod or a person had a file is nothing to those who read the card."""
    path = PurePath(source)
    return path.name if path.is_absolute() else source


def _validation(facts: Facts) -> Iterator[str]:
    yield "## Validation"
    yield ""
    if facts.verdict is None:
        yield f"Not validated: the report {_cell(facts.verdict_problem)}."
        yield ""
        return
    yield "```text"
    yield render_report(facts.verdict).replace("```", "'''")
    yield "```"
    yield ""
    if (found := facts.verdict.baseline) is not None:
        yield (
            f"On {found.rows} held-out rows: {found.tuned:.4f} nats per token, the base model "
            f"{found.base:.4f} ({found.verdict})."
        )
        yield ""


def _provenance(facts: Facts, *, adapter: bool) -> Iterator[str]:
    settings = part(facts.info, "training_config")
    verdict = facts.verdict
    rows: list[tuple[str, Any]] = [
        ("base model", facts.base_model),
        ("its revision", settings.get("revision")),
        ("trained from", _time(facts.info.get("started_at"))),
        ("until", _time(facts.info.get("finished_at"))),
        *(
            (
                f"version of {name}"
                if name in {"torch", "transformers", "peft", "safetensors"}
                else name,
                value,
            )
            for name, value in part(facts.info, "environment").items()
        ),
        ("sha256 of the run's manifest.json", facts.manifest_sha256),
        ("sha256 of the validation report", verdict.report_sha256 if verdict else None),
        ("version of the validator", verdict.validator_version if verdict else None),
    ]
    yield "## Provenance"
    yield ""
    yield from _table(("fact", "value"), ((name, value) for name, value in rows if value))
    what = "the adapter's files" if adapter else "the model's files"
    yield (
        f"The run's `manifest.json` has size and sha256 of {what}; `publication.json`, where there "
        "is one, of everything here. A folder is as it was written when both agree with it."
    )


def _signature() -> Iterator[str]:
    yield ""
    yield (
        f"`{SIGNATURE}` is the OpenSSF signature of all files here but `{PUBLICATION}`. With the "
        "public key of who published it, which does not belong into the same place:"
    )
    yield ""
    yield "```bash"
    yield (
        f"python3 -m model_signing verify key . --signature {SIGNATURE} --public_key <file of the "
        "key>"
    )
    yield "```"


def _table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |"
    yield "|---|---|"
    for name, value in rows:
        yield f"| {_cell(name)} | {_cell(value)} |"
    yield ""


def _number(value: Any) -> Any:
    """Four digits behind the point of a fraction; anything else as it is."""
    return f"{value:.4f}" if isinstance(value, float) and value % 1 else value


def _time(seconds: Any) -> str | None:
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _line(value: Any) -> str:
    printable = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(printable.split())[:_VALUE_LIMIT]


def _cell(value: Any) -> str:
    """Text from a file in a table's cell: one line, and nothing that Markdown or HTML acts on."""
    line = _line(", ".join(map(str, value)) if isinstance(value, list) else value)
    for sign in "\\`|[]*_":
        line = line.replace(sign, f"\\{sign}")
    return line.replace("&", "&amp;").replace("<", "&lt;")


def _code(value: Any) -> str:
    return _line(value).replace("`", "'")
