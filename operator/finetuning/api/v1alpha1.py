"""FineTuningJob aim.amd.com/v1alpha1, the contract with users; the CRD is generated from it."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from finetuning.api.base import ApiModel, Rule, RuledModel
from finetuning.api.hyperparameters import Hyperparameters, LoraConfig, Method, QuantizationConfig
from finetuning.api.text import (
    DataKey,
    DatasetSource,
    ModelId,
    ObjectName,
    ProfileName,
    PvcUri,
    Quantity,
    RegistryUrl,
    Revision,
    SubPath,
)

GROUP = "aim.amd.com"
VERSION = "v1alpha1"
KIND = "FineTuningJob"
PLURAL = "finetuningjobs"
SINGULAR = "finetuningjob"
SHORT_NAMES = ("ftj", "ftjob")

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MAX_LENGTH = 50
"""Leaves room for `-validate` and a pod's suffix within the 63 characters of a label value."""


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


class DatasetFormat(StrEnum):
    """How the rows are stored."""

    AUTO = "auto"
    JSONL = "jsonl"
    CSV = "csv"
    HF = "hf"


class ConditionType(StrEnum):
    """The conditions of a FineTuningJob, in batch/v1's words where it has them."""

    CONFIG_VALID = "ConfigValid"
    MONITORING_READY = "MonitoringReady"
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"
    VALIDATED = "Validated"


class Reason(StrEnum):
    """Why a job is where it is: a closed list, so that scripts and alerts can rely on it."""

    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    PREVIOUS_RUN_TERMINATING = "PreviousRunTerminating"
    JOB_CREATED = "JobCreated"
    PODS_FORBIDDEN = "PodsForbidden"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    CONTAINER_STARTING = "ContainerStarting"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    TRAINING_SUCCEEDED = "TrainingSucceeded"
    DATASET_INVALID = "DatasetInvalid"
    MODEL_UNAVAILABLE = "ModelUnavailable"
    CONFIG_INVALID = "ConfigInvalid"
    LOSS_DIVERGED = "LossDiverged"
    STORAGE_FULL = "StorageFull"
    OUT_OF_MEMORY = "OutOfMemory"
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    TRAINING_FAILED = "TrainingFailed"
    JOB_DELETED = "JobDeleted"
    SERVICE_MONITOR_CREATED = "ServiceMonitorCreated"
    SERVICE_MONITOR_CRD_MISSING = "ServiceMonitorCRDMissing"
    FORBIDDEN = "Forbidden"
    MONITORING_DISABLED = "MonitoringDisabled"
    MONITORING_PENDING = "MonitoringPending"
    VALIDATION_PENDING = "ValidationPending"
    VALIDATION_RUNNING = "ValidationRunning"
    CHECKS_PASSED = "ChecksPassed"
    CHECKS_FAILED = "ChecksFailed"
    VALIDATOR_ERROR = "ValidatorError"
    VALIDATION_SKIPPED = "ValidationSkipped"


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's own namespace; the operator never reads it."""

    name: ObjectName = Field(description="Name of the Secret, in the job's namespace.")
    key: DataKey = Field(description="Key inside the Secret, such as token.")


class ModelSpec(ApiModel):
    """The model to start from."""

    model_id: ModelId = Field(
        description="Hugging Face model id, such as Qwen/Qwen2.5-7B-Instruct. It names the model "
        "in metrics and reports, also when the weights come from `source`.",
    )
    profile: ProfileName | None = Field(
        default=None,
        description="AIM profile of the base model; copied into the profile of the trained one.",
    )
    revision: Revision | None = Field(
        default=None,
        description="Branch, tag or (better) commit hash of the model on the Hugging Face Hub.",
    )
    source: PvcUri | None = Field(
        default=None,
        description="Where the weights are when they do not come from the Hub: "
        "pvc://<claim>/<folder>, mounted read-only.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Secret key with a Hugging Face token for gated or private models and data.",
    )


class DatasetSpec(ApiModel):
    """The rows to train on."""

    source: DatasetSource = Field(
        description="One of: a file path inside the pod (/workspace/templates/<key> is a key of "
        "the ConfigMap finetuning-templates), configmap:<name>:<key>, pvc://<claim>/<path>, "
        "hf://<org>/<name> or a bare Hugging Face id.",
    )
    format: DatasetFormat = Field(
        default=DatasetFormat.AUTO,
        description="How the rows are stored; `auto` goes by the file's name.",
    )
    eval_split: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the rows held out for evaluation, chosen by hyperparameters.seed; "
        "0.1 is a good start, 0 means no evaluation.",
    )


