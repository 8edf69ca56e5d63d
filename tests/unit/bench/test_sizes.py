"""How large the objects of a job are, and what the operator keeps of them."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest
from bench.operator import crowd, known, sizes, workload

from finetuning.controller import naming

JOB = workload.custom("team", "j00001", validation=True)
READY = {"type": "Ready", "status": "False", "reason": "DatasetInvalid"}
FINISHED = {"phase": "Failed", "observedGeneration": 1, "conditions": [READY]}


def objects() -> dict[str, list[dict[str, Any]]]:
    about = {"uid": "u-custom", "generation": 1, "resourceVersion": "7"}
    custom = JOB | {"metadata": {**JOB["metadata"], **about}, "status": FINISHED}
    job = workload.plain("team", "j00001")
    job["metadata"] |= {"uid": "u-job", "resourceVersion": "8"}
    labels = {naming.JOB_NAME_LABEL: "j00001", naming.JOB_UID_LABEL: "u-custom"}
    meta = {"namespace": "team", "name": "j00001-train-x", "uid": "u-pod", "labels": labels}
    pod = {"metadata": meta | {"resourceVersion": "9"}, "status": {"phase": "Failed"}}
    return {"finetuningjobs": [custom], "jobs": [job], "pods": [pod]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "objects.json"
    found.write_text(json.dumps(objects()))
    return found


def test_every_job_has_objects_of_its_own(file: Path) -> None:
    model = known.Model.read(file)
    first, second = (
        [json.loads(text)["metadata"] for text in texts]
        for texts in ([each for items in model.of(n).values() for each in items] for n in (1, 2))
    )
    assert not {each["uid"] for each in first} & {each["uid"] for each in second}
    assert [each["name"] for each in first] == ["n000001", "n000001-train", "n000001-train-x"]
    assert {each["namespace"] for each in second} == {"team-002"}
    labels = first[2]["labels"]
    assert labels[naming.JOB_UID_LABEL] == first[0]["uid"]


def test_what_jobs_cost_that_are_only_known_is_measured(file: Path) -> None:
    found = known.measure(known.Model.read(file), 30)
    assert set(found) == {
        "finetuningjobs: an object, us",
        "jobs: an object, us",
        "pods: an object, us",
        "memory of a job, KiB",
        "a look at a finished job, us",
        "its names in a resync, KiB",
        "its names in a resync, us",
    }
    assert all(value > 0 for title, value in found.items() if title.endswith("us"))


def test_a_job_that_is_not_finished_is_no_model(file: Path) -> None:
    found = objects()
    found["finetuningjobs"][0]["status"] = {"phase": "Running"}
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="not those of a finished job"):
        known.measure(known.Model.read(file), 3)


JOBS_OF_NOBODY = '{"finetuningjobs": [{"metadata": {}}]}'


@pytest.mark.parametrize("text", [None, "[]", "{}", "no json", JOBS_OF_NOBODY])
def test_a_file_without_objects_is_one_line_and_exit_code_2(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "objects.json"
    if text is not None:
        file.write_text(text)
    assert known.main(["--objects", str(file)]) == 2
    told = capsys.readouterr().err
    assert str(file) in told
    assert len(told.splitlines()) == 1


class Server:
    """Answers lists: two Jobs in all, of which one fits on a page, and nothing else."""

    async def text(self, url: str, accept: str) -> bytes:
        if "/jobs?" not in url:
            return b'{"metadata": {}, "items": []}'
        if sizes.PROTOBUF in accept:
            return b"x" * 700
        return json.dumps({"metadata": {"remainingItemCount": 1}, "items": [{}]}).encode()


def test_sizes_are_those_of_a_page_and_counts_those_of_all() -> None:
    found = asyncio.run(sizes.measure(cast("Any", Server()), "team", 2))
    assert found == {"Job": {"per_job": 1.0, "json": 54.0, "kept": 700.0}}
    assert sizes.kept_bytes(found) == 700.0


def test_an_object_is_created_without_what_the_api_server_adds() -> None:
    job = objects()["jobs"][0]
    job["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-job"}}
    before = json.dumps(job)
    labels = job["spec"]["template"]["metadata"]["labels"]
    labels |= {"batch.kubernetes.io/job-name": "j00001-train", "controller-uid": "u-job"}
    made = crowd.begun(job)
    assert set(made["metadata"]) == {"name", "namespace", "labels", "ownerReferences"}
    assert "selector" not in made["spec"]
    kept = json.loads(before)["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["template"]["metadata"] == {"labels": kept}


def test_a_crowd_of_nobody_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crowd.main(["--jobs", "0", "--objects", str(file)]) == 2
    assert "--jobs 0: give at least 1" in capsys.readouterr().err
