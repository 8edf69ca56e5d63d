"""The operator itself."""

from finetuning.observability.panels import (
    Dashboard,
    Row,
    Variable,
    lines,
    number,
    quantiles,
)

_OURS = " and on (cluster, instance) finetuning_operator_build_info{<all>}"

BOARD = Dashboard(
    "finetuning-operator",
    "Fine-tuning / Operator",
    "The operator itself: its work, its errors, its use of the Kubernetes API.",
    (Variable.CLUSTER,),
    (
        Row(
            "Work",
            (
                number(
                    "Version",
                    "none",
                    "Operators that run, by version.",
                    "count by (version) (finetuning_operator_build_info{<all>})",
                    "{{version}}",
                    width=3,
                ),
                number(
                    "Leading",
                    "none",
                    "The operator that works; the others stand by.",
                    "sum by (cluster, pod) (finetuning_operator_leader{<all>}) > 0",
                    "{{pod}} {{cluster}}",
                    width=5,
                ),
                number(
                    "Version of the sidecars",
                    "none",
                    "Sidecars that run, by version.",
                    "count by (version) (finetuning_build_info{<all>})",
                    "{{version}}",
                ),
                number(
                    "Jobs known",
                    "none",
                    "Jobs that the operator knows, the finished ones included.",
                    "sum(finetuning_operator_watched_jobs{<all>})",
                    width=3,
                ),
                number(
                    "Waiting",
                    "none",
                    "Jobs that wait for a look.",
                    "sum(finetuning_operator_workqueue_depth{<all>})",
                    width=3,
                ),
                number(
                    "Monitoring errors",
                    "none",
                    "Tries to wire up a job's monitoring that failed within the chosen time.",
                    "round(sum(increase("
                    "finetuning_operator_monitor_errors_total{<all>}[$__range]))) or vector(0)",
                    width=3,
                ),
                number(
                    "Bad state files",
                    "none",
                    "Reads of trainers' files that failed within the chosen time.",
                    "round(sum(increase("
                    "finetuning_state_parse_errors_total{<all>}[$__range]))) or vector(0)",
                    width=3,
                ),
                lines(
                    "Looks at jobs",
                    "ops",
                    "How often the operator looks at a job, by outcome.",
                    "sum by (outcome)"
                    " (rate(finetuning_operator_reconcile_total{<all>}[$__rate_interval]))",
                    "{{outcome}}",
                ),
                quantiles(
                    "Time of a look",
                    "s",
                    "How long one look at a job takes.",
                    "finetuning_operator_reconcile_duration_seconds",
                ),
                lines(
                    "Queue",
                    "none",
                    "Jobs that wait for a look.",
                    "sum(finetuning_operator_workqueue_depth{<all>})",
                    "waiting",
                ),
            ),
        ),
        Row(
            "Kubernetes API",
            (
                lines(
                    "Calls",
                    "reqps",
                    "Calls of the Kubernetes API besides the watches.",
                    "sum by (verb, resource)"
                    " (rate(finetuning_operator_api_requests_total{<all>}[$__rate_interval]))",
                    "{{verb}} {{resource}}",
                ),
                lines(
                    "Refused calls",
                    "reqps",
                    "Calls that were not answered with success; code 0 means no answer.",
                    "sum by (verb, code) (rate(finetuning_operator_api_requests_total"
                    '{<all>,code!~"2.."}[$__rate_interval]))',
                    "{{verb}} {{code}}",
                ),
                quantiles(
                    "Time of a call",
                    "s",
                    "How long a call takes, by verb.",
                    "finetuning_operator_api_request_duration_seconds",
                    "verb",
                ),
            ),
        ),
        Row(
            "Process",
            (
                lines(
                    "Memory",
                    "bytes",
                    "Memory of the operator's process.",
                    "process_resident_memory_bytes{<all>}" + _OURS,
                    "{{pod}} {{cluster}}",
                ),
                lines(
                    "CPU",
                    "percentunit",
                    "Share of one core that the operator uses.",
                    "rate(process_cpu_seconds_total{<all>}[$__rate_interval])" + _OURS,
                    "{{pod}} {{cluster}}",
                ),
                lines(
                    "Open files",
                    "none",
                    "File descriptors of the operator's process.",
                    "process_open_fds{<all>}" + _OURS,
                    "{{pod}} {{cluster}}",
                ),
            ),
        ),
    ),
)
