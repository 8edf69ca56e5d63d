"""All jobs."""

from finetuning.observability.panels import (
    JOB_NAME,
    Dashboard,
    Look,
    Panel,
    Query,
    Row,
    Variable,
    lines,
    newest,
    number,
    quantiles,
)

_PHASES = (
    "sum by (phase) (max by (cluster, namespace, job_name, phase)"
    " (finetuning_operator_job_phase{<ns>}))"
)

BOARD = Dashboard(
    "finetuning-fleet",
    "Fine-tuning / Fleet",
    "All fine-tuning jobs: how many, how they ended, what they cost, how long they waited.",
    (Variable.CLUSTER, Variable.NAMESPACE),
    (
        Row(
            "Jobs",
            (
                number(
                    "Jobs by phase", "none", "Jobs that exist now.", _PHASES, "{{phase}}", width=8
                ),
                number(
                    "Validated models",
                    "percentunit",
                    "Share of the jobs with a verdict whose model passed.",
                    "avg(max by (cluster, namespace, job_name)"
                    " (finetuning_operator_validation_passed{<ns>}))",
                ),
                number(
                    "GPU hours",
                    "h",
                    "GPUs times hours of the jobs that exist now.",
                    "sum(max by (cluster, namespace, job_name)"
                    " (finetuning_operator_job_gpu_seconds_total{<ns>})) / 3600",
                ),
                number(
                    "New jobs",
                    "none",
                    "Jobs created within the chosen time.",
                    "sum(max by (cluster, namespace, job_name)"
                    " (finetuning_operator_job_created_timestamp_seconds{<ns>})"
                    " > bool time() - $__range_s)",
                ),
                number(
                    "Tokens per second",
                    "short",
                    "Throughput of all running jobs.",
                    "sum(finetuning_tokens_per_second{<ns>})",
                ),
                lines(
                    "Jobs by phase over time",
                    "none",
                    "Jobs in each phase.",
                    _PHASES,
                    "{{phase}}",
                    width=12,
                    stacked=True,
                ),
                lines(
                    "Throughput by namespace",
                    "short",
                    "Tokens per second of the running jobs.",
                    "sum by (cluster, namespace) (finetuning_tokens_per_second{<ns>})",
                    "{{namespace}} {{cluster}}",
                    width=12,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Cost and waiting",
            (
                lines(
                    "GPU hours by namespace",
                    "h",
                    "GPUs times hours of the jobs that exist; falls when a job is deleted.",
                    "sum by (cluster, namespace) (max by (cluster, namespace, job_name)"
                    " (finetuning_operator_job_gpu_seconds_total{<ns>})) / 3600",
                    "{{namespace}} {{cluster}}",
                ),
                quantiles(
                    "Queue wait",
                    "s",
                    "From the creation of a job to the start of its training.",
                    "finetuning_operator_queue_wait_seconds",
                ),
                quantiles(
                    "Duration by method",
                    "s",
                    "From the first start of a training to its end.",
                    "finetuning_operator_job_duration_seconds",
                    "method",
                ),
                lines(
                    "Ended jobs",
                    "none",
                    "Trainings that ended within the chosen time, by result.",
                    "round(sum by (result) (increase("
                    "finetuning_operator_job_duration_seconds_count{<all>}[$__range])))",
                    "{{result}}",
                ),
                lines(
                    "Final training loss",
                    "short",
                    "Loss last told of in trainings that ended.",
                    "max by (cluster, namespace, job_name)"
                    " (finetuning_operator_job_final_train_loss{<ns>})",
                    JOB_NAME,
                ),
                lines(
                    "Energy by namespace",
                    "kwatth",
                    "Energy that the GPUs of the jobs that exist used; falls when one is deleted.",
                    "sum by (cluster, namespace) (max by (cluster, namespace, job_name)"
                    " (finetuning_operator_job_energy_joules_total{<ns>})) / 3.6e6",
                    "{{namespace}} {{cluster}}",
                ),
            ),
        ),
        Row(
            "List",
            (
                Panel(
                    "All jobs",
                    "none",
                    "Each job with what it trains and where it stands; its name leads to its page.",
                    (
                        Query(
                            "max by (cluster, namespace, job_name, phase)"
                            " (finetuning_operator_job_phase{<ns>} == 1)"
                            " * on (cluster, namespace, job_name)"
                            " group_left (model_id, method, gpus)"
                            " max by (cluster, namespace, job_name, model_id, method, gpus)"
                            " (finetuning_operator_job_info{<ns>})"
                        ),
                        Query(
                            "max by (cluster, namespace, job_name)"
                            f" ({newest('finetuning_training_progress{<ns>}', '<ns>')})"
                        ),
                        Query(
                            "max by (cluster, namespace, job_name)"
                            " (finetuning_operator_job_final_train_loss{<ns>})"
                            " or max by (cluster, namespace, job_name)"
                            " (finetuning_train_loss{<ns>})"
                        ),
                        Query(
                            "max by (cluster, namespace, job_name)"
                            " (finetuning_operator_validation_passed{<ns>})"
                        ),
                    ),
                    Look.TABLE,
                    24,
                    columns={
                        "Value #A": "",
                        "Value #B": "Progress %",
                        "Value #C": "Loss",
                        "Value #D": "Validated",
                    },
                ),
            ),
        ),
    ),
)
