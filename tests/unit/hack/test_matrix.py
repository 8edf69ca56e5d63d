"""What `make test-matrix` makes of two versions' answers."""

from xml.sax.saxutils import quoteattr

import pytest
from hack.cluster import tools
from tests.faults import matrix


def report(*tests: tuple[str, list[tuple[str, str]], str]) -> str:
    cases = "".join(
        f'<testcase classname="cases" name={quoteattr(name)}><properties>'
        + "".join(f"<property name={quoteattr(v)} value={quoteattr(s)}/>" for v, s in answers)
        + f"</properties>{end}</testcase>"
        for name, answers, end in tests
    )
    return f"<testsuites><testsuite>{cases}</testsuite></testsuites>"


WORDS = 'FineTuningJob "x" is invalid: [spec.method: Invalid value: {}must be lora, spec.a: wrong]'
TURNED = 'FineTuningJob "x" is invalid: [spec.a: wrong, spec.method: Invalid value: must be lora]'
NEWEST = matrix.read(
    report(
        ("takes", [("accepted", "{}"), ("happened", "well")], ""),
        ("refuses", [("refused", WORDS.format('"x": '))], ""),
    )
)


def test_answers_are_counted_and_what_else_was_recorded_is_not() -> None:
    assert matrix.compare(NEWEST, NEWEST) == {
        "cases": {"accepted": 1, "refused": 1},
        "drawn": {"accepted": 0, "refused": 0},
        "tests": {"passed": 2, "failed": 0},
        "judged otherwise": [],
        "stored otherwise": [],
        "in other words": 0,
    }
    assert matrix.is_well(matrix.compare(NEWEST, NEWEST))


@pytest.mark.parametrize(
    ("took", "refused", "kind", "unlike"),
    [
        (("refused", "no"), ("refused", WORDS.format("")), "judged otherwise", "cases::takes#0"),
        (
            ("accepted", '{"a": 1}'),
            ("refused", WORDS.format("")),
            "stored otherwise",
            "cases::takes#0",
        ),
        (("accepted", "{}"), ("accepted", "{}"), "judged otherwise", "cases::refuses#0"),
    ],
)
def test_another_verdict_and_another_stored_job_are_named(
    took: tuple[str, str], refused: tuple[str, str], kind: str, unlike: str
) -> None:
    older = matrix.read(report(("takes", [took], ""), ("refuses", [refused], "")))
    found = matrix.compare(older, NEWEST)
    assert found[kind] == [unlike]
    assert not matrix.is_well(found)
    assert f"v1 {kind}: {unlike}" in matrix.table({"v1": found})


def test_a_question_that_one_version_never_answered_is_a_difference() -> None:
    older = matrix.read(report(("takes", [("accepted", "{}")], ""), ("refuses", [], "<failure/>")))
    found = matrix.compare(older, NEWEST)
    assert found["judged otherwise"] == ["cases::refuses#0"]
    assert found["tests"] == {"passed": 1, "failed": 1}


def test_types_for_values_and_another_order_are_no_difference_and_other_words_do_no_harm() -> None:
    same, other = (WORDS.format('"string": '), TURNED), WORDS.replace("lora", "full")
    for words, told in (*((each, 0) for each in same), (other, 1)):
        refused = ("refuses", [("refused", words)], "")
        older = matrix.read(report(("takes", [("accepted", "{}")], ""), refused))
        found = matrix.compare(older, NEWEST)
        assert found["in other words"] == told
        assert matrix.is_well(found)


def test_api_servers_of_three_minor_versions_are_pinned_oldest_first() -> None:
    minors = [tuple(map(int, minor.split("."))) for minor in tools.api_servers()]
    assert len(minors) >= 3
    assert minors == sorted(minors)
    assert len({tools.target(tool) for tool in tools.api_servers().values()}) == len(minors)
