"""The same client for scripts and notebooks: its calls wait for their answers.

Its event loop has a thread of its own: in a notebook there is one that runs already.
"""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.client.asynchronous import POLL_SECONDS, AsyncFineTuningClient, Progress
from finetuning.client.errors import ClientError
from finetuning.client.logs import LogOf
from finetuning.client.objects import JobLike
from finetuning.client.progress import Bar
from finetuning.client.story import Goal, Until, answers, goal, not_in_time

_T = TypeVar("_T")


def _end(
    client: AsyncFineTuningClient, loop: asyncio.AbstractEventLoop, thread: threading.Thread
) -> None:
    # A process that was forked has no such thread, and the connection is its parent's.
    if thread.is_alive():
        asyncio.run_coroutine_threadsafe(client.close(), loop).result()
        _stop(loop, thread)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class FineTuningClient:
    """Submit, watch, steer and judge jobs; every method raises a `ClientError` and nothing else.

    with FineTuningClient(namespace="team-a") as client:
        job = client.submit("job.yaml")
        job = client.wait(job.metadata.name)
        print(job.status.validation.report)
    """

    def __init__(
        self,
        *,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """By the kubeconfig's current context, or a Pod's service account.

        Raises:
            ClusterError: there is no usable kubeconfig, or no such context.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="finetuning-client", daemon=True
        )
        self._thread.start()
        try:
            self._client = self._run(
                AsyncFineTuningClient.connect(
                    kubeconfig=None if kubeconfig is None else str(kubeconfig),
                    context=context,
                    namespace=namespace,
                )
            )
        except BaseException:
            _stop(self._loop, self._thread)
            raise
        # A script may end, and a notebook may forget its client, without a word.
        self._end = weakref.finalize(self, _end, self._client, self._loop, self._thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; a second call does nothing."""
        self._end()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if not self._thread.is_alive():
            work.close()
            raise ClientError("this client is closed, or another process's; make another one")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _each(
        self, stream: AsyncIterator[_T], end: float | None = None
    ) -> Generator[_T, None, None]:
        """What a stream brings, while it is asked for; raises TimeoutError at `end`."""
        nothing = object()

        async def following() -> object:
            async with asyncio.timeout_at(end):
                return await anext(stream, nothing)

        try:
            while (found := self._run(following())) is not nothing:
                yield found  # type: ignore[misc]
        finally:
            # With a client that was closed meanwhile its streams are over.
            if self._thread.is_alive():
                self._run(stream.aclose())  # type: ignore[attr-defined]

    @property
    def namespace(self) -> str:
        return self._client.namespace

    @property
    def context(self) -> str:
        return self._client.context

    def submit(
        self, job: JobLike, *, name: str | None = None, dry_run: bool = False
    ) -> FineTuningJob:
        """Create a job, from a model, a mapping or the path of a manifest.

        Raises:
            InvalidJobError: it cannot be accepted.
            JobExistsError: there is a job of that name.
            ClusterError: the cluster refuses, or does not answer.
        """
        return self._run(self._client.submit(job, name=name, dry_run=dry_run))

    def get(self, name: str) -> FineTuningJob:
        """Raises JobNotFoundError, ClusterError."""
        return self._run(self._client.get(name))

    def list(self, *, all_namespaces: bool = False, selector: str = "") -> "list[FineTuningJob]":
        """`selector` is a label selector such as team=vision; raises ClusterError."""
        return self._run(self._client.list(all_namespaces=all_namespaces, selector=selector))

    def pause(self, name: str) -> FineTuningJob:
        """Have the work saved and the GPU freed; raises WrongStateError when it has ended."""
        return self._run(self._client.pause(name))

    def resume(self, name: str) -> FineTuningJob:
        """Go on from the newest checkpoint; raises WrongStateError when it has ended."""
        return self._run(self._client.resume(name))

    def delete(self, name: str) -> None:
        """Delete the job, and with it the claim that the operator made for it."""
        self._run(self._client.delete(name))

    def revalidate(self, name: str, *, timeout: float | None = None) -> FineTuningJob:
        """Have the model judged again, and wait for the verdict.

        Raises:
            WrongStateError: there is no model yet, or validation is turned off or held.
            TimedOutError: no verdict within `timeout` seconds.
        """
        wish = self._run(self._client.revalidate(name))
        return self.wait(name, lambda job: answers(job, wish), timeout=timeout)

    def watch(self, name: str, *, seconds: float = POLL_SECONDS) -> Iterator[FineTuningJob]:
        """The job now, and again after each change that is seen; it never ends by itself."""
        return self._each(self._client.watch(name, seconds=seconds))

    def wait(
        self,
        name: str,
        until: Until | str | Goal = Until.VALIDATED,
        *,
        timeout: float | None = None,
        progress: bool | Progress = False,
    ) -> FineTuningJob:
        """Wait for a turn of the job; True shows a bar, in a terminal and in a notebook.

        Functions are called where `wait` was called, and may ask this client as well. A training
        that fails ends the wait too: look at `job.status`.

        Raises:
            ClientError: there is no such turn.
            TimedOutError: not seen within `timeout` seconds.
        """
        if progress is True:
            with Bar() as bar:
                return self._waited(name, until, timeout, bar)
        return self._waited(name, until, timeout, progress or None)

    def _waited(
        self, name: str, until: Until | str | Goal, timeout: float | None, progress: Progress | None
    ) -> FineTuningJob:
        is_reached = goal(until, progress)
        end = None if timeout is None else self._loop.time() + timeout
        with closing(self._each(self._client.watch(name), end)) as changes:
            try:
                for job in changes:
                    if is_reached(job):
                        return job
            except TimeoutError:
                raise not_in_time(name, until, timeout) from None
        raise AssertionError  # A watch does not end by itself.

    def log(
        self,
        name: str,
        of: LogOf | str = LogOf.TRAINING,
        *,
        follow: bool = False,
        tail: int | None = None,
    ) -> Iterator[str]:
        """A container's output in pieces of whole lines; raises WrongStateError without any."""
        return self._each(self._client.log(name, of, follow=follow, tail=tail))
