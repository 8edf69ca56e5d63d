import pytest
from bench.operator import asking


def test_what_a_question_to_a_sidecar_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert asking.main(["--jobs", "300"]) == 0
    question, jobs = capsys.readouterr().out.splitlines()
    assert 0 < float(question.split()[2]) < 50
    assert jobs.startswith("300 running jobs, every 10 s: ")


@pytest.mark.parametrize("jobs", ["0", "60001"])
def test_how_many_is_bounded(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert asking.main(["--jobs", jobs]) == 2
    assert capsys.readouterr().err == f"error: --jobs {jobs}: give 1 to 60000\n"


async def test_a_sidecar_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "START_SECONDS", 0.2)
    with pytest.raises(TimeoutError):
        await asking.measure(9, 1)
