"""The report as one page that opens without a network; all that comes from a run is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
background:#fff;color:#1b1f24}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:0}
section{border:1px solid #d0d7de;border-left:6px solid #8c959f;border-radius:6px;padding:1rem;
margin:1rem 0}
section.Pass{border-left-color:#1a7f37}section.Fail{border-left-color:#cf222e}
section.Error,section.Skip{border-left-color:#9a6700}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{border:1px solid #d0d7de;padding:.3rem .5rem;text-align:left;vertical-align:top;
overflow-wrap:anywhere}
.note{color:#57606a}.warning{background:#fff8c5;padding:.4rem .6rem;border-radius:4px;
margin:.3rem 0}
svg{width:100%;height:auto}polyline{fill:none;stroke-width:1.5}
""".replace("\n", "")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WIDTH, _HEIGHT, _MARGIN = 800, 220, 40


def render_html(report: Mapping[str, Any]) -> str:
    """The page of a full report, in the form of its JSON; a pure function of it."""
    checks = report["checks"]
    word = "Passed" if report["ok"] else "Not passed"
    digest = report.get("manifestSha256")
    parts = [
        f"<h1>Fine-tuning validation: {word}, {report['passed']}/{report['total']} checks</h1>",
        _note(f"Manifest sha256 {digest}") if digest else "",
        *(_check(check) for check in checks),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Fine-tuning validation: {word}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _check(check: Mapping[str, Any]) -> str:
    details = check["details"]
    result = _text(check["result"])
    optional = "" if check["required"] else " (only reported)"
    reason = f": <code>{_text(check['reason'])}</code>" if check["reason"] else ""
    parts = [
        f'<section class="{result}"><h2>{result}: {_text(check["name"])}{optional}{reason}</h2>',
        f"<p>{_text(check['message'])}</p>",
        f"<p><b>What to do:</b> {_text(check['remedy'])}</p>" if check["remedy"] else "",
        *(_warning(warning) for warning in check["warnings"]),
        _curve(details),
        _answers(details.get("answers") or ()),
        _table(_figures(check)),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _warning(warning: Mapping[str, Any]) -> str:
    text = f"<b>Warning <code>{_text(warning['reason'])}</code></b> {_text(warning['message'])}"
    return f'<div class="warning">{text}. {_text(warning["remedy"])}</div>'


def _figures(check: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Everything that has no drawing of its own, flat."""
    shown = {
        k: v for k, v in check["details"].items() if k not in ("curve", "evalCurve", "answers")
    }
    figures = {"score": check["score"], "seconds": check["seconds"], **check["numbers"], **shown}
    return [pair for pair in _flat(figures) if pair[1] is not None]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    cells = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows
    )
    return f"<details><summary>Figures</summary><table>{cells}</table></details>" if cells else ""


def _answers(answers: Sequence[Mapping[str, Any]]) -> str:
    if not answers:
        return ""
    head = "<tr><th>prompt</th><th>tuned model</th><th>base model</th><th>expected words</th></tr>"
    rows = [_answer(answer) for answer in answers]
    return f"<table>{head}{''.join(rows)}</table>"


def _answer(answer: Mapping[str, Any]) -> str:
    words = f" {answer['match']} of ".join(["", ", ".join(answer["expectedKeywords"])]).strip()
    before = answer["baseAnswer"]
    cells = (answer["prompt"], answer["answer"], "not asked" if before is None else before,
             words if answer["expectedKeywords"] else "")  # fmt: skip
    return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"


def _curve(details: Mapping[str, Any]) -> str:
    """Training and evaluation loss by step."""
    train, evals = details.get("curve") or [], details.get("evalCurve") or []
    points = [*train, *evals]
    if len(train) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    steps, losses = [p[0] for p in points], [p[1] for p in points]
    lines = [("#0969da", train), ("#bc4c00", evals)]
    drawn = "".join(
        f'<polyline stroke="{colour}" points="{_points(line, steps, losses)}"/>'
        for colour, line in lines
        if line
    )
    labels = (
        f'<text x="0" y="14">{max(losses):.4g}</text>'
        f'<text x="0" y="{_HEIGHT - _MARGIN / 2}">{min(losses):.4g}</text>'
        f'<text x="{_WIDTH - 90}" y="{_HEIGHT - 4}">step {max(steps)}</text>'
    )
    caption = "Training loss (blue)" + (" and evaluation loss (orange)" if evals else "")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}">{drawn}{labels}</svg>{_note(caption)}'


def _points(
    line: Sequence[Sequence[float]], steps: Sequence[float], losses: Sequence[float]
) -> str:
    left, low = min(steps), min(losses)
    wide, high = max(steps) - left or 1, max(losses) - low or 1
    inner_width, inner_height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    return " ".join(
        f"{_MARGIN + (step - left) / wide * inner_width:.1f},"
        f"{_HEIGHT - _MARGIN - (loss - low) / high * inner_height:.1f}"
        for step, loss in line
    )


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _text(value: Any) -> str:
    return escape(str(value), quote=True)
