"""The operator's settings: read once from the environment, never changed afterwards."""

import json
import os
import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from finetuning.api.text import NAMESPACE
from finetuning.estimate import gpus

ENV_PREFIX = "FINETUNING_OPERATOR_"

_LABEL_KEY = (
    r"^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$"
)
_LABEL_VALUE = r"^([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$"
_NAME = r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"
_REPOSITORY = r"^[a-z0-9][A-Za-z0-9._:/-]*$"
_PROFILE = r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$"
_GPU_VARIABLE = (
    r"^(HSA|HIP|ROCR|ROCM|AMD|GPU|NCCL|RCCL|MIOPEN|ROCBLAS|HIPBLASLT|PYTORCH|TORCH|TRITON)"
    r"_[A-Z0-9_]{1,100}$"
)
"""Of the libraries that compute: none that the loader, Python or the operator reads. Some name code
to load, as HSA_TOOLS_LIB and NCCL_NET_PLUGIN do, which is the admin's to choose as the image is."""
_GPU_VALUE = r"^[ -#%-~]{0,256}$"
"""Without what kubelet would expand."""


def _from_comma_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.strip() else {}


def _known_gpu(name: str) -> str:
    if name:
        gpus.parse(name)
    return name


CommaList = BeforeValidator(_from_comma_list)
LabelKey = Annotated[str, Field(pattern=_LABEL_KEY)]
LabelValue = Annotated[str, Field(pattern=_LABEL_VALUE)]
GpuVariable = Annotated[str, Field(pattern=_GPU_VARIABLE)]
GpuValue = Annotated[str, Field(pattern=_GPU_VALUE)]
Namespace = Annotated[str, Field(pattern=rf"^{NAMESPACE}$")]


class MonitoringMode(StrEnum):
    """How Prometheus finds the training pods; one way at a time."""

    PER_JOB = "perJob"
    SHARED = "shared"
    POD_MONITOR = "podMonitor"
    NONE = "none"


