"""Exit code 0: published; 1: another try may help; 2: it cannot, and one line says what does."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from finetuning.artifacts import TERMINATION_LOG_ENV, leaving
from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.failures import TrainerError
from finetuning.artifacts.models import PublishResult
from finetuning.publish import arguments
from finetuning.publish.errors import PublishError, UsageError

MESSAGE_LIMIT = 500


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Publish; the outcome goes to the terminal and, in a pod, to kubelet."""
    leaving.when_told()
    environ = os.environ if environ is None else environ
    # What a merge says on its way.
    logging.basicConfig(level=logging.INFO, format="publish: %(message)s", stream=sys.stderr)
    # It tells of each request, with addresses that let anybody write to an upload.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    result, code = PublishResult(), ExitCode.OK
    try:
        options = arguments.read(argv)
        if find_spec("httpx2") is None:
            raise UsageError(
                "the trainer's libraries are needed: pip install 'finetuning-operator[trainer]'"
            )
        from finetuning.publish.publishing import publish  # noqa: PLC0415 - after --help

        publish(options, environ, result, _say)
    except (PublishError, TrainerError) as error:
        _say(f"error: {error}")
        result.reason, result.message = str(error.reason), str(error)[:MESSAGE_LIMIT]
        code = error.exit_code
    except OSError as error:
        # Of this machine's files: a full disk, no permission. What a place says is explained above.
        result.reason, code = PublishError.reason, PublishError.exit_code
        result.message = f"{error.filename or options.work}: {error.strerror}"[:MESSAGE_LIMIT]
        _say(f"error: {result.message}")
    _tell_kubelet(result, environ)
    return code


def _tell_kubelet(result: PublishResult, environ: Mapping[str, str]) -> None:
    """In place: in a pod the file is a mount, over which nothing can be renamed."""
    path = environ.get(TERMINATION_LOG_ENV)
    if not path:
        return
    try:
        Path(path).write_bytes(result.model_dump_json(by_alias=True, exclude_none=True).encode())
    except OSError as error:
        _say(f"the termination message {path} cannot be written: {error.strerror}")


def _say(text: str) -> None:
    print(f"publish: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command line


if __name__ == "__main__":
    sys.exit(main())
