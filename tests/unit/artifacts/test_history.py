"""loss_history.jsonl: appended as it happens, mended when opened again."""

import json
import math
from pathlib import Path

from finetuning.artifacts.history import HistoryLine, LineWriter, read_history


def line(step: int, loss: float = 1.5) -> HistoryLine:
    return HistoryLine(step=step, epoch=step / 10, loss=loss, learning_rate=1e-4, tokens=7)


def write(path: Path, *steps: int) -> None:
    writer = LineWriter.open(path, after_step=0, kind=HistoryLine)
    for step in steps:
        writer.append(line(step))
    writer.close()


def test_a_line_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "loss_history.jsonl"
    writer = LineWriter.open(path, after_step=0, kind=HistoryLine)
    writer.append(line(1))
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "step": 1,
        "epoch": 0.1,
        "loss": 1.5,
        "learning_rate": 1e-4,
        "tokens": 7,
    }
    writer.close()


def test_opening_again_drops_the_steps_that_will_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "loss_history.jsonl"
    write(path, 1, 2, 3, 4)
    writer = LineWriter.open(path, after_step=2, kind=HistoryLine)
    writer.append(line(3, loss=9.0))
    writer.close()
    assert [(found.step, found.loss) for found in read_history(path)] == [
        (1, 1.5),
        (2, 1.5),
        (3, 9.0),
    ]


def test_a_torn_last_line_is_cut_away(tmp_path: Path) -> None:
    path = tmp_path / "loss_history.jsonl"
    write(path, 1, 2)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "epo')
    LineWriter.open(path, after_step=9, kind=HistoryLine).close()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_what_is_no_number_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "loss_history.jsonl"
    writer = LineWriter.open(path, after_step=0, kind=HistoryLine)
    writer.append(line(1, loss=math.nan))
    writer.append(line(2, loss=math.inf))
    writer.close()
    assert '"loss": "NaN"' in path.read_text(encoding="utf-8")
    found = [item.loss for item in read_history(path)]
    assert math.isnan(found[0])
    assert found[1] == math.inf


def test_an_absent_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_history(tmp_path / "none")) == []
