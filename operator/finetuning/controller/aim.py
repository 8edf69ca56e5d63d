"""Creates what AMD's aim-engine serves a model by, where it is installed and the rights allow it.

Created once and then left alone: no watch, no change, no deletion. What is there already counts if
it serves this very model.
"""

from finetuning.api.v1alpha1 import FineTuningJob, Reason, ServeCreate
from finetuning.artifacts.plain import plain
from finetuning.controller import images, naming, served, serving
from finetuning.controller.apply import NO_WEBHOOK, NamespaceGoneError
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError, Gateway, Resource
from finetuning.controller.settings import Settings
from finetuning.controller.stock import has
from finetuning.controller.training_status import Problem

_PLURALS = {"AIMModel": "aimmodels", "AIMService": "aimservices"}
_KINDS = {ServeCreate.MODEL: ("AIMModel",), ServeCreate.SERVICE: ("AIMModel", "AIMService")}
_FORBIDDEN, _NOT_FOUND = 403, 404
_REFUSED = {400, 422}
_WITH_IMAGE = "v1alpha1"
"""The version that runs the image of the job; the other one takes that of a tuned profile."""
AGAIN = f"set the annotation {naming.SERVE_ANNOTATION} to a new value"


async def serve(gateway: Gateway, job: FineTuningJob, settings: Settings) -> Problem | None:
    """Create what is missing; says what came of it, or None where nothing was to be done.

    Raises ApiError and RetryLaterError for what another look may find mended.
    """
    wish, publish, wanted = served.missing(job), job.spec.output.publish, job.spec.output.serve
    copies = job.status.publish
    if wish is None or publish is None or wanted is None or copies is None:
        return None
    kinds = _KINDS[wish.create]
    version = await _served_version(gateway, kinds)
    if version is None:
        return _missing(" and ".join(kinds))
    if (why := images.refusal(wanted.image, settings)) and version == _WITH_IMAGE:
        message = f"spec.output.serve.image: {wanted.image} {why}. Name another one, or {AGAIN}."
        return Problem(Reason.IMAGE_NOT_ALLOWED, plain(message, 1024), final=True)
    for manifest in serving.objects(job, publish, wanted, version, copies):
        if manifest["kind"] in kinds:
            problem = await _make(gateway, version, manifest)
            if problem is not None:
                return problem
    names = " and ".join(f"{kind} {job.metadata.name}" for kind in kinds)
    message = f"{names} of {serving.AIM_GROUP}/{version}: there, for this model."
    return Problem(Reason.SERVING_CREATED, message)


def _resource(kind: str, version: str) -> Resource:
    return Resource(serving.AIM_GROUP, version, _PLURALS[kind])


async def _served_version(gateway: Gateway, kinds: tuple[str, ...]) -> str | None:
    for version in serving.VERSIONS:
        if all([await gateway.serves(_resource(kind, version)) for kind in kinds]):
            return version
    return None


def _missing(what: str) -> Problem:
    message = f"The cluster has no {what} resource. Install AMD's aim-engine, then {AGAIN}."
    return Problem(Reason.AIM_CRD_MISSING, message, final=True)


async def _make(gateway: Gateway, version: str, manifest: Manifest) -> Problem | None:
    resource = _resource(manifest["kind"], version)
    try:
        await gateway.create(resource, manifest)
    except ApiError as error:
        if error.reason == "AlreadyExists":
            return await _compared(gateway, resource, manifest)
        return _refused(error, manifest)
    return None


async def _compared(gateway: Gateway, resource: Resource, manifest: Manifest) -> Problem | None:
    """aim-engine lets nobody change what a model is: another one is in the way."""
    meta, kind = manifest["metadata"], manifest["kind"]
    found = await gateway.get(resource, meta["namespace"], meta["name"])
    if found is None or found["metadata"].get("deletionTimestamp"):
        raise RetryLaterError(f"{kind} {meta['name']} was there and goes")
    if has(found, {"metadata": meta, "spec": manifest["spec"]}):
        return None
    command = f"kubectl --namespace {meta['namespace']} delete {kind.lower()} {meta['name']}"
    message = (
        f"{kind} {meta['name']} exists already and serves another model, or otherwise. Leave it, "
        f"or delete it when nobody needs it ({command}), then {AGAIN}."
    )
    return Problem(Reason.NAME_CONFLICT, message, final=True)


def _refused(error: ApiError, manifest: Manifest) -> Problem:
    """Raises the error where it may pass."""
    kind, words = manifest["kind"], plain(error.message, 512)
    told = f"{kind} {manifest['metadata']['name']} cannot be created: {words}"
    if error.code == _NOT_FOUND:
        return _missing(kind)
    if error.code == _FORBIDDEN and "being terminated" in error.message:
        raise NamespaceGoneError(error.message) from error
    if error.code == _FORBIDDEN:
        message = f"{told}. Allow it by the chart's value serving.create, then {AGAIN}."
        return Problem(Reason.FORBIDDEN, message, final=True)
    if NO_WEBHOOK.search(error.message):
        return Problem(Reason.SERVING_PENDING, f"{told}. It is tried again every 30 seconds.")
    if error.code in _REFUSED:
        message = f"{told}. Mend spec.output.serve, or {AGAIN}."
        return Problem(Reason.SERVING_REFUSED, message, final=True)
    raise error
