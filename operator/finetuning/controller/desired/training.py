"""The training Job: the trainer with the metrics server beside it as a native sidecar."""

from finetuning.api import run_config
from finetuning.api.dataset import RowOptions
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts import GPUS_ENV, TRAINING_INFO
from finetuning.artifacts.exits import ExitCode
from finetuning.controller import naming
from finetuning.controller.desired import group, pod, sources
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.settings import Settings

GRACE_SECONDS = 120
"""Time for a checkpoint after SIGTERM: a 70B adapter with its optimizer takes well under it."""
SCRAPE_SECONDS = 5
"""A scrape comes so much later than its interval at most."""
LONGEST_LINGER_SECONDS = 600

STATE_LIMIT = "16Mi"


def job(job: FineTuningJob, settings: Settings) -> Manifest:
    name = naming.names(job.metadata.name).training
    meta = metadata(job, name, naming.TRAINING)
    if job.spec.queue_name is not None:
        meta["labels"] = {**meta["labels"], naming.QUEUE_LABEL: job.spec.queue_name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": _job_spec(job, settings),
    }


def _job_spec(job: FineTuningJob, settings: Settings) -> Manifest:
    spec: Manifest = {
        **group.job_fields(job),
        "podFailurePolicy": {"rules": _failure_rules()},
        # Never two writers on one checkpoint folder, also when a node is lost.
        "podReplacementPolicy": "Failed",
        # Kueue lets a queued Job go; without Kueue it waits, and its status says for whom.
        "suspend": job.spec.suspend or job.spec.queue_name is not None,
        "template": {
            "metadata": {"labels": naming.labels(job.metadata, naming.TRAINING)},
            "spec": _pod_spec(job, settings),
        },
    }
    if job.spec.active_deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = job.spec.active_deadline_seconds
    return spec


def _failure_rules() -> list[Manifest]:
    """Disruptions cost no attempt, a wrong configuration ends the job; the first match decides."""
    return [
        _on_exit("FailJob", naming.TRAINING_CONTAINER, ExitCode.INVALID),
        _on_exit("Ignore", naming.TRAINING_CONTAINER, ExitCode.INTERRUPTED),
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _on_exit(action: str, container: str, *codes: int) -> Manifest:
    on_exit = {"containerName": container, "operator": "In", "values": [int(c) for c in codes]}
    return {"action": action, "onExitCodes": on_exit}


def _pod_spec(job: FineTuningJob, settings: Settings) -> Manifest:
    return pod.spec(
        job,
        settings,
        terminationGracePeriodSeconds=max(GRACE_SECONDS, linger_seconds(settings) + 10),
        **group.pod_fields(job),
        initContainers=[_sidecar(job, settings)],
        containers=[_trainer(job, settings)],
        volumes=_volumes(job, settings),
    )


def _trainer(job: FineTuningJob, settings: Settings) -> Manifest:
    tracking = job.spec.tracking_secret_ref
    from_secret: Manifest = (
        {"envFrom": [{"secretRef": {"name": tracking.name}}]} if tracking else {}
    )
    return pod.torch_container(
        naming.TRAINING_CONTAINER,
        job,
        settings,
        config=pod.variable(run_config.ENV, configuration(job).encode(), "spec"),
        more=[*_promised(job, settings), *pod.s3_variables(job.spec.dataset.s3)],
        offline=sources.model(job) is not None and all(source.local for source in _inputs(job)),
        resources=job.spec.resources,
        command=group.command(job, group.of(job, settings)),
        volumeMounts=[
            sources.output(job).mount(),
            {"name": "state", "mountPath": sources.STATE},
            pod.templates_mount(),
            *(source.mount for source in _inputs(job) if source.mount),
            *pod.scratch_mounts(),
        ],
        **from_secret,
    )


def _promised(job: FineTuningJob, settings: Settings) -> list[Manifest]:
    """GPUs that the trainer has to find: where a runtime passes none in, the CPU would do it."""
    count = job.spec.resources.gpus(settings.gpu_resource_name)
    return [{"name": GPUS_ENV, "value": str(count)}] if count else []


def configuration(job: FineTuningJob) -> run_config.RunConfig:
    """Everything that the trainer is told; nothing of it is secret."""
    model, evaluation = sources.model(job), sources.evaluation(job)
    spec = job.spec
    return run_config.RunConfig(
        job_name=job.metadata.name,
        model_id=spec.base_model.model_id,
        model_path=model.path if model else None,
        revision=spec.base_model.revision,
        method=spec.method,
        dataset=run_config.DatasetConfig(
            path=sources.dataset(job).path,
            eval_source=evaluation.path if evaluation else None,
            **spec.dataset.model_dump(include=set(RowOptions.model_fields)),
        ),
        output_dir=sources.OUTPUT,
        state_dir=sources.STATE,
        profile=spec.output.profile,
        hyperparameters=spec.hyperparameters,
        lora_config=spec.lora,
        quantization_config=spec.quantization,
    )


def _sidecar(job: FineTuningJob, settings: Settings) -> Manifest:
    """A native sidecar: it starts first, ends last, and its exit code decides nothing."""
    read_only = {"mountPath": sources.STATE, "name": "state", "readOnly": True}
    return pod.container(
        naming.SIDECAR_CONTAINER,
        settings.operator_image,
        settings,
        restartPolicy="Always",
        command=["python3", "-m", "finetuning.monitoring.metrics_server"],
        args=_sidecar_arguments(job, settings),
        env=[{"name": "PYTHONUNBUFFERED", "value": "1"}],
        ports=[{"name": "metrics", "containerPort": naming.METRICS_PORT}],
        resources={
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        volumeMounts=[sources.output(job).mount(read_only=True), read_only],
    )


def _sidecar_arguments(job: FineTuningJob, settings: Settings) -> list[str]:
    arguments = {
        "--port": naming.METRICS_PORT,
        "--job-name": job.metadata.name,
        "--model-id": job.spec.base_model.model_id,
        "--method": job.spec.method.value,
        "--training-info": f"{sources.OUTPUT}/{TRAINING_INFO}",
        "--state-dir": sources.STATE,
        "--linger": linger_seconds(settings),
    }
    return [str(part) for pair in arguments.items() for part in pair]


def linger_seconds(settings: Settings) -> int:
    """How long a finished pod waits for those who scrape it: until each has come once more.

    At intervals of more than ten minutes the GPUs that it holds are worth more than the sample.
    """
    wanted = settings.metrics_linger_seconds
    interval = settings.monitoring_interval_seconds + SCRAPE_SECONDS
    return min(max(wanted, interval), LONGEST_LINGER_SECONDS) if wanted else 0


def _inputs(job: FineTuningJob) -> list[sources.Source]:
    found = (sources.model(job), sources.dataset(job), sources.evaluation(job))
    return [source for source in found if source is not None]


def _volumes(job: FineTuningJob, settings: Settings) -> list[Manifest]:
    return [
        sources.output(job).volume,
        {"name": "state", "emptyDir": {"sizeLimit": STATE_LIMIT}},
        pod.templates_volume(),
        *(source.volume for source in _inputs(job) if source.volume),
        *pod.scratch_volumes(settings),
    ]
