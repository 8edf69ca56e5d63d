"""Both clients against answers over real HTTP; tests/cluster has them against a real cluster."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.client.server import JOBS, Api, pod, refusal
from tests.unit.controller.objects import job_body

from finetuning.api.hyperparameters import ReportTo
from finetuning.api.v1alpha1 import (
    DatasetSpec,
    FineTuningJob,
    FineTuningJobSpec,
    ModelSpec,
    ObjectMeta,
    Phase,
)
from finetuning.client import (
    AsyncFineTuningClient,
    ClientError,
    ClusterError,
    FineTuningClient,
    InvalidJobError,
    JobExistsError,
    JobNotFoundError,
    LogOf,
    TimedOutError,
    Until,
    WrongStateError,
)

TEAM = f"{JOBS}/namespaces/team/finetuningjobs"
TRAINED = {
    "phase": "Succeeded",
    "reason": "TrainingSucceeded",
    "observedGeneration": 1,
    "validation": {"phase": "Passed", "attempt": 1},
}


@pytest.fixture
def client(api: Api, kubeconfig: Path) -> Iterator[FineTuningClient]:
    with FineTuningClient(kubeconfig=kubeconfig) as found:
        yield found


@pytest.fixture
async def asking(api: Api, kubeconfig: Path) -> AsyncIterator[AsyncFineTuningClient]:
    async with await AsyncFineTuningClient.connect(kubeconfig=str(kubeconfig)) as found:
        yield found


def a_job(**spec: Any) -> FineTuningJob:
    return FineTuningJob(
        metadata=ObjectMeta(name="mine"),
        spec=FineTuningJobSpec(
            base_model=ModelSpec(model_id="a/b"), dataset=DatasetSpec(source="hf://a/b"), **spec
        ),
    )


def test_a_model_is_sent_with_what_was_set_and_nothing_else(
    client: FineTuningClient, api: Api
) -> None:
    job = client.submit(a_job(method="full"))
    assert (job.metadata.name, job.metadata.uid) == ("mine", "mine-uid")
    ((path, query, body),) = api.sent("POST")
    assert (path, query) == (TEAM, {"fieldManager": "finetuning-client"})
    assert body == {
        "apiVersion": "aim.amd.com/v1alpha1",
        "kind": "FineTuningJob",
        "metadata": {"name": "mine", "namespace": "team"},
        "spec": {
            "baseModel": {"modelId": "a/b"},
            "dataset": {"source": "hf://a/b"},
            "method": "full",
        },
    }
    assert api.agents == {"finetuning-client"}


def test_what_is_changed_in_a_model_is_sent_too(client: FineTuningClient, api: Api) -> None:
    """Pydantic counts a field as set when its own part was made with it, and no other."""
    job = a_job()
    job.metadata.labels["team"] = "vision"
    job.spec.hyperparameters.epochs = 7
    job.spec.hyperparameters.report_to.append(ReportTo.TENSORBOARD)
    job.spec.output.storage.size = "9Gi"
    job.spec.lora.r = 8
    client.submit(job)
    ((_, _, body),) = api.sent("POST")
    assert body["metadata"]["labels"] == {"team": "vision"}
    assert body["spec"] == {
        "baseModel": {"modelId": "a/b"},
        "dataset": {"source": "hf://a/b"},
        "hyperparameters": {"epochs": 7, "reportTo": ["tensorboard"]},
        "loraConfig": {"r": 8},
        "output": {"storage": {"size": "9Gi"}},
    }
    assert job.metadata.model_fields_set == {"name"}


def test_a_file_is_sent_as_it_stands_and_a_dry_run_keeps_nothing(
    client: FineTuningClient, api: Api, tmp_path: Path
) -> None:
    body = job_body("filed", status=None)
    del body["spec"]["status"], body["metadata"]["namespace"]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(body))
    client.submit(tmp_path / "job.yaml", dry_run=True)
    assert api.sent("POST")[0][1]["dryRun"] == "All"
    assert api.jobs == {}
    assert client.submit(str(tmp_path / "job.yaml")).spec.method == "lora"
    assert api.jobs["team", "filed"]["spec"] == body["spec"]


def test_a_mistake_is_found_before_anything_is_sent(
    client: FineTuningClient, api: Api, tmp_path: Path
) -> None:
    with pytest.raises(InvalidJobError, match=r"spec\.method: Input should be 'lora'"):
        client.submit(job_body(method="lorra"))
    changed = a_job()
    changed.spec.method = "lorra"  # type: ignore[assignment]
    with pytest.raises(InvalidJobError, match=r"spec\.method: Input should be 'lora'"):
        client.submit(changed)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job_body(method="lorra")))
    with pytest.raises(InvalidJobError, match='did you mean "lora"'):
        client.submit(tmp_path / "job.yaml")
    with pytest.raises(InvalidJobError, match="no such file"):
        client.submit("nowhere.yaml")
    assert api.requests == []


def test_a_file_with_other_objects_is_left_to_kubectl(
    client: FineTuningClient, api: Api, tmp_path: Path
) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump_all([job_body(), config_map]))
    with pytest.raises(InvalidJobError, match=r"holds ConfigMap rows beside .*kubectl apply -f"):
        client.submit(tmp_path / "job.yaml")
    assert api.requests == []


def test_the_api_servers_refusals_have_types(client: FineTuningClient, api: Api) -> None:
    api.keep("mine")
    with pytest.raises(JobExistsError, match='"mine" exists'):
        client.submit(a_job())
    api.answers[TEAM] = refusal(422, "Invalid", "spec.method: no")
    with pytest.raises(InvalidJobError, match=r"spec\.method: no"):
        client.submit(a_job())
    api.answers[TEAM] = refusal(403, "Forbidden", "may not")
    with pytest.raises(ClusterError, match="may not"):
        client.submit(a_job())


def test_jobs_of_the_namespace_or_of_all(client: FineTuningClient, api: Api) -> None:
    api.keep("one", status={"phase": "Running", "currentStep": 3})
    api.keep("two", namespace="other")
    (one,) = client.list(selector="team=vision")
    assert (one.metadata.name, one.status.phase, one.status.current_step) == (
        "one", Phase.RUNNING, 3,
    )  # fmt: skip
    assert api.requests[-1][2]["labelSelector"] == "team=vision"
    assert [each.metadata.name for each in client.list(all_namespaces=True)] == ["one", "two"]


@pytest.mark.parametrize("name", ["", "demo/status", "../services/demo", "Demo", "a b", "demo?x=y"])
@pytest.mark.parametrize("call", ["get", "pause", "resume", "delete", "revalidate", "watch", "log"])
def test_a_name_that_leads_elsewhere_is_never_asked_for(
    client: FineTuningClient, api: Api, call: str, name: str
) -> None:
    """An empty one would be the collection of all jobs, one with a slash another resource."""
    api.keep("demo")
    with pytest.raises(InvalidJobError, match=r"^name: Invalid value: "):
        # Those of many answers ask with the first.
        list(getattr(client, call)(name))
    assert api.requests == []
    assert "demo" in {key[1] for key in api.jobs}


@pytest.mark.parametrize("namespace", ["Team", "team/pods", "..", "a" * 64])
def test_so_is_a_namespace(api: Api, kubeconfig: Path, namespace: str) -> None:
    with pytest.raises(InvalidJobError, match=r"^namespace: Invalid value: "):
        FineTuningClient(kubeconfig=kubeconfig, namespace=namespace)
    assert api.requests == []


def test_a_selector_that_is_none_is_told(client: FineTuningClient, api: Api) -> None:
    api.answers[TEAM] = refusal(400, "BadRequest", "found '=', expected: ','")
    with pytest.raises(InvalidJobError, match=r"^selector: Invalid value: .a=b=c"):
        client.list(selector="a=b=c")


def test_no_such_job_is_told_from_no_such_kind(client: FineTuningClient, api: Api) -> None:
    with pytest.raises(JobNotFoundError, match='no FineTuningJob "demo" in the namespace team of'):
        client.get("demo")
    api.answers[JOBS] = (404, "404 page not found")
    with pytest.raises(ClusterError, match="install the operator's chart"):
        client.get("demo")


def test_a_closed_client_says_so(client: FineTuningClient, api: Api) -> None:
    client.close()
    with pytest.raises(ClientError, match="this client is closed"):
        client.get("demo")
    assert api.requests == []


async def test_so_does_one_for_asyncio(asking: AsyncFineTuningClient, api: Api) -> None:
    api.keep()
    await asking.close()
    await asking.close()
    for asked in (asking.get("demo"), asking.list(), asking.wait("demo"), asking.delete("demo")):
        with pytest.raises(ClientError, match="closed; make another one"):
            await asked
    assert api.requests == []


def test_a_namespace_that_is_not_there_is_told(client: FineTuningClient, api: Api) -> None:
    api.answers[TEAM] = refusal(404, "NotFound", 'namespaces "team" not found')
    with pytest.raises(ClusterError, match=r'^namespaces "team" not found; name one that is there'):
        client.submit(job_body("demo"))


def test_fields_of_a_newer_operator_are_left_out(client: FineTuningClient, api: Api) -> None:
    api.keep(spec={"colour": "red", "hyperparameters": {"epochs": 2, "taste": {"a": 1}}})
    assert client.get("demo").spec.hyperparameters.epochs == 2


def test_a_job_of_another_version_says_what_to_do(client: FineTuningClient, api: Api) -> None:
    api.keep(spec={"colour": "red", "method": "magic"})
    with pytest.raises(ClientError, match=r"demo: .*spec\.method.*install the version"):
        client.get("demo")


def test_pause_and_resume_change_one_field_once(client: FineTuningClient, api: Api) -> None:
    api.keep(status={"phase": "Running"})
    assert client.pause("demo").spec.suspend
    assert client.pause("demo").spec.suspend
    assert not client.resume("demo").spec.suspend
    assert [body for _, _, body in api.sent("PATCH")] == [
        {"spec": {"suspend": True}},
        {"spec": {"suspend": False}},
    ]


def test_what_has_ended_cannot_be_paused(client: FineTuningClient, api: Api) -> None:
    api.keep(status=TRAINED)
    with pytest.raises(WrongStateError, match=r"demo is Succeeded: .* nothing to pause"):
        client.pause("demo")
    assert api.sent("PATCH") == []


def test_a_pause_that_came_too_late_can_be_taken_back(client: FineTuningClient, api: Api) -> None:
    """It holds up the validation of a job that is trained."""
    api.keep(status={**TRAINED, "validation": None}, spec={"suspend": True})
    assert not client.resume("demo").spec.suspend
    with pytest.raises(WrongStateError, match="nothing to resume"):
        client.resume("demo")


@pytest.mark.parametrize("of", [LogOf.VALIDATION, LogOf.PUBLISHING])
def test_a_paused_job_has_no_output_to_wait_for(
    of: LogOf, client: FineTuningClient, api: Api
) -> None:
    publish = {"s3": {"uri": "s3://models/demo"}}
    waiting = {**TRAINED, "validation": None} if of is LogOf.VALIDATION else TRAINED
    api.keep(status=waiting, spec={"suspend": True, "output": {"publish": publish}})
    with pytest.raises(
        WrongStateError, match=f"there is no {of} pod, and it is paused: resume demo"
    ):
        list(client.log("demo", of, follow=True))


def test_only_this_very_job_is_deleted(client: FineTuningClient, api: Api) -> None:
    api.keep()
    client.delete("demo")
    ((_, _, body),) = api.sent("DELETE")
    assert body == {"preconditions": {"uid": "demo-uid"}}
    with pytest.raises(JobNotFoundError):
        client.delete("demo")


async def test_another_verdict_is_asked_for_and_waited_for(
    asking: AsyncFineTuningClient, api: Api
) -> None:
    job = api.keep(status=TRAINED)
    wish = await asking.revalidate("demo")
    ((_, _, body),) = api.sent("PATCH")
    assert body == {"metadata": {"annotations": {"finetuning.aim.amd.com/revalidate": wish}}}
    assert len(wish) <= 63
    job = api.jobs["team", "demo"]
    job["status"]["validation"] |= {"revalidate": wish}
    assert (await asking.wait("demo", timeout=5)).status.validation is not None


@pytest.mark.parametrize(
    ("status", "spec", "expected"),
    [
        ({"phase": "Running"}, {}, "demo is Running: a model is judged when"),
        (TRAINED, {"validation": {"enabled": False}}, "enabled is false; set it to true"),
        (TRAINED, {"suspend": True}, "suspend is true, which holds its validation too: resume"),
    ],
)
def test_nothing_to_judge_is_said(
    status: Any, spec: Any, expected: str, client: FineTuningClient, api: Api
) -> None:
    api.keep(status=status, spec=spec)
    with pytest.raises(WrongStateError, match=expected):
        client.revalidate("demo")
    assert api.sent("PATCH") == []


async def test_a_watch_shows_each_change_once_and_bears_with_a_short_silence(
    asking: AsyncFineTuningClient, api: Api
) -> None:
    job = api.keep(status={"phase": "Pending"})

    async def change() -> None:
        await asyncio.sleep(0.1)
        api.answers[f"{TEAM}/demo"] = refusal(503, "ServiceUnavailable", "starting")
        await asyncio.sleep(0.1)
        job["metadata"]["resourceVersion"] = "2"
        job["status"]["phase"] = "Running"
        del api.answers[f"{TEAM}/demo"]

    task, seen = asyncio.create_task(change()), []
    async for each in asking.watch("demo", seconds=0.01):
        seen.append(each.status.phase)
        if len(seen) == 2:
            break
    await task
    assert seen == [Phase.PENDING, Phase.RUNNING]
    assert len(api.requests) > 5


def test_a_watch_from_a_script_can_be_left(client: FineTuningClient, api: Api) -> None:
    api.keep(status={"phase": "Running"})
    for job in client.watch("demo", seconds=0.01):
        assert job.status.phase is Phase.RUNNING
        break


def test_a_turn_may_be_a_word(client: FineTuningClient, api: Api) -> None:
    api.keep(status=TRAINED)
    assert client.wait("demo", "trained", timeout=10).metadata.name == "demo"
    with pytest.raises(ClientError, match="'done' is none of trained, validated, ready, paused"):
        client.wait("demo", "done")


def test_a_watch_may_be_left_behind_a_closed_client(api: Api, kubeconfig: Path) -> None:
    """Elsewhere its end would be told as an exception that nobody can catch."""
    api.keep()
    client = FineTuningClient(kubeconfig=kubeconfig)
    changes = client.watch("demo")
    next(changes)
    client.close()
    changes.close()  # type: ignore[attr-defined]


def test_a_job_that_goes_away_ends_the_wait(client: FineTuningClient, api: Api) -> None:
    with pytest.raises(JobNotFoundError):
        client.wait("demo", timeout=5)


@pytest.mark.parametrize(
    ("until", "status"),
    [
        (Until.TRAINED, TRAINED),
        (Until.VALIDATED, TRAINED),
        (Until.VALIDATED, {"phase": "Failed", "observedGeneration": 1}),
        (Until.PAUSED, {"phase": "Paused", "observedGeneration": 1}),
        (lambda job: job.status.current_step == 7, {"currentStep": 7}),
    ],
)
def test_each_turn_ends_its_wait(
    until: Any, status: Any, client: FineTuningClient, api: Api
) -> None:
    api.keep(status=status)
    told: list[Phase] = []
    client.wait("demo", until, timeout=5, progress=lambda job: told.append(job.status.phase))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("until", "status"),
    [
        (Until.TRAINED, {"phase": "Running", "observedGeneration": 1}),
        (Until.TRAINED, {**TRAINED, "observedGeneration": 0}),
        (Until.VALIDATED, {**TRAINED, "validation": {"phase": "Running", "attempt": 1}}),
        (
            Until.VALIDATED,
            {
                **TRAINED,
                "validation": {
                    "phase": "Failed",
                    "attempt": 1,
                    "rerun": {"attempt": 2, "phase": "Running"},
                },
            },
        ),
        (Until.PAUSED, {"phase": "Running", "observedGeneration": 1}),
    ],
)
def test_what_has_not_come_yet_is_waited_for(
    until: Until, status: Any, client: FineTuningClient, api: Api
) -> None:
    api.keep(status=status)
    with pytest.raises(TimedOutError, match=f"demo: not {until} after 0 s"):
        client.wait("demo", until, timeout=0.2)


def test_a_function_that_is_called_may_ask_the_client(client: FineTuningClient, api: Api) -> None:
    """It is called where the wait was, so that a notebook shows its output in the cell."""
    api.keep(status=TRAINED)
    seen = []

    def see(job: FineTuningJob) -> None:
        seen.append((client.get(job.metadata.name).status.phase, threading.current_thread()))

    client.wait("demo", lambda _: len(client.list()) == 1, timeout=5, progress=see)
    assert seen == [(Phase.SUCCEEDED, threading.current_thread())]


def test_a_bar_tells_what_is_known(
    client: FineTuningClient, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.keep(status={**TRAINED, "currentStep": 7, "totalSteps": 9, "trainLoss": 0.5})
    client.wait("demo", timeout=5, progress=True)
    assert capsys.readouterr().err == "demo Succeeded  step 7/9, loss 0.5000\n"
    api.keep(status={"phase": "Pending", "message": "No node has a GPU."})
    with pytest.raises(TimedOutError):
        client.wait("demo", timeout=0.2, progress=True)
    assert capsys.readouterr().err == "demo Pending  No node has a GPU.\n"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"phase": "Pending", "message": "No node has a GPU."}, "Pending  No node has a GPU."),
        (
            {"validation": {"phase": "Pending", "attempt": 1, "summary": "No node has a GPU."}},
            "Succeeded  validation Pending: No node has a GPU.",
        ),
        (
            {
                "validation": {
                    "phase": "Passed",
                    "rerun": {"attempt": 2, "phase": "Running", "summary": "checks are running"},
                }
            },
            "Succeeded  validation Running: checks are running",
        ),
        (
            {"publish": {"phase": "Running", "message": "The model is being published."}},
            "Succeeded  publishing Running: The model is being published.",
        ),
        ({"phase": "Running"}, "Running  step 7/9"),
        ({"phase": "Paused", "message": "long " * 30}, f"Paused  {('long ' * 30).strip()}"),
    ],
)
def test_a_bar_tells_what_is_waited_for(
    status: Any, told: str, client: FineTuningClient, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures of what was trained before would hide it."""
    api.keep(status={**TRAINED, "message": "Trained.", "currentStep": 7, "totalSteps": 9, **status})
    with pytest.raises(TimedOutError):
        client.wait("demo", Until.READY, timeout=0.2, progress=True)
    assert capsys.readouterr().err.splitlines()[0] == f"demo {told}"


