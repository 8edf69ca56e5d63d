"""Metrics server beside a training run: `python3 -m finetuning.monitoring.metrics_server`.

It reads the files that the trainer writes and never talks to the trainer itself.
"""

import argparse
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning.artifacts import STATE_DIR, TRAINING_INFO

if TYPE_CHECKING:
    from finetuning.monitoring.metrics import FineTuningMetricsExporter
    from finetuning.monitoring.scrapers import Scrapers

METHODS = ("lora", "qlora", "full")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LINGER_POLL_SECONDS = 0.1
_REGULAR_SECONDS = 60.0
"""Who has not come for so long, nor for the time of lingering, is not waited for."""
_HIGHEST_PORT = 65535

_EPILOG = """\
pages:
  /metrics   the figures, for Prometheus
  /status    the trainer's state as JSON; 503 until there is one
  /healthz   200 while the server runs

example:
  python3 -m finetuning.monitoring.metrics_server --port 8000 --job-name my-job \\
    --model-id Qwen/Qwen2.5-7B-Instruct --method lora \\
    --training-info ./output/training_info.json
  curl -s http://localhost:8000/metrics | grep finetuning
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C.

    The signals are blocked first and waited for later: as process 1 of a container none would
    arrive otherwise, and none can be lost while the libraries load.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        tls = tls_context(args.tls_cert, args.tls_key, args.tls_client_ca)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    exporter = _exporter(args, tls)
    try:
        exporter.start_server()
    except (OSError, OverflowError) as error:
        return _refuse(args, error)
    scheme = "https" if tls else "http"
    host = f"[{exporter.bind_address}]" if ":" in exporter.bind_address else exporter.bind_address
    _say(f"serving {scheme}://{host}:{exporter.port}/metrics for job {args.job_name}")
    signal.sigwait(_STOP_SIGNALS)
    killed = not exporter.snapshot().is_final
    exporter.trainer_gone()
    _linger([exporter.scrapers, *([exporter.askers] if killed else [])], args.linger)
    exporter.stop_server()
    return 0


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m finetuning.monitoring.metrics_server",
        description="Serve the figures of a fine-tuning run to Prometheus.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=_port, default=8000, help="port to listen on (default: 8000)")
    add(
        "--bind-address",
        default="",
        metavar="ADDRESS",
        help="address to listen on, such as 127.0.0.1 (default: all, IPv4 and IPv6)",
    )
    add("--job-name", default="finetuning", help="label job_name (default: %(default)s)")
    add("--model-id", default="", help="label model_id")
    add("--method", default="", choices=METHODS, help="label method: lora, qlora or full")
    add(
        "--training-info",
        type=Path,
        default=Path("output", TRAINING_INFO),
        metavar="FILE",
        help="training_info.json of the run; it need not exist yet (default: %(default)s)",
    )
    add(
        "--state-dir",
        type=Path,
        metavar="FOLDER",
        help=f"where the trainer writes its live state (default: {STATE_DIR}/ beside FILE)",
    )
    add(
        "--linger",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="after SIGTERM wait at most so long until all who scrape have the final figures "
        "(default: 0)",
    )
    secure = parser.add_argument_group("encryption (certificates in PEM)")
    secure.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="serve https with this certificate"
    )
    secure.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key")
    secure.add_argument(
        "--tls-client-ca",
        type=Path,
        metavar="FILE",
        help="answer only clients whose certificate one of these authorities signed",
    )
    return parser


def tls_context(
    certificate: Path | None, key: Path | None, client_ca: Path | None
) -> ssl.SSLContext | None:
    """None for plain http; raises ValueError or OSError that name the option at fault."""
    if certificate is None or key is None:
        given = [certificate, key, client_ca]
        if any(given):
            raise ValueError("--tls-cert and --tls-key are needed together, --tls-client-ca beside")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load("--tls-cert", certificate, lambda: context.load_cert_chain(certificate, key))
    if client_ca is not None:
        _load("--tls-client-ca", client_ca, lambda: context.load_verify_locations(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(option: str, file: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one.
        reason = error.strerror or str(error)
        raise ValueError(f"{option} {file}: {reason}; a certificate and its key in PEM") from error


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _HIGHEST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; allowed are 0 to {_HIGHEST_PORT}")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if 0 <= value < float("inf"):
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; 0 or more is allowed")


def _exporter(args: argparse.Namespace, tls: ssl.SSLContext | None) -> "FineTuningMetricsExporter":
    from finetuning.monitoring.metrics import (  # noqa: PLC0415 - after the signals are blocked
        FineTuningMetricsExporter,
    )

    return FineTuningMetricsExporter(
        args.port,
        job_name=args.job_name,
        model_id=args.model_id,
        method=args.method,
        state_dir=args.state_dir,
        training_info=args.training_info,
        bind_address=args.bind_address,
        tls=tls,
    )


def _refuse(args: argparse.Namespace, error: Exception) -> int:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    address = args.bind_address or "all addresses,"
    _say(
        f"error: cannot listen on {address} port {args.port}: {reason}; "
        "choose another with --port or --bind-address"
    )
    return 2


def _linger(visits: Sequence["Scrapers"], seconds: float) -> None:
    """Wait until all who come have had the final state; a second signal ends the wait.

    Two Prometheis may watch a job. The pod holds its GPUs for so long: nobody is waited for who
    does not come regularly, such as somebody with curl. A trainer that was killed has said nothing
    to kubelet: the operator learns from here how far it was.
    """
    deadline = time.monotonic() + seconds
    expected = [each.regular(max(seconds, _REGULAR_SECONDS)) for each in visits]
    while (
        any(names - each.served for names, each in zip(expected, visits, strict=True))
        and time.monotonic() < deadline
        and signal.sigtimedwait(_STOP_SIGNALS, _LINGER_POLL_SECONDS) is None
    ):
        pass


def _say(text: str) -> None:
    print(f"metrics_server: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command line


if __name__ == "__main__":
    sys.exit(main())
