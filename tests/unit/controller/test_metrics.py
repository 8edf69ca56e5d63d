from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import disable_created_metrics, enable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.controller.objects import SETTINGS, UID, batch_job, job_body

from finetuning.controller import naming, observed, status
from finetuning.controller.cache import Cache
from finetuning.controller.job_metrics import JobCollector
from finetuning.controller.metrics import OperatorMetrics
from finetuning.controller.observed import BatchJob
from finetuning.controller.settings import Settings
from finetuning.monitoring.operator_catalog import METRICS, PREFIX

Labels = tuple[tuple[str, str], ...]
CREATED, STARTED, ENDED = "2026-01-01T09:59:00Z", "2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z"
NOW = 1767262200.0
"""2026-01-01T10:10:00Z"""
CHECK = {"name": "training_loss", "result": "Fail", "score": 0.25}


@pytest.fixture(autouse=True, scope="module")
def as_in_the_process() -> Iterator[None]:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    yield
    enable_created_metrics()  # type: ignore[no-untyped-call]


def text(metrics: OperatorMetrics) -> str:
    return generate_latest(metrics.registry).decode()


def scrape(metrics: OperatorMetrics) -> dict[str, dict[Labels, float]]:
    """Values by name, without our prefix, and labels."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text(metrics)):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            series = found.setdefault(sample.name.removeprefix(PREFIX), {})
            assert labels not in series, f"{sample.name} twice"
            series[labels] = sample.value
    return found


def labels(**given: str) -> Labels:
    return tuple(sorted({"namespace": "team", "job_name": "demo", **given}.items()))


def cache_of(*bodies: dict[str, Any]) -> Cache:
    cache = Cache()
    for body in bodies:
        cache.customs.put(observed.custom(body))
    return cache


def leading(cache: Cache, settings: Settings = SETTINGS) -> OperatorMetrics:
    """The metrics of the operator that works."""
    metrics = OperatorMetrics(cache, settings)
    metrics.leads()
    return metrics


def scraped(found: dict[str, Any] | None = None, **spec: Any) -> dict[str, dict[Labels, float]]:
    """One scrape with one job of that status."""
    body = job_body(**{"method": "qlora", **spec}) | ({"status": found} if found else {})
    return scrape(leading(cache_of(body)))


def ended(name: str, when: str, phase: str = "Succeeded") -> dict[str, Any]:
    return job_body(name, f"uid-of-{name}") | {"status": {"phase": phase, "completionTime": when}}


def test_a_job_that_has_everything_shows_every_metric_of_the_catalogue_and_no_other() -> None:
    running = job_body(activeDeadlineSeconds=600) | {"status": {"phase": "Running"}}
    over = job_body("over", "uid-of-the-other") | {
        "status": {
            "phase": "Failed",
            "startTime": STARTED,
            "completionTime": ENDED,
            "trainLoss": 0.5,
            "usage": {"gpuSeconds": 300.0, "energyJoules": 9000.0},
            "validation": {"phase": "Failed", "checks": [CHECK]},
        }
    }
    cache = cache_of(running, over)
    cache.jobs.put(batch_job(startTime=STARTED))
    metrics = leading(cache)
    metrics.requested("get", "jobs", 200, 0.1)
    metrics.monitor_failed("Forbidden")
    families = text_string_to_metric_families(text(metrics))
    ours = {family.name: family for family in families if family.name.startswith(PREFIX)}
    assert set(ours) == {metric.name.removesuffix("_total") for metric in METRICS}
    for metric in METRICS:
        family = ours[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.value, metric.help)
        assert {tuple(name for name in sample.labels if name != "le") for sample in family.samples}
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_a_job_is_in_one_phase_and_not_in_the_others() -> None:
    series = scraped({"phase": "Running"})["job_phase"]
    assert series[labels(phase="Running")] == 1
    assert sum(series.values()) == 1
    assert len(series) == 5


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        ({}, "1"),
        ({"limits": {"cpu": "2"}}, "1"),
        ({"limits": {"amd.com/gpu": 8}}, "8"),
        ({"limits": {"amd.com/gpu": "4"}}, "4"),
        ({"requests": {"amd.com/gpu": 2}}, "2"),
        ({"limits": {"amd.com/gpu": 0}}, "0"),
        ({"limits": {"amd.com/gpu": "500m"}}, ""),
    ],
)
def test_a_job_says_what_it_trains_and_on_how_many_gpus(
    resources: dict[str, Any], gpus: str
) -> None:
    info = scraped(resources=resources)["job_info"]
    assert info == {labels(model_id="example/tiny", method="qlora", gpus=gpus): 1}


def test_what_a_job_has_not_reached_has_no_series() -> None:
    found = scraped()
    assert [name for name in found if name.startswith(("job_", "validation_"))] == [
        "job_duration_seconds_bucket",
        "job_duration_seconds_count",
        "job_duration_seconds_sum",
        "validation_duration_seconds_bucket",
        "validation_duration_seconds_count",
        "validation_duration_seconds_sum",
        "job_info",
        "job_phase",
        "job_created_timestamp_seconds",
        "job_restarts",
    ]
    running = scraped({"phase": "Running", "startTime": STARTED, "trainLoss": 2.0})
    assert "job_final_train_loss" not in running


def test_a_finished_job_keeps_its_figures() -> None:
    found = scraped(
        {
            "phase": "Succeeded",
            "startTime": STARTED,
            "completionTime": ENDED,
            "trainLoss": 0.75,
            "restarts": 2,
            "usage": {"gpuSeconds": 600.0},
        }
    )
    figures = {name: series[labels()] for name, series in found.items() if labels() in series}
    start = NOW - 600
    assert figures == {
        "job_created_timestamp_seconds": start - 60,
        "job_started_timestamp_seconds": start,
        "job_completed_timestamp_seconds": start + 300,
        "job_final_train_loss": 0.75,
        "job_restarts": 2,
        "job_gpu_seconds_total": 600,
    }


def test_a_verdict_is_there_when_there_is_one() -> None:
    for phase, expected in (("Passed", 1), ("Failed", 0), ("Error", 0)):
        found = scraped({"validation": {"phase": phase}})
        assert found["validation_passed"] == {labels(): expected}
    for phase in ("Pending", "Running", "Skipped"):
        assert "validation_passed" not in scraped({"validation": {"phase": phase}})


def test_a_validation_is_in_one_phase_and_not_in_the_others() -> None:
    series = scraped({"validation": {"phase": "Running"}})["validation_phase"]
    assert series[labels(phase="Running")] == 1
    assert sum(series.values()) == 1
    assert len(series) == 6


def deadline(training: BatchJob | None, **spec: Any) -> float | None:
    """Of a job whose trainer began at STARTED, five minutes after its Job."""
    cache = cache_of(job_body(**spec) | {"status": {"phase": "Running", "startTime": STARTED}})
    for each in (training, batch_job(naming.VALIDATION, startTime=ENDED)):
        if each is not None:
            cache.jobs.put(each)
    return scrape(leading(cache)).get("job_deadline_timestamp_seconds", {}).get(labels())


BEGUN, BEGUN_ANEW = "2026-01-01T09:55:00Z", "2026-01-01T10:03:00Z"


def test_a_deadline_counts_as_kubernetes_does_from_the_start_of_the_job() -> None:
    assert deadline(batch_job(startTime=BEGUN), activeDeadlineSeconds=600) == NOW - 300
    assert deadline(batch_job(startTime=BEGUN)) is None
    assert deadline(batch_job(), activeDeadlineSeconds=600) is None
    assert deadline(None, activeDeadlineSeconds=600) is None


def test_a_deadline_waits_in_a_pause_and_counts_anew_after_it() -> None:
    asked = batch_job(startTime=BEGUN, suspend=True)
    paused = batch_job(startTime=BEGUN, suspend=True, condition="Suspended")
    waking = batch_job(startTime=BEGUN, condition="Suspended")
    for each in (asked, paused, waking):
        assert deadline(each, activeDeadlineSeconds=600) is None
    assert deadline(batch_job(startTime=BEGUN_ANEW), activeDeadlineSeconds=600) == NOW + 180


def test_a_training_that_is_over_has_no_deadline_any_more() -> None:
    for over in (batch_job(startTime=BEGUN, failed="X"), batch_job(startTime=BEGUN, complete=True)):
        assert deadline(over, activeDeadlineSeconds=600) is None


def test_a_check_has_one_result_and_a_score_where_it_has_one() -> None:
    other = {"name": "aim_profile", "result": "Skip"}
    found = scraped({"validation": {"phase": "Failed", "checks": [CHECK, other]}})
    results = found["validation_check_result"]
    assert {key for key, value in results.items() if value == 1} == {
        labels(check="training_loss", result="Fail"),
        labels(check="aim_profile", result="Skip"),
    }
    assert len(results) == 8
    assert found["validation_check_score"] == {labels(check="training_loss"): 0.25}


def test_what_a_job_used_is_counted_by_its_status() -> None:
    found = scraped({"phase": "Paused", "usage": {"gpuSeconds": 90.0, "energyJoules": 1.5}})
    assert found["job_gpu_seconds_total"] == {labels(): 90}
    assert found["job_energy_joules_total"] == {labels(): 1.5}


def test_the_series_of_a_job_go_with_it() -> None:
    cache = cache_of(job_body() | {"status": {"phase": "Running"}})
    metrics = leading(cache)
    assert scrape(metrics)["watched_jobs"] == {(): 1}
    cache.customs.drop(UID)
    found = scrape(metrics)
    assert found["watched_jobs"] == {(): 0}
    assert "demo" not in text(metrics)


def test_of_two_objects_with_one_name_the_newer_counts() -> None:
    successor = job_body(uid="uid-of-the-next") | {"status": {"phase": "Running"}}
    successor["metadata"]["resourceVersion"] = "2"
    for bodies in ((job_body(), successor), (successor, job_body())):
        found = scrape(leading(cache_of(*bodies)))
        assert found["job_phase"][labels(phase="Running")] == 1


def test_only_the_newest_finished_jobs_are_shown_and_every_other_job() -> None:
    cache = cache_of(
        ended("old", "2026-01-01T10:00:00Z"),
        ended("new", "2026-01-03T10:00:00Z", "Failed"),
        ended("middle", "2026-01-02T10:00:00Z"),
        job_body() | {"status": {"phase": "Running"}},
        job_body("waits", "uid-of-waits"),
    )
    limited = SETTINGS.model_copy(update={"metrics_finished_jobs": 2})
    found = scrape(leading(cache, limited))
    names = {dict(series)["job_name"] for series in found["job_phase"]}
    assert names == {"new", "middle", "demo", "waits"}
    assert found["watched_jobs"] == {(): 5}


def test_the_counters_of_the_process_start_at_zero() -> None:
    found = scrape(leading(Cache()))
    assert found["reconcile_total"] == {
        (("outcome", outcome),): 0 for outcome in ("error", "ok", "retry")
    }
    assert list(found["build_info"].values()) == [1]
    assert len(found["job_duration_seconds_count"]) == 6
    assert len(found["validation_duration_seconds_count"]) == 3
    assert "process_resident_memory_bytes" in found


def turn(metrics: OperatorMetrics, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
    custom = observed.custom(job_body(method="qlora"))
    metrics.turned(custom, status.parse(old) if old else None, status.parse(new))


def test_each_turn_is_observed_once() -> None:
    metrics = leading(Cache())
    running = {"phase": "Running", "startTime": STARTED}
    trained = running | {"phase": "Succeeded", "completionTime": ENDED}
    validating = trained | {"validation": {"phase": "Running"}}
    times = {"startTime": "2026-01-01T10:05:10Z", "completionTime": "2026-01-01T10:05:50Z"}
    judged = trained | {"validation": {"phase": "Failed", **times}}
    turn(metrics, None, {"phase": "Pending"})
    turn(metrics, {"phase": "Pending"}, running)
    turn(metrics, running, running | {"currentStep": 4})
    turn(metrics, running, validating)
    turn(metrics, validating, judged)
    turn(metrics, judged, judged | {"message": "again"})
    found = scrape(metrics)
    assert (found["queue_wait_seconds_count"][()], found["queue_wait_seconds_sum"][()]) == (1, 60)
    done = (("method", "qlora"), ("result", "Succeeded"))
    assert found["job_duration_seconds_sum"][done] == 300
    assert sum(found["job_duration_seconds_count"].values()) == 1
    assert found["validation_duration_seconds_sum"][(("result", "Failed"),)] == 40
    assert sum(found["validation_duration_seconds_count"].values()) == 1


def test_a_job_that_never_started_has_no_duration() -> None:
    metrics = leading(Cache())
    turn(metrics, None, {"phase": "Failed", "reason": "InvalidSpec"})
    found = scrape(metrics)
    assert sum(found["job_duration_seconds_count"].values()) == 0
    assert found["queue_wait_seconds_count"][()] == 0


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = ("phase", "startTime", "trainLoss", "restarts", "validation", "conditions", "usage")


@pytest.mark.long
@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_a_status_that_somebody_scribbled_in_breaks_no_scrape(found: dict[str, Any]) -> None:
    cache = cache_of(job_body() | {"status": found}, job_body("other", "uid-of-the-other"))
    series = scrape(leading(cache))["job_phase"]
    assert {dict(each)["job_name"] for each in series} == {"demo", "other"}


def test_a_scrape_sees_what_was_there_when_it_began() -> None:
    cache = cache_of(*(job_body(f"job-{n}", f"uid-{n}") for n in range(50)))
    collected = iter(JobCollector(cache, SETTINGS.gpu_resource_name, 500).collect())
    next(collected)
    for n in range(50):
        cache.customs.drop(f"uid-{n}")
    (info, *_) = list(collected)
    assert len(info.samples) == 50


def test_one_that_stands_by_tells_nothing_about_the_jobs() -> None:
    metrics = OperatorMetrics(cache_of(job_body()), SETTINGS)
    before = scrape(metrics)
    assert before["leader"] == {(): 0.0}
    assert not {"job_phase", "job_info", "watched_jobs"} & before.keys()
    metrics.leads()
    after = scrape(metrics)
    assert after["leader"] == {(): 1.0}
    assert {"job_phase", "job_info", "watched_jobs"} <= after.keys()
