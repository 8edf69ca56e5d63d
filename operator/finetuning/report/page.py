"""The page: what a run was, how it went and what came of it, for people who were not there."""

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from importlib.resources import files as package_files
from typing import Any

from finetuning.api.v1alpha1 import Phase
from finetuning.artifacts.data_report import DataReport
from finetuning.artifacts.models import CheckResult
from finetuning.controller.progress import duration
from finetuning.report import curves, samples
from finetuning.report.files import RunFiles, brief, moment, number, phase, stopped
from finetuning.report.markup import Node, el, html, table

_TONES = {Phase.SUCCEEDED: "good", Phase.FAILED: "bad"}
_RESULTS = {CheckResult.PASS: "good", CheckResult.FAIL: "bad", CheckResult.ERROR: "bad"}
_FILES_SHOWN = 200


def page(run: RunFiles, made: datetime, version: str) -> str:
    """The whole document; it needs nothing but itself."""
    style = package_files("finetuning.report").joinpath("style.css").read_text(encoding="utf-8")
    body = el("main", *_head(run, made), *_sections(run), _foot(run, made, version))
    title = f"{_title(run)}: fine-tuning report"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_policy(style)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
    )
    sheet = el("style")
    sheet.text = style
    head.append(sheet)
    return html(el("html", head, el("body", body), lang="en"))


