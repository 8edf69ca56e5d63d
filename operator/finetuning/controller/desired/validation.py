"""The validation Job: the trained model is judged in a new process that cannot change it."""

from finetuning.api.run_config import compact
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts import (
    AIM_PROFILE,
    CHECKPOINTS_DIR,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_TEXT,
)
from finetuning.artifacts.exits import ValidatorExit
from finetuning.controller import attempts, naming
from finetuning.controller.desired import pod, sources
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.settings import Settings

CONFIG_ENV = "FINETUNING_VALIDATION_CONFIG"
REPORTS = f"{sources.WORKSPACE}/{VALIDATION_DIR}"
RETRIES = 2
"""After a crash, a lack of memory or a lost pod; a verdict is never asked for again."""

_FINAL = (ValidatorExit.NOT_PASSED, ValidatorExit.INVALID)
"""What another try cannot change."""


def job(job: FineTuningJob, settings: Settings) -> Manifest:
    """The first attempt; the question that it answers stands in its annotations."""
    name = naming.names(job.metadata.name).validation
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **metadata(job, name, naming.VALIDATION),
            "annotations": _question(job),
        },
        "spec": {
            "activeDeadlineSeconds": job.spec.validation.timeout_seconds,
            "backoffLimit": RETRIES,
            "podFailurePolicy": {"rules": _failure_rules()},
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": naming.labels(job.metadata, naming.VALIDATION)},
                "spec": _pod_spec(job, settings),
            },
        },
    }


def numbered(manifest: Manifest, job: FineTuningJob, attempt: int) -> Manifest:
    """The same Job under the name of a later attempt."""
    name = naming.validation_job(job.metadata.name, attempt)
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def _question(job: FineTuningJob) -> dict[str, str]:
    asked = attempts.question(job)
    found = {
        naming.GENERATION_ANNOTATION: str(job.metadata.generation),
        naming.POLICY_ANNOTATION: asked.policy,
    }
    return found | ({naming.REVALIDATE_ANNOTATION: asked.revalidate} if asked.revalidate else {})


def _failure_rules() -> list[Manifest]:
    on_exit = {
        "containerName": naming.VALIDATION_CONTAINER,
        "operator": "In",
        "values": [int(code) for code in _FINAL],
    }
    return [
        {"action": "FailJob", "onExitCodes": on_exit},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _pod_spec(job: FineTuningJob, settings: Settings) -> Manifest:
    return pod.spec(
        job,
        settings,
        terminationGracePeriodSeconds=30,
        containers=[_validator(job, settings)],
        volumes=[
            sources.output(job).volume,
            *(source.volume for source in _inputs(job) if source.volume),
            *([pod.templates_volume()] if _reads_templates(job) else []),
            *pod.scratch_volumes(settings),
        ],
    )


def _inputs(job: FineTuningJob) -> list[sources.Source]:
    found = (sources.model(job), sources.held_out(job), sources.tasks(job))
    return [source for source in found if source is not None]


def _reads_templates(job: FineTuningJob) -> bool:
    found = (sources.held_out(job), sources.tasks(job))
    return any(source and f"{source.path}/".startswith(f"{sources.TEMPLATES}/") for source in found)


def _validator(job: FineTuningJob, settings: Settings) -> Manifest:
    output = sources.output(job)
    return pod.torch_container(
        naming.VALIDATION_CONTAINER,
        job,
        settings,
        config=pod.variable(CONFIG_ENV, compact(configuration(job)), "spec.validation.prompts"),
        offline=sources.model(job) is not None,
        resources=job.spec.validation.resources or job.spec.resources,
        command=["python3", "-m", "finetuning.monitoring.validate_job"],
        args=_arguments(),
        volumeMounts=[
            output.mount(read_only=True),
            output.mount(VALIDATION_DIR, REPORTS),
            *(source.mount for source in _inputs(job) if source.mount),
            *([pod.templates_mount()] if _reads_templates(job) else []),
            *pod.scratch_mounts(),
        ],
    )


def _arguments() -> list[str]:
    arguments = {
        "--training-info": f"{sources.OUTPUT}/{TRAINING_INFO}",
        "--model-path": sources.OUTPUT,
        "--checkpoint-path": f"{sources.OUTPUT}/{CHECKPOINTS_DIR}",
        "--profile-path": f"{sources.OUTPUT}/{AIM_PROFILE}",
        "--output": f"{REPORTS}/{VALIDATION_REPORT_TEXT}",
    }
    return [part for pair in arguments.items() for part in pair]


def _held_out(job: FineTuningJob) -> Manifest:
    """Rows as in the data set, by the same names of columns."""
    wanted, rows = job.spec.validation.held_out, sources.held_out(job)
    if wanted is None or rows is None:
        return {"source": None}
    told = {"source": rows.path, "maxRows": wanted.max_rows}
    columns = job.spec.dataset.columns
    return {**told, "columns": columns.named} if columns else told


def configuration(job: FineTuningJob) -> Manifest:
    """What the validator is told besides its command line."""
    model, policy = sources.model(job), job.spec.validation
    return {
        "requireAll": True,
        "baseModelPath": model.path if model else None,
        "modelId": job.spec.base_model.model_id,
        "method": job.spec.method.value,
        "checks": [check.value for check in policy.checks],
        "maxLoss": policy.max_loss,
        "minLossDecrease": policy.min_loss_decrease,
        "maxOverfit": policy.max_overfit,
        "prompts": [prompt.model_dump(mode="json", by_alias=True) for prompt in policy.prompts],
        "maxNewTokens": policy.max_new_tokens,
        "heldOut": _held_out(job),
        "baseline": policy.baseline.model_dump(mode="json", by_alias=True),
        **_benchmarks(job),
        # Less than the Job's own deadline: a validator that is late still writes its report.
        "timeoutSeconds": policy.timeout_seconds * 11 // 12,
    }


def _benchmarks(job: FineTuningJob) -> Manifest:
    wanted, folder = job.spec.validation.benchmarks, sources.tasks(job)
    if wanted is None:
        return {}
    told = wanted.model_dump(mode="json", by_alias=True)
    return {"benchmarks": {**told, "includePath": folder.path if folder else None}}
