"""What runs as process 1 of a container answers SIGTERM from its first line on."""

import signal
from collections.abc import Callable, Iterator

import pytest

from finetuning.artifacts.exits import ExitCode
from finetuning.base import app, torchrun
from finetuning.controller import __main__ as controller
from finetuning.monitoring import validate_job
from finetuning.publish import __main__ as publish


@pytest.fixture(autouse=True)
def answers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


SAVED = ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (app.main, SAVED),
        (torchrun.main, SAVED),
        (validate_job.main, SAVED),
        (publish.main, SAVED),
        (controller.main, ExitCode.OK),
    ],
)
def test_a_program_of_a_pod_leaves_when_told(
    main: Callable[[list[str]], int], code: ExitCode
) -> None:
    with pytest.raises(SystemExit) as helped:
        main(["--help"])
    assert helped.value.code == 0
    assert callable(signal.getsignal(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == code
