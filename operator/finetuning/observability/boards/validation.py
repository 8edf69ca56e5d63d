"""What the checks said about the trained models."""

from finetuning.observability.panels import (
    Dashboard,
    Look,
    Panel,
    Query,
    Row,
    Variable,
    lines,
    number,
    quantiles,
)

_RESULT = "finetuning_operator_validation_check_result"
_BY_CHECK = "max by (cluster, namespace, job_name, check)"

BOARD = Dashboard(
    "finetuning-validation",
    "Fine-tuning / Validation",
    "What the checks said about the trained models.",
    (Variable.CLUSTER, Variable.NAMESPACE, Variable.JOB),
    (
        Row(
            "Verdicts",
            (
                number(
                    "Passed",
                    "percentunit",
                    "Share of the jobs with a verdict whose model passed.",
                    "avg(max by (cluster, namespace, job_name)"
                    " (finetuning_operator_validation_passed{<job>}))",
                ),
                number(
                    "Not passed",
                    "none",
                    "Jobs whose model did not pass.",
                    "count(max by (cluster, namespace, job_name)"
                    " (finetuning_operator_validation_passed{<job>}) == 0) or vector(0)",
                ),
                number(
                    "Validations",
                    "none",
                    "Jobs by the phase of their validation.",
                    "sum by (phase) (max by (cluster, namespace, job_name, phase)"
                    " (finetuning_operator_validation_phase{<job>}))",
                    "{{phase}}",
                    width=8,
                ),
                quantiles(
                    "Duration",
                    "s",
                    "Time of a validation.",
                    "finetuning_operator_validation_duration_seconds",
                ),
                Panel(
                    "Checks",
                    "none",
                    "Result of each check of each job.",
                    (
                        Query(
                            f'{_BY_CHECK} ({_RESULT}{{<job>,result="Pass"}})'
                            f' - {_BY_CHECK} ({_RESULT}{{<job>,result="Fail"}})'
                            f' - 2 * {_BY_CHECK} ({_RESULT}{{<job>,result="Error"}})',
                            "{{namespace}}/{{job_name}} {{check}} {{cluster}}",
                        ),
                    ),
                    Look.STATES,
                    24,
                    {
                        1: ("Pass", "green"),
                        0: ("Skip", "blue"),
                        -1: ("Fail", "red"),
                        -2: ("Error", "orange"),
                    },
                ),
            ),
        ),
        Row(
            "Scores",
            (
                lines(
                    "Score by check",
                    "short",
                    "The figure that each check compares with its threshold.",
                    f"{_BY_CHECK} (finetuning_operator_validation_check_score{{<job>}})",
                    "{{namespace}}/{{job_name}} {{check}} {{cluster}}",
                    width=12,
                ),
                lines(
                    "Mean score by base model",
                    "short",
                    "Mean of the jobs that trained the same base model.",
                    "avg by (model_id, check)"
                    f" ({_BY_CHECK} (finetuning_operator_validation_check_score{{<job>}})"
                    " * on (cluster, namespace, job_name) group_left (model_id)"
                    " max by (cluster, namespace, job_name, model_id)"
                    " (finetuning_operator_job_info{<job>}))",
                    "{{model_id}} {{check}}",
                    width=12,
                ),
            ),
        ),
    ),
)
