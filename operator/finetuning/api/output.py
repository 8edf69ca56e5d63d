"""What becomes of the result: the volume that it is kept on, and where it is published."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from finetuning.api.base import ApiModel, Rule
from finetuning.api.references import S3Spec, SecretKeyRef
from finetuning.api.resources import ResourceSpec
from finetuning.api.text import (
    MEBIBYTE,
    EndpointUrl,
    GpuModel,
    HubUri,
    ImageName,
    ModelId,
    ObjectName,
    OciUri,
    ProfileName,
    Quantity,
    RegistryUrl,
    S3Uri,
    SubPath,
    at_least,
)


class AccessMode(StrEnum):
    """How pods may mount a claim."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    """By the pods of one node."""
    READ_WRITE_MANY = "ReadWriteMany"


class WhenDeleted(StrEnum):
    """What becomes of the claim that the operator made when its FineTuningJob is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


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
        Rule(
            "!has(self.whenDeleted) || !has(self.claimName)",
            lambda storage: storage.when_deleted is None or storage.claim_name is None,
            "whenDeleted is for the claim that the operator creates; one of your own (claimName) "
            "is never deleted: drop one of the two",
            field="whenDeleted",
        ),
        Rule(
            "!has(self.size) || !isQuantity(string(self.size)) || "
            "quantity(string(self.size)).compareTo(quantity('1Mi')) >= 0",
            lambda storage: at_least(MEBIBYTE, storage.size),
            "size is in bytes unless it has a unit: give 50Gi, not 50",
            field="size",
        ),
    )

    claim_name: ObjectName | None = Field(
        default=None,
        description="An existing PersistentVolumeClaim, which outlives the job. Without it the "
        "operator creates <job>-output: see whenDeleted.",
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
    access_mode: AccessMode | None = Field(
        default=None,
        description="How the claim may be mounted. ReadWriteMany lets the pods of several workers "
        "run on different nodes and needs a StorageClass that has it; with ReadWriteOnce all of "
        "them are kept on one node. When absent: ReadWriteMany with more than one worker, else "
        "ReadWriteOnce. With claimName it says what that claim is.",
    )
    when_deleted: WhenDeleted | None = Field(
        default=None,
        description="What becomes of <job>-output when the FineTuningJob is deleted: Delete it (so "
        "when absent) or Retain it, with model and checkpoints. A job of the same name that says "
        "Retain too takes a retained claim up again.",
    )


class PublishPolicy(StrEnum):
    """Whether a trained model is published."""

    IF_VALIDATED = "IfValidated"
    ALWAYS = "Always"
    NEVER = "Never"


class ModelForm(StrEnum):
    """What of an adapter's run is published; full fine-tuning has the whole model in any case."""

    ADAPTER = "Adapter"
    MERGED = "Merged"
    BOTH = "Both"


class S3Target(S3Spec):
    """A folder of an S3 store to publish to."""

    uri: S3Uri = Field(
        description="Bucket and folder, s3://<bucket>/<folder>. Files that an earlier publication "
        "left there are replaced; a folder with anybody else's files is refused.",
    )


REGISTRY_KEY = ".dockerconfigjson"
"""The one key of a Secret of the type kubernetes.io/dockerconfigjson."""


class OciTarget(ApiModel):
    """A tag of an OCI registry to publish to."""

    uri: OciUri = Field(
        description="Registry, repository and tag, oci://<registry>/<repository>:<tag>. A tag that "
        "an earlier publication set is moved; one that names anything else is refused.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret of the type kubernetes.io/dockerconfigjson in the job's namespace, "
        "with the keys of one who may pull and push there. The operator never reads it, and only "
        "the publishing pod gets it. Without it the registry is asked without keys.",
    )
    plain_http: bool = Field(
        default=False,
        description="Speak to the registry without TLS: all that is sent, the keys too, can be "
        "read on the way.",
    )


class HubTarget(ApiModel):
    """A repository of the Hugging Face Hub to publish to."""

    uri: HubUri = Field(
        description="Owner and name of the repository, hf://<owner>/<name>, which is made where "
        "there is none. What an earlier publication left there is replaced in one commit; a "
        "repository with anybody else's files of the same names is refused.",
    )
    private: bool = Field(
        default=True,
        description="Make a private repository; a public one that is there is refused. With false "
        "one that is made is public, and one that is there stays what it is.",
    )
    token_secret_ref: SecretKeyRef = Field(
        description="Key of a Secret in the job's namespace with a token of one who may write "
        "there. The operator never reads it, and only the publishing pod gets it.",
    )
    endpoint: EndpointUrl | None = Field(
        default=None,
        description="Address of a Hub other than Hugging Face's own. A base model to merge into is "
        "read from there as well.",
    )


class PublishSpec(ApiModel):
    """Where the trained model is copied to, and when."""

    RULES: ClassVar = (
        Rule(
            "has(self.s3) || has(self.oci) || has(self.hub) || self.policy == 'Never'",
            lambda publish: publish.has_place or publish.policy is PublishPolicy.NEVER,
            "publishing needs a place: set s3, oci or hub, or policy to Never",
            field="s3",
        ),
    )

    policy: PublishPolicy = Field(
        default=PublishPolicy.IF_VALIDATED,
        description="IfValidated publishes a model that passed its validation, Always any that is "
        "trained, after its validation, Never none.",
    )
    form: ModelForm = Field(
        default=ModelForm.ADAPTER,
        description="Adapter publishes what lora and qlora trained; Merged a complete model, the "
        "base with the adapter in it, which any server loads and which takes the memory and the "
        "space of the base model to make; Both the adapter, and the complete model in the folder "
        "merged. Full fine-tuning has a complete model in any case.",
    )
    s3: S3Target | None = Field(default=None, description="Publish to an S3 store.")
    oci: OciTarget | None = Field(
        default=None,
        description="Publish to an OCI registry, as an artifact of the CNCF ModelPack "
        "specification.",
    )
    hub: HubTarget | None = Field(default=None, description="Publish to the Hugging Face Hub.")
    signing_key_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="Key of a Secret in the job's namespace with a private key in PEM, on the "
        "curve P-256, P-384 or P-521 and without a password. Each copy gets model.sig then, the "
        "OpenSSF signature of its files. The operator never reads the key, and only the publishing "
        "pod gets it.",
    )
    resources: ResourceSpec | None = Field(
        default=None,
        description="Resources of the publishing pod, which needs no GPU; none are asked for when "
        "absent. To merge takes memory for the whole base model.",
    )
    timeout_seconds: int = Field(
        default=21_600,
        ge=60,
        le=604_800,
        description="Longest time for the whole publication in seconds, further tries included.",
    )

    @property
    def has_place(self) -> bool:
        return any(place is not None for place in (self.s3, self.oci, self.hub))


