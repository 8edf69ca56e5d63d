import re
from pathlib import Path

from finetuning.monitoring.validators.validator import REPORT_ORDER

ROOT = Path(__file__).parents[3]
VALIDATORS = ROOT / "sidecar" / "finetuning" / "monitoring" / "validators"


def test_every_reason_of_a_check_is_explained_and_no_other() -> None:
    sources = "".join(path.read_text() for path in VALIDATORS.rglob("*.py"))
    given = set(re.findall(r'Finding\(\s*"([A-Za-z]+)"', sources))
    text = (ROOT / "docs" / "validation.md").read_text()
    explained = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-zA-Z]+)+)`", text)) - {
        "FineTuningValidator"
    }
    assert given == explained


def test_every_check_has_its_chapter() -> None:
    text = (ROOT / "docs" / "validation.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == list(REPORT_ORDER)
