"""What a frame looks like at the widths that terminals have."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.top.rows import Row
from finetuning.top.view import Frame, render

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHECKS = {"phase": "Passed", "summary": "4/4 checks passed"}
RUNNING = Row(
    name="tiny-lora",
    about="lora · org/model",
    losses=tuple(float(50 - n) for n in range(50)),
    speeds=(900.0, 1000.0, 1100.0),
    status=FineTuningJobStatus.model_validate(
        {
            "phase": "Running",
            "progress": "62%",
            "currentStep": 211,
            "totalSteps": 340,
            "trainLoss": 0.02064,
            "tokensPerSecond": 9236.4,
            "estimatedRemaining": "8s",
        }
    ),
)
WAITING = Row(
    name="big",
    status=FineTuningJobStatus.model_validate(
        {"phase": "Pending", "reason": "Unschedulable", "message": "0/3 nodes: no amd.com/gpu."}
    ),
)
DONE = Row(
    name="done",
    status=FineTuningJobStatus.model_validate(
        {
            "phase": "Succeeded",
            "completionTime": NOW - timedelta(minutes=5),
            "trainLoss": 0.5,
            "validation": CHECKS,
        }
    ),
)
LOST = Row(
    name="lost",
    status=FineTuningJobStatus.model_validate(
        {"phase": "Failed", "reason": "DatasetInvalid", "message": "line 17 is no JSON"}
    ),
)
ROWS = (RUNNING, WAITING, LOST, DONE)


def draw(
    *rows: Row, width: int = 100, height: int | None = None, trouble: str = "", color: bool = False
) -> str:
    console = Console(
        file=io.StringIO(), width=width, highlight=False, force_terminal=color, color_system="auto"
    )
    console.print(render(Frame(rows, "kind/team", NOW, width, height, trouble)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_every_width_shows_what_matters(width: int) -> None:
    text = draw(*ROWS, width=width)
    lines = text.splitlines()
    assert len(lines) == 1 + 2 + 2 + 2 + 1
    assert max(cell_len(line) for line in lines) <= width
    assert "62%" in lines[1]
    assert lines[1].rstrip().endswith("8s left")
    assert "━" in lines[1]
    assert "loss 0.0206 █" in lines[2]
    assert "tok/s 9,236 ▁▅█" in lines[2]
    assert "0/3 nodes: no amd.com/gpu." in lines[4]
    assert "DatasetInvalid" in lines[5]
    assert lines[6].strip() == "line 17 is no JSON"
    assert "4/4 checks passed" in lines[7]
    assert lines[7].rstrip().endswith("5m0s ago")


def test_a_trained_job_that_waits_for_its_verdict_says_so() -> None:
    waiting = RUNNING.status.model_copy(update={"reason": "Validating"})
    assert "validating" in draw(replace(RUNNING, status=waiting)).splitlines()[2]


def test_wide_terminals_show_more() -> None:
    assert "step 211/340 · lora · org/model" in draw(RUNNING, width=160)
    assert len(draw(RUNNING, width=200).splitlines()[2]) > len(
        draw(RUNNING, width=80).splitlines()[2]
    )


def test_a_low_terminal_shows_the_first_and_counts_the_rest() -> None:
    lines = draw(*ROWS, height=6).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "… and 2 more"


def test_trouble_is_shown_above_what_was_last_known() -> None:
    lines = draw(RUNNING, trouble="the API server does not answer").splitlines()
    assert lines[1].strip() == "the API server does not answer"
    assert "tiny-lora" in lines[2]


def test_no_jobs_are_said() -> None:
    assert "No jobs." in draw()


def test_hostile_text_neither_colours_nor_moves_anything() -> None:
    bad = "[red]\x1b[2J\x1b]0;title\x07\u202eevil\nline" + "x" * 500
    status = FineTuningJobStatus(message=bad[:1000], reason=bad[:100])
    row = Row(name=bad[:60], status=status, about=bad, note="")
    text = draw(row, width=80)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text.splitlines()) == 3
    assert max(cell_len(line) for line in text.splitlines()) <= 80


def test_colours_come_only_with_a_terminal() -> None:
    assert "\x1b[" not in draw(*ROWS)
    assert "\x1b[" in draw(*ROWS, color=True)
