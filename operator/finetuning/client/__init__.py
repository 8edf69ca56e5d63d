"""FineTuningJobs from Python: `FineTuningClient` for scripts and notebooks, and one for asyncio."""

from finetuning.client.asynchronous import AsyncFineTuningClient
from finetuning.client.errors import (
    ClientError,
    ClusterError,
    InvalidJobError,
    JobExistsError,
    JobNotFoundError,
    NoClusterError,
    TimedOutError,
    WrongStateError,
)
from finetuning.client.logs import LogOf
from finetuning.client.story import Until
from finetuning.client.synchronous import FineTuningClient

__all__ = [
    "AsyncFineTuningClient",
    "ClientError",
    "ClusterError",
    "FineTuningClient",
    "InvalidJobError",
    "JobExistsError",
    "JobNotFoundError",
    "LogOf",
    "NoClusterError",
    "TimedOutError",
    "Until",
    "WrongStateError",
]
