"""What the operator tells about a FineTuningJob: phases, conditions, reasons and figures."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from finetuning.api.base import ApiModel


class Phase(StrEnum):
    """Where the training is; the validation has a phase of its own."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    PAUSED = "Paused"


class ValidationPhase(StrEnum):
    """Where the validation is."""

    PENDING = "Pending"
    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"
    SKIPPED = "Skipped"


class PublishPhase(StrEnum):
    """Where the publication is."""

    PENDING = "Pending"
    RUNNING = "Running"
    PUBLISHED = "Published"
    FAILED = "Failed"
    SKIPPED = "Skipped"


class ConditionType(StrEnum):
    """The conditions of a FineTuningJob, in the words of batch/v1 and kstatus."""

    CONFIG_VALID = "ConfigValid"
    MONITORING_READY = "MonitoringReady"
    MEMORY_SUFFICIENT = "MemorySufficient"
    OUTPUT_SHARED = "OutputShared"
    SUSPENDED = "Suspended"
    READY = "Ready"
    STALLED = "Stalled"
    COMPLETE = "Complete"
    FAILED = "Failed"
    VALIDATED = "Validated"
    PUBLISHED = "Published"
    SERVING_CREATED = "ServingCreated"


class Reason(StrEnum):
    """Why a job is where it is: a closed list, so that scripts and alerts can rely on it."""

    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    PREVIOUS_RUN_TERMINATING = "PreviousRunTerminating"
    OUTPUT_IN_USE = "OutputInUse"
    QUEUED = "Queued"
    JOB_CREATED = "JobCreated"
    PODS_FORBIDDEN = "PodsForbidden"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CONTAINER_STARTING = "ContainerStarting"
    POD_HELD_OPEN = "PodHeldOpen"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    TRAINING_SUCCEEDED = "TrainingSucceeded"
    VALIDATING = "Validating"
    VALIDATION_FAILED = "ValidationFailed"
    DATASET_INVALID = "DatasetInvalid"
    MODEL_UNAVAILABLE = "ModelUnavailable"
    CONFIG_INVALID = "ConfigInvalid"
    LOSS_DIVERGED = "LossDiverged"
    STORAGE_FULL = "StorageFull"
    OUT_OF_MEMORY = "OutOfMemory"
    OOM_KILLED = "OOMKilled"
    WORKER_LOST = "WorkerLost"
    NODE_LOST = "NodeLost"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    TRAINING_FAILED = "TrainingFailed"
    JOB_DELETED = "JobDeleted"
    SERVICE_MONITOR_CREATED = "ServiceMonitorCreated"
    SERVICE_MONITOR_SHARED = "ServiceMonitorShared"
    SERVICE_MONITOR_CRD_MISSING = "ServiceMonitorCRDMissing"
    POD_MONITOR_SHARED = "PodMonitorShared"
    POD_MONITOR_CRD_MISSING = "PodMonitorCRDMissing"
    FORBIDDEN = "Forbidden"
    MONITORING_DISABLED = "MonitoringDisabled"
    MONITORING_PENDING = "MonitoringPending"
    ESTIMATE_FITS = "EstimateFits"
    ESTIMATE_EXCEEDS_MEMORY = "EstimateExceedsMemory"
    MODEL_SHAPE_UNKNOWN = "ModelShapeUnknown"
    GPU_MODEL_UNKNOWN = "GpuModelUnknown"
    MANY_NODES = "ManyNodes"
    ONE_NODE_ONLY = "OneNodeOnly"
    CLAIM_UNKNOWN = "ClaimUnknown"
    VALIDATION_PENDING = "ValidationPending"
    VALIDATION_RUNNING = "ValidationRunning"
    CHECKS_PASSED = "ChecksPassed"
    CHECKS_FAILED = "ChecksFailed"
    VALIDATOR_ERROR = "ValidatorError"
    VALIDATION_SKIPPED = "ValidationSkipped"
    PUBLISH_PENDING = "PublishPending"
    PUBLISHING = "Publishing"
    PUBLISHED = "Published"
    PUBLISH_FAILED = "PublishFailed"
    PUBLISH_SKIPPED = "PublishSkipped"
    SERVING_PENDING = "ServingPending"
    SERVING_CREATED = "ServingCreated"
    SERVING_REFUSED = "ServingRefused"
    IMAGE_NOT_ALLOWED = "ImageNotAllowed"
    AIM_CRD_MISSING = "AIMCRDMissing"
    NOT_VALIDATED = "NotValidated"