class ServeCreate(StrEnum):
    """What the operator creates of what aim-engine needs."""

    NOTHING = "Nothing"
    MODEL = "Model"
    SERVICE = "Service"
    """And the model that it serves."""


class ServeSpec(ApiModel):
    """What AMD's aim-engine is told about serving the published model."""

    image: ImageName = Field(
        description="AIM base image that loads the model, such as amdenterpriseai/aim-base:0.9; "
        "for aim.eai.amd.com/v1alpha1."
    )
    aim_id: ModelId | None = Field(
        default=None,
        description="AIM whose tuned profiles aim.eai.amd.com/v1alpha2 takes over; the base "
        "model's id when absent.",
    )
    gpus: int = Field(default=1, ge=1, le=8, description="GPUs that one server takes.")
    gpu_model: GpuModel | None = Field(
        default=None, description="GPU to serve on, such as MI300X; any when absent."
    )
    create: ServeCreate = Field(
        default=ServeCreate.NOTHING,
        description="Nothing offers the objects in status.serving. Model creates the AIMModel too, "
        "and Service an AIMService besides, whose server takes GPUs: once the published model has "
        "passed its validation, where aim-engine is installed and the chart's serving.create "
        "allows it. They outlive the job, and the operator never changes or deletes them; the "
        "condition ServingCreated tells of them.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret by which servers read the copy, with the same keys as the one that "
        "published it, which they get when absent: here the key need only be allowed to read.",
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
    publish: PublishSpec | None = Field(
        default=None,
        description="Copy the trained model elsewhere; the outcome is the condition Published. May "
        "change after creation: the model is then published anew. The annotation "
        "finetuning.aim.amd.com/republish with any new value does the same.",
    )
    serve: ServeSpec | None = Field(
        default=None,
        description="Offer objects for AMD's aim-engine in status.serving, once a complete model "
        "is published, and create them if asked to. May change after creation.",
    )