ENDED, BEGUN = {"terminated": {"exitCode": 0}}, {"running": {"startedAt": "2026-01-01T10:00:00Z"}}


@pytest.mark.parametrize(
    ("of", "component", "container"),
    [
        (LogOf.TRAINING, "training", "finetuning"),
        (LogOf.SIDECAR, "training", "metrics"),
        (LogOf.VALIDATION, "validation", "validation"),
    ],
)
def test_a_log_is_that_of_the_right_container(
    of: LogOf, component: str, container: str, client: FineTuningClient, api: Api
) -> None:
    api.keep(status=TRAINED)
    api.pods, api.logs["p"] = [pod("p", "demo", component, container, ENDED)], "one\ntwo"
    assert "".join(client.log("demo", of, tail=5)) == "one\ntwo"
    asked = {path: query for path, query, _ in api.sent("GET")}
    labels = f"finetuning.aim.amd.com/job-uid=demo-uid,app.kubernetes.io/component={component}"
    assert asked["/api/v1/namespaces/team/pods"]["labelSelector"] == labels
    assert asked["/api/v1/namespaces/team/pods/p/log"] == {
        "container": container,
        "tailLines": "5",
    }


def test_an_output_may_be_a_word(client: FineTuningClient, api: Api) -> None:
    api.keep()
    with pytest.raises(ClientError, match="of: 'bogus' is none of training, validation"):
        list(client.log("demo", "bogus"))
    with pytest.raises(WrongStateError, match="there is no validation pod"):
        list(client.log("demo", "validation"))