class StatusModel(ApiModel):
    """A part of a status; an operator that was set back reads what the newer one wrote."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", allow_inf_nan=False
    )


class Condition(StatusModel):
    """One observation, as metav1.Condition."""

    type: str = Field(max_length=64, description="What is observed.")
    status: str = Field(
        json_schema_extra={"enum": ["True", "False", "Unknown"]}, description="Whether it holds."
    )
    reason: str = Field(default="", max_length=128, description="Machine-readable cause.")
    message: str = Field(default="", max_length=1024, description="The same for people.")
    last_transition_time: datetime | None = Field(
        default=None, description="When status last changed."
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this was computed from."
    )


class CheckStatus(StatusModel):
    """Result of one validation check."""

    name: str = Field(max_length=64, description="The check.")
    result: str = Field(
        json_schema_extra={"enum": ["Pass", "Fail", "Skip", "Error"]},
        description="Skip and Error of a required check count as not passed.",
    )
    required: bool = Field(default=True, description="Whether the verdict needs it.")
    score: float | None = Field(
        default=None, description="The check's own figure, where it has one."
    )
    threshold: float | None = Field(
        default=None, description="What the score was held against: maxLoss, or all keywords."
    )
    reason: str = Field(default="", max_length=64, description="Machine-readable cause.")
    message: str = Field(default="", max_length=256, description="The same for people.")
    duration_seconds: float | None = Field(default=None, ge=0, description="How long it took.")
    warnings: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list,
        max_length=16,
        description="Reasons of findings that do not decide; the report has them in full.",
    )


PATH_LIMIT = 1024
"""A claim and a folder in it are 253 characters each, and a file lies further down."""


class ValidatedModel(StatusModel):
    """The files that were judged, by their manifest."""

    path: str = Field(default="", max_length=PATH_LIMIT, description="As pvc://<claim>/<path>.")
    files: int = Field(ge=0, description="How many there are.")
    size_bytes: int = Field(ge=0, description="Their sizes together.")


class ValidationBaseline(StatusModel):
    """The tuned model beside its base on held-out rows: losses in nats per token."""

    model_id: str = Field(default="", max_length=256, description="The base model.")
    rows: int = Field(ge=0, description="Rows that both have scored.")
    base: float = Field(description="The base model's loss.")
    tuned: float = Field(description="The tuned model's loss.")
    delta: float = Field(description="Tuned less base: below 0 is better.")
    standard_error: float | None = Field(
        default=None, ge=0, description="Of the difference; from five rows on."
    )
    verdict: str = Field(
        json_schema_extra={"enum": ["better", "same", "worse"]},
        description="same: within 1.96 standard errors.",
    )


class ValidationBenchmark(StatusModel):
    """A task of lm-evaluation-harness: the tuned model beside its base."""

    task: str = Field(max_length=128, description="Its name.")
    metric: str = Field(default="", max_length=64, description="The first that the task names.")
    base: float = Field(description="The base model's score.")
    tuned: float = Field(description="The tuned model's score.")
    z: float | None = Field(
        default=None, description="Of tuned less base, in standard errors of the difference."
    )
    verdict: str = Field(
        json_schema_extra={"enum": ["better", "same", "worse"]},
        description="same: by chance at 5 % over all tasks.",
    )


class ValidationRerun(StatusModel):
    """A validation that is under way while an earlier verdict still stands."""

    attempt: int = Field(ge=1, le=999, description="Its number.")
    job_name: str = Field(default="", max_length=63, description="Its validation Job.")
    phase: ValidationPhase = Field(description="Where it is.")
    summary: str = Field(default="", max_length=128, description="What it waits for.")


class ValidationStatus(StatusModel):
    """The verdict on the trained model."""

    phase: ValidationPhase = Field(description="Where the validation is.")
    result: str = Field(
        default="",
        max_length=16,
        description='What kubectl get shows: "4/4" required checks passed, or the phase.',
    )
    reason: str = Field(
        default="", max_length=64, description="Why it is there, also why there is no verdict."
    )
    summary: str = Field(default="", max_length=128, description='Such as "4/4 checks passed".')
    passed: int = Field(default=0, ge=0, le=32, description="Required checks that passed.")
    failed: int = Field(default=0, ge=0, le=32, description="Required checks that failed.")
    skipped: int = Field(default=0, ge=0, le=32, description="Required checks left out.")
    errors: int = Field(default=0, ge=0, le=32, description="Required checks that broke off.")
    total: int = Field(default=0, ge=0, le=32, description="Required checks.")
    attempt: int = Field(
        default=0, ge=0, le=999, description="How often the model was judged, this time included."
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the policy that it goes by."
    )
    policy: str = Field(
        default="", max_length=64, description="Digest of the policy: another one is judged anew."
    )
    revalidate: str = Field(
        default="",
        max_length=63,
        description="Value of the annotation finetuning.aim.amd.com/revalidate that it answers.",
    )
    rerun: ValidationRerun | None = Field(
        default=None, description="The validation that will replace this verdict."
    )
    checks: list[CheckStatus] = Field(
        default_factory=list,
        max_length=16,
        description="The checks in the order in which they ran.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    report: str = Field(default="", max_length=4096, description="The report as text.")
    report_path: str = Field(
        default="", max_length=PATH_LIMIT, description="The report's file, as pvc://<claim>/<path>."
    )
    manifest_sha256: str = Field(
        default="",
        max_length=64,
        description="sha256 of the manifest that the training wrote: the verdict is about these "
        "files.",
    )
    report_sha256: str = Field(
        default="", max_length=64, description="sha256 of that file, as the validator wrote it."
    )
    model: ValidatedModel | None = Field(default=None, description="What was judged.")
    baseline: ValidationBaseline | None = Field(
        default=None, description="The comparison on spec.validation.heldOut, where it was made."
    )
    benchmarks: list[ValidationBenchmark] = Field(
        default_factory=list,
        max_length=8,
        description="The tasks of spec.validation.benchmarks, where they were compared.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["task"]},
    )
    validator_version: str = Field(
        default="", max_length=32, description="Version of the validator that judged."
    )
    image: str = Field(default="", max_length=256, description="Image that it ran in.")
    job_name: str = Field(default="", max_length=63, description="The validation Job.")
    start_time: datetime | None = Field(default=None, description="When the checks began.")
    completion_time: datetime | None = Field(default=None, description="When they ended.")


class Usage(StatusModel):
    """What the training has used, all its pods together; exact once it has ended."""

    gpu_seconds: float | None = Field(
        default=None, ge=0, description="GPUs times the seconds for which trainers ran."
    )
    counted_until: datetime | None = Field(
        default=None, description="Up to when these seconds are counted."
    )
    energy_joules: float | None = Field(
        default=None, ge=0, description="Energy that its GPUs used; absent where none can tell."
    )
    pod: str = Field(
        default="", max_length=63, description="uid of the pod whose energy was counted last."
    )
    pod_energy_joules: float | None = Field(
        default=None, ge=0, description="What of the energy is this pod's."
    )


class PublishedCopy(StatusModel):
    """A copy of the model outside the cluster's volume."""

    kind: str = Field(max_length=8, description="What holds it: s3, oci or hf.")
    location: str = Field(max_length=512, description="Where it is, in words of the spec.")
    digest: str = Field(
        default="",
        max_length=128,
        description="What names these very files: the sha256 of publication.json in an S3 store; "
        "of the manifest in a registry, as sha256:<hex>, by which it can be pulled; the commit on "
        "the Hub.",
    )
    files: int = Field(default=0, ge=0, description="How many files it has.")
    size_bytes: int = Field(default=0, ge=0, description="Their sizes together.")


