"""Holds one container's process and outlives whoever started it, so that none is ever orphaned.

`python tether.py GRACE COMMAND…` reads orders from its standard input: `T` asks the process to stop
(SIGTERM), `K` kills it. End of input means that the runner is gone, however it died: the process is
asked to stop, has GRACE seconds to save its work, and is killed. Leaves with the process's own exit
code, 128 + signal when a signal ended it. Only the standard library, so that it starts at once.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1
NOT_STARTED = 127


def die_with_parent() -> None:
    """On Linux the process dies with this one, should even this one be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and whatever it started, as the end of a container does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def obey(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """Carry out orders until there is nobody left to give them."""
    while order := os.read(0, 1):
        if order == b"K":
            kill_group(process)
        else:
            process.terminate()
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        kill_group(process)


def main(grace: str, *command: str) -> int:
    try:
        # Before any thread runs, which preexec_fn asks for.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return NOT_STARTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    threading.Thread(target=obey, args=(process, float(grace)), daemon=True).start()
    code = process.wait()
    kill_group(process)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # No clean-up of the interpreter: the other thread may stand in a read.
    os._exit(main(*sys.argv[1:]))
