"""Writes a dashboard as Grafana's JSON; the only module that knows Grafana."""

import json
from collections.abc import Iterator
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import (
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    GridPos,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from finetuning.observability.panels import Dashboard, Look, Panel, Query, Row, Variable

TAG = "fine-tuning"
COLUMNS = 24
HEIGHTS = {Look.LINES: 8, Look.NUMBER: 5, Look.TABLE: 8, Look.STATES: 6}
_JOB = "&var-namespace=${__data.fields.namespace}&var-job_name=${__data.fields.job_name}"
JOB_URL = "/d/finetuning-job?var-datasource=${datasource}&var-cluster=${cluster}" + _JOB
THERE_URL = (
    "/d/finetuning-job?var-datasource=${datasource}&var-cluster=${__data.fields.cluster}" + _JOB
)
"""For the column of the cluster, which is only there where Prometheus has several."""
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_LABELS_OF = {
    Variable.CLUSTER: ("Cluster", "finetuning_operator_build_info", "cluster"),
    Variable.NAMESPACE: (
        "Namespace",
        'finetuning_operator_job_info{cluster=~"$cluster"}',
        "namespace",
    ),
    Variable.JOB: (
        "Job",
        'finetuning_operator_job_info{cluster=~"$cluster",namespace=~"$namespace"}',
        "job_name",
    ),
}

Builder = timeseries.Panel | stat.Panel | table.Panel | statetimeline.Panel


def rendered(board: Dashboard) -> str:
    """The dashboard's JSON, the same bytes for the same dashboard."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .link(_others())
    )
    for variable in board.variables:
        builder.with_variable(_variable(variable))
    for name, query in board.annotations.items():
        builder.annotation(
            dashboard.AnnotationQuery().name(name).datasource(_SOURCE).enable(True).icon_color("blue")
            .expr(query.expr)
        )  # fmt: skip
    for part in _placed(board.rows):
        if isinstance(part, dashboard.Row):
            builder.with_row(part)
        else:
            builder.with_panel(part)
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Fine-tuning")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _variable(variable: Variable) -> dashboard.QueryVariable | dashboard.TextBoxVariable:
    if variable is Variable.GPU_PREFIX:
        return (
            dashboard.TextBoxVariable(variable.value)
            .label("Prefix of AMD's exporter")
            .description("MetricsFieldPrefix of the device metrics exporter, empty by default")
            .default_value("")
        )
    label, metric, name = _LABELS_OF[variable]
    return (
        dashboard.QueryVariable(variable.value)
        .label(label)
        .datasource(_SOURCE)
        .query({"query": f"label_values({metric}, {name})", "refId": variable.value})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _placed(rows: tuple[Row, ...]) -> Iterator[dashboard.Row | Builder]:
    """Rows and panels from left to right, a new line where one is full."""
    number, y = 0, 0
    for row in rows:
        number += 1
        yield dashboard.Row(row.title).id(number).grid_pos(GridPos(h=1, w=COLUMNS, x=0, y=y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            height = HEIGHTS[panel.look]
            number += 1
            place = GridPos(h=height, w=panel.width, x=x, y=y)
            yield _panel(panel).id(number).grid_pos(place)
            x, tallest = x + panel.width, max(tallest, height)
        y += tallest


def _panel(panel: Panel) -> Builder:
    builder = _look(panel).title(panel.title).description(panel.description).unit(panel.unit)
    builder.datasource(_SOURCE)
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        builder.with_target(_target(letter, query, panel.look))
    if panel.values:
        named = {
            f"{value:g}": ValueMappingResult(text=text, color=color)
            for value, (text, color) in panel.values.items()
        }
        builder.mappings([ValueMap(options=named)])
    return builder


def _look(panel: Panel) -> Builder:
    match panel.look:
        case Look.LINES:
            return _lines(panel)
        case Look.NUMBER:
            named = any(query.legend for query in panel.queries)
            mode = common.BigValueTextMode
            return stat.Panel().text_mode(mode.VALUE_AND_NAME if named else mode.VALUE)
        case Look.STATES:
            return statetimeline.Panel().merge_values(True).show_value(common.VisibilityMode.AUTO)
        case Look.TABLE:
            return _table(panel)


def _lines(panel: Panel) -> timeseries.Panel:
    builder = timeseries.Panel().show_points(common.VisibilityMode.NEVER).fill_opacity(10)
    if panel.stacked:
        builder.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    return builder


def _table(panel: Panel) -> table.Panel:
    """The queries side by side, one line per job; columns without a name are left out."""
    hidden = {"Time": True, **{name: True for name, title in panel.columns.items() if not title}}
    titles = {name: title for name, title in panel.columns.items() if title}
    organized = {"excludeByName": hidden, "renameByName": titles}
    link = [{"title": "Open the job", "url": JOB_URL}]
    there = [{"title": "Open the job in this cluster", "url": THERE_URL}]
    return (
        table.Panel()
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organized))
        .override_by_name("job_name", [DynamicConfigValue("links", link)])
        .override_by_name("cluster", [DynamicConfigValue("links", there)])
    )


def _target(letter: str, query: Query, look: Look) -> prometheus.Dataquery:
    builder = prometheus.Dataquery().ref_id(letter).expr(query.expr).datasource(_SOURCE)
    builder.legend_format(query.legend or "__auto")
    if look is Look.TABLE:
        return builder.instant().format(PromQueryFormat.TABLE)
    return builder.instant() if look is Look.NUMBER else builder.range()
