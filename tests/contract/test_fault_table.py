"""The table of faults has a row for each fault that a test names, and none that no test has."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from hack.tests import WITH_FAULTS

ROOT = Path(__file__).resolve().parents[2]
ON_A_CLUSTER = "tests/cluster"


def marks(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Fault and expectation of each `@pytest.mark.fault(fault, expected)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            fault, expected = (ast.literal_eval(each) for each in node.args)
            yield fault, expected


def named() -> dict[str, tuple[str, str]]:
    """Expectation and file by fault."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for fault, expected in marks(ast.parse(file.read_text())):
            where = str(file.relative_to(ROOT))
            assert fault not in found, f"{where} and {found[fault][1]} name one fault: {fault}"
            found[fault] = (expected, where)
    return found


def test_every_row_is_what_a_test_says_now() -> None:
    rows = json.loads((ROOT / "docs/reliability.json").read_text())
    recorded = {fault: (row["expected"], row["where"]) for fault, row in rows.items()}
    wanted = named()
    assert {f: row for f, row in recorded.items() if wanted.get(f) != row} == {}
    # What a kubelet does is recorded on a cluster: make test-cluster RECORD=1.
    missing = {where for f, (_, where) in wanted.items() if f not in recorded}
    assert {where for where in missing if not where.startswith(ON_A_CLUSTER)} == set()


def test_the_command_that_records_runs_them_all() -> None:
    folders = (*WITH_FAULTS, ON_A_CLUSTER)
    assert [w for _, w in named().values() if not w.startswith(folders)] == []