def _policy(style: str) -> str:
    """This one style sheet and nothing else: no script, no address, no form."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _title(run: RunFiles) -> str:
    return brief(run.info.get("job_name") or run.name, 120)


def _head(run: RunFiles, made: datetime) -> Iterator[Node]:
    yield el("h1", _title(run))
    known = [run.info.get("method"), run.info.get("model_id")]
    told = " · ".join(brief(each, 200) for each in known if each)
    yield el("p", told or "Method and model are not recorded yet.", class_="soft")
    yield el("p", *_badges(run, made), class_="badges")
    if (trouble := _trouble(run)) is not None:
        yield trouble
    yield from _of_the_data(run)
    yield el("dl", *_tiles(run), class_="tiles")


def _of_the_data(run: RunFiles) -> Iterator[Node]:
    """What the rows do not teach."""
    if run.data is None:
        return
    notes = {
        "Rows were cut": run.data.ends_cut,
        "No end is trained": run.data.ends_missing,
        "Beginnings are not trained": run.data.beginnings_joined,
    }
    for title, told in notes.items():
        if told:
            yield el("p", el("strong", title), f" {told}", class_="note wait")


def _badges(run: RunFiles, made: datetime) -> Iterator[Node]:
    yield _training(run, made)
    if run.validation is not None:
        told = f"{run.validation.passed}/{run.validation.total} checks passed"
        yield el("span", told, class_=f"badge {'good' if run.validation.ok else 'bad'}")
    else:
        yield el("span", "Not validated", class_="badge wait")


def _training(run: RunFiles, made: datetime) -> Node:
    found, why = phase(run), stopped(run, made.timestamp())
    if found is None:
        return el("span", "Not started", class_="badge wait")
    if why:
        return el("span", f"Training stopped: {why}", class_="badge bad")
    return el("span", f"Training {found.lower()}", class_=f"badge {_TONES.get(found, 'wait')}")


def _trouble(run: RunFiles) -> Node | None:
    if phase(run) is not Phase.FAILED:
        return None
    found = run.status or run.state
    reason, message = (found.reason, found.message) if found is not None else ("", "")
    return el("p", el("strong", reason or "Failed"), f" {message}", class_="note bad", role="alert")


def _tiles(run: RunFiles) -> Iterator[Node]:
    results, status = run.part("results"), run.status
    last = run.history[-1] if run.history else None
    loss = number(results.get("final_loss")) or (last.loss if last else None)
    evals = [line.eval_loss for line in run.history if line.eval_loss is not None]
    # That of the result, which may be the best of all weights and not the last.
    held_out = number(results.get("eval_loss")) or (evals[-1] if evals else None)
    seconds = number(results.get("train_runtime"))
    if seconds is None and run.performance:
        seconds = run.performance[-1].seconds
    done = last.step if last else None
    told = status or run.state
    planned = number(results.get("total_steps")) or (told.total_steps if told else None)
    speed = number(results.get("train_tokens_per_second"))
    if speed is None:
        speed = _mean_speed(run)
    yield _tile("Training loss", _four_digits(loss), "nats per token")
    yield _tile("Held-out loss", _four_digits(held_out), _of_the_best(results))
    yield _tile(
        "Optimizer steps", f"{done:,}" if done else None, f"of {planned:,.0f}" if planned else ""
    )
    yield _tile("Time", duration(seconds) if seconds is not None else None, "training alone")
    yield _tile("Throughput", f"{speed:,.0f}" if speed is not None else None, "tokens per second")


def _mean_speed(run: RunFiles) -> float | None:
    """Tokens per second of all the training so far, as a result would tell it."""
    last = run.performance[-1] if run.performance else None
    if last is None or last.seconds <= 0:
        return None
    return sum(line.tokens for line in run.history if line.step <= last.step) / last.seconds


def _of_the_best(results: Mapping[str, Any]) -> str:
    """Where the weights that were kept are not the last ones."""
    best, last = number(results.get("best_global_step")), number(results.get("global_step"))
    kept = best and best != last and results.get("eval_loss") == results.get("best_eval_loss")
    return f"nats per token, of step {best:,.0f}, which was kept" if kept else "nats per token"


def _four_digits(value: float | None) -> str | None:
    if value is None:
        return None
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.3g}"  # noqa: PLR2004 - too long


def _tile(name: str, value: str | None, about: str) -> Node:
    shown = value if value is not None else "—"
    what = about if value is not None else "not recorded"
    return el(
        "div", el("dt", name), el("dd", shown, el("span", what, class_="soft")), class_="tile"
    )


def _sections(run: RunFiles) -> Iterator[Node]:
    yield _section("How it went", el("div", *curves.figures(run), class_="charts"))
    if run.samples:
        yield _section("Answers while it learnt", samples.shown(run.samples))
    yield _section("Validation", _checks(run))
    yield _section("Answers before and after", _answers(run))
    yield _section("What it was", _cards(run))
    if run.data and run.data.bad:
        yield _section("Rows that were left out", _bad_rows(run.data))
    yield _section("The result", _result(run))


def _section(title: str, content: Node) -> Node:
    return el("section", el("h2", title), content)


def _absent(text: str) -> Node:
    return el("p", text, class_="soft")


def _checks(run: RunFiles) -> Node:
    if run.validation is None:
        return _absent(f"There is no validation report: {_why(run, 'validation/')}.")
    return table(
        {"Result": "", "Check": "", "What was found": "", "Score": "figure"},
        [
            (
                el("span", check.result, class_=f"badge {_RESULTS.get(check.result, 'wait')}"),
                check.name + ("" if check.required else " (not required)"),
                ": ".join(part for part in (check.reason, check.message) if part),
                _four_digits(check.score) or "",
            )
            for check in run.validation.checks
        ],
    )


def _answers(run: RunFiles) -> Node:
    if not run.answers:
        return _absent("The validation asked no questions, or left no report of them.")
    return table(
        {"Question": "said", "Base model": "said", "Tuned model": "said", "Expected words": ""},
        [
            (
                each.prompt,
                each.base_answer or "—",
                each.answer or "—",
                ", ".join(each.expected_keywords) or "—",
            )
            for each in run.answers
        ],
    )


def _cards(run: RunFiles) -> Node:
    settings = run.part("training_config")
    cards = [
        _card("Data", _data(run)),
        _card("Settings", _flat(settings, {"model_id", "method", "dataset_sha256"})),
        _card("Environment", [*_times(run), *_flat(run.part("environment"), set())]),
    ]
    if any(cards):
        return el("div", *cards, class_="columns")
    return _absent(f"Not recorded yet: {_why(run, 'training_info')}.")


def _card(title: str, facts: Iterable[tuple[str, str]]) -> Node | None:
    rows = [el("div", el("dt", name), el("dd", value)) for name, value in facts]
    return (
        el("div", el("h3", title), el("dl", *rows, class_="facts"), class_="card") if rows else None
    )


def _data(run: RunFiles) -> list[tuple[str, str]]:
    """Paths of the machine stay out of the page, but for the file's name."""
    data = dict(run.part("dataset"))
    for name in ("path", "eval_path"):
        if isinstance(path := data.get(name), str):
            data[name] = path.rstrip("/").rpartition("/")[2] if path.startswith("/") else path
    tokens = {"tokens_read_in_all_epochs": run.part("results").get("tokens_total")}
    return _flat(data | _about_rows(run.data) | tokens, set())


