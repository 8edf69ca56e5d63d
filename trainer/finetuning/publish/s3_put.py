"""A write to an S3 store that is done only where an object is still the one that was seen.

pyarrow's client has no word for such a condition. So this one request is signed here (Amazon's
Signature Version 4) and sent by the client that registries are asked with.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import httpx2

from finetuning.artifacts.failures import first_line
from finetuning.base import s3 as client

ABSENT = ""
"""In place of the tag of an object that is not there."""

_ALGORITHM, _MOMENT = "AWS4-HMAC-SHA256", "%Y%m%dT%H%M%SZ"
_TIMEOUT = httpx2.Timeout(client.REQUEST_SECONDS, connect=client.CONNECT_SECONDS)
_CHANGED = (httpx2.codes.CONFLICT, httpx2.codes.PRECONDITION_FAILED)


class ChangedError(Exception):
    """Another object is there, or none any more: nothing was written."""


class UnconditionalError(Exception):
    """The store, or this login, does not take conditions; says why."""


@dataclass(frozen=True)
class Keys:
    """What signs a request."""

    access: str
    secret: str
    token: str
    region: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Keys":
        """Raises UnconditionalError where the login is none of two keys, as with a role."""
        if not client.has_key(environ):
            raise UnconditionalError("only a login of two keys signs conditional writes")
        return cls(
            environ["AWS_ACCESS_KEY_ID"],
            environ.get("AWS_SECRET_ACCESS_KEY", ""),
            environ.get("AWS_SESSION_TOKEN", ""),
            client.region(environ),
        )


def put(path: str, data: bytes, seen: str, environ: Mapping[str, str]) -> str:
    """Write `<bucket>/<key>` where its tag is still `seen`, and say its new tag.

    Raises:
        ChangedError: it is not.
        UnconditionalError: the store does not say whether it is; it may have been written.
    """
    keys, address = Keys.of(environ), _address(path, environ)
    condition = {"if-match": seen} if seen else {"if-none-match": "*"}
    headers = signed(address, data, condition, keys, datetime.now(UTC))
    try:
        with httpx2.Client(timeout=_TIMEOUT, trust_env=False) as http:
            answer = http.put(address, content=data, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UnconditionalError(first_line(error, 100)) from error
    gone = seen and answer.status_code == httpx2.codes.NOT_FOUND
    if gone or answer.status_code in _CHANGED:
        raise ChangedError
    if not answer.is_success or not answer.headers.get("etag"):
        raise UnconditionalError(f"it answers {answer.status_code}")
    return str(answer.headers["etag"])


def _address(path: str, environ: Mapping[str, str]) -> str:
    host = client.endpoint(environ) or f"https://s3.{client.region(environ)}.amazonaws.com"
    scheme, _, rest = host.rpartition("://")
    return f"{scheme or 'https'}://{rest.rstrip('/')}/{quote(path, safe='/-_.~')}"


def signed(
    address: str, data: bytes, condition: Mapping[str, str], keys: Keys, now: datetime
) -> dict[str, str]:
    """The headers of a PUT, with their signature among them."""
    where, digest, moment = urlsplit(address), hashlib.sha256(data).hexdigest(), f"{now:{_MOMENT}}"
    headers = {
        **condition,
        "host": where.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": moment,
        **({"x-amz-security-token": keys.token} if keys.token else {}),
    }
    names = ";".join(sorted(headers))
    told = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    summed = hashlib.sha256(f"PUT\n{where.path}\n\n{told}\n{names}\n{digest}".encode()).hexdigest()
    scope = f"{now:%Y%m%d}/{keys.region}/s3/aws4_request"
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope.split("/"), f"{_ALGORITHM}\n{moment}\n{scope}\n{summed}"):
        key = hmac.digest(key, part.encode(), "sha256")
    words = f"Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**headers, "authorization": f"{_ALGORITHM} {words}"}
