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
        self.field = field
        super().__init__(f"{field}: {str(value)[:200]!r} {remedy}")


class RetryLaterError(ReconcileError):
    """The world is not ready; `after` seconds from now it may be."""

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)
