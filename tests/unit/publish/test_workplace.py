"""Two publications of one run at once, and a disk that is full."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.publish.conftest import publish

from finetuning.publish import workplace
from finetuning.publish.__main__ import main


@pytest.fixture
def other(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is at work in the folder."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom finetuning.publish import workplace\n"
        "with workplace.held(Path(sys.argv[1]), {}): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run / "publish")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_by_hand_a_second_one_is_refused(
    run: Path, other: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It deleted what the first one was writing, which ended with a traceback."""
    assert main(["--model-path", str(run)]) == 2
    assert "another publication is at work there; wait" in capsys.readouterr().err
    assert not (run / "publish" / "README.md").exists()
    assert main(["--model-path", str(run), "--work-path", str(run.parent / "work")]) == 0


def test_a_pod_waits_for_the_one_before_it(
    run: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workplace, "PATIENCE", 0.1)
    code, said = publish(run)
    assert (code, said.reason) == (1, "PublishFailed")
    monkeypatch.setattr(workplace, "PATIENCE", 60.0)
    assert other.stdin is not None
    other.stdin.close()
    code, said = publish(run)
    assert (code, said.reason) == (0, "")


ON_A_FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$0" || exit 99
head -c 1M /dev/zero > "$0/filler"
exec "$@" --work-path "$0"
"""


def test_a_full_disk_is_told_with_its_folder(run: Path, tmp_path: Path) -> None:
    """What the system says of a write names no file."""
    small = tmp_path / "small"
    small.mkdir()
    command = [sys.executable, "-m", "finetuning.publish", "--model-path", str(run)]
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_FULL_DISK]
    try:
        done = subprocess.run(
            [*shell, str(small), *command], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert done.returncode == 1
    assert f"no space left in {small} to write what is published" in done.stderr
