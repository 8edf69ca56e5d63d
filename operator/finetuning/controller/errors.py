"""What can go wrong in a reconcile, by what helps.

    ReconcileError
    ├── InvalidSpecError   only the user can mend it: becomes ConfigValid=False, never retried
    └── RetryLaterError    trying again may help: back-off with jitter

Failures of the API server are `gateway.ApiError`, told apart by their status code.
"""


class ReconcileError(Exception):
    """Root of the errors that this package raises on purpose."""


class InvalidSpecError(ReconcileError):
    """The spec names something that can never work; says the field, the value and the remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {str(value)[:200]!r} {remedy}")


class RetryLaterError(ReconcileError):
    """The world is not ready; the queue decides when to look again."""

    after: float | None = None
