"""The dashboards as Grafana reads them, and the names that they and the rules ask for."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from finetuning.monitoring import catalog, operator_catalog
from finetuning.monitoring.catalog import Kind, Metric
from finetuning.observability import grafana
from finetuning.observability.alerts import ALERTS
from finetuning.observability.boards import DASHBOARDS, NOT_SHOWN
from finetuning.observability.panels import Dashboard, Panel
from finetuning.observability.rules import RECORDINGS

METRICS = {metric.name: metric for metric in (*catalog.METRICS, *operator_catalog.METRICS)}
RECORDED = {recording.record for recording in RECORDINGS}
PANELS = [(board, panel) for board in DASHBOARDS for panel in board.panels]
QUERIES = [query.expr for _, panel in PANELS for query in panel.queries] + [
    query.expr for board in DASHBOARDS for query in board.annotations.values()
]
RULES = [alert.query for alert in ALERTS] + [recording.expr for recording in RECORDINGS]
TARGET = {"cluster", "namespace", "pod", "instance"}
"""Labels that Prometheus puts on what it scrapes."""


def ident(case: tuple[Dashboard, Panel]) -> str:
    return f"{case[0].uid}-{case[1].title}"


def series_of(metric: Metric) -> set[str]:
    endings = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
    return {metric.name + ending for ending in endings}


def named(expressions: list[str]) -> set[str]:
    """Names of ours in some expressions, the recorded ones aside."""
    plain = [re.sub(r"\w+:\w+:\w+", "", expression) for expression in expressions]
    return {name for text in plain for name in re.findall(r"\bfinetuning_\w+", text)}


def test_every_name_in_a_panel_or_a_rule_is_one_that_is_exported() -> None:
    exported = set().union(*(series_of(metric) for metric in METRICS.values()))
    assert named(QUERIES + RULES) - exported == set()


def test_every_metric_is_used_or_listed_with_the_reason() -> None:
    used = named(QUERIES + RULES)
    unused = {name for name, metric in METRICS.items() if not series_of(metric) & used}
    assert unused == set(NOT_SHOWN)
    assert all(NOT_SHOWN.values())


def test_every_recorded_series_is_asked_for_and_every_one_asked_for_is_recorded() -> None:
    asked = {name for text in RULES for name in re.findall(r"\w+:\w+:\w+", text)}
    assert asked == RECORDED


def test_no_dashboard_needs_the_rules_to_be_installed() -> None:
    assert [query for query in QUERIES if re.search(r"\w+:\w+:\w+", query)] == []


@pytest.mark.parametrize("expression", QUERIES + RULES)
def test_a_metric_is_only_selected_by_labels_that_it_has(expression: str) -> None:
    for name, matchers in re.findall(r"\b(finetuning_\w+)\{([^}]*)\}", expression):
        (metric,) = (each for each in METRICS.values() if name in series_of(each))
        labels = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", matchers))
        assert labels <= {*metric.labels, *TARGET, "le"}


GROUPING = r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([\w\s,]*)\)"
KEPT_BY_RULES = {
    recording.record: set(re.split(r"\W+", re.findall(GROUPING, recording.expr)[0]))
    if re.search(GROUPING, recording.expr)
    else TARGET
    for recording in RECORDINGS
}


def labels_at_hand(expression: str) -> set[str]:
    """Those of all metrics in the expression, and what a recorded series has kept."""
    ours = (METRICS[name].labels for name in METRICS if re.search(rf"\b{name}\w*", expression))
    recorded = (KEPT_BY_RULES[name] for name in re.findall(r"\w+:\w+:\w+", expression))
    return {"le"}.union(TARGET, *ours, *recorded)


@pytest.mark.parametrize("expression", QUERIES + RULES)
def test_series_are_only_grouped_and_joined_by_labels_that_they_have(expression: str) -> None:
    """PromQL takes any name: of a misspelt one every value is empty, and all series are one."""
    named_labels = {
        label
        for group in re.findall(GROUPING, expression)
        for label in re.split(r"[\s,]+", group.strip())
        if label
    }
    assert named_labels <= labels_at_hand(expression)


@pytest.mark.parametrize("expression", QUERIES + RULES)
def test_who_tells_jobs_apart_tells_clusters_apart(expression: str) -> None:
    """Two clusters in one Prometheus may have jobs, namespaces and pods of the same names."""
    groups = [set(re.split(r"[\s,]+", group.strip())) for group in re.findall(GROUPING, expression)]
    told = [group for group in groups if group & {"namespace", "pod", "instance", "gpu_uuid"}]
    assert [sorted(group) for group in told if "cluster" not in group] == []


def test_a_misspelt_label_is_found() -> None:
    good = "max by (state) (finetuning_training_state)"
    test_series_are_only_grouped_and_joined_by_labels_that_they_have(good)
    with pytest.raises(AssertionError):
        test_series_are_only_grouped_and_joined_by_labels_that_they_have(
            good.replace("(state)", "(stat)")
        )


@pytest.mark.parametrize("case", PANELS, ids=ident)
def test_a_legend_only_names_labels_that_its_query_has(case: tuple[Dashboard, Panel]) -> None:
    for query in case[1].queries:
        named_labels = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", query.legend))
        assert named_labels <= labels_at_hand(query.expr)


@pytest.mark.parametrize("case", PANELS, ids=ident)
def test_every_panel_explains_itself_and_asks_through_the_variables(
    case: tuple[Dashboard, Panel],
) -> None:
    board, panel = case
    assert panel.unit
    assert panel.description.endswith(".")
    for query in panel.queries:
        asked = set(re.findall(r"\$\{?([a-z_]+)\}?", query.expr.replace("$__", "")))
        assert "cluster" in asked
        assert asked <= set(board.variables)
        assert not re.search(r'(namespace|job_name)="', query.expr)


def test_titles_and_uids_are_unique() -> None:
    assert len({board.uid for board in DASHBOARDS}) == len(DASHBOARDS)
    for board in DASHBOARDS:
        titles = [panel.title for panel in board.panels]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_grafana_gets_every_panel_with_its_source_unit_and_place(board: Dashboard) -> None:
    written: dict[str, Any] = json.loads(grafana.rendered(board))
    assert written["uid"] == board.uid
    names = [variable["name"] for variable in written["templating"]["list"]]
    assert names == ["datasource", *(variable.value for variable in board.variables)]
    rows = [panel for panel in written["panels"] if panel["type"] == "row"]
    panels = [panel for panel in written["panels"] if panel["type"] != "row"]
    assert [row["title"] for row in rows] == [row.title for row in board.rows]
    assert len({panel["id"] for panel in written["panels"]}) == len(written["panels"])
    for panel, wanted in zip(panels, board.panels, strict=True):
        assert panel["title"] == wanted.title
        assert panel["description"] == wanted.description
        assert panel["type"] == wanted.look
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"] == wanted.unit
        assert [target["expr"] for target in panel["targets"]] == [
            query.expr for query in wanted.queries
        ]


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_no_two_panels_overlap_and_none_leaves_the_grid(board: Dashboard) -> None:
    places = [panel["gridPos"] for panel in json.loads(grafana.rendered(board))["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert max(x for x, _ in taken) < grafana.COLUMNS
    assert len(set(taken)) == len(taken)
    assert all(a["y"] <= b["y"] for a, b in pairwise(places))


def test_percent_and_ratio_are_not_mixed_up() -> None:
    """Grafana multiplies percentunit by 100: the specification's metrics are 0 to 100 already."""
    for _, panel in PANELS:
        names = named([query.expr for query in panel.queries])
        shared = {METRICS[name].unit for name in names if name in METRICS}
        if panel.unit == "percent":
            assert "ratio" not in shared
        if panel.unit == "percentunit":
            assert "percent" not in shared


def test_links_between_dashboards_lead_somewhere() -> None:
    texts = "".join(grafana.rendered(board) for board in DASHBOARDS)
    targets = set(re.findall(r"/d/([a-z-]+)", texts))
    assert targets <= {board.uid for board in DASHBOARDS}
    assert targets
    # Of two clusters with such a job the column of the cluster leads to the right one.
    assert "var-cluster=${__data.fields.cluster}&" in texts


def test_every_runbook_section_is_written_and_belongs_to_an_alert() -> None:
    from finetuning.observability.runbooks import sections, written  # noqa: PLC0415

    page = (Path(__file__).resolve().parents[3] / "docs" / "runbooks.md").read_text()
    assert sections(page) == [alert.name for alert in ALERTS]
    assert [alert.name for alert in ALERTS if len(written(page, alert)) < 100] == []
