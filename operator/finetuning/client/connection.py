"""Which cluster: the kubeconfig's current context, or the service account inside a Pod."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigMerger

from finetuning.artifacts.plain import plain
from finetuning.client.errors import ClientError, NoClusterError
from finetuning.controller.gateway import Gateway

SENDER = "finetuning-client"
"""Field manager and User-Agent, so that an audit tells people's writes from the operator's."""
_TOLD = (ClientError, ConfigException, OSError)
"""What has words of its own; the client stumbles over anything else that is no kubeconfig."""
_READER = logging.getLogger("kubernetes.aio.config.kube_config")
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Connection:
    """A way to one API server, what to call it, and the namespace that it is for."""

    gateway: Gateway
    context: str
    namespace: str
    named: bool
    """Whether the namespace was given, rather than taken from the context."""


async def connect(
    kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None
) -> Connection:
    """Nothing is asked of the cluster yet; raises NoClusterError without a usable kubeconfig."""
    path = _kubeconfig(kubeconfig, context)
    _require(path)
    try:
        name, own = _context(path, context)
        with _complaints() as wrong:
            gateway = await Gateway.connect(path, lambda *_: None, context=context, sender=SENDER)
    except Exception as error:  # noqa: BLE001 - the client checks little of what it reads
        words = plain(str(error), 200) if isinstance(error, _TOLD) else "not a kubeconfig"
        raise NoClusterError(f"{path or 'service account'}: {words}") from None
    if wrong:
        await gateway.close()
        raise NoClusterError(
            f"{path}: the program that logs in: {plain(wrong[0], 200)}; mend it, or log in anew"
        )
    return Connection(gateway, name, namespace or own, named=namespace is not None)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What the client says of a login program that fails, before it goes on as nobody."""
    found: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        found.append(record.getMessage())
        return False

    level = _READER.level
    _READER.setLevel(logging.ERROR)
    _READER.addFilter(keep)
    try:
        yield found
    finally:
        _READER.removeFilter(keep)
        _READER.setLevel(level)


def _require(path: str | None) -> None:
    if path is not None and not _is_there(path):
        raise NoClusterError(
            f"{path}: no such kubeconfig; name one with --kubeconfig FILE or in KUBECONFIG"
        )


def _is_there(path: str) -> bool:
    """Of several files, as kubectl takes them, those that are not there are passed over."""
    return any(Path(each).is_file() for each in path.split(os.pathsep))


def _kubeconfig(given: str | None, context: str | None) -> str | None:
    """None in a Pod without a kubeconfig: its service account is then used, as kubectl does it."""
    usual = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not _is_there(usual)
    if given:
        # Where no shell has read it, as in a notebook or behind `--kubeconfig=`.
        return os.pathsep.join(str(Path(each).expanduser()) for each in given.split(os.pathsep))
    return None if in_pod and context is None else usual


def _context(path: str | None, wanted: str | None) -> tuple[str, str]:
    """Name of the context, and its namespace; of the current one only where none is wanted."""
    if path is None:
        return "this cluster", _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    config = KubeConfigMerger(path).config.value
    contexts = [each.value for each in config["contexts"]]
    named = {str(each["name"]): each["context"] for each in contexts}
    name = str(config.get("current-context") or "") if wanted is None else wanted
    if name not in named:
        raise NoClusterError(_no_such(name, list(named), wanted))
    return name, str(named[name].get("namespace") or "default")


def _no_such(name: str, known: list[str], wanted: str | None) -> str:
    """A deleted cluster of kind leaves a kubeconfig without a current context, for one."""
    has = ", ".join(known) or "none"
    if wanted is not None:
        return f'no context "{wanted}"; it has {has}'
    what = f'the current context "{name}" is not in it' if name else "it has no current context"
    return f"{what}; name one with --context, or choose it with kubectl config use-context: {has}"
