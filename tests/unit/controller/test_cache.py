import dataclasses
from typing import Any

import pytest
from tests.unit.controller.objects import UID, job_body

from finetuning.api.v1alpha1 import KIND
from finetuning.controller import naming, observed
from finetuning.controller.cache import Cache


def custom(version: int, uid: str = UID, name: str = "demo") -> observed.Custom:
    body = job_body(name=name, uid=uid)
    body["metadata"]["resourceVersion"] = str(version)
    return observed.custom(body)


def pod(version: int, uid: str = "p-1") -> observed.Pod:
    labels = {naming.JOB_NAME_LABEL: "demo", naming.JOB_UID_LABEL: UID}
    meta: dict[str, Any] = {"name": uid, "namespace": "team", "uid": uid, "labels": labels}
    return observed.pod({"metadata": {**meta, "resourceVersion": str(version)}})


KEY = ("team", "demo")


def test_what_changes_nothing_that_is_looked_at_is_kept_but_is_no_news() -> None:
    cache = Cache()
    assert cache.pods.put(pod(1))
    assert not cache.pods.put(pod(2))
    (found,) = cache.pods
    assert found.meta.version == 2


def test_an_older_or_equal_version_is_no_news() -> None:
    cache = Cache()
    assert cache.customs.put(custom(5))
    assert not cache.customs.put(custom(4))
    assert not cache.customs.put(custom(5))
    assert cache.customs.put(custom(6))
    found = cache.custom(KEY)
    assert found is not None
    assert found.meta.version == 6


def test_a_fresh_list_is_believed_also_when_versions_went_back() -> None:
    cache = Cache()
    cache.customs.put(custom(900))
    assert cache.customs.put(custom(7), since=cache.customs.now())
    found = cache.custom(KEY)
    assert found is not None
    assert found.meta.version == 7


def test_the_successor_of_a_deleted_job_is_the_one_that_counts() -> None:
    cache = Cache()
    cache.customs.put(custom(9, uid="second"))
    cache.customs.put(custom(5, uid="first"))
    found = cache.custom(KEY)
    assert found is not None
    assert found.meta.uid == "second"


def test_what_is_dropped_leaves_nothing_behind() -> None:
    cache = Cache()
    cache.pods.put(pod(1))
    assert cache.pods.drop("p-1") == KEY
    assert cache.pods.drop("p-1") is None
    assert (cache.pods.of(KEY), len(cache.pods), dict(cache.pods._by_key)) == ([], 0, {})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("claim/run", {"p-run", "p-deep"}),
        ("claim/run/checkpoints", {"p-run", "p-deep"}),
        ("claim/run/logs", {"p-run"}),
        ("claim/runs", set()),
        ("claim/r", set()),
        ("other/run", set()),
        ("claim", set()),
    ],
)
def test_who_writes_in_a_folder_inside_or_around_it_is_found(wanted: str, found: set[str]) -> None:
    cache = Cache()
    folders = {"p-run": "claim/run", "p-deep": "claim/run/checkpoints/1", "p-none": ""}
    for uid, folder in folders.items():
        cache.pods.put(dataclasses.replace(pod(1, uid), folder=folder))
    assert {each.meta.uid for each in cache.pods.over_folder("team", wanted)} == found
    assert cache.pods.over_folder("another team", wanted) == []
    assert cache.places.has(("team", "nobody"), wanted) is bool(found)
    for uid in folders:
        cache.pods.drop(uid)
    assert cache.pods.over_folder("team", wanted) == []
    assert (dict(cache.pods._by_folder), dict(cache.pods._inside)) == ({}, {})


def test_a_pod_whose_label_names_another_job_leaves_nothing_behind_either() -> None:
    cache = Cache()
    cache.pods.put(pod(1))
    changed = pod(2)
    meta = dataclasses.replace(changed.meta, parent="other")
    cache.pods.put(dataclasses.replace(changed, meta=meta, folder="claim/run"))
    assert (cache.pods.of(KEY), len(cache.pods.of(("team", "other")))) == ([], 1)
    assert cache.pods.drop("p-1") == ("team", "other")
    assert cache.pods.of(KEY) == []
    left = (cache.pods._by_key, cache.pods._by_folder, cache.pods._inside)
    assert [dict(each) for each in left] == [{}, {}, {}]


def test_a_job_belongs_to_its_owner_whatever_its_label_says() -> None:
    labels = {naming.JOB_NAME_LABEL: "other", naming.COMPONENT_LABEL: naming.TRAINING}
    owners = [{"uid": UID, "kind": KIND, "name": "demo", "controller": True}]
    meta = {"name": "demo-train", "namespace": "team", "uid": "j", "labels": labels}
    cache = Cache()
    cache.jobs.put(observed.batch_job({"metadata": {**meta, "ownerReferences": owners}}))
    assert cache.children(KEY, UID).training is not None


def test_a_sweep_drops_what_a_list_no_longer_has() -> None:
    cache = Cache()
    for uid in ("p-1", "p-2"):
        cache.pods.put(pod(1, uid))
    started = cache.pods.now()
    assert cache.pods.sweep({"p-2"}, started, ()) == {KEY}
    assert [each.meta.uid for each in cache.pods] == ["p-2"]


def test_a_sweep_spares_what_arrived_after_its_list_began() -> None:
    cache = Cache()
    started = cache.pods.now()
    cache.pods.put(pod(1))
    assert cache.pods.sweep(set(), started, ()) == set()
    assert len(cache.pods) == 1


def test_a_sweep_looks_only_at_the_namespaces_that_were_listed() -> None:
    cache = Cache()
    cache.pods.put(pod(1))
    assert cache.pods.sweep(set(), cache.pods.now(), ("other",)) == set()
    assert cache.pods.sweep(set(), cache.pods.now(), ("team",)) == {KEY}


def test_a_list_is_no_news_where_it_says_the_same_or_something_newer_came_meanwhile() -> None:
    cache = Cache()
    cache.customs.put(custom(5))
    began = cache.customs.now()
    assert not cache.customs.put(custom(5), since=began)
    cache.customs.put(custom(9))
    assert not cache.customs.put(custom(6), since=began)
    assert cache.customs.put(custom(10), since=began)


def test_what_belongs_to_a_job_is_sorted_out_again_when_anything_changed() -> None:
    cache = Cache()
    cache.jobs.put(batch_job(1, "training"))
    first = cache.children(KEY, UID)
    assert first.training is not None
    assert cache.children(KEY, UID) is first
    assert cache.children(KEY, "another").training is None
    cache.jobs.put(batch_job(2, "validation"))
    assert cache.children(KEY, UID).validation is not None
    cache.jobs.drop("validation")
    assert cache.children(KEY, UID).validation is None


def batch_job(version: int, component: str) -> observed.BatchJob:
    labels = {naming.JOB_NAME_LABEL: "demo", naming.COMPONENT_LABEL: component}
    owners = [{"uid": UID, "kind": KIND, "controller": True}]
    meta = {"name": f"demo-{component}", "namespace": "team", "uid": component, "labels": labels}
    version_of = {"resourceVersion": str(version), "ownerReferences": owners}
    return observed.batch_job({"metadata": {**meta, **version_of}})
