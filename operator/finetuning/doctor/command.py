"""`finetuning doctor`: ask, judge, print."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from finetuning.doctor.findings import Finding, Result, findings
from finetuning.jobs.session import FAILED, Where, main, say

if TYPE_CHECKING:
    from finetuning.client import AsyncFineTuningClient

_MARKS = {Result.GOOD: "✓", Result.NOTE: "!", Result.WRONG: "✗", Result.UNKNOWN: "?"}


def examine(where: Where, *, as_json: bool) -> int:
    """Print the findings; 1 when something is wrong."""

    async def work(client: "AsyncFineTuningClient") -> int:
        from finetuning.doctor.asking import gather  # noqa: PLC0415 - needs the client

        facts = await gather(client.gateway, client.context, client.namespace)
        found = findings(facts, version("finetuning-operator"), datetime.now(UTC))
        say(in_json(found) if as_json else in_text(found))
        return FAILED if any(each.result is Result.WRONG for each in found) else 0

    return main(where, work)


def in_text(found: Sequence[Finding]) -> str:
    """A line per finding, its remedy below, and the sum at the end."""
    lines = []
    for each in found:
        lines.append(f"{_MARKS[each.result]} {each.about:<11} {each.told}")
        if each.remedy:
            lines.append(f"  {'':<11} -> {each.remedy}")
    wrong = sum(each.result is Result.WRONG for each in found)
    return "\n".join(
        [*lines, "", f"{wrong} of {len(found)} wrong." if wrong else "Nothing is wrong."]
    )


def in_json(found: Sequence[Finding]) -> str:
    return json.dumps([vars(each) for each in found], indent=2, ensure_ascii=False)
