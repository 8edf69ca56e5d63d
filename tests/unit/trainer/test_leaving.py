"""What runs as process 1 of a container answers SIGTERM from its first line on."""

import signal
from collections.abc import Callable, Iterator

import pytest

from finetuning.base import app, torchrun
from finetuning.monitoring import validate_job
from finetuning.publish import __main__ as publish


@pytest.fixture(autouse=True)
def answers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


@pytest.mark.parametrize(
    "main",
    [app.main, torchrun.main, validate_job.main, publish.main],
    ids=lambda each: each.__module__,
)
def test_a_program_of_a_pod_leaves_when_told(main: Callable[[list[str]], int]) -> None:
    with pytest.raises(SystemExit) as helped:
        main(["--help"])
    assert helped.value.code == 0
    assert callable(signal.getsignal(signal.SIGTERM))
    with pytest.raises(SystemExit) as left:
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 143
