"""Which check saw which fault; as a table for the terminal and for docs/validation.md."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants.faults import Fault

from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.reasons import CHECKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validation.md"
BEGIN = "<!-- BEGIN GENERATED: make mutants -->"
END = "<!-- END GENERATED -->"


@dataclass(frozen=True)
class Row:
    """One fault, the check that must see it, and what all checks said."""

    fault: str
    check: str
    seen: dict[str, str]
    """The reason of every check that did not pass."""
    reasons: tuple[str, ...]
    """Those for which the check may see it."""

    @property
    def reason(self) -> str:
        found = self.seen.get(self.check, "")
        return "` or `".join(self.reasons) if found in self.reasons else found


@dataclass
class Matrix:
    """Filled by the tests, in the order in which they run."""

    mutants: list[Row] = field(default_factory=list)
    healthy: dict[str, dict[str, str]] = field(default_factory=dict)
    """By run the reasons of the checks that blamed it."""

    def add(self, fault: Fault, outcomes: dict[str, CheckOutcome]) -> None:
        self.mutants.append(Row(fault.name, fault.check, blamed(outcomes), fault.reasons))

    @property
    def false_alarms(self) -> int:
        return sum(len(reasons) for reasons in self.healthy.values())

    def summary(self) -> str:
        caught = sum(bool(row.reason) for row in self.mutants)
        return (
            f"{caught} of {len(self.mutants)} damaged runs are caught by the check that should; "
            f"{len(self.healthy)} healthy runs, {self.false_alarms} false alarms."
        )

    def text(self) -> str:
        rows = [(row.fault, row.check, row.seen.get(row.check, "MISSED")) for row in self.mutants]
        lines = [f"{fault:<52} {check:<21} {reason}" for fault, check, reason in rows]
        lines += [f"{name:<52} {'healthy':<21} {told or 'no alarm'}" for name, told in self._runs()]
        return "\n".join([*lines, self.summary()])

    def markdown(self) -> str:
        lines = [self.summary(), "", "| fault | caught by | reason | seen as well by |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {row.fault} | {row.check} | `{row.reason or 'MISSED'}` | {_others(row)} |"
            for row in self.mutants
        ]
        lines += ["", "| healthy run | alarms |", "|---|---|"]
        lines += [f"| {name} | {told or 'none'} |" for name, told in self._runs()]
        return "\n".join(lines)

    def _runs(self) -> Iterator[tuple[str, str]]:
        for name, reasons in self.healthy.items():
            yield name, ", ".join(f"{check}: {reason}" for check, reason in reasons.items())


def blamed(outcomes: dict[str, CheckOutcome]) -> dict[str, str]:
    return {name: found.reason for name, found in outcomes.items() if not found.passed}


def _others(row: Row) -> str:
    return ", ".join(check for check in CHECKS if check in row.seen and check != row.check)


def in_the_docs(page: str, table: str) -> str:
    """The page with this table between its marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
