"""Whether what serves the model is to be created: once for each wish, and only of a good model.

A wish is `spec.output.serve`, the published model, and the latest annotation that asks again. One
that was answered is never looked at again, so that an AIMService that somebody deleted takes no
GPUs a second time.
"""

import json
from dataclasses import dataclass

from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    PublishPhase,
    Reason,
    ServeCreate,
    ServeSpec,
    ServingStatus,
    ValidationPhase,
)
from finetuning.controller import attempts, naming, publications, serving
from finetuning.controller.training_status import Problem, Seen

NOT_VALIDATED = Problem(
    Reason.NOT_VALIDATED,
    "The model did not pass its validation, so nothing is created that serves it; what was created "
    "for an earlier verdict stays where it is.",
)
PENDING = Problem(Reason.SERVING_PENDING, "Waits for the verdict and the published copy.")
HELD = Problem(Reason.SERVING_PENDING, "Nothing is created while spec.suspend is true.")


@dataclass(frozen=True)
class Wish:
    """What is still to be created."""

    digest: str
    create: ServeCreate


def offering(serve: ServeSpec | None) -> ServeSpec | None:
    """The same wish without anything that is created."""
    return serve and serve.model_copy(update={"create": ServeCreate.NOTHING})


def missing(job: FineTuningJob) -> Wish | None:
    """What is to be created now; None when nothing is, or may be."""
    ready = _is_good(job.status) and publications.is_settled(job) and not job.spec.suspend
    if not ready or not _creates(job):
        return None
    wanted, old = _wish(job, serving.offered(job, job.status)), job.status.serving
    return None if wanted and old is not None and old.wish == wanted.digest else wanted


def _wish(job: FineTuningJob, offered: ServingStatus | None) -> Wish | None:
    """None where nothing is asked for, or no complete copy is there.

    Of what is asked for and not of the objects, which another version of this may write otherwise.
    """
    serve = job.spec.output.serve
    if serve is None or offered is None or not _creates(job):
        return None
    again = job.metadata.annotations.get(naming.SERVE_ANNOTATION, "")
    model = job.status.publish.manifest_sha256 if job.status.publish else ""
    told = [serve.model_dump(mode="json", exclude_defaults=True), offered.source_uri, model, again]
    return Wish(attempts.digest(json.dumps(told)), serve.create)


def _creates(job: FineTuningJob) -> bool:
    serve = job.spec.output.serve
    return serve is not None and serve.create is not ServeCreate.NOTHING


def _is_good(status: FineTuningJobStatus) -> bool:
    found, copies = status.validation, status.publish
    passed = found is not None and found.phase is ValidationPhase.PASSED and found.rerun is None
    return passed and copies is not None and copies.phase is PublishPhase.PUBLISHED


def is_news(old: ServingStatus | None, new: ServingStatus | None) -> bool:
    """Whether a wish was answered, or another one was."""
    return new is not None and bool(new.wish) and (old is None or old.wish != new.wish)


def serving_status(seen: Seen, new: FineTuningJobStatus) -> ServingStatus | None:
    """The next state of status.serving; `new` has the newest verdict and copies."""
    job, old = seen.job.model_copy(update={"status": new}), seen.job.status.serving
    offered = serving.offered(job, new)
    wish, shown = _wish(job, offered), offered or _remembered(old)
    if shown is None or not _creates(job):
        return offered
    if wish is not None and seen.served is not None:
        return _told(shown, seen.served, "" if is_put_off(seen.served) else wish.digest)
    if _is_bad(new):
        return _told(shown, NOT_VALIDATED, "")
    if wish is None:
        return shown
    if old is not None and old.wish == wish.digest:
        return shown.model_copy(update=old.model_dump(include=_OUTCOME))
    return _told(shown, HELD if job.spec.suspend else PENDING, "")


def is_put_off(outcome: Problem | None) -> bool:
    """Whether it was tried, and is to be tried again."""
    return outcome is not None and outcome.reason is Reason.SERVING_PENDING


_OUTCOME = {"wish", "reason", "message"}


def _is_bad(status: FineTuningJobStatus) -> bool:
    found = status.validation
    judged = found is not None and attempts.is_over(found) and found.rerun is None
    return judged and found is not None and found.phase is not ValidationPhase.PASSED


def _told(offered: ServingStatus, outcome: Problem, wish: str) -> ServingStatus:
    update = {"wish": wish, "reason": outcome.reason.value, "message": outcome.message}
    return offered.model_copy(update=update)


def _remembered(old: ServingStatus | None) -> ServingStatus | None:
    """While the copy is made anew nothing is offered, and what was created is not forgotten."""
    if old is None or not old.reason:
        return None
    return old.model_copy(update={"v1alpha1": "", "v1alpha2": ""})
