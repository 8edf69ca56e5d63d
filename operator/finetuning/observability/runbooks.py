"""docs/runbooks.md: what each alert says is generated, what to do about it is written by hand."""

import re

from finetuning.observability.alerts import ALERTS, Alert

_END = "<!-- END GENERATED -->"
_LINES = re.MULTILINE | re.DOTALL


def updated(page: str) -> str:
    """The page with each alert's facts as in the code; a new alert gets a section to be written."""
    for alert in ALERTS:
        page = _with_facts(page, alert)
    return page


def written(page: str, alert: Alert) -> str:
    """What a person wrote about an alert; empty when nobody has."""
    found = re.search(rf"{_block(alert)}(.*?)(?=^## |\Z)", page, _LINES)
    return found[1].strip() if found else ""


def sections(page: str) -> list[str]:
    """The alerts that have a section, in the order of the page."""
    return re.findall(r"^## (\w+)$", page, re.MULTILINE)


def _with_facts(page: str, alert: Alert) -> str:
    facts = _facts(alert)
    renewed, found = re.subn(_block(alert), lambda _: facts, page, count=1, flags=_LINES)
    if found:
        return renewed
    return f"{page.rstrip()}\n\n## {alert.name}\n\n{facts}\n"


def _facts(alert: Alert) -> str:
    held = f"for {alert.wait}" if alert.wait else "at once"
    return "\n".join(
        (
            _begin(alert),
            _plain(alert.description),
            "",
            f"Severity {alert.severity}, {held}:",
            "",
            "```promql",
            alert.query,
            "```",
            _END,
        )
    )


def _begin(alert: Alert) -> str:
    return f"<!-- BEGIN GENERATED: {alert.name} -->"


def _block(alert: Alert) -> str:
    return f"^{re.escape(_begin(alert))}$.*?^{re.escape(_END)}$"


def _plain(text: str) -> str:
    """The template with its places named as a reader would: `<gpu_id>`, `<value>`."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"`<\1>`", text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", "`<value>`", text).replace("<job>", "`<job>`")
