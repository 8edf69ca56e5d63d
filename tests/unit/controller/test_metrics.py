from typing import Any

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.controller.objects import UID, job_body

from finetuning.controller import observed
from finetuning.controller.cache import Cache
from finetuning.controller.metrics import OperatorMetrics

Samples = dict[tuple[str, tuple[str, ...]], float]


def scrape(metrics: OperatorMetrics) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**given: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"namespace": "team", "job_name": "demo", **given}.items()))


def cache_with(**status: Any) -> Cache:
    cache = Cache()
    cache.customs.put(observed.custom(job_body(method="qlora") | {"status": status}))
    return cache


def test_a_job_is_in_one_phase_and_not_in_the_others() -> None:
    found = scrape(OperatorMetrics(cache_with(phase="Running")))
    series = found["finetuning_operator_job_phase"]
    assert series[labels(phase="Running")] == 1
    assert sum(series.values()) == 1
    assert len(series) == 5


def test_a_job_says_what_it_trains() -> None:
    found = scrape(OperatorMetrics(cache_with()))
    info = found["finetuning_operator_job_info"]
    assert info == {labels(model_id="example/tiny", method="qlora"): 1}


def test_a_verdict_is_there_when_there_is_one() -> None:
    for phase, expected in (("Passed", 1), ("Failed", 0), ("Error", 0)):
        found = scrape(OperatorMetrics(cache_with(validation={"phase": phase})))
        assert found["finetuning_operator_validation_passed"] == {labels(): expected}
    pending = scrape(OperatorMetrics(cache_with(validation={"phase": "Running"})))
    assert "finetuning_operator_validation_passed" not in pending


def test_the_series_of_a_job_go_with_it() -> None:
    cache = cache_with(phase="Running")
    metrics = OperatorMetrics(cache)
    cache.customs.drop(UID)
    found = scrape(metrics)
    assert not [name for name in found if name.startswith("finetuning_operator_job_")]


def test_the_counters_of_the_process_start_at_zero() -> None:
    found = scrape(OperatorMetrics(Cache()))
    assert found["finetuning_operator_reconcile_total"] == {
        (("outcome", outcome),): 0 for outcome in ("error", "ok", "retry")
    }
    assert list(found["finetuning_operator_build_info"].values()) == [1]
    assert "process_resident_memory_bytes" in found
