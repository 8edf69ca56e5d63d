"""The page: everything that the JSON has, nothing that runs, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from typing_extensions import override

from finetuning.artifacts.models import CheckResult, ValidationResult
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, Passed, outcome
from finetuning.monitoring.validators.report import html_text

EVIL = "\"><script src=//evil.example/x.js></script><img onerror=alert(1) src=x> '; </style>"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(*outcomes: CheckOutcome) -> str:
    result = ValidationResult(checks=list(outcomes), manifest_sha256="a" * 64)
    return html_text(result, outcomes)


def everything(text: str) -> list[CheckOutcome]:
    answer = {
        "prompt": text,
        "answer": text,
        "baseAnswer": text,
        "stopped": True,
        "expectedKeywords": [text],
        "match": "any",
    }
    return [
        outcome(
            "training_loss",
            Finding(text[:64], text, numbers={text: 1.0}),
            details={"curve": [(1, 3.0), (2, 1.0)], "evalCurve": [(2, 2.0)], "source": text},
        ),
        outcome(
            "model_output",
            Passed(text),
            score=0.5,
            details={"answers": [answer], "heldOut": {text: text}},
            warnings=[Finding("LossSpikes", text)],
        ),
        outcome("aim_profile", Finding("CheckCrashed", text, CheckResult.ERROR)),
    ]


def test_nothing_that_a_run_says_becomes_markup() -> None:
    page = page_of(*everything(EVIL))
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b", "code", "div",
        "section", "table", "tr", "th", "td", "details", "summary", "svg", "polyline", "text",
    }  # fmt: skip
    names = {name for _, attributes in parsed.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "href")]
    assert "evil.example" in parsed.text


def test_the_page_opens_without_a_network() -> None:
    page = page_of(*everything("plain"))
    assert not re.search(r"https?:|//|url\(|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("words", ["plain", "Warning LossSpikes", "What to do:", "step 2"])
def test_messages_warnings_remedies_and_curves_are_shown(words: str) -> None:
    parsed = Page(page_of(*everything("plain")))
    assert words in parsed.text
    assert sum(tag == "polyline" for tag, _ in parsed.tags) == 2


def test_the_head_has_the_verdict() -> None:
    good = outcome("aim_profile", Passed("AIM profile is valid"))
    assert "Passed, 1/1 checks" in Page(page_of(good)).text
    assert "Not passed, 1/3 checks" in Page(page_of(*everything("x"))).text


def test_a_curve_that_never_moves_can_be_drawn() -> None:
    flat: dict[str, Any] = {"curve": [(5, 1.0), (5, 1.0)], "evalCurve": []}
    page = page_of(outcome("training_loss", Passed("x"), details=flat))
    assert "40.0,180.0 40.0,180.0" in page