def _about_rows(report: DataReport | None) -> dict[str, Any]:
    if report is None:
        return {}
    found: dict[str, Any] = {"bad_rows": report.bad_rows, "duplicate_rows": report.duplicate_rows}
    if report.lengths:
        found["tokens_in_an_example"] = (
            f"median {report.lengths.median}, 95% at most {report.lengths.p95}, "
            f"longest {report.lengths.max}"
        )
    if report.tokens and report.trained_tokens is not None:
        found["trained_tokens"] = f"{report.trained_tokens / report.tokens:.0%}"
    return found


def _bad_rows(report: DataReport) -> Node:
    rows = [(f"{report.unit} {bad.line}", bad.problem) for bad in report.bad]
    return table({"Place": "", "Problem": "said"}, rows)


def _flat(values: Mapping[str, Any], without: set[str]) -> list[tuple[str, str]]:
    named = [(str(k), v) for k, v in values.items() if k not in without and v is not None]
    return [(name.replace("_", " ")[:80], _value(value)) for name, value in named[:80]]


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:  # noqa: PLR2004 - five digits
        return f"{value:,}" if abs(value) < 10**18 else brief(value, 40)
    return brief(value)


def _times(run: RunFiles) -> list[tuple[str, str]]:
    found = [(name, moment(run.info.get(f"{name}_at"))) for name in ("started", "finished")]
    return [(name, f"{at:%Y-%m-%d %H:%M:%S} UTC") for name, at in found if at is not None]


def _result(run: RunFiles) -> Node:
    if run.manifest is None:
        return _absent(f"There is no sealed result: {_why(run, 'manifest')}.")
    names = (
        "model_id",
        "base_model_id",
        "precision",
        "parameters",
        "memory_gb",
        "recommended_partition_gb",
    )
    profile = _flat({name: run.profile.get(name) for name in names}, set())
    entries = sorted(run.manifest.files.items())
    rows = [
        (name, f"{entry.size:,}", el("code", entry.sha256))
        for name, entry in entries[:_FILES_SHOWN]
    ]
    total = sum(entry.size for _, entry in entries)
    digest = [("manifest sha256", run.manifest_sha256), ("files", f"{len(entries):,}")]
    digest.append(("size", f"{total / 1e6:,.1f} MB"))
    if run.validation is not None and run.validation.manifest_sha256:
        same = run.validation.manifest_sha256 == run.manifest_sha256
        digest.append(("validated", "this very result" if same else "another result than this one"))
    listing = el(
        "details",
        el("summary", "Files"),
        table({"File": "", "Bytes": "figure", "sha256": ""}, rows),
    )
    cards = el("div", _card("Seal", digest), _card("AIM profile", profile), class_="columns")
    return el("div", cards, el("div", listing, class_="card listing"))


def _why(run: RunFiles, name: str) -> str:
    found = [f"{file} {why}" for file, why in run.missing.items() if file.startswith(name)]
    return found[0] if found else "it holds nothing"


def _foot(run: RunFiles, made: datetime, version: str) -> Node:
    made_of = f"Made {made:%Y-%m-%d %H:%M} UTC by finetuning-operator {version}."
    if not run.missing:
        return el("footer", el("p", made_of))
    lost = "; ".join(f"{name} {why}" for name, why in run.missing.items())
    return el("footer", el("p", made_of), el("p", f"Not read: {lost}."))