class StorageSpec(ApiModel):
    """Where the trained model is kept."""

    RULES: ClassVar = (
        Rule(
            "!has(self.subPath) || has(self.claimName)",
            lambda storage: storage.sub_path is None or storage.claim_name is not None,
            "subPath is a folder inside claimName: set claimName too, or drop subPath",
            field="subPath",
        ),
        Rule(
            "!has(self.storageClassName) || !has(self.claimName)",
            lambda storage: storage.storage_class_name is None or storage.claim_name is None,
            "storageClassName is for the claim that the operator creates; with claimName, which "
            "names an existing claim, drop it",
            field="storageClassName",
        ),
    )

    claim_name: ObjectName | None = Field(
        default=None,
        description="An existing PersistentVolumeClaim, which outlives the job. Without it the "
        "operator creates <job>-output, which is deleted together with the FineTuningJob.",
    )
    sub_path: SubPath | None = Field(
        default=None, description="Folder inside claimName; the job's name when absent."
    )
    size: Quantity = Field(
        default="50Gi",
        description="Size of the claim that the operator creates. LoRA needs about 1.5 times the "
        "model, full fine-tuning about 6 times with two checkpoints.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="StorageClass of that claim; the cluster's default when absent.",
    )


class OutputSpec(ApiModel):
    """What becomes of the result."""

    registry: RegistryUrl | None = Field(
        default=None, description="Kept for compatibility; nothing is pushed to it."
    )
    profile: ProfileName = Field(
        default="auto-generate",
        description="Name of the AIM profile to write; `auto-generate` derives it from the run.",
    )
    storage: StorageSpec = Field(
        default_factory=StorageSpec, description="Volume for checkpoints and the trained model."
    )


def _devices_agree(resources: "ResourceSpec") -> bool:
    """Only whole devices are handed out, and nothing is overcommitted."""
    return all(
        str(amount) == str(resources.limits[name])
        for name, amount in resources.requests.items()
        if "/" in name and name in resources.limits
    )


def _devices_are_whole(resources: "ResourceSpec") -> bool:
    amounts = [*resources.requests.items(), *resources.limits.items()]
    return all(str(amount).isdecimal() for name, amount in amounts if "/" in name)


class ResourceSpec(ApiModel):
    """Resources of the training pod, as in a container."""

    RULES: ClassVar = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, "
            "!name.contains('/') || !(name in self.limits) || "
            "string(self.requests[name]) == string(self.limits[name]))",
            _devices_agree,
            "requests and limits of a device such as amd.com/gpu must be equal; naming it under "
            "limits alone is enough",
        ),
        Rule(
            "[has(self.requests) ? self.requests : {}, has(self.limits) ? self.limits : {}]"
            ".all(amounts, amounts.all(name, !name.contains('/') || "
            "string(amounts[name]).matches(r'^[0-9]+$')))",
            _devices_are_whole,
            "a device such as amd.com/gpu is given whole: 1, 2, 8 and so on",
        ),
    )

    requests: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=32,
        description="What the scheduler sets aside, as in a container: cpu, memory, amd.com/gpu. "
        "Equal to limits for GPUs.",
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=32,
        description="What the pod may use at most, as in a container. One `amd.com/gpu` when "
        "neither map names the resource.",
    )


class ValidationPrompt(ApiModel):
    """A question for the tuned model and what a good answer holds."""

    prompt: str = Field(min_length=1, max_length=2000, description="Sent as one user message.")
    expected_keywords: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list,
        max_length=16,
        description="At least one of these words must stand in the answer, in any case.",
    )


class ValidationSpec(ApiModel):
    """What is checked after training; the verdict lands in status.validation."""

    enabled: bool = Field(default=True, description="Run the validation Job after training.")
    max_loss: float = Field(
        default=10.0, gt=0, le=1000, description="The final training loss must be below this."
    )
    prompts: list[ValidationPrompt] = Field(
        default_factory=list,
        max_length=32,
        description="Questions for the tuned model; a general one is asked when empty.",
    )


class FineTuningJobSpec(ApiModel):
    """What to train, on what, how, and where the result goes."""

    RULES: ClassVar = (
        Rule(
            "!has(self.hyperparameters.evalSteps) || self.dataset.evalSplit > 0.0",
            lambda spec: spec.hyperparameters.eval_steps is None or spec.dataset.eval_split > 0,
            "evalSteps needs rows to evaluate on: set dataset.evalSplit, for example to 0.1, or "
            "drop evalSteps",
            field="hyperparameters.evalSteps",
        ),
    )

    base_model: ModelSpec = Field(description="The model to start from.")
    method: Method = Field(
        default=Method.LORA,
        description="lora trains small adapters beside frozen weights, qlora the same on weights "
        "stored in 4 bit, full trains all weights.",
    )
    dataset: DatasetSpec = Field(description="The rows to train on.")
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters, description="How the training runs."
    )
    lora_config: LoraConfig | None = Field(
        default=None, description="The adapter of lora and qlora; ignored by full."
    )
    quantization_config: QuantizationConfig | None = Field(
        default=None, description="The 4-bit base of qlora; ignored by lora and full."
    )
    output: OutputSpec = Field(
        default_factory=OutputSpec, description="What becomes of the result."
    )
    resources: ResourceSpec = Field(
        default_factory=ResourceSpec, description="Resources of the training pod."
    )
    validation: ValidationSpec = Field(
        default_factory=ValidationSpec, description="What is checked after training."
    )
    suspend: bool = Field(
        default=False,
        description="Save a checkpoint, stop and free the GPU; set back to false to continue.",
    )
    backoff_limit: int = Field(
        default=3,
        ge=0,
        le=20,
        description="Restarts after crashes; disruptions and wrong configuration do not count.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=60,
        le=2_592_000,
        description="Longest run time in seconds before the job fails with DeadlineExceeded.",
    )

    @model_validator(mode="after")
    def _lora_from_older_spelling(self) -> Self:
        """`hyperparameters.loraRank/loraAlpha` count where loraConfig does not say it itself."""
        given = self.lora_config.model_fields_set if self.lora_config else set()
        lora = self.lora_config or LoraConfig()
        older = {"r": self.hyperparameters.lora_rank, "lora_alpha": self.hyperparameters.lora_alpha}
        update = {k: v for k, v in older.items() if v is not None and k not in given}
        self.lora_config = lora.model_copy(update=update)
        return self

    @property
    def lora(self) -> LoraConfig:
        """The adapter's settings with the older spelling applied."""
        return self.lora_config or LoraConfig()

    @property
    def quantization(self) -> QuantizationConfig:
        return self.quantization_config or QuantizationConfig()


