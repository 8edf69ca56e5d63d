"""What the operator is told on its command line and by its environment."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.controller.settings import Settings, variable

_USAGE = 2

EXAMPLES = """\
examples:
  in a Pod, as the Helm chart does (settings are FINETUNING_OPERATOR_<FIELD> variables):
    python -m finetuning.controller

  on a developer's machine, against one namespace:
    export FINETUNING_OPERATOR_OPERATOR_IMAGE=registry.example.com/finetuning-operator:dev
    export FINETUNING_OPERATOR_TRAINER_IMAGE=registry.example.com/finetuning-trainer:dev
    python -m finetuning.controller --kubeconfig .cluster/kubeconfig --namespace team-a
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m finetuning.controller",
        description="Serves FineTuningJobs: trains, watches and validates language models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="connect with the current context of FILE; default: $KUBECONFIG outside a Pod",
    )
    found.add_argument(
        "--namespace",
        action="append",
        metavar="NAME",
        help="serve only this namespace; may be repeated",
    )
    found.add_argument("--http-port", type=int, metavar="PORT", help="of /livez, /readyz, /metrics")
    found.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    found.add_argument("--version", action="version", version=version("finetuning-operator"))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        settings = Settings.from_env(os.environ, **_overrides(arguments))
        kubeconfig = _kubeconfig(arguments.kubeconfig)
    except (ValidationError, ValueError) as error:
        for line in _problems(error):
            print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the user's answer
        return _USAGE
    if kubeconfig is not None:
        # kopf logs in through the official client, which reads the variable when first imported.
        os.environ["KUBECONFIG"] = kubeconfig
    # Heavy imports wait until here: --help and a wrong setting answer at once.
    from finetuning.controller import runtime  # noqa: PLC0415

    return runtime.run(settings, kubeconfig)


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    found = {
        "watch_namespaces": arguments.namespace,
        "http_port": arguments.http_port,
        "log_level": arguments.log_level,
    }
    return {name: value for name, value in found.items() if value is not None}


def _kubeconfig(given: str | None) -> str | None:
    """None in a Pod, where the service account is used unless a file is named."""
    if given is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    path = Path(given or os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser()
    if not path.is_file():
        raise ValueError(
            f"--kubeconfig {path}: no such file. Name a kubeconfig, or run inside a Pod."
        )
    return str(path)


def _problems(error: ValidationError | ValueError) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    return [_setting_problem(each) for each in error.errors(include_url=False)]


def _setting_problem(each: Any) -> str:
    name = variable(str(each["loc"][0]))
    if each["type"] == "missing":
        about = Settings.model_fields[str(each["loc"][0])].description
        return f"{name} is not set. {about}"
    return f"{name}={each['input']!r}: {each['msg']}"
