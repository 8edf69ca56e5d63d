"""What the operator may do in the cluster, once: the chart's roles are generated from this list.

Nothing here reads Secrets, ConfigMaps or logs, and nothing may run a command in a pod. What is
deleted is what tells Prometheus of a job: another mode's, one that was changed, a finished job's.
"""

from dataclasses import dataclass
from enum import StrEnum

from finetuning.controller.serving import AIM_GROUP
from finetuning.controller.settings import MonitoringMode


class Scope(StrEnum):
    """Where a right holds."""

    JOBS = "jobs"
    """In every namespace that is served."""
    RELEASE = "release"
    """In the operator's own namespace."""


DEPLOYMENT = "{deployment}"
"""Stands in a resource name for that of the operator's Deployment."""

_SHARED_MONITOR = (f"{DEPLOYMENT}-jobs",)
_PER_JOB, _SHARED = MonitoringMode.PER_JOB, MonitoringMode.SHARED
_POD_MONITOR, _NONE = MonitoringMode.POD_MONITOR, MonitoringMode.NONE
_MONITORS = "monitoring.coreos.com"


@dataclass(frozen=True)
class Permission:
    """One rule of a role."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    resource_names: tuple[str, ...] = ()
    """The objects that it is about; empty means every object of the kind."""
    scope: Scope = Scope.JOBS
    modes: tuple[MonitoringMode, ...] = tuple(MonitoringMode)
    """The monitoring modes that need it."""
    only_if: str = ""
    """The chart's value that has to allow it; empty: none has to."""


PERMISSIONS: tuple[Permission, ...] = (
    Permission("aim.amd.com", "finetuningjobs", ("list", "watch"), "the jobs themselves"),
    Permission("aim.amd.com", "finetuningjobs/status", ("patch",), "what it tells about them"),
    Permission(
        "batch",
        "jobs",
        ("get", "list", "watch", "create", "patch"),
        "training and validation; patch suspends and resumes",
    ),
    Permission("", "pods", ("list", "watch"), "where a run is, and why it failed"),
    Permission("", "persistentvolumeclaims", ("get", "create"), "<job>-output"),
    Permission("", "events", ("list", "create"), "why a pod waits; what `kubectl describe` shows"),
    Permission(
        "kueue.x-k8s.io",
        "workloads",
        ("list",),
        "why a job with a queueName waits, where Kueue is installed",
    ),
    Permission(
        "",
        "services",
        ("get", "list", "create", "delete"),
        "<job>-workers; <job>-metrics, made anew where somebody changed it, and gone with its mode",
    ),
    Permission(
        _MONITORS,
        "servicemonitors",
        ("get", "list", "create", "delete"),
        "<job>-metrics, where Prometheus Operator is installed; it goes when its job is over",
        modes=(_PER_JOB,),
    ),
    Permission(
        _MONITORS,
        "servicemonitors",
        ("list", "delete"),
        "left by the mode perJob",
        modes=(_SHARED, _POD_MONITOR, _NONE),
    ),
    *(
        Permission(
            AIM_GROUP,
            kind,
            ("get", "create"),
            "what serves a validated model, where output.serve.create asks for it",
            only_if="serving.create",
        )
        for kind in ("aimmodels", "aimservices")
    ),
    *(
        Permission(
            _MONITORS,
            kind,
            ("get", "delete"),
            "the one monitor of all jobs: the mode's own, or left by another",
            resource_names=_SHARED_MONITOR,
            scope=Scope.RELEASE,
        )
        for kind in ("servicemonitors", "podmonitors")
    ),
    *(
        Permission(
            _MONITORS,
            kind,
            ("create",),
            "the one monitor of all jobs",
            scope=Scope.RELEASE,
            modes=(mode,),
        )
        for kind, mode in (("servicemonitors", _SHARED), ("podmonitors", _POD_MONITOR))
    ),
    Permission(
        "apps",
        "deployments",
        ("get",),
        "owns the lease and the one monitor of all jobs, so that they go with the release",
        resource_names=(DEPLOYMENT,),
        scope=Scope.RELEASE,
    ),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("create",),
        "which replica works; a name cannot limit a create",
        scope=Scope.RELEASE,
    ),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("get", "patch"),
        "which replica works",
        resource_names=(DEPLOYMENT,),
        scope=Scope.RELEASE,
    ),
)
