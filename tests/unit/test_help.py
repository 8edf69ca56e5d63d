"""What `--help` loads, which decides how long it takes: seconds differ by machine and load."""

import subprocess
import sys

import pytest

PYDANTIC = {
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
HELP = """
import runpy, sys
there = set(sys.modules)
sys.argv = [{module!r}, *{arguments!r}]
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end
print("\\n".join(set(sys.modules) - there), file=sys.stderr)
"""

LIBRARIES = {
    ("finetuning.base.app", "--help"): PYDANTIC,
    ("finetuning.base.torchrun", "--help"): set(),
    ("finetuning.controller", "--help"): PYDANTIC,
    ("finetuning.monitoring.metrics_server", "--help"): set(),
    ("finetuning.monitoring.validate_job", "--help"): set(),
    ("finetuning.publish", "--help"): PYDANTIC,
    ("finetuning.cli", "--help"): set(),
    ("finetuning.cli", "run", "--help"): set(),
    ("finetuning.cli", "estimate", "--help"): set(),
}
"""Those that each command may load before it has read its flags; knobs are models of pydantic."""


def loaded(module: str, *arguments: str) -> set[str]:
    code = HELP.format(module=module, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--help" in done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize(("command", "allowed"), LIBRARIES.items(), ids=map(" ".join, LIBRARIES))
def test_help_loads_no_library_but_those_of_the_flags(
    command: tuple[str, ...], allowed: set[str]
) -> None:
    roots = {name.partition(".")[0] for name in loaded(*command)}
    libraries = {name for name in roots if not name.startswith("_")} - sys.stdlib_module_names
    assert libraries - {"finetuning"} <= allowed


def test_help_of_the_trainer_loads_nothing_of_a_run() -> None:
    needless = ("finetuning.base.session", "finetuning.artifacts.models", "finetuning.dataset")
    assert not [
        name for name in loaded("finetuning.base.app", "--help") if name.startswith(needless)
    ]
