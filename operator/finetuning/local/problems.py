"""What the user can mend; shown as lines on stderr, never as a stack trace, with exit code 2."""


class InputError(Exception):
    """What was typed or written in a manifest cannot be used; each line says what would do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
