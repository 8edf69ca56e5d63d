"""Pages made from the parsers and the chart's values."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from finetuning import codegen
from finetuning.reference import chart_values, command_line

COMMAND = str(Path(sys.executable).with_name("finetuning"))
SCHEMA = {
    "definitions": {"names": {"type": "array"}},
    "properties": {
        "deep": {"properties": {"names": {"$ref": "#/definitions/names"}}},
        "level": {"enum": ["auto", True]},
    },
}


def chapters() -> dict[str, str]:
    _, *parts = re.split(r"^## (.+)$", "\n".join(command_line.reference()), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_each_command_that_the_help_lists_has_a_chapter_with_its_options() -> None:
    found = chapters()
    said = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^    (\w+)  +\S", said.partition("examples:")[0], re.MULTILINE)
    assert len(listed) > 10
    assert [name for name in listed if f"finetuning {name}" not in found] == []
    submit = subprocess.run(
        [COMMAND, "submit", "--help"], capture_output=True, text=True, check=True
    )
    options = set(re.findall(r"(?<=\s)--[a-z-]+", submit.stdout)) - {"--help"}
    assert {"--dry-run", "--wait", "--kubeconfig"} <= options
    assert [name for name in options if name not in found["finetuning submit"]] == []


def test_the_modules_that_containers_run_have_their_values_and_defaults() -> None:
    found = chapters()
    assert "| `--metrics-port PORT` | Port of " in found["finetuning.base.app"]
    assert "`--method {lora,qlora,full}`" in found["finetuning.base.app"]
    assert "`--fp16`, `--no-fp16`" in found["finetuning.base.app"]
    assert (
        "--training-info FILE --model-path FOLDER [options]"
        in found["finetuning.monitoring.validate_job"]
    )
    assert (
        "| `--port PORT` | port to listen on (default: 8000) |"
        in found["finetuning.monitoring.metrics_server"]
    )
    assert "IfValidated\\|Always" in found["finetuning.publish"]


@pytest.mark.parametrize(("name", "value"), [("COLUMNS", "40"), ("FORCE_COLOR", "1")])
def test_the_page_does_not_depend_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    before = codegen.command_line_reference()
    monkeypatch.setenv(name, value)
    assert codegen.command_line_reference() == before


def test_a_value_has_its_comment_its_default_and_what_is_allowed() -> None:
    values = """\
# About the file.

deep:
  # -- Names to <serve>;
  # one or more.
  names: [a, b]
# -- How loud: `<n>|max`.
level: ""
"""
    assert list(chart_values.reference(values, SCHEMA))[2:] == [
        "| `deep.names` | `[a, b]` | list | Names to &lt;serve>; one or more. |",
        '| `level` | `""` | `auto`, `true` | How loud: `<n>\\|max`. |',
    ]


def test_a_value_without_a_comment_is_named() -> None:
    with pytest.raises(ValueError, match=r"deep\.names has no comment; write `# -- ` above it"):
        list(chart_values.reference("deep:\n  # not one that explains\n  names: []\n", SCHEMA))


def test_the_charts_page_has_every_value() -> None:
    chart = codegen.ROOT / codegen.CHART
    page = set(re.findall(r"^\| `(\S+)` \|", codegen.chart_reference(), re.MULTILINE))

    def missing(values: dict[str, object], above: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            path = f"{above}{name}"
            if path not in page:
                inner = missing(value, f"{path}.") if isinstance(value, dict) and value else [path]
                found += inner
        return found

    assert missing(yaml.safe_load((chart / "values.yaml").read_text())) == []
