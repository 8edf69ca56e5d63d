"""The resource definition on several minor versions of Kubernetes: each has to judge alike.

The same tests run against each version's API server, with the same drawn jobs; what each server
answered is compared with the newest one's.
Usage: python -m tests.faults.matrix [--record] [--seed 1] [VERSION ...]
Exit code 1 when a test failed, or two versions judged a job differently.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hack.cluster import tools
from tests.faults.controlplane import BESIDES
from tests.faults.scene import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RECORD = ROOT / "docs/kubernetes.json"
TESTS = ("tests/cluster/test_crd_cases.py", "tests/faults/test_any_job_on_an_api_server.py")
FAMILY = ("-o", "junit_family=xunit1")
"""The one form of the report that holds what a test recorded."""
DRAWN = "test_any_job_on_an_api_server"
VERDICTS = ("accepted", "refused")
_VALUE = re.compile(
    r'(?<=Invalid value: )("(\\.|[^"\\])*"|null|true|false|[-+.\w]+|\{.*?\}|\[.*?\]): '
)
"""Newer servers tell the value itself, older ones its type: no difference that matters."""
Answer = tuple[str, str]
"""A verdict, and the stored spec or the words of the refusal."""


@dataclass(frozen=True)
class Run:
    """What the tests saw of one version: answers by question, and how many tests ended how."""

    answers: Mapping[str, Answer]
    passed: int
    failed: int


def read(report: str) -> Run:
    """Take the answers out of pytest's JUnit report."""
    cases = list(ET.fromstring(report).iter("testcase"))  # noqa: S314 - pytest's own.
    failed = sum(
        case.find("failure") is not None or case.find("error") is not None for case in cases
    )
    answers = dict(pair for case in cases for pair in _answers(case))
    return Run(answers, len(cases) - failed, failed)


def _answers(case: ET.Element) -> Iterator[tuple[str, Answer]]:
    told = [(each.get("name", ""), each.get("value", "")) for each in case.iter("property")]
    test = f"{case.get('classname')}::{case.get('name')}"
    for number, (verdict, said) in enumerate(each for each in told if each[0] in VERDICTS):
        yield f"{test}#{number}", (verdict, _words(said) if verdict == "refused" else said)


def _words(said: str) -> str:
    """Without what differs from one answer to the next: values, and the order of the faults."""
    _, _, faults = _VALUE.sub("", said).partition(" is invalid: ")
    return ", ".join(sorted(faults.strip("[]").split(", "))) or said


def compare(run: Run, newest: Run) -> dict[str, Any]:
    """Count the verdicts of a version, and name what it judged or said unlike the newest."""
    questions = sorted({*run.answers, *newest.answers})
    pairs = {each: (run.answers.get(each), newest.answers.get(each)) for each in questions}
    unlike = [each for each, (mine, theirs) in pairs.items() if mine != theirs]
    judged = [each for each in unlike if _verdict(pairs[each][0]) != _verdict(pairs[each][1])]
    rest = [each for each in unlike if each not in judged]
    counted = Counter((DRAWN in each, _verdict(answer)) for each, answer in run.answers.items())
    return {
        "cases": {verdict: counted[False, verdict] for verdict in VERDICTS},
        "drawn": {verdict: counted[True, verdict] for verdict in VERDICTS},
        "tests": {"passed": run.passed, "failed": run.failed},
        "judged otherwise": judged,
        "stored otherwise": [each for each in rest if _verdict(run.answers[each]) == "accepted"],
        "in other words": sum(_verdict(run.answers[each]) == "refused" for each in rest),
    }


def _verdict(answer: Answer | None) -> str:
    return answer[0] if answer else ""


def is_well(found: Mapping[str, Any]) -> bool:
    """Every test passed, and each job was judged, and stored, as by the newest version."""
    unlike = found["judged otherwise"] or found["stored otherwise"] or found["tests"]["failed"]
    return not unlike and min(found["cases"].values()) > 0


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for each version, then each question that was answered differently."""
    lines = [f"{'version':10}{'accepted':>9}{'refused':>9}{'differences':>13}{'tests failed':>14}"]
    for version, each in found.items():
        accepted, refused = (each["cases"][v] + each["drawn"][v] for v in VERDICTS)
        unlike = len(each["judged otherwise"]) + len(each["stored otherwise"])
        line = f"{version:10}{accepted:9}{refused:9}{unlike:13}{each['tests']['failed']:14}"
        told = each["in other words"]
        lines.append(line + (f"   ({told} refused in other words)" if told else ""))
    for version, each in found.items():
        for kind in ("judged otherwise", "stored otherwise"):
            lines += [f"{version} {kind}: {question}" for question in each[kind]]
    return "\n".join(lines)


def ask(minor: str, seed: int) -> Run:
    """Run the tests against one version; its API server is built before their clock starts."""
    tools.build_all((*BESIDES, tools.KUBECTL, tools.api_servers()[minor]))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = (f"--kubernetes={minor}", f"--hypothesis-seed={seed}", f"--junitxml={report}")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *FAMILY,
            *options,
        ]
        done = subprocess.run([*command, *TESTS], cwd=ROOT, check=False)
        if not report.exists():
            raise SystemExit(done.returncode)
        return read(report.read_text())


def main() -> int:
    """Print the table; with --record, keep it for the documentation."""
    servers = tools.api_servers()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(servers)}")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn jobs")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.versions) - set(servers):
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(servers)}")
    runs = {minor: ask(minor, chosen.seed) for minor in chosen.versions or servers}
    newest = runs[list(runs)[-1]]
    found = {
        tools.kubernetes_version(servers[minor].module): compare(run, newest)
        for minor, run in runs.items()
    }
    print(table(found))
    if chosen.record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(map(is_well, found.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
