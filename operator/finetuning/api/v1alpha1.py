"""FineTuningJob aim.amd.com/v1alpha1, the contract with users; the CRD is generated from it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from finetuning.api.base import ApiModel, Rule
from finetuning.api.dataset import (
    EVALUATES,
    EVALUATION_RULES,
    ROWS_TO_EVALUATE_ON,
    DatasetColumns,
    DatasetFormat,
    OnBadRows,
    RowOptions,
    evaluates,
)
from finetuning.api.hyperparameters import (
    Hyperparameters,
    LoraConfig,
    Method,
    QuantizationConfig,
    ReportTo,
)
from finetuning.api.method_rules import METHOD_RULES
from finetuning.api.output import (
    REGISTRY_KEY,
    AccessMode,
    HubTarget,
    ModelForm,
    OciTarget,
    OutputSpec,
    PublishPolicy,
    PublishSpec,
    S3Target,
    ServeCreate,
    ServeSpec,
    StorageSpec,
    WhenDeleted,
)
from finetuning.api.references import S3Spec, SecretKeyRef, SecretRef
from finetuning.api.resources import ResourceSpec
from finetuning.api.status import (
    CheckStatus,
    Condition,
    ConditionType,
    FineTuningJobStatus,
    Phase,
    PublishedCopy,
    PublishPhase,
    PublishStatus,
    Reason,
    ServingStatus,
    Usage,
    ValidatedModel,
    ValidationBaseline,
    ValidationBenchmark,
    ValidationPhase,
    ValidationRerun,
    ValidationStatus,
)
from finetuning.api.text import (
    CHILD_STEM_MAX_LENGTH,
    NAME_MAX_LENGTH,
    DatasetSource,
    JobName,
    ModelId,
    NamespaceName,
    PriorityClassName,
    ProfileName,
    PvcUri,
    QueueName,
    Revision,
)
from finetuning.api.validation import (
    BaselineSpec,
    BenchmarksSpec,
    CheckName,
    HeldOutSpec,
    KeywordMatch,
    OnFailure,
    ValidationPrompt,
    ValidationSpec,
)

__all__ = [
    "CHILD_STEM_MAX_LENGTH",
    "GROUP",
    "KIND",
    "NAME_MAX_LENGTH",
    "PLURAL",
    "REGISTRY_KEY",
    "SHORT_NAMES",
    "SINGULAR",
    "VERSION",
    "AccessMode",
    "BaselineSpec",
    "BenchmarksSpec",
    "CheckName",
    "CheckStatus",
    "Condition",
    "ConditionType",
    "DatasetColumns",
    "DatasetFormat",
    "DatasetSpec",
    "FineTuningJob",
    "FineTuningJobSpec",
    "FineTuningJobStatus",
    "HeldOutSpec",
    "HubTarget",
    "KeywordMatch",
    "ModelForm",
    "ModelSpec",
    "ObjectMeta",
    "OciTarget",
    "OnBadRows",
    "OnFailure",
    "OutputSpec",
    "Phase",
    "PublishPhase",
    "PublishPolicy",
    "PublishSpec",
    "PublishStatus",
    "PublishedCopy",
    "Reason",
    "ReportTo",
    "ResourceSpec",
    "S3Spec",
    "S3Target",
    "SecretKeyRef",
    "SecretRef",
    "ServeCreate",
    "ServeSpec",
    "ServingStatus",
    "StorageSpec",
    "Usage",
    "ValidatedModel",
    "ValidationBaseline",
    "ValidationBenchmark",
    "ValidationPhase",
    "ValidationPrompt",
    "ValidationRerun",
    "ValidationSpec",
    "ValidationStatus",
    "WhenDeleted",
]

GROUP = "aim.amd.com"
VERSION = "v1alpha1"
KIND = "FineTuningJob"
PLURAL = "finetuningjobs"
SINGULAR = "finetuningjob"
SHORT_NAMES = ("ftj", "ftjob")


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


class DatasetSpec(RowOptions):
    """The rows to train on."""

    RULES: ClassVar = EVALUATION_RULES

    source: DatasetSource = Field(
        description="One of: a file path inside the pod (/workspace/templates/<key> is a key of "
        "the ConfigMap finetuning-templates), configmap:<name>:<key>, pvc://<claim>/<path>, "
        "s3://<bucket>/<key>, hf://<org>/<name> or a bare Hugging Face id.",
    )
    s3: S3Spec | None = Field(
        default=None, description="Endpoint, region and credentials of s3:// sources."
    )
    eval_source: DatasetSource | None = Field(
        default=None,
        description="Rows to evaluate on, in the spellings of source; format, columns and "
        "onBadRows hold for them too. In place of evalSplit.",
    )


_ONLY_FILES = f"self.hyperparameters.reportTo.all(name, name == '{ReportTo.TENSORBOARD}')"


def _asks_a_server(spec: "FineTuningJobSpec") -> bool:
    return bool({*spec.hyperparameters.report_to} - {ReportTo.TENSORBOARD})


def _serves_nothing(spec: "FineTuningJobSpec") -> bool:
    """Asked to serve, without a complete model where aim-engine reads one."""
    publish = spec.output.publish
    if spec.output.serve is None:
        return False
    if publish is None:
        return True
    form = ModelForm.MERGED if spec.method is Method.FULL else publish.form
    in_store = publish.s3 is not None and form is not ModelForm.ADAPTER
    # hf:// names a whole repository, none of its folders.
    return not in_store and (publish.hub is None or form is not ModelForm.MERGED)


def _serves_unseen(spec: "FineTuningJobSpec") -> bool:
    serve = spec.output.serve
    creates = serve is not None and serve.create is not ServeCreate.NOTHING
    return creates and not spec.validation.enabled


def _waits_for_a_verdict(spec: "FineTuningJobSpec") -> bool:
    publish = spec.output.publish
    return publish is not None and publish.policy is PublishPolicy.IF_VALIDATED


class FineTuningJobSpec(ApiModel):
    """What to train, on what, how, and where the result goes."""

    RULES: ClassVar = (
        Rule(
            f"!has(self.hyperparameters.evalSteps) || {EVALUATES}",
            lambda spec: spec.hyperparameters.eval_steps is None or evaluates(spec.dataset),
            f"evalSteps {ROWS_TO_EVALUATE_ON}; or drop evalSteps",
            field="hyperparameters.evalSteps",
        ),
        *METHOD_RULES,
        Rule(
            f"!has(self.validation.maxOverfit) || {EVALUATES}",
            lambda spec: spec.validation.max_overfit is None or evaluates(spec.dataset),
            f"maxOverfit {ROWS_TO_EVALUATE_ON}; or drop maxOverfit",
            field="validation.maxOverfit",
        ),
        Rule(
            "!has(self.output.publish) || self.output.publish.policy != 'IfValidated' || "
            "self.validation.enabled",
            lambda spec: not _waits_for_a_verdict(spec) or spec.validation.enabled,
            "policy IfValidated waits for a verdict that never comes: set validation.enabled to "
            "true, or output.publish.policy to Always",
            field="output.publish.policy",
        ),
        Rule(
            "!has(self.output.serve) || (has(self.output.publish) && ("
            "(has(self.output.publish.s3) && "
            "(self.method == 'full' || self.output.publish.form != 'Adapter')) || "
            "(has(self.output.publish.hub) && "
            "(self.method == 'full' || self.output.publish.form == 'Merged'))))",
            lambda spec: not _serves_nothing(spec),
            "serving needs a complete model in a store or on the Hub: set output.publish.s3, and "
            "output.publish.form to Merged or Both, or output.publish.hub, and form to Merged; or "
            "drop output.serve",
            field="output.serve",
        ),
        Rule(
            "!has(self.output.serve) || self.output.serve.create == 'Nothing' || "
            "self.validation.enabled",
            lambda spec: not _serves_unseen(spec),
            "only a model that passed its validation is served: set validation.enabled to true, or "
            "output.serve.create to Nothing",
            field="output.serve.create",
        ),
        Rule(
            f"has(self.trackingSecretRef) || {_ONLY_FILES}",
            lambda spec: spec.tracking_secret_ref is not None or not _asks_a_server(spec),
            "reportTo mlflow and wandb need an address or a key: name a Secret with "
            "MLFLOW_TRACKING_URI or WANDB_API_KEY in trackingSecretRef, or drop them from reportTo",
            field="hyperparameters.reportTo",
        ),
        Rule(
            f"!has(self.trackingSecretRef) || !({_ONLY_FILES})",
            lambda spec: spec.tracking_secret_ref is None or _asks_a_server(spec),
            "trackingSecretRef is for reportTo mlflow and wandb: add one of them to "
            "hyperparameters.reportTo, or drop trackingSecretRef",
            field="trackingSecretRef",
        ),
        Rule(
            "!has(self.queueName) || !self.suspend",
            lambda spec: spec.queue_name is None or not spec.suspend,
            "a job in a queue is paused by Kueue: set active to false in its Workload "
            "(kubectl get workloads), and leave suspend alone",
            field="suspend",
        ),
        Rule(
            "!has(self.queueName) || !has(self.startDeadlineSeconds)",
            lambda spec: spec.queue_name is None or spec.start_deadline_seconds is None,
            "startDeadlineSeconds does not go with queueName: Kueue's waitForPodsReady limits the "
            "wait of an admitted job; drop one of the two",
            field="startDeadlineSeconds",
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
        default_factory=Hyperparameters,
        description="How the training runs, in the terms of transformers' TrainingArguments. Every "
        "field has a default; look at learningRate, epochs and batchSize first. One optimizer step "
        "takes batchSize times gradientAccumulationSteps rows per GPU, of all workers together.",
    )
    lora_config: LoraConfig | None = Field(
        default=None,
        description="The adapter of lora and qlora, in the terms of peft's LoraConfig; ignored by "
        "full.",
    )
    quantization_config: QuantizationConfig | None = Field(
        default=None,
        description="How qlora stores the frozen base weights, in the terms of bitsandbytes; "
        "ignored by lora and full.",
    )
    output: OutputSpec = Field(
        default_factory=OutputSpec,
        description="What becomes of the result: where it is kept and what its AIM profile is "
        "called.",
    )
    resources: ResourceSpec = Field(
        default_factory=ResourceSpec,
        description="Resources of a training pod, as in a container. Without it the pod gets one "
        "GPU. Each GPU gets a process of its own.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Pods that train together, each with the resources above. They start and end "
        "together; when one is lost, all continue from the newest checkpoint. Their output needs a "
        "claim that all of their nodes can mount: see output.storage.accessMode.",
    )
    processes_per_worker: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Training processes in each pod; one per GPU when absent. Each takes batchSize "
        "rows in a forward pass. Set it for runs on the CPU.",
    )
    validation: ValidationSpec = Field(
        default_factory=ValidationSpec,
        description="What is checked after training. The verdict is the condition Validated, the "
        "report stands in status.validation.report. May change after creation: the model is then "
        "judged again, without training again. The annotation "
        "finetuning.aim.amd.com/revalidate with any new value does the same.",
    )
    tracking_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose keys become environment variables of the trainer, and of nothing "
        "else: address and credentials of what hyperparameters.reportTo names, such as "
        "MLFLOW_TRACKING_URI, MLFLOW_TRACKING_TOKEN, WANDB_API_KEY.",
    )
    queue_name: QueueName | None = Field(
        default=None,
        description="LocalQueue of Kueue in the job's namespace. Kueue then decides when the "
        "training runs: it waits for quota, and gives its place back after a checkpoint when Kueue "
        "preempts it. The validation is not queued.",
    )
    priority_class_name: PriorityClassName | None = Field(
        default=None,
        description="PriorityClass of the job's pods. The scheduler, and Kueue where queueName is "
        "set, let those of a higher one go first and take the place of those of a lower one, which "
        "save a checkpoint first and go on later.",
    )
    suspend: bool = Field(
        default=False,
        description="True saves a checkpoint, stops and frees the GPU; false continues from there. "
        "May change after creation.",
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
        description="Longest run time in seconds before the job fails with DeadlineExceeded, from "
        "when Kubernetes begins the Job: the wait for a node counts, and so do restarts. A wait in "
        "a queue or a pause does not: the clock starts anew after it.",
    )
    start_deadline_seconds: int | None = Field(
        default=None,
        ge=30,
        le=604_800,
        description="Longest wait in seconds for the first start of the trainer: for quota, GPUs, "
        "images, volumes. Then the job fails with StartDeadlineExceeded and its last obstacle. "
        "Without it a job waits for as long as it takes.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="Seconds after which the Jobs and pods of a job that is over are deleted, and "
        "with them their logs. Status, report, model and checkpoints stay. May change after "
        "creation. Without it they stay until the FineTuningJob is deleted.",
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

    def processes_of_a_worker(self, gpu_resource: str) -> int:
        """One for each GPU, unless the spec says otherwise."""
        return self.processes_per_worker or max(1, self.resources.gpus(gpu_resource))

    @property
    def access_mode(self) -> AccessMode:
        """Of the claim for the output."""
        many = self.workers > 1
        by_workers = AccessMode.READ_WRITE_MANY if many else AccessMode.READ_WRITE_ONCE
        return self.output.storage.access_mode or by_workers

    @property
    def lora(self) -> LoraConfig:
        """The adapter's settings with the older spelling applied."""
        return self.lora_config or LoraConfig()

    @property
    def quantization(self) -> QuantizationConfig:
        return self.quantization_config or QuantizationConfig()


class ObjectMeta(BaseModel):
    """The part of metadata that matters here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    name: JobName
    namespace: NamespaceName = "default"
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


class FineTuningJob(BaseModel):
    """Fine-tunes a language model on AMD GPUs, watches it and validates the result."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

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
