"""What pip-audit found of one lock file, and of how many packages nobody could tell.

Usage: python -m hack.advisories LOCK REPORT, where REPORT is pip-audit's JSON and may be empty.
Exit code 1 for known vulnerabilities, and for them alone: that an index without the advisory
database, such as a mirror, could not be asked is told, and is no finding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def findings(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each known vulnerability, with the version that mends it."""
    return [
        f"{each['name']} {each['version']}: {found['id']}, "
        f"mended in {', '.join(found.get('fix_versions') or ['no version yet'])}"
        for each in packages
        for found in each.get("vulns", ())
    ]


def unknown(packages: list[dict[str, Any]]) -> str:
    """How many were not looked up, and why the first was not; empty when all were."""
    skipped = [each for each in packages if "skip_reason" in each]
    if not skipped:
        return "" if packages else "no package was looked up: pip-audit gave no report"
    counted = f"{len(skipped)} of {len(packages)} packages were not looked up"
    return f"{counted}: {skipped[0]['skip_reason']}"


def told(lock: str, report: str) -> tuple[list[str], int]:
    """The lines to print of a lock file, and the exit code."""
    packages = json.loads(report)["dependencies"] if report.strip() else []
    found, missing = findings(packages), unknown(packages)
    lines = [f"{lock}: {each}" for each in (*found, *([missing] if missing else []))]
    return lines or [f"{lock}: no known vulnerability in {len(packages)} packages"], int(
        bool(found)
    )


def main(lock: str, report: Path) -> int:
    lines, code = told(lock, report.read_text() if report.exists() else "")
    print("\n".join(lines), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
