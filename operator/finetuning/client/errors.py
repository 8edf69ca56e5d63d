"""What a client can be told, by who can mend it.

    ClientError
    ├── InvalidJobError       it cannot be: a job, name or selector; says value and remedy
    ├── JobNotFoundError      there is no job of that name
    ├── JobExistsError        there is one already
    ├── WrongStateError       not now: it is not trained yet, it has no log yet, it is over
    ├── TimedOutError         it was not seen in time
    └── ClusterError          the cluster refuses, or does not answer
        └── NoClusterError    no usable kubeconfig, or no such context

Each message is one line; that of an InvalidJobError has a line for each mistake.
"""

from finetuning.artifacts.plain import plain
from finetuning.controller.gateway import ALIEN, ApiError

UNREACHABLE, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 0, 400, 401, 403, 404
CONFLICT, INVALID, TOO_MANY = 409, 422, 429
_SERVER_ERRORS = 500


class ClientError(Exception):
    """Root of what this package raises on purpose."""


class InvalidJobError(ClientError):
    """The job cannot be accepted as it stands."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class JobNotFoundError(ClientError):
    """There is no job of that name."""


class JobExistsError(ClientError):
    """There is a job of that name already."""


class WrongStateError(ClientError):
    """The job is not where this can be done."""


class TimedOutError(ClientError):
    """What was waited for was not seen in time."""


class ClusterError(ClientError):
    """The cluster refuses, or does not answer."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass
        """Whether the same call can succeed a little later."""


class NoClusterError(ClusterError):
    """There is no usable kubeconfig, or no such context in it."""


def explained(error: ApiError) -> ClusterError:
    """A failed call in a line that says what would help."""
    match error.code:
        case code if code == UNREACHABLE and error.reason == ALIEN:
            text = f"{plain(error.message, 200)}; check the address in the kubeconfig, and log in"
        case code if code == UNREACHABLE:
            text = f"the API server does not answer: {plain(error.message, 200)}"
        case code if code == UNAUTHORIZED:
            text = "the API server does not know this login; log in again"
        case code if code == FORBIDDEN:
            text = f"{plain(error.message, 200)}; name a namespace of yours with -n"
        case code if code == NOT_FOUND and error.message.startswith("namespaces "):
            text = f"{plain(error.message, 200)}; name one that is there with -n, or create it"
        case code if code == NOT_FOUND:
            text = "the cluster has no FineTuningJobs: install the operator's chart first"
        case _:
            text = plain(str(error), 300)
    return ClusterError(text, may_pass=_may_pass(error))


def _may_pass(error: ApiError) -> bool:
    return error.code in {UNREACHABLE, TOO_MANY} or error.code >= _SERVER_ERRORS


def refused(error: ApiError) -> ClientError:
    """The answer to an object that was to be created."""
    if error.code == INVALID:
        return InvalidJobError(plain(error.message, 1000))
    if error.code == CONFLICT:
        return JobExistsError(
            f"{plain(error.message, 300)}; choose another metadata.name, or delete that job first"
        )
    return explained(error)
