"""The command as typed, against an API server's answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.client.server import Api, served

from finetuning.cli.__main__ import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Typed = Callable[..., Done]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    found = Api()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.chdir(tmp_path)
    with served(found, tmp_path / "kubeconfig"):
        yield found


@pytest.fixture
def typed(api: Api, capsys: pytest.CaptureFixture[str]) -> Typed:
    def type_it(*arguments: str) -> Done:
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Done(code, told.out, told.err)

    return type_it
