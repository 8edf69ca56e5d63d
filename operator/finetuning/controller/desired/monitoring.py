"""How Prometheus finds the training pods.

By a Service and a ServiceMonitor of each job, or by one ServiceMonitor or PodMonitor of all.
"""

import re

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest, deployment, metadata
from finetuning.controller.settings import MonitoringMode, Settings

BODY_LIMIT = "1MB"

_MONITORS = "monitoring.coreos.com/v1"

_SILENT = {
    "action": "drop",
    "sourceLabels": [
        "__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9]", "_", naming.INDEX_LABEL)
    ],
    "regex": "[1-9][0-9]*",
}
"""Of the pods of a group only the one with index 0 has figures."""


def service(job: FineTuningJob) -> Manifest:
    """Not-ready pods are scraped too: a trainer that hangs at its start is worth seeing."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": naming.selector(job.metadata, naming.TRAINING) | _reporting(job),
            "ports": [
                {
                    "name": "metrics",
                    "port": naming.METRICS_PORT,
                    "protocol": "TCP",
                    "targetPort": "metrics",
                }
            ],
        },
    }


def _reporting(job: FineTuningJob) -> dict[str, str]:
    """Of several pods only one has figures."""
    return {naming.INDEX_LABEL: "0"} if job.spec.workers > 1 else {}


def service_monitor(job: FineTuningJob, settings: Settings) -> Manifest:
    meta = _metadata(job)
    meta["labels"] = {**settings.monitoring_extra_labels, **meta["labels"]}
    meta["annotations"] = _signed(settings)
    return {
        "apiVersion": _MONITORS,
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            # One `job` label for all jobs, rather than one per Service.
            "jobLabel": "app",
            "selector": {"matchLabels": {"app": naming.METRICS_APP, **_own(job)}},
            "endpoints": [_endpoint(settings)],
            **_limits(settings),
        },
    }


def shared_monitor(settings: Settings, owner_uid: str | None) -> Manifest:
    """The one monitor of all jobs; `owner_uid` is that of the operator's Deployment."""
    by_pod = settings.monitoring_mode is MonitoringMode.POD_MONITOR
    build = _pod_monitor if by_pod else _shared_service_monitor
    return build(settings, _shared_metadata(settings, owner_uid))


def _shared_service_monitor(settings: Settings, meta: Manifest) -> Manifest:
    return {
        "apiVersion": _MONITORS,
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            "jobLabel": "app",
            "namespaceSelector": _namespaces(settings),
            "selector": {"matchLabels": {"app": naming.METRICS_APP, **_managed()}},
            "endpoints": [_endpoint(settings)],
            **_limits(settings),
        },
    }


def _pod_monitor(settings: Settings, meta: Manifest) -> Manifest:
    # A pod has no label that could be the `job`, which is the same in every mode.
    job = {"action": "replace", "targetLabel": "job", "replacement": naming.METRICS_APP}
    return {
        "apiVersion": _MONITORS,
        "kind": "PodMonitor",
        "metadata": meta,
        "spec": {
            "namespaceSelector": _namespaces(settings),
            "selector": {
                "matchLabels": {**_managed(), naming.COMPONENT_LABEL: naming.TRAINING},
            },
            "podMetricsEndpoints": [{**_endpoint(settings), "relabelings": [job, _SILENT]}],
            **_limits(settings),
        },
    }


def _shared_metadata(settings: Settings, owner_uid: str | None) -> Manifest:
    meta: Manifest = {
        "name": settings.shared_monitor_name,
        "namespace": settings.deployment_namespace,
        "labels": {
            **settings.monitoring_extra_labels,
            **_managed(),
            naming.COMPONENT_LABEL: naming.METRICS,
        },
        "annotations": _signed(settings),
    }
    if owner_uid is not None:
        owner = deployment(settings.deployment_name, owner_uid)
        meta["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": False}]
    return meta


def _signed(settings: Settings) -> dict[str, str]:
    """Else a label that the settings have no more could not be told from one of somebody else's."""
    return {naming.LABELS_ANNOTATION: ",".join(sorted(settings.monitoring_extra_labels))}


def _namespaces(settings: Settings) -> Manifest:
    named = list(settings.watch_namespaces)
    return {"matchNames": named} if named else {"any": True}


def _managed() -> dict[str, str]:
    return {naming.MANAGED_BY_LABEL: naming.MANAGED_BY}


def _limits(settings: Settings) -> Manifest:
    """The sidecar sits beside code of the user's choice: what it can push is bounded."""
    return {
        "bodySizeLimit": BODY_LIMIT,
        "labelLimit": settings.monitoring_label_limit,
        "labelValueLengthLimit": settings.monitoring_label_value_length_limit,
        "sampleLimit": settings.monitoring_sample_limit,
    }


def _endpoint(settings: Settings) -> Manifest:
    return {
        "port": "metrics",
        "path": "/metrics",
        "interval": settings.monitoring_interval,
        # Prometheus refuses a longer one than the interval.
        "scrapeTimeout": f"{min(10, settings.monitoring_interval_seconds)}s",
    }


def _metadata(job: FineTuningJob) -> Manifest:
    meta = metadata(job, naming.names(job.metadata.name).metrics, naming.METRICS)
    meta["labels"] = {"app": naming.METRICS_APP, **meta["labels"]}
    return meta


def _own(job: FineTuningJob) -> dict[str, str]:
    return {naming.JOB_UID_LABEL: job.metadata.uid}
