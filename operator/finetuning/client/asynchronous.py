"""The FineTuningJobs of a cluster for asyncio; the command line is written on it as well."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts.plain import plain
from finetuning.client import logs, objects
from finetuning.client.connection import Connection, connect
from finetuning.client.errors import (
    BAD_REQUEST,
    NOT_FOUND,
    ClientError,
    ClusterError,
    InvalidJobError,
    JobNotFoundError,
    WrongStateError,
    explained,
    refused,
)
from finetuning.client.logs import LogOf
from finetuning.client.objects import JobLike, Raw
from finetuning.client.story import Goal, Until, goal, not_in_time
from finetuning.controller import naming, observed, training_status
from finetuning.controller.gateway import CUSTOMS, PODS, ApiError, Gateway
from finetuning.controller.observed import Pod
from finetuning.local.words import unseen

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""How long a watch, or a log, bears with a cluster that does not answer."""
_T = TypeVar("_T")

Progress = Callable[[FineTuningJob], None]


class AsyncFineTuningClient:
    """Submit, watch, steer and judge jobs; every method raises a `ClientError` and nothing else.

    async with await AsyncFineTuningClient.connect() as client:
        job = await client.submit("job.yaml")
        job = await client.wait(job.metadata.name)
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        namespace: str | None = None,
    ) -> Self:
        """By the kubeconfig's current context, or a Pod's service account.

        Raises:
            InvalidJobError: no namespace can be called so.
            ClusterError: there is no usable kubeconfig, or no such context.
        """
        there = objects.namespaced(namespace) if namespace else None
        file = None if kubeconfig is None else str(kubeconfig)
        return cls(await connect(file, context, there))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back; a second call does nothing."""
        await self._connection.gateway.close()

    def within(self, namespace: str) -> "AsyncFineTuningClient":
        """The same connection for another namespace."""
        there = objects.namespaced(namespace)
        return AsyncFineTuningClient(replace(self._connection, namespace=there, named=True))

    @property
    def namespace(self) -> str:
        return self._connection.namespace

    @property
    def context(self) -> str:
        return self._connection.context

    @property
    def gateway(self) -> Gateway:
        """The calls beneath, on plain dictionaries; raises ClientError once they are closed."""
        if self._connection.gateway.closed:
            raise ClientError("this client is closed; make another one")
        return self._connection.gateway

    async def submit(
        self, job: JobLike, *, name: str | None = None, dry_run: bool = False
    ) -> FineTuningJob:
        """Create a job, from a model, a mapping or the path of a manifest.

        `name` chooses among the jobs of a file. Dry: the API server checks it and keeps nothing.

        Raises:
            InvalidJobError: it cannot be accepted.
            JobExistsError: there is a job of that name.
            ClusterError: the cluster refuses, or does not answer.
        """
        manifest = self._placed(objects.to_submit(job, name))
        try:
            return objects.parsed(await self.gateway.create(CUSTOMS, manifest, dry_run=dry_run))
        except ApiError as error:
            raise refused(error) from None

    def _placed(self, manifest: Raw) -> Raw:
        """In its own namespace, or else in this client's; a contradiction is an error."""
        meta = manifest["metadata"]
        own = meta.get("namespace")
        if own and self._connection.named and own != self.namespace:
            raise InvalidJobError(
                f"metadata.namespace: Invalid value: {own!r}: the namespace {self.namespace} was "
                "asked for; drop one of the two"
            )
        return {**manifest, "metadata": {**meta, "namespace": own or self.namespace}}

    async def object(self, name: str) -> Raw:
        """The job as the API server keeps it.

        Raises:
            InvalidJobError: no job can be called so.
            JobNotFoundError, ClusterError: it is not there, or cannot be asked for.
        """
        try:
            found = await self.gateway.get(CUSTOMS, self.namespace, objects.named(name))
            if found is None and not await self.gateway.serves(CUSTOMS):
                raise explained(ApiError(NOT_FOUND, "", ""))
        except ApiError as error:
            raise explained(error) from None
        if found is None:
            raise JobNotFoundError(
                f'no FineTuningJob "{name}" in the namespace {self.namespace} of {self.context}'
            )
        return found

    async def objects(self, *, all_namespaces: bool = False, selector: str = "") -> list[Raw]:
        """The jobs as the API server keeps them, also those of another version."""
        where = None if all_namespaces else self.namespace
        labels = {"labelSelector": selector} if selector else {}
        try:
            return [raw async for raw in self.gateway.items(CUSTOMS, where, **labels)]
        except ApiError as error:
            if selector and error.code == BAD_REQUEST:
                raise InvalidJobError(
                    f"selector: Invalid value: {selector!r}: {plain(error.message, 200)}; such as "
                    "team=vision, team!=vision or 'team in (vision, text)'"
                ) from None
            raise explained(error) from None

    async def get(self, name: str) -> FineTuningJob:
        """Raises InvalidJobError, JobNotFoundError, ClusterError."""
        return objects.parsed(await self.object(name))

    async def list(
        self, *, all_namespaces: bool = False, selector: str = ""
    ) -> "list[FineTuningJob]":
        """`selector` is a label selector such as team=vision.

        Raises:
            InvalidJobError: that is no selector.
            ClusterError: the cluster refuses, or does not answer.
        """
        found = await self.objects(all_namespaces=all_namespaces, selector=selector)
        return [objects.parsed(raw) for raw in found]

    async def pause(self, name: str) -> FineTuningJob:
        """Have the work saved and the GPU freed; `wait` with Until.PAUSED sees the end of it.

        Raises:
            WrongStateError: the training has ended.
            JobNotFoundError, ClusterError: as for `get`.
        """
        return await self._suspend(name, suspend=True)

    async def resume(self, name: str) -> FineTuningJob:
        """Go on from the newest checkpoint; raises as `pause` does."""
        return await self._suspend(name, suspend=False)

    async def _suspend(self, name: str, *, suspend: bool) -> FineTuningJob:
        job = await self.get(name)
        # A pause that came too late for the training holds up what follows it.
        held = job.spec.suspend and training_status.is_trained(job.status)
        if training_status.is_over(job.status) and not (held and not suspend):
            raise WrongStateError(
                f"{name} is {job.status.phase}: its training has ended, so there is nothing to "
                f"{'pause' if suspend else 'resume'}"
            )
        if job.spec.suspend is suspend:
            return job
        return await self._change(name, {"spec": {"suspend": suspend}})

    async def delete(self, name: str) -> None:
        """Delete the job, and with it the claim that the operator made for it.

        Raises:
            JobNotFoundError, ClusterError: as for `get`.
        """
        found = await self.object(name)
        try:
            await self.gateway.delete(CUSTOMS, self.namespace, name, found["metadata"]["uid"])
        except ApiError as error:
            raise explained(error) from None

    async def revalidate(self, name: str) -> str:
        """Have the model judged again; the answer has this value in status.validation.revalidate.

        Raises:
            WrongStateError: there is no model yet, or validation is turned off or held.
            JobNotFoundError, ClusterError: as for `get`.
        """
        job = await self.get(name)
        if not training_status.is_trained(job.status):
            raise WrongStateError(
                f"{name} is {job.status.phase}: a model is judged when its training has succeeded"
            )
        if not job.spec.validation.enabled:
            raise WrongStateError(
                f"{name}: spec.validation.enabled is false; set it to true, which judges the model"
            )
        if job.spec.suspend:
            raise WrongStateError(
                f"{name}: spec.suspend is true, which holds its validation too: resume it first"
            )
        wish = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(3)}"
        await self._change(
            name, {"metadata": {"annotations": {naming.REVALIDATE_ANNOTATION: wish}}}
        )
        return wish

    async def _change(self, name: str, patch: dict[str, Any]) -> FineTuningJob:
        try:
            return objects.parsed(await self.gateway.patch(CUSTOMS, self.namespace, name, patch))
        except ApiError as error:
            raise explained(error) from None

    async def watch(
        self, name: str, *, seconds: float = POLL_SECONDS
    ) -> AsyncIterator[FineTuningJob]:
        """The job now, and again after each change that is seen; it never ends by itself.

        Also once where no operator has looked at it for a while.

        Raises:
            JobNotFoundError: it is not there, or not there any more.
            ClusterError: the cluster refuses, or has not answered for a minute.
        """
        shown = None
        while True:
            job = await _patiently(lambda: self.get(name), seconds)
            # That nobody takes it up changes nothing in it.
            state = (job.metadata.resource_version, unseen(job))
            if state != shown:
                shown = state
                yield job
            await asyncio.sleep(seconds)

    async def wait(
        self,
        name: str,
        until: Until | str | Goal = Until.VALIDATED,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the caller sees no asyncio of ours
        progress: Progress | None = None,
    ) -> FineTuningJob:
        """Wait for a turn of the job, or for anything else that a function finds in it.

        A training that fails ends the wait as well: look at `job.status`.

        Raises:
            ClientError: there is no such turn.
            TimedOutError: not seen within `timeout` seconds.
            JobNotFoundError, ClusterError: as for `watch`.
        """
        is_reached = goal(until, progress)
        try:
            async with asyncio.timeout(timeout), aclosing(self.watch(name)) as changes:  # type: ignore[type-var]
                async for job in changes:
                    if is_reached(job):
                        return job
        except TimeoutError:
            raise not_in_time(name, until, timeout) from None
        raise AssertionError  # A watch does not end by itself.

    async def log(
        self,
        name: str,
        of: LogOf | str = LogOf.TRAINING,
        *,
        follow: bool = False,
        tail: int | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[str]:
        """A container's output in pieces of whole lines: of the newest pod, its last `tail` lines.

        Following goes on where a connection was cut, and with the pods that take over after a
        crash, until none will. `progress` gets the job again and again while it has no output yet.

        Raises:
            ClientError: a job has no such output.
            WrongStateError: there is no output, and without `follow` nobody waits for it.
            JobNotFoundError, ClusterError: as for `get`; when following, after a minute.
        """
        source, read = logs.output(of), set[str]()
        job, pod = await self._newest(name, source)
        while True:
            if pod is not None and pod.meta.uid not in read and logs.has_begun(pod, source):
                read.add(pod.meta.uid)
                pieces = self._followed if follow else self._written
                async for piece in pieces(pod, source, tail):
                    yield piece
            elif not read and (not follow or logs.no_more(job, source)):
                why = logs.why_not(pod, source) + logs.why_never(job)
                raise WrongStateError(f"{name} is {job.status.phase}: {why}")
            elif not read and progress is not None:
                progress(job)
            if not follow or (read and logs.no_more(job, source)):
                return
            await asyncio.sleep(POLL_SECONDS)
            job, pod = await _patiently(lambda: self._newest(name, source))

    async def _newest(self, name: str, of: LogOf) -> tuple[FineTuningJob, Pod | None]:
        """A job, and the pod whose output it has."""
        job = await self.get(name)
        labels = logs.selector(job.metadata.uid, of)
        try:
            found = self.gateway.items(PODS, self.namespace, labelSelector=labels)
            return job, logs.newest([observed.pod(raw) async for raw in found])
        except ApiError as error:
            raise explained(error) from None

    async def _written(self, pod: Pod, of: LogOf, tail: int | None) -> AsyncIterator[str]:
        query = {"tailLines": str(tail)} if tail is not None else {}
        async for piece in self._output(pod, of, query):
            yield piece

    async def _followed(self, pod: Pod, of: LogOf, tail: int | None) -> AsyncIterator[str]:
        """Until the container has ended, by as many connections as that takes."""
        place, failures, now = logs.Place(), 0, pod
        while True:
            before, ended = place.time, logs.has_ended(now, of)
            try:
                async for piece in self._output(pod, of, place.connection(tail)):
                    if new := place.new(piece):
                        yield new
            except ClusterError as error:
                failures = failures + 1 if place.time == before else 1
                if not error.may_pass or failures > PATIENCE_SECONDS / POLL_SECONDS:
                    raise
                ended = False
            if ended:
                return
            await asyncio.sleep(POLL_SECONDS)
            if (found := await _patiently(lambda: self._again(pod))) is None:
                return
            now = found

    async def _again(self, pod: Pod) -> Pod | None:
        """The pod as it is now; None when it is gone."""
        try:
            raw = await self.gateway.get(PODS, self.namespace, pod.meta.name)
        except ApiError as error:
            raise explained(error) from None
        found = None if raw is None else observed.pod(raw)
        return found if found is not None and found.meta.uid == pod.meta.uid else None

    async def _output(self, pod: Pod, of: LogOf, query: dict[str, str]) -> AsyncIterator[str]:
        query = {"container": logs.container(of), **query}
        try:
            async for piece in self.gateway.log(self.namespace, pod.meta.name, **query):
                yield piece
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise explained(error) from None
            raise WrongStateError(f"the pod {pod.meta.name} is gone") from None


async def _patiently(ask: Callable[[], Awaitable[_T]], seconds: float = POLL_SECONDS) -> _T:
    """Asks again while the cluster does not answer, for a minute at most."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except ClusterError as error:
            if not error.may_pass or time.monotonic() > end:
                raise
        await asyncio.sleep(seconds)
