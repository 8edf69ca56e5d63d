"""The steps of a publication, for options that are read already."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from finetuning.api.output import ModelForm, PublishPolicy
from finetuning.artifacts import MERGED_DIR, MODEL_CARD, VALIDATION_DIR, VALIDATION_REPORT_JSON
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.files import write_atomic
from finetuning.artifacts.models import CopiedModel, PublishResult
from finetuning.base import environment
from finetuning.base.errors import ModelError
from finetuning.base.merge import Base, merge
from finetuning.base.storage import space_for
from finetuning.publish import aim, arguments, bundle, card, facts, oci, s3, signature, workplace
from finetuning.publish.arguments import Options
from finetuning.publish.bundle import Bundle, Say
from finetuning.publish.errors import NotValidatedError, PublishError
from finetuning.publish.facts import Facts


def publish(options: Options, environ: Mapping[str, str], result: PublishResult, say: Say) -> None:
    """Make the card and, where it is asked for, the merged model; send all.

    `result` is told of each step that is done, so that it says the truth after a failure too.
    """
    digest = bundle.manifest_digest(options.run, options.manifest_sha256)
    told = facts.read(options.run, digest)
    _require_verdict(options, told)
    with workplace.held(options.work, environ):
        with space_for("what is published", options.work):
            prepared = prepare(options, told, digest)
            if options.sign:
                prepared = signature.signed(prepared, options.work, environ)
        result.manifest_sha256 = digest
        places = list(_places(options, told, prepared, environ, say))
        if not places:
            say(f"{prepared.size:,} bytes are ready in {options.run} and {options.work}; none sent")
        _send(places, result, say)


def _send(places: Iterable[Callable[[], CopiedModel]], result: PublishResult, say: Say) -> None:
    problems = [problem for place in places if (problem := _try(place, result, say))]
    if problems:
        raise _together(problems)


def _together(problems: list[PublishError]) -> PublishError:
    """All are told, and one that another try may mend decides: what is complete costs nothing."""
    first, *others = sorted(problems, key=lambda problem: problem.exit_code)
    first.args = ("; besides, ".join([str(first), *(f"{each.reason}: {each}" for each in others)]),)
    return first


def _places(
    options: Options, told: Facts, prepared: Bundle, environ: Mapping[str, str], say: Say
) -> Iterator[Callable[[], CopiedModel]]:
    """What makes the copy, for each place that is asked for."""
    if (s3_uri := options.s3) is not None:
        yield lambda: s3.publish(prepared, s3_uri, environ, say)
    if (oci_uri := options.oci) is not None:
        plain = options.oci_plain_http
        yield lambda: oci.publish(prepared, told, oci_uri, environ, say, plain_http=plain)
    if (hub_uri := options.hub) is not None:
        # Its client takes a second to load.
        from finetuning.publish import hub  # noqa: PLC0415

        yield lambda: hub.publish(prepared, hub_uri, environ, say, public=options.hub_public)


def _try(place: Callable[[], CopiedModel], result: PublishResult, say: Say) -> PublishError | None:
    """Why the copy was not made; one place does not wait for another."""
    try:
        copy = place()
    except PublishError as error:
        return error
    result.copies.append(copy)
    say(_sentence(copy))
    return None


def prepare(options: Options, told: Facts, digest: str) -> Bundle:
    """Everything that is sent, made and checked."""
    adapter = bundle.is_adapter(options.run)
    form = options.form if adapter else ModelForm.ADAPTER
    if form is not ModelForm.ADAPTER:
        environment.prepare()
        bundle.require_sealed(options.run)
        _merge(options, told)
    text = card.render(told, adapter=adapter, form=form, signed=options.sign)
    write_atomic(options.work / MODEL_CARD, text.encode())
    extra = _write_aim_profile(options, told)
    return bundle.gather(options.run, options.work, form, digest, extra)


def _merge(options: Options, told: Facts) -> None:
    try:
        merge(options.run, options.work / MERGED_DIR, _base(options, told))
    except ModelError as error:
        # It names the trainer's flags, which mean the run here, or nothing.
        error.args = (arguments.in_own_flags(str(error)),)
        raise


def _write_aim_profile(options: Options, told: Facts) -> dict[str, Path]:
    """Name in the copy and file of the profile; empty when nobody asked for one."""
    if options.serving is None:
        return {}
    name, text = aim.profile(options.serving, told)
    folder = options.work / aim.FOLDER
    folder.mkdir(exist_ok=True)
    write_atomic(folder / name, text.encode())
    return {f"{aim.FOLDER}/{name}": folder / name}


def _base(options: Options, told: Facts) -> Base:
    """As the command line says, or as the adapter itself does."""
    named = options.base_model or str(told.adapter.get("base_model_name_or_path") or "")
    revision = options.base_revision or (None if options.base_model else _revision(told))
    local = named if Path(named).is_dir() else None
    weights = _weights(told)
    return Base(named, None if local else revision, local, weights)


def _weights(told: Facts) -> BaseWeights | None:
    try:
        return BaseWeights.model_validate(told.info.get("base_weights"))
    except ValidationError:
        return None


def _revision(told: Facts) -> str | None:
    found = told.adapter.get("revision")
    return found if isinstance(found, str) else None


def _require_verdict(options: Options, told: Facts) -> None:
    if options.policy is PublishPolicy.ALWAYS or told.passed:
        return
    report = options.run / VALIDATION_DIR / VALIDATION_REPORT_JSON
    why = told.verdict_problem or "says that the model did not pass"
    raise NotValidatedError(
        f"{report}: {why}; validate the model with `finetuning validate --local {options.run}`, or "
        "publish it as it is with --policy Always"
    )


def _sentence(copy: CopiedModel) -> str:
    sent = f"sent {copy.sent_files}" if copy.sent_files else "all were there already"
    return (
        f"{copy.location}: {copy.files} files, {copy.size_bytes:,} bytes ({sent}); "
        f"sealed by {copy.digest}"
    )
