"""What the doctor judges: answers of the API server, or why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetuning.api.v1alpha1 import GROUP, PLURAL

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Unknown:
    """It could not be read, mostly because this login may not."""

    why: str


@dataclass(frozen=True)
class Right:
    """One thing that the user of jobs does in the namespace."""

    verb: str
    group: str
    resource: str

    @property
    def words(self) -> str:
        return f"{self.verb} {self.resource}"


USER_RIGHTS = (
    *(Right(verb, GROUP, PLURAL) for verb in ("get", "list", "create", "patch", "delete")),
    Right("list", "", "pods"),
    Right("get", "", "pods/log"),
)
"""What the commands need; the chart's editor role and Kubernetes' own `edit` have it together."""


@dataclass(frozen=True)
class Facts:
    """Everything that is judged; a part that could not be read is Unknown."""

    context: str
    namespace: str
    server: Raw | Unknown
    kind_served: bool | Unknown
    schema: Raw | Unknown | None
    operators: Sequence[Raw] | Unknown
    leases: Sequence[Raw] | Unknown
    nodes: Sequence[Raw] | Unknown
    monitors: Mapping[str, bool] | Unknown
    storage_classes: Sequence[Raw] | Unknown
    rights: Mapping[Right, bool] | Unknown
    namespace_there: bool | Unknown