class PublishStatus(StatusModel):
    """Where the trained model was copied to."""

    phase: PublishPhase = Field(description="Where the publication is.")
    reason: str = Field(default="", max_length=64, description="Why it is there.")
    message: str = Field(default="", max_length=512, description="The same for people.")
    attempt: int = Field(
        default=0, ge=0, le=999, description="How often it was tried anew, this time included."
    )
    wish: str = Field(
        default="",
        max_length=64,
        description="Digest of what was asked for and of which verdict: another one is published "
        "anew.",
    )
    job_name: str = Field(default="", max_length=63, description="The publishing Job.")
    manifest_sha256: str = Field(
        default="", max_length=64, description="sha256 of the manifest of what was published."
    )
    copies: list[PublishedCopy] = Field(
        default_factory=list,
        max_length=8,
        description="The copies that are complete and were read back.",
    )
    start_time: datetime | None = Field(default=None, description="When it began.")
    completion_time: datetime | None = Field(default=None, description="When it ended.")


class ServingStatus(StatusModel):
    """What AMD's aim-engine needs to serve the published model; apply one of the two texts."""

    model_id: str = Field(max_length=193, description="What the model is called there.")
    source_uri: str = Field(max_length=PATH_LIMIT, description="Where its complete model is.")
    # In camel case the two would be v1Alpha1 and v1Alpha2, which nobody calls them.
    v1alpha1: str = Field(
        default="",
        alias="v1alpha1",
        max_length=4096,
        description="AIMModel and AIMService of aim.eai.amd.com/v1alpha1, as YAML.",
    )
    v1alpha2: str = Field(
        default="",
        alias="v1alpha2",
        max_length=4096,
        description="The same of aim.eai.amd.com/v1alpha2.",
    )
    wish: str = Field(
        default="",
        max_length=16,
        description="Digest of what was last created, or tried to, by spec.output.serve.create.",
    )
    reason: str = Field(default="", max_length=128, description="What came of it.")
    message: str = Field(default="", max_length=1024, description="The same for people.")