class Condition(ApiModel):
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


class CheckStatus(ApiModel):
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
    reason: str = Field(default="", max_length=64, description="Machine-readable cause.")
    message: str = Field(default="", max_length=256, description="The same for people.")


class ValidationStatus(ApiModel):
    """The verdict on the trained model."""

    phase: ValidationPhase = Field(description="Where the validation is.")
    summary: str = Field(default="", max_length=128, description='Such as "4/4 checks passed".')
    passed: int = Field(default=0, ge=0, le=32, description="Required checks that passed.")
    total: int = Field(default=0, ge=0, le=32, description="Required checks.")
    checks: list[CheckStatus] = Field(
        default_factory=list,
        max_length=16,
        description="The checks in the order in which they ran.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    report: str = Field(default="", max_length=4096, description="The report as text.")
    report_path: str = Field(
        default="", max_length=512, description="The report's file, as pvc://<claim>/<path>."
    )
    manifest_sha256: str = Field(
        default="", max_length=64, description="sha256 of the manifest of the files judged."
    )
    job_name: str = Field(default="", max_length=63, description="The validation Job.")
    start_time: datetime | None = Field(default=None, description="When the checks began.")
    completion_time: datetime | None = Field(default=None, description="When they ended.")


class FineTuningJobStatus(ApiModel):
    """What the operator observed; written by it alone."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", allow_inf_nan=False
    )

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
        default=None, description="Training loss of the last step reported, in nats per token."
    )
    eval_loss: float | None = Field(
        default=None, description="Loss on the held-out split, in nats per token."
    )
    tokens_per_second: float | None = Field(default=None, ge=0, description="Training throughput.")
    samples_per_second: float | None = Field(default=None, ge=0, description="Training throughput.")
    estimated_remaining: str = Field(
        default="", max_length=32, description='Time left at the present speed, such as "3m20s".'
    )
    restarts: int = Field(default=0, ge=0, description="Training pods that failed so far.")
    checkpoint_path: str = Field(
        default="", max_length=512, description="Newest complete checkpoint, pvc://<claim>/<path>."
    )
    model_path: str = Field(
        default="", max_length=512, description="The trained model, as pvc://<claim>/<path>."
    )
    aim_profile_path: str = Field(
        default="", max_length=512, description="Its AIM profile, as pvc://<claim>/<path>."
    )
    training_job_name: str = Field(default="", max_length=63, description="The training Job.")
    validation: ValidationStatus | None = Field(
        default=None, description="The verdict on the trained model."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Observations that scripts can wait for.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class ObjectMeta(BaseModel):
    """The part of metadata that matters here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


def _as_json(value: Any) -> Any:
    """Mappings of other libraries, and the dates that a YAML parser makes of timestamps."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def _name_fits(job: "FineTuningJob") -> bool:
    name = job.metadata.name
    return len(name) <= NAME_MAX_LENGTH and re.fullmatch(NAME_PATTERN, name) is not None


class FineTuningJob(RuledModel):
    """Fine-tunes a language model on AMD GPUs, watches it and validates the result."""

    RULES: ClassVar = (
        Rule(
            f"size(self.metadata.name) <= {NAME_MAX_LENGTH} "
            f"&& self.metadata.name.matches(r'{NAME_PATTERN}')",
            _name_fits,
            "metadata.name becomes part of a Service name and a label value: at most "
            f"{NAME_MAX_LENGTH} lowercase letters, digits and '-', starting with a letter and "
            "ending with a letter or digit",
        ),
    )

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["aim.amd.com/v1alpha1"] = "aim.amd.com/v1alpha1"
    kind: Literal["FineTuningJob"] = "FineTuningJob"
    metadata: ObjectMeta
    spec: FineTuningJobSpec
    status: FineTuningJobStatus = Field(default_factory=FineTuningJobStatus)

    @classmethod
    def from_body(cls, body: Any) -> Self:
        """Parse a manifest or an API object; raises pydantic.ValidationError.

        As strict as the API server: camelCase only, and "4" in quotes is not a number.
        """
        text = json.dumps(body, default=_as_json)
        return cls.model_validate_json(text, strict=True, by_alias=True, by_name=False)
