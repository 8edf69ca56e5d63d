"""What the operator may do in the cluster, once: the chart's roles are generated from this list.

Nothing here reads Secrets, ConfigMaps or logs, and nothing may run a command in a pod.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Permission:
    """One rule of a role; `resource_names` empty means every object of the kind."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    resource_names: tuple[str, ...] = ()
    cluster_scoped: bool = False
    """The kind has no namespace: the rule goes into a ClusterRole, also with watchNamespaces."""


PERMISSIONS: tuple[Permission, ...] = (
    Permission(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        ("list", "watch"),
        "notices when the resource definition is installed, changed or gone",
        resource_names=("finetuningjobs.aim.amd.com",),
        cluster_scoped=True,
    ),
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
    Permission("", "services", ("get", "create"), "<job>-metrics"),
    Permission("", "events", ("list", "create"), "why a pod waits; what `kubectl describe` shows"),
    Permission(
        "monitoring.coreos.com",
        "servicemonitors",
        ("get", "create"),
        "<job>-metrics, where Prometheus Operator is installed",
    ),
)
