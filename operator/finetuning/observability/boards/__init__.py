"""The five dashboards: all jobs, one job, its GPUs, the validations, the operator.

Series of a sidecar end with its pod; where a finished job is to be seen, the query looks back over
the chosen time with last_over_time, or asks the operator.
"""

from finetuning.observability.boards import fleet, gpu, job, operator_itself, validation

DASHBOARDS = (fleet.BOARD, job.BOARD, gpu.BOARD, validation.BOARD, operator_itself.BOARD)

NOT_SHOWN = {
    "finetuning_job_duration_seconds": "ends with the pod; the operator's histogram stays",
}
"""Metrics of the catalogues that neither a panel nor a rule uses, and why."""
