"""Why a model is not published: each with a word for scripts and an exit code."""

from finetuning.artifacts.exits import ExitCode


class PublishError(Exception):
    """A failure with a remedy: its text is one line for people."""

    reason = "PublishFailed"
    exit_code = ExitCode.FAILED


class UsageError(PublishError):
    """The command line, or the folder that it names, is wrong."""

    reason = "ConfigInvalid"
    exit_code = ExitCode.INVALID


class NotValidatedError(PublishError):
    """The policy asks for a verdict that is missing, bad, or about other files."""

    reason = "NotValidated"
    exit_code = ExitCode.INVALID


class ModelChangedError(PublishError):
    """The files are not those that the training sealed."""

    reason = "ModelChanged"
    exit_code = ExitCode.INVALID


class RefusedError(PublishError):
    """The place exists and does not take the model from this caller."""

    reason = "PlaceRefused"
    exit_code = ExitCode.INVALID


class TakenError(PublishError):
    """Somebody else's files are there."""

    reason = "PlaceTaken"
    exit_code = ExitCode.INVALID


class UnavailableError(PublishError):
    """The place does not answer now; another try goes on where this one ended."""

    reason = "PlaceUnavailable"
