"""What is left of a client where its process ends, or becomes two."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.client.server import Api


@pytest.mark.parametrize("last", ["", "del client"])
def test_a_script_may_end_without_closing_its_client(last: str, api: Api, kubeconfig: Path) -> None:
    """The library beneath complained about it on the terminal."""
    api.keep()
    code = (
        "import sys, threading\nfrom finetuning.client import FineTuningClient\n"
        "client = FineTuningClient(kubeconfig=sys.argv[1])\nprint(len(client.list()))\n"
    )
    end = "\nassert threading.active_count() == 1\n" if last else ""
    command = [sys.executable, "-c", code + last + end, str(kubeconfig)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_forked_process_is_told_to_make_one_of_its_own(api: Api, kubeconfig: Path) -> None:
    """It would wait for ever for a thread that only its parent has."""
    code = (
        "import os, sys\nfrom finetuning.client import ClientError, FineTuningClient\n"
        "client = FineTuningClient(kubeconfig=sys.argv[1])\nclient.list()\n"
        "if child := os.fork():\n    sys.exit(os.waitpid(child, 0)[1])\n"
        "try:\n    client.list()\nexcept ClientError as error:\n    print(error, flush=True)\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(kubeconfig)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "make another one" in done.stdout
