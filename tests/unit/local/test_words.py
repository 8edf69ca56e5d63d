import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from finetuning.api.status import ValidatedModel
from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    Phase,
    Reason,
    ValidationPhase,
    ValidationStatus,
)
from finetuning.artifacts.models import RunState, TrainingState
from finetuning.local import outcome, words
from finetuning.local.screen import LineScreen, PanelScreen, Picture, panel

JOB = FineTuningJob.from_body(
    {
        "apiVersion": "aim.amd.com/v1alpha1",
        "kind": "FineTuningJob",
        "metadata": {"name": "demo"},
        "spec": {"baseModel": {"modelId": "org/model"}, "dataset": {"source": "hf://org/rows"}},
    }
)
RUNNING = FineTuningJobStatus(
    phase=Phase.RUNNING,
    reason=Reason.TRAINING,
    message="Training in pod x.",
    progress="42%",
    current_step=42,
    total_steps=100,
    current_epoch=2,
    total_epochs=3,
    train_loss=1.25,
    tokens_per_second=3210.4,
    estimated_remaining="20s",
)
LIVE = TrainingState(updated_at=1, state=RunState.TRAINING, step=42, loss=1.25, learning_rate=1e-4)


def validated(phase: ValidationPhase, report: str = "") -> FineTuningJobStatus:
    verdict = ValidationStatus(
        phase=phase, summary="4/4 checks passed", report=report, report_path="/o/report.txt"
    )
    update = {"phase": Phase.SUCCEEDED, "message": "Trained.", "validation": verdict}
    return RUNNING.model_copy(update=update)


@pytest.mark.parametrize(
    ("losses", "width", "expected"),
    [
        ([], 8, ""),
        ([1.0], 8, "▁"),
        ([2.0, 2.0, 2.0], 8, "▁▁▁"),
        ([8, 7, 6, 5, 4, 3, 2, 1], 8, "█▇▆▅▄▃▂▁"),
        ([4, 4, 2, 2], 2, "█▁"),
        ([1, 3, 2, 2, 9], 2, "▁█"),
    ],
)
def test_the_curve_is_drawn_in_blocks(losses: list[float], width: int, expected: str) -> None:
    assert words.spark(losses, width) == expected


def test_a_line_of_progress_has_every_figure() -> None:
    assert words.progress_line(RUNNING, LIVE) == (
        "Running    42%  step 42/100  epoch 2/3  loss 1.2500  lr 1.00e-04  3,210 tokens/s  20s left"
    )


def test_what_is_unknown_is_left_out_of_a_line() -> None:
    status = FineTuningJobStatus(phase=Phase.RUNNING, current_step=3)
    assert words.progress_line(status, None) == "Running     0%  step 3"


def test_a_loss_of_zero_is_a_figure() -> None:
    status = FineTuningJobStatus(phase=Phase.RUNNING, current_step=0, train_loss=0.0)
    assert words.figures(status, None) == ["step 0", "loss 0.0000"]


@pytest.mark.parametrize(
    ("status", "training_exit", "signal", "expected"),
    [
        (validated(ValidationPhase.PASSED), 0, None, 0),
        (validated(ValidationPhase.SKIPPED), 0, None, 0),
        (validated(ValidationPhase.FAILED), 0, None, 1),
        (validated(ValidationPhase.ERROR), 0, None, 1),
        (validated(ValidationPhase.RUNNING), 0, 2, 130),
        (validated(ValidationPhase.PASSED), 0, 2, 0),
        (FineTuningJobStatus(phase=Phase.FAILED), 1, None, 1),
        (FineTuningJobStatus(phase=Phase.FAILED), 2, None, 2),
        (FineTuningJobStatus(phase=Phase.FAILED), 2, 2, 2),
        (FineTuningJobStatus(phase=Phase.PAUSED), 143, 2, 130),
        (FineTuningJobStatus(phase=Phase.PAUSED), 143, 15, 143),
        (FineTuningJobStatus(phase=Phase.PAUSED), 143, 1, 129),
        (FineTuningJobStatus(phase=Phase.PAUSED), 143, None, 143),
    ],
)
def test_the_exit_code_follows_from_the_status(
    status: FineTuningJobStatus, training_exit: int, signal: int | None, expected: int
) -> None:
    assert outcome.exit_code(status, training_exit, signal) == expected


def farewell(status: FineTuningJobStatus) -> str:
    lines = words.farewell(
        status, Path("/o"), Path("/o/logs"), Path("job.yaml"), "finetuning run job.yaml"
    )
    return "\n".join(lines)


def test_a_validated_run_ends_with_its_report_and_the_way_to_a_cluster() -> None:
    text = farewell(validated(ValidationPhase.PASSED, "the report"))
    assert text.splitlines() == [
        "",
        "the report",
        "",
        "Model      /o",
        "Report     /o/report.txt",
        "Status     /o/status.json",
        "Logs       /o/logs/",
        "Next       kubectl apply -f job.yaml   (the same job on a cluster)",
    ]


@pytest.mark.parametrize(
    ("status", "row"),
    [
        (FineTuningJobStatus(phase=Phase.PAUSED), "Continue   finetuning run job.yaml"),
        (validated(ValidationPhase.RUNNING), "Continue   finetuning run job.yaml"),
        (validated(ValidationPhase.FAILED), "Again      finetuning run job.yaml"),
        (FineTuningJobStatus(phase=Phase.FAILED), "Again      finetuning run job.yaml"),
    ],
)
def test_the_last_line_is_what_to_type_next(status: FineTuningJobStatus, row: str) -> None:
    assert farewell(status).splitlines()[-1] == row


