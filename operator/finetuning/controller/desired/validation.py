"""The validation Job: the trained model is judged in a new process that cannot change it."""

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts import (
    AIM_PROFILE,
    CHECKPOINTS_DIR,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_TEXT,
)
from finetuning.controller import naming
from finetuning.controller.desired import pod, sources
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.settings import Settings

CONFIG_ENV = "FINETUNING_VALIDATION_CONFIG"
REPORTS = f"{sources.WORKSPACE}/{VALIDATION_DIR}"
DEADLINE_SECONDS = 3600
"""Loading the largest model takes minutes; whatever takes an hour hangs."""

_CHECKS_FAILED, _USAGE = 1, 2
"""Exit codes of the validator that another try cannot change."""


def job(job: FineTuningJob, settings: Settings) -> Manifest:
    name = naming.names(job.metadata.name).validation
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job, name, naming.VALIDATION),
        "spec": {
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "backoffLimit": 1,
            "podFailurePolicy": {"rules": _failure_rules()},
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": naming.labels(job.metadata, naming.VALIDATION)},
                "spec": _pod_spec(job, settings),
            },
        },
    }


def _failure_rules() -> list[Manifest]:
    on_exit = {
        "containerName": naming.VALIDATION_CONTAINER,
        "operator": "In",
        "values": [_CHECKS_FAILED, _USAGE],
    }
    return [
        {"action": "FailJob", "onExitCodes": on_exit},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _pod_spec(job: FineTuningJob, settings: Settings) -> Manifest:
    model = sources.model(job)
    return pod.spec(
        settings,
        terminationGracePeriodSeconds=30,
        containers=[_validator(job, settings)],
        volumes=[
            sources.output(job).volume,
            *([model.volume] if model and model.volume else []),
            *pod.scratch_volumes(),
        ],
    )


def _validator(job: FineTuningJob, settings: Settings) -> Manifest:
    model = sources.model(job)
    output = sources.output(job)
    return pod.torch_container(
        naming.VALIDATION_CONTAINER,
        job,
        settings,
        config=pod.as_variable(CONFIG_ENV, configuration(job)),
        offline=model is not None,
        command=["python3", "-m", "finetuning.monitoring.validate_job"],
        args=_arguments(),
        volumeMounts=[
            output.mount(read_only=True),
            output.mount(VALIDATION_DIR, REPORTS),
            *([model.mount] if model and model.mount else []),
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


def configuration(job: FineTuningJob) -> Manifest:
    """What the validator is told besides its command line."""
    model = sources.model(job)
    prompts = job.spec.validation.prompts
    return {
        "requireAll": True,
        "baseModelPath": model.path if model else None,
        "maxLoss": job.spec.validation.max_loss,
        "prompts": [prompt.model_dump(mode="json", by_alias=True) for prompt in prompts],
        "modelId": job.spec.base_model.model_id,
        "method": job.spec.method.value,
    }