class Settings(BaseModel):
    """Each field is read from FINETUNING_OPERATOR_<FIELD>; an empty variable means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operator_image: str = Field(
        min_length=1, description="Image of the operator; the metrics sidecar runs in it as well."
    )
    trainer_image: str = Field(
        min_length=1, description="Image of the training and the validation container."
    )
    serving_images: Annotated[tuple[Annotated[str, Field(pattern=_REPOSITORY)], ...], CommaList] = (
        Field(
            default=(),
            description="Repositories, or beginnings of their paths, of the images that jobs may "
            "have served; any when empty.",
        )
    )
    serving_images_by_digest: bool = Field(
        default=False, description="Whether these images need a digest."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="Pull policy of both images in the pods of a job."
    )
    image_pull_secrets: Annotated[tuple[str, ...], CommaList] = Field(
        default=(), description="Secrets, in the job's namespace, that the pods pull images with."
    )
    gpu_resource_name: str = Field(
        default="amd.com/gpu",
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9][-._A-Za-z0-9]*$",
        description="Extended resource of which a training pod gets one when the job names none.",
    )
    gpu_model: Annotated[str, AfterValidator(_known_gpu)] = Field(
        default="",
        description="GPU of the nodes, such as MI300X or MI300X-CPX-NPS4, which jobs are measured "
        "against in the condition MemorySufficient; unknown when empty.",
    )
    gpu_supplemental_groups: Annotated[tuple[Annotated[int, Field(ge=1)], ...], CommaList] = Field(
        default=(),
        description="Group ids that own /dev/kfd and /dev/dri on the nodes (video and render).",
    )
    gpu_environment: Annotated[dict[GpuVariable, GpuValue], BeforeValidator(_from_json)] = Field(
        default_factory=dict,
        description="Variables of ROCm and its libraries for what trains and judges, as JSON, such "
        "as HSA_OVERRIDE_GFX_VERSION; their names begin with HSA_, HIP_, ROCR_, NCCL_ or the like.",
    )
    gpu_seccomp_profile: str = Field(
        default="",
        max_length=253,
        pattern=_PROFILE,
        description="Localhost seccomp profile of the pods that use a GPU, as a path below "
        "kubelet's folder of profiles on each of their nodes; the runtime's own when empty.",
    )
    shared_memory: str = Field(
        default="8Gi",
        pattern=r"^[1-9][0-9]{0,5}(Mi|Gi)$",
        description="Upper bound of /dev/shm in the pods of a job.",
    )
    run_as_user: int = Field(
        default=1000, ge=1, description="User, group and fsGroup of the pods of a job."
    )
    monitoring_mode: MonitoringMode = Field(
        default=MonitoringMode.PER_JOB,
        description="perJob: a Service and a ServiceMonitor for each job; shared: a Service for "
        "each, one ServiceMonitor for all; podMonitor: one PodMonitor for all; none: nothing.",
    )
    monitoring_interval: str = Field(
        default="30s", pattern=r"^[1-9][0-9]{0,4}(s|m)$", description="Scrape interval."
    )
    monitoring_extra_labels: Annotated[dict[LabelKey, LabelValue], BeforeValidator(_from_json)] = (
        Field(
            default_factory=dict,
            description="Labels on each monitor, as JSON; what your Prometheus selects by.",
        )
    )
    monitoring_sample_limit: int = Field(
        default=2000, ge=1000, description="Most samples that Prometheus takes from one pod."
    )
    monitoring_label_limit: int = Field(
        default=30, ge=20, description="Most labels of one sample, those of the target included."
    )
    monitoring_label_value_length_limit: int = Field(
        default=256, ge=256, description="Most bytes of a label's value."
    )
    deployment_name: Annotated[str, Field(pattern=_NAME)] = Field(
        default="finetuning-operator",
        description="The operator's own Deployment, which owns the monitor of the modes shared and "
        "podMonitor.",
    )
    deployment_namespace: Namespace = Field(
        default="finetuning-system", description="Its namespace, where that monitor is made."
    )
    leader_election: bool = Field(
        default=False,
        description="Work only while holding the Lease that has the Deployment's name and "
        "namespace; what makes more than one replica worth while.",
    )
    identity: str = Field(
        default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}",
        max_length=253,
        description="Who holds that Lease: the Pod's name, which no other process has while this "
        "one runs.",
    )
    metrics_linger_seconds: int = Field(
        default=35,
        ge=0,
        le=110,
        description="How long a finished pod waits at most until all who scrape it have its final "
        "state; 0 is not at all. An interval between two scrapes is waited for in any case.",
    )
    metrics_finished_jobs: int = Field(
        default=500,
        ge=0,
        le=100_000,
        description="Finished jobs with metrics of their own, newest first; the others have none.",
    )
    progress_interval_seconds: float = Field(
        default=10, ge=1, le=3600, description="Shortest time between progress updates of a job."
    )
    watch_namespaces: Annotated[tuple[Namespace, ...], CommaList] = Field(
        default=(), description="Namespaces to serve; the whole cluster when empty."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged."
    )
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Port of /livez, /readyz and /metrics."
    )

    @property
    def monitoring_interval_seconds(self) -> int:
        """From one scrape to the next."""
        unit = 60 if self.monitoring_interval.endswith("m") else 1
        return int(self.monitoring_interval[:-1]) * unit

    @property
    def shared_monitor_name(self) -> str:
        """Of the one monitor in the modes shared and podMonitor."""
        return f"{self.deployment_name}-jobs"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Read `environ`; what `overrides` names wins. Raises pydantic.ValidationError."""
        names = {field: environ.get(variable(field), "") for field in cls.model_fields}
        found = {field: text.strip() for field, text in names.items() if text.strip()}
        return cls.model_validate({**found, **overrides})


def variable(field: str) -> str:
    """Name of the environment variable that sets `field`."""
    return ENV_PREFIX + field.upper()
