"""The example notebook as one program; its cells show their last value, as a notebook does."""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[1] / "examples" / "notebook.ipynb"


def contents() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def program() -> str:
    """Statements of all code cells, each cell's last line printed."""
    cells = ["".join(each["source"]) for each in contents()["cells"] if each["cell_type"] == "code"]
    return "\n".join(map(_shown, cells))


def _shown(cell: str) -> str:
    *lines, last = cell.rstrip().splitlines()
    return "\n".join([*lines, f"print({last})" if not last.startswith((" ", ")")) else last])