def test_no_output_yet_says_why(client: FineTuningClient, api: Api) -> None:
    api.keep(status={"phase": "Pending"})
    with pytest.raises(WrongStateError, match="demo is Pending: there is no training pod"):
        list(client.log("demo"))
    api.pods = [pod("p", "demo", "training", "finetuning", {"waiting": {"reason": "NoImage"}})]
    with pytest.raises(WrongStateError, match="the pod p has not begun: NoImage"):
        list(client.log("demo"))


async def test_following_goes_on_with_the_pod_that_takes_over(
    asking: AsyncFineTuningClient, api: Api
) -> None:
    job = api.keep(status={"phase": "Pending"})
    api.logs = {"a": "first\n", "b": "second\n"}
    got = []

    async def follow() -> None:
        async for piece in asking.log("demo", follow=True):
            got.append(piece)
            if piece == "first\n":
                api.pods.append(pod("b", "demo", "training", "finetuning", BEGUN))
            else:
                api.pods[1] = pod("b", "demo", "training", "finetuning", ENDED)
                job["status"] = TRAINED

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    assert got == []
    api.pods = [pod("a", "demo", "training", "finetuning", ENDED)]
    await asyncio.wait_for(task, 20)
    assert got == ["first\n", "second\n"]


@pytest.mark.parametrize("broken", [False, True], ids=["ended", "broken"])
def test_following_goes_on_where_a_connection_was_cut(
    client: FineTuningClient, api: Api, *, broken: bool
) -> None:
    """Proxies end a connection that is silent for long, and an API server is started anew."""
    job = api.keep(status={"phase": "Running"})
    api.pods = [pod("a", "demo", "training", "finetuning", BEGUN)]
    api.logs["a"] = "".join(f"step {number}\n" for number in range(8))
    api.cuts = [(4, broken), (2, broken)]
    got = []
    for piece in client.log("demo", follow=True):
        got += piece.splitlines()
        if len(got) == 5:
            api.pods = [pod("a", "demo", "training", "finetuning", ENDED)]
            job["status"] = TRAINED
    assert got == [f"step {number}" for number in range(8)]
