"""Texts that somebody else chose, made fit to be shown: on a terminal, in a log, in a status."""

import re

_CREDENTIALS = re.compile(
    r"hf_[A-Za-z0-9]{8,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\b(?:ghp|gho|ghs|github_pat|glpat|xox[abp]|sk)[_-][A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?i:authorization[\"']?\s*[=:]\s*[\"']?(?:basic|digest|token)\s+)[^\s\"',}]+"
    r"|(?<=[?&])(?i:x-amz-signature|x-amz-security-token|signature|sig)=[^&\s\"']+"
    r"|(?i:(?:token|secret|password|passwd|(?:api|access|secret|private)[_-]?key))[\"']?\s*[=:]\s*"
    r"[\"']?[^\s\"',}…][^\s\"',}]*"
)
"""Of the Hub, AWS, GitHub, GitLab, Slack and OpenAI; JSON web tokens; logins in an address and its
signature; and whatever stands behind a name that says so."""

_LINES = "\n\t"


def plain(text: str, limit: int) -> str:
    """One line without control characters and credentials, of at most `limit` characters."""
    line = _CREDENTIALS.sub("[redacted]", " ".join(_printable(text, "").split()))
    return shorter(line, limit)


def shorter(text: str, limit: int) -> str:
    """Its beginning, where all of it is too long."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def harmless(text: str) -> str:
    """The same with its lines, however long it is."""
    return _CREDENTIALS.sub("[redacted]", _printable(text, _LINES))


def _printable(text: str, kept: str) -> str:
    """Without terminal escapes, marks that turn a text's direction, and halves of characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else " " for c in text)