def test_a_pause_names_the_checkpoint_it_will_go_on_from() -> None:
    status = FineTuningJobStatus(phase=Phase.PAUSED, checkpoint_path="/o/checkpoints/checkpoint-4")
    assert "Checkpoint /o/checkpoints/checkpoint-4" in farewell(status).splitlines()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (RUNNING, ""),
        (validated(ValidationPhase.PASSED), ""),
        (validated(ValidationPhase.FAILED), "validation Failed: 4/4 checks passed"),
        (
            FineTuningJobStatus(phase=Phase.FAILED, reason="DatasetInvalid", message="Line 17."),
            "DatasetInvalid: Line 17.",
        ),
    ],
)
def test_trouble_is_one_line(status: FineTuningJobStatus, expected: str) -> None:
    assert words.trouble(status) == expected


def test_paths_and_words_of_the_status_fit_this_machine() -> None:
    claim = "pvc://demo-output"
    message = "Set spec.suspend to false to continue from the newest checkpoint."
    status = FineTuningJobStatus(
        phase=Phase.PAUSED,
        message=message,
        checkpoint_path=f"{claim}/checkpoints/checkpoint-4",
        model_path=claim,
        validation=ValidationStatus(
            phase=ValidationPhase.PASSED,
            report_path=f"{claim}/validation/r.txt",
            model=ValidatedModel(path=claim, files=1, size_bytes=1),
        ),
    )
    found = outcome.localized(status, JOB, Path("/o"))
    assert found.checkpoint_path == "/o/checkpoints/checkpoint-4"
    assert found.model_path == "/o"
    assert found.validation is not None
    assert found.validation.report_path == "/o/validation/r.txt"
    assert found.validation.model is not None
    assert found.validation.model.path == "/o"
    assert found.message == outcome.CONTINUE


GATE = validated(ValidationPhase.RUNNING).model_copy(
    update={"phase": Phase.RUNNING, "reason": Reason.VALIDATING}
)


def test_a_gate_shows_the_validation_while_it_runs() -> None:
    assert words.headline(GATE) == "Running: Trained. Validation Running: 4/4 checks passed"


def test_a_model_that_did_not_pass_the_gate_is_shown_where_it_is_kept() -> None:
    message = "The model did not pass and is kept in pvc://demo-output: 3/4 checks passed"
    update = {"phase": Phase.FAILED, "reason": Reason.VALIDATION_FAILED, "message": message}
    status = outcome.localized(GATE.model_copy(update=update), JOB, Path("/o"))
    assert (
        words.trouble(status) == f"ValidationFailed: {message.replace('pvc://demo-output', '/o')}"
    )
    assert "Model      /o" in farewell(status).splitlines()
    assert outcome.exit_code(status, 0, None) == 1


class Shown:
    """Lines on a console that is no terminal, with a clock to turn."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.now = 100.0
        self.screen = LineScreen(Console(file=self.file, width=40), clock=lambda: self.now)

    def lines(self, at: float, **figures: object) -> int:
        self.now = 100.0 + at
        self.screen.show(RUNNING.model_copy(update=figures), LIVE)
        return len(self.file.getvalue().splitlines())


def test_lines_come_when_there_is_something_to_say() -> None:
    shown = Shown()
    assert shown.lines(0) == 2  # the phase, and the first figures
    assert shown.lines(0.5) == 2  # nothing new
    assert shown.lines(0.9, current_step=43) == 2  # too soon
    assert shown.lines(1.1, current_step=60, progress="60%") == 3  # a leap
    assert shown.lines(3.0, current_step=61, progress="61%") == 3
    assert shown.lines(7.0, current_step=62, progress="62%") == 4  # long enough ago
    assert shown.lines(7.1, message="Saving.") == 5  # another phase of the work


def test_a_line_is_never_broken_in_two() -> None:
    shown = Shown()
    shown.lines(0)
    assert "20s left" in shown.file.getvalue().splitlines()[1]


def rendered(status: FineTuningJobStatus, live: TrainingState | None) -> str:
    console = Console(file=io.StringIO(), width=100, record=True)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    console.print(
        panel(Picture(JOB, status, live, [3, 2, 1], "http://localhost:8000/metrics", now))
    )
    return console.export_text()


@pytest.mark.parametrize(
    "text",
    ["demo · lora · org/model", "42%", "step 42/100", "█▅▁", "http://localhost:8000/metrics"],
)
def test_the_panel_shows(text: str) -> None:
    assert text in rendered(RUNNING, LIVE)


def test_the_panel_says_what_else_the_trainer_does() -> None:
    starting = LIVE.model_copy(update={"state": RunState.STARTING})
    assert "loading model and data" in rendered(RUNNING, starting)


def test_brackets_in_a_message_are_no_markup() -> None:
    status = RUNNING.model_copy(update={"message": "[red]x[/] [/]"})
    assert "[red]x[/] [/]" in rendered(status, LIVE)


def test_the_curve_goes_on_from_before_a_pause_and_leaves_out_what_is_no_number() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    screen = PanelScreen(JOB, "http://x", console, {0: 3.0})
    for step, loss in enumerate((1.0, float("nan"), 2.0), 1):
        screen.show(RUNNING, LIVE.model_copy(update={"loss": loss, "step": step}))
    screen.close()
    assert "█▁▅" in console.file.getvalue()  # type: ignore[attr-defined]
