"""What a dashboard shows, without any word of how Grafana writes it down.

In a query <all>, <ns> and <job> stand for the label matchers of the dashboard's variables, so that
no query names a cluster, a namespace or a job itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_MATCHERS = {
    "<all>": 'cluster=~"$cluster"',
    "<ns>": 'cluster=~"$cluster",namespace=~"$namespace"',
    "<job>": 'cluster=~"$cluster",namespace=~"$namespace",job_name=~"$job_name"',
}


JOB_NAME = "{{namespace}}/{{job_name}} {{cluster}}"
"""Legend of a series that belongs to one job; the cluster is there where Prometheus has several."""


def newest(series: str, matchers: str) -> str:
    """What the last pod of each job told last; also of one that has ended.

    Another job of the same name, deleted since, was told of by another pod: it is left out. The
    address tells targets apart where there is no pod.
    """
    told = f"last_over_time({_LAST}{{{matchers}}}[$__range])"
    return f"last_over_time({series}[$__range]) and {_ON_THE_POD} {_TOPK} (1, {told})"


def present(series: str, matchers: str) -> str:
    """What the newest pod of each job tells now; any pod's where no trainer has told anything yet.

    The one before it, which failed, is told of for a minute more: until Prometheus lets it go.
    """
    told = f"{series} and {_ON_THE_POD} {_TOPK} (1, {_LAST}{{{matchers}}})"
    return f"{told} or on (cluster, namespace, job_name) {series}"


_LAST = "finetuning_last_update_timestamp_seconds"
_ON_THE_POD = "on (cluster, namespace, job_name, pod, instance)"
_TOPK = "topk by (cluster, namespace, job_name)"


class Look(StrEnum):
    """How a panel draws its series."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"
    STATES = "state-timeline"


@dataclass(frozen=True)
class Query:
    """One query of Prometheus; `legend` names a series by its labels: {{job_name}}."""

    template: str
    legend: str = ""

    @property
    def expr(self) -> str:
        text = self.template
        for place, matchers in _MATCHERS.items():
            text = text.replace(place, matchers)
        return text


@dataclass(frozen=True)
class Panel:
    """One panel; `width` is a share of 24 columns, `values` what some numbers are called."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]
    look: Look = Look.LINES
    width: int = 8
    values: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


class Variable(StrEnum):
    """What a reader chooses at the top of a dashboard, besides the data source."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    JOB = "job_name"
    GPU_PREFIX = "gpu_prefix"


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its uid is part of links and never changes."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    annotations: Mapping[str, Query] = field(default_factory=dict)

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def lines(
    title: str,
    unit: str,
    description: str,
    expr: str,
    legend: str,
    *,
    width: int = 8,
    stacked: bool = False,
) -> Panel:
    queries = (Query(expr, legend),)
    return Panel(title, unit, description, queries, width=width, stacked=stacked)


def number(
    title: str, unit: str, description: str, expr: str, legend: str = "", *, width: int = 4
) -> Panel:
    return Panel(title, unit, description, (Query(expr, legend),), Look.NUMBER, width)


def quantiles(title: str, unit: str, description: str, histogram: str, by: str = "") -> Panel:
    """Median and 95th percentile of a histogram over the chosen time."""
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    within = f"sum by ({labels}) (increase({histogram}_bucket{{<all>}}[$__range]))"
    queries = (
        Query(f"histogram_quantile({share}, {within})", f"p{share * 100:.0f}{legend}")
        for share in (0.5, 0.95)
    )
    return Panel(title, unit, description, tuple(queries))
