"""The GPUs of the chosen jobs."""

from finetuning.observability.panels import (
    Dashboard,
    Look,
    Panel,
    Query,
    Row,
    Variable,
    lines,
)

_GPU_NAME = "{{namespace}}/{{job_name}} GPU {{gpu_id}} {{cluster}}"


def _gpu(title: str, unit: str, description: str, metric: str) -> Panel:
    return lines(
        title,
        unit,
        description,
        f"max by (cluster, namespace, job_name, gpu_id) ({metric})",
        _GPU_NAME,
    )


def _exporter_query(metric: str) -> str:
    """A series of AMD's exporter for the GPUs of the chosen jobs.

    By their uuid where both sides tell one, with the number that the GPU has in its container; else
    by the pod that the exporter says uses it, with the number that it has on its node.
    """
    series = f"${{gpu_prefix}}{metric}"
    by_uuid = (
        f'max by (cluster, gpu_uuid) ({series}{{<all>,gpu_uuid!=""}})'
        " * on (cluster, gpu_uuid) group_right ()"
        " max by (cluster, namespace, job_name, gpu_id, gpu_uuid)"
        ' (finetuning_gpu_info{<job>,gpu_uuid!=""})'
    )
    by_pod = (
        f"max by (cluster, namespace, pod, gpu_id) ({_of_the_workload(f'{series}{{<all>}}')})"
        " * on (cluster, namespace, pod) group_left (job_name)"
        " max by (cluster, namespace, pod, job_name) (finetuning_training_info{<job>})"
    )
    return f"{by_uuid} or on (cluster, namespace, job_name) {by_pod}"


def _of_the_workload(series: str) -> str:
    """Prometheus renames the exporter's labels where it scrapes without honorLabels."""
    for label in ("pod", "namespace"):
        series = f'label_replace({series}, "{label}", "$1", "exported_{label}", "(.+)")'
    return series


def _exporter(title: str, unit: str, description: str, metric: str) -> Panel:
    return lines(title, unit, description, _exporter_query(metric), _GPU_NAME)


BOARD = Dashboard(
    "finetuning-gpu",
    "Fine-tuning / GPU",
    "The GPUs of the chosen jobs, as the training process sees them and as AMD's exporter does.",
    (Variable.CLUSTER, Variable.NAMESPACE, Variable.JOB, Variable.GPU_PREFIX),
    (
        Row(
            "As the training process sees them",
            (
                _gpu(
                    "Utilization",
                    "percent",
                    "Share of the time in which the GPU computed.",
                    "finetuning_gpu_utilization_percent{<job>}",
                ),
                _gpu(
                    "Memory in use",
                    "bytes",
                    "Memory in use on the device, by every process.",
                    "finetuning_gpu_memory_used_bytes{<job>}",
                ),
                _gpu(
                    "Memory in use, share",
                    "percentunit",
                    "Memory in use of all that the device has.",
                    "finetuning_gpu_memory_used_bytes{<job>}"
                    " / finetuning_gpu_memory_total_bytes{<job>}",
                ),
                _gpu(
                    "Most memory held",
                    "bytes",
                    "Most memory that the training process has held.",
                    "finetuning_gpu_peak_memory_bytes{<job>}",
                ),
                _gpu(
                    "Power",
                    "watt",
                    "Power drawn by the socket.",
                    "finetuning_gpu_power_watts{<job>}",
                ),
                _gpu(
                    "Temperature",
                    "celsius",
                    "Hottest spot of the GPU.",
                    "finetuning_gpu_temperature_celsius{<job>}",
                ),
                lines(
                    "Energy",
                    "kwatth",
                    "Energy used within the chosen time, by all pods that had the GPU.",
                    "sum by (cluster, namespace, job_name, gpu_id)"
                    " (increase(finetuning_gpu_energy_joules_total{<job>}[$__range])) / 3.6e6",
                    _GPU_NAME,
                ),
                Panel(
                    "Devices",
                    "none",
                    "Which device a GPU of a job is; gpu_id is the index inside its container.",
                    (
                        Query(
                            "max by (cluster, namespace, job_name,"
                            " gpu_id, gpu_uuid, gpu_name, pci_address)"
                            " (finetuning_gpu_info{<job>})"
                        ),
                    ),
                    Look.TABLE,
                    16,
                    columns={"Value": ""},
                ),
            ),
        ),
        Row(
            "From AMD's device metrics exporter",
            (
                _exporter(
                    "Graphics engine", "percent", "Activity of the engine.", "gpu_gfx_activity"
                ),
                _exporter("Package power", "watt", "Power of the package.", "gpu_package_power"),
                _exporter(
                    "Junction temperature",
                    "celsius",
                    "Hottest spot of the GPU.",
                    "gpu_junction_temperature",
                ),
                _exporter(
                    "Uncorrectable memory errors",
                    "none",
                    "Errors that the memory could not correct; any at all needs a look.",
                    "gpu_ecc_uncorrect_total",
                ),
            ),
        ),
    ),
)
