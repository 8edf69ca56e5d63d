import re
from pathlib import Path

from finetuning.monitoring.validators.reasons import CRASHED, REASONS

ROOT = Path(__file__).parents[3]
VALIDATORS = ROOT / "sidecar" / "finetuning" / "monitoring" / "validators"


def test_every_reason_of_a_check_has_its_row_and_no_other() -> None:
    sources = "".join(path.read_text() for path in VALIDATORS.rglob("*.py"))
    given = set(re.findall(r'(?:Finding\(|_worse\(facts,)\s*"([A-Za-z]+)"', sources))
    assert given == {reason.name for group in REASONS.values() for reason in group} | {CRASHED.name}


def test_every_check_has_its_chapter() -> None:
    text = (ROOT / "docs" / "validation.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == list(REASONS)
