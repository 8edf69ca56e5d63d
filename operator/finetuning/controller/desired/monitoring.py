"""How Prometheus finds the training pod: a headless Service and a ServiceMonitor per job."""

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.settings import Settings

_LIMITS: Manifest = {
    # The sidecar sits beside code of the user's choice: what it can push at Prometheus is bounded.
    "bodySizeLimit": "1MB",
    "labelLimit": 30,
    "labelValueLengthLimit": 256,
    "sampleLimit": 2000,
}


def service(job: FineTuningJob) -> Manifest:
    """Not-ready pods are scraped too: a trainer that hangs at its start is worth seeing."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": naming.selector(job.metadata, naming.TRAINING),
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


def service_monitor(job: FineTuningJob, settings: Settings) -> Manifest:
    meta = _metadata(job)
    meta["labels"] = {**settings.monitoring_extra_labels, **meta["labels"]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            # One `job` label for all jobs, rather than one per Service.
            "jobLabel": "app",
            "selector": {"matchLabels": {"app": naming.METRICS_APP, **_own(job)}},
            "endpoints": [_endpoint(settings)],
            **_LIMITS,
        },
    }


def _endpoint(settings: Settings) -> Manifest:
    return {
        "port": "metrics",
        "path": "/metrics",
        "interval": settings.monitoring_interval,
        "scrapeTimeout": _scrape_timeout(settings.monitoring_interval),
    }


def _scrape_timeout(interval: str) -> str:
    """Ten seconds, or the interval where that is shorter: Prometheus refuses a longer one."""
    seconds = int(interval[:-1]) * (60 if interval.endswith("m") else 1)
    return f"{min(10, seconds)}s"


def _metadata(job: FineTuningJob) -> Manifest:
    meta = metadata(job, naming.names(job.metadata.name).metrics, naming.METRICS)
    meta["labels"] = {"app": naming.METRICS_APP, **meta["labels"]}
    return meta


def _own(job: FineTuningJob) -> dict[str, str]:
    return {naming.JOB_UID_LABEL: job.metadata.uid}
