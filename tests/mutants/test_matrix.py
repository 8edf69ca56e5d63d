"""The table of faults and the page that shows what became of them."""

from tests.mutants.matrix import BEGIN, END, in_the_docs
from tests.mutants.runs import HEALTHY
from tests.mutants.table import FAULTS, OUTPUTS


def test_there_are_as_many_as_promised() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert (len(FAULTS) - len(OUTPUTS), len(OUTPUTS), len(HEALTHY)) >= (40, 12, 12)


def test_a_page_keeps_what_is_not_generated() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert in_the_docs(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
