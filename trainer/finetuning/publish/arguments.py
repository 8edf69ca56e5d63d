"""The command line of `python3 -m finetuning.publish`."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from finetuning.api.output import ModelForm, PublishPolicy
from finetuning.api.text import HubUri, OciUri, S3Uri
from finetuning.artifacts import PUBLISH_DIR
from finetuning.publish.errors import UsageError

_OWN_FLAGS = {
    "--model-id": "--base-model",
    "--model-path": "--base-model",
    "--revision": "--base-revision",
}
"""How the base model is named here, by the trainer's flags."""

_POLICIES = (PublishPolicy.IF_VALIDATED, PublishPolicy.ALWAYS)


@dataclass(frozen=True)
class Serving:
    """What an AIM runtime profile is for."""

    model_id: str
    aim_id: str
    gpu_model: str
    gpus: int


@dataclass(frozen=True)
class Options:
    """What is published, and where to."""

    run: Path
    work: Path
    policy: PublishPolicy
    form: ModelForm
    manifest_sha256: str | None
    base_model: str | None
    base_revision: str | None
    s3: str | None
    oci: str | None
    oci_plain_http: bool
    hub: str | None
    hub_public: bool
    sign: bool
    serving: Serving | None
    """For whom an AIM profile is written; None for nobody."""


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="python3 -m finetuning.publish",
        description="Publish a trained model with its model card. What is complete is not sent "
        "again; what was broken off goes on. Without a place, only the card and the merged model "
        "are made.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--model-path", required=True, type=Path, metavar="DIR", help="output folder of the run"
    )
    made.add_argument(
        "--work-path",
        type=Path,
        metavar="DIR",
        help=f"where model card and merged model are made (default: {PUBLISH_DIR} in --model-path)",
    )
    made.add_argument(
        "--policy",
        type=_one_of(_POLICIES),
        default=PublishPolicy.IF_VALIDATED,
        metavar="|".join(_POLICIES),
        help="IfValidated, the default, wants a report that this very model passed",
    )
    made.add_argument(
        "--form",
        type=_one_of(tuple(ModelForm)),
        default=ModelForm.ADAPTER,
        metavar="|".join(ModelForm),
        help="of lora and qlora: the adapter (default), the base with the adapter in it, or both",
    )
    made.add_argument(
        "--base-model",
        metavar="DIR|ID",
        help="base model to merge into (default: the one that the adapter names)",
    )
    made.add_argument("--base-revision", metavar="REV", help="its revision on the Hub")
    made.add_argument(
        "--manifest-sha256", metavar="HEX", help="publish only the run with this manifest.json"
    )
    made.add_argument(
        "--sign",
        action="store_true",
        help="add model.sig, the OpenSSF signature of all files, by the private key whose PEM text "
        "is in FINETUNING_SIGNING_KEY",
    )
    _add_places(made)
    _add_serving(made)
    return made


def _add_places(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--s3",
        type=_uri_of(S3Uri),
        metavar="s3://BUCKET/FOLDER",
        help="an S3 store; AWS_ENDPOINT_URL, AWS_REGION and keys as every S3 tool reads them",
    )
    made.add_argument(
        "--oci",
        type=_uri_of(OciUri),
        metavar="oci://HOST/REPOSITORY:TAG",
        help="an OCI registry; keys as `docker login` keeps them, or in DOCKER_AUTH_CONFIG",
    )
    made.add_argument(
        "--oci-plain-http", action="store_true", help="the registry is spoken to without TLS"
    )
    made.add_argument(
        "--hub",
        type=_uri_of(HubUri),
        metavar="hf://OWNER/NAME",
        help="the Hugging Face Hub; token in FINETUNING_HUB_TOKEN or HF_TOKEN, or as its own "
        "command keeps it",
    )
    made.add_argument(
        "--hub-public", action="store_true", help="make a public repository, and take one"
    )


def _add_serving(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--aim-gpu-model", metavar="GPU", help="write an AIM runtime profile for this GPU: MI300X"
    )
    made.add_argument(
        "--aim-gpus", type=int, default=1, choices=range(1, 9), metavar="1-8", help="how many of it"
    )
    made.add_argument("--aim-model-id", metavar="OWNER/NAME", help="what the model is called there")
    made.add_argument("--aim-id", metavar="ID", help="AIM that it belongs to (default: the same)")


def in_own_flags(text: str) -> str:
    """What the trainer says of a base model, with the flags that name it here."""
    return re.sub(r"--[a-z]+(?:-[a-z]+)*", lambda found: _OWN_FLAGS.get(found[0], found[0]), text)


Choice = TypeVar("Choice", bound=StrEnum)


def _one_of(allowed: Sequence[Choice]) -> Callable[[str], Choice]:
    """In any case of letters."""

    def read(text: str) -> Choice:
        for each in allowed:
            if text.lower() == each.value.lower():
                return each
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(allowed)}")

    return read


def _uri_of(kind: Any) -> Callable[[str], str]:
    """As the FineTuningJob's own field of the kind is judged."""

    def read(text: str) -> str:
        try:
            return str(TypeAdapter(kind).validate_python(text))
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise argparse.ArgumentTypeError(f"{text!r}: {why}") from None

    return read


def read(argv: Sequence[str] | None = None) -> Options:
    """Raises UsageError, whose text is one line."""
    given = parser().parse_args(argv)
    if given.oci_plain_http and given.oci is None:
        raise UsageError("--oci-plain-http: says how to speak to a registry: give --oci too")
    if given.hub_public and given.hub is None:
        raise UsageError("--hub-public: says what to make on the Hub: give --hub too")
    return Options(
        run=given.model_path,
        work=given.work_path or given.model_path / PUBLISH_DIR,
        policy=given.policy,
        form=given.form,
        manifest_sha256=given.manifest_sha256,
        base_model=given.base_model,
        base_revision=given.base_revision,
        s3=given.s3,
        oci=given.oci,
        oci_plain_http=given.oci_plain_http,
        hub=given.hub,
        hub_public=given.hub_public,
        sign=given.sign,
        serving=_serving(given),
    )


def _serving(given: argparse.Namespace) -> Serving | None:
    if given.aim_gpu_model is None:
        return None
    if given.aim_model_id is None:
        raise UsageError("--aim-gpu-model: the profile names the model: give --aim-model-id too")
    return Serving(
        model_id=given.aim_model_id,
        aim_id=given.aim_id or given.aim_model_id,
        gpu_model=given.aim_gpu_model,
        gpus=given.aim_gpus,
    )