class FineTuningJobStatus(StatusModel):
    """What the operator observed; written by it alone."""

    phase: Phase = Field(default=Phase.PENDING, description="Where the training is.")
    reason: str = Field(default="", max_length=128, description="Why it is there.")
    message: str = Field(default="", max_length=1024, description="The same for people.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this was computed from."
    )
    start_time: datetime | None = Field(default=None, description="When training began.")
    completion_time: datetime | None = Field(default=None, description="When training ended.")
    progress: str = Field(default="", max_length=8, description='Share of the steps done, "42%".')
    current_epoch: int | None = Field(default=None, ge=0, description="Epochs begun so far.")
    total_epochs: int | None = Field(default=None, ge=0, description="Epochs planned.")
    current_step: int | None = Field(default=None, ge=0, description="Optimizer steps done.")
    total_steps: int | None = Field(default=None, ge=0, description="Optimizer steps planned.")
    train_loss: float | None = Field(
        default=None,
        description="Training loss in nats per token, the mean over the last `loggingSteps` steps "
        "told of.",
    )
    eval_loss: float | None = Field(
        default=None, description="Loss on the held-out split, in nats per token."
    )
    tokens_per_second: float | None = Field(default=None, ge=0, description="Training throughput.")
    samples_per_second: float | None = Field(default=None, ge=0, description="Training throughput.")
    estimated_remaining: str = Field(
        default="", max_length=32, description='Time left at the present speed, such as "3m20s".'
    )
    restarts: int = Field(
        default=0, ge=0, description="Training pods that failed and were replaced."
    )
    usage: Usage | None = Field(
        default=None,
        description="GPU time and energy of the training; absent before it begins, and brought up "
        "to date whenever anything else changes.",
    )
    checkpoint_path: str = Field(
        default="",
        max_length=PATH_LIMIT,
        description="Newest complete checkpoint, pvc://<claim>/<path>.",
    )
    model_path: str = Field(
        default="", max_length=PATH_LIMIT, description="The trained model, as pvc://<claim>/<path>."
    )
    aim_profile_path: str = Field(
        default="", max_length=PATH_LIMIT, description="Its AIM profile, as pvc://<claim>/<path>."
    )
    training_job_name: str = Field(default="", max_length=63, description="The training Job.")
    validation: ValidationStatus | None = Field(
        default=None,
        description="The verdict on the trained model; `kubectl get ftj <name> -o "
        "jsonpath='{.status.validation.report}'` prints the report.",
    )
    publish: PublishStatus | None = Field(
        default=None, description="The copies that spec.output.publish asks for."
    )
    serving: ServingStatus | None = Field(
        default=None,
        description="The objects that spec.output.serve asks for, while a complete copy is there: "
        "`kubectl get ftj <name> -o jsonpath='{.status.serving.v1alpha1}' | kubectl apply -f -`.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Observations that scripts can wait for.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
