import asyncio

import pytest

from finetuning.controller.workqueue import ClosedError, Turn, WorkQueue


async def drain(queue: WorkQueue[str]) -> list[str]:
    found = []
    while queue.depth:
        key = await queue.get()
        queue.done(key)
        found.append(key)
    return found


async def test_a_key_that_is_added_many_times_comes_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        queue.add("a")
    assert await drain(queue) == ["a"]


async def test_what_failed_is_hurried_and_begins_its_delays_anew() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "ab":
        for _ in range(20):
            queue.retry(key)
    queue.succeeded("b", 3600)
    queue.hurry()
    assert await drain(queue) == ["a"]
    assert queue.retry("a") < 1
    queue.close()


async def test_first_in_is_first_out() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abc":
        queue.add(key)
    assert await drain(queue) == ["a", "b", "c"]


async def test_what_just_happened_goes_before_routine() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abc":
        queue.add(key, Turn.ROUTINE)
    queue.add("c")
    queue.add("d")
    assert await drain(queue) == ["c", "d", "a", "b"]


async def test_a_job_that_nobody_has_looked_at_goes_before_the_news_of_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b", Turn.ROUTINE)
    queue.add("c", Turn.NEW)
    queue.add("b", Turn.NEW)
    queue.add("b")
    assert await drain(queue) == ["c", "b", "a"]


async def test_news_of_a_job_are_gathered_for_one_look() -> None:
    queue: WorkQueue[str] = WorkQueue()
    clock = asyncio.get_running_loop().time
    begun = clock()
    queue.add_within("a", 0.2)
    queue.add_within("a", 0.05)
    queue.add_within("a", 0.2)
    assert queue.depth == 0
    assert await queue.get() == "a"
    assert clock() - begun == pytest.approx(0.05, abs=0.04)
    queue.done("a")
    await asyncio.sleep(0.25)
    assert queue.depth == 0


async def test_news_during_a_look_bring_another_one() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    held = await queue.get()
    queue.add_within("a", 0.01)
    await asyncio.sleep(0.05)
    queue.done(held)
    assert await drain(queue) == ["a"]


async def test_what_is_new_or_due_takes_the_news_along_and_waits_for_none() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("new", Turn.NEW)
    queue.add("due", Turn.ROUTINE)
    queue.add("both", Turn.ROUTINE)
    queue.add_within("both", 0.05)
    queue.add_within("soon", 0.05)
    queue.add("soon", Turn.ROUTINE)
    assert await drain(queue) == ["new", "both", "soon", "due"]
    await asyncio.sleep(0.1)
    assert queue.depth == 0, "nobody looks again for news that were taken along"


async def test_no_news_are_gathered_for_a_queue_that_is_closed() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_within("a", 0.01)
    queue.close()
    await asyncio.sleep(0.05)
    assert queue.depth == 0


async def test_no_two_workers_have_the_same_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    held = await queue.get()
    queue.add("a")
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done(held)
    assert await second == "a"


async def test_a_change_during_work_asks_for_another_look_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    held = await queue.get()
    queue.add("a", Turn.ROUTINE)
    queue.add("a")
    assert queue.depth == 1
    queue.done(held)
    assert await drain(queue) == ["a"]


async def test_of_several_wishes_for_later_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.001)
    queue.add_after("a", 3600)
    assert await asyncio.wait_for(queue.get(), 5) == "a"


async def test_what_a_look_asks_for_replaces_what_earlier_ones_asked_for() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.succeeded("a", 3600)
    queue.add_after("b", 0.01)
    queue.succeeded("b")
    await asyncio.sleep(0.05)
    assert queue.depth == 0
    queue.succeeded("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 5) == "a"
    queue.close()


async def test_delays_grow_with_failures_up_to_a_limit_and_start_over_after_success() -> None:
    queue: WorkQueue[str] = WorkQueue(base_delay=1, max_delay=60)
    delays = [queue.retry("a") for _ in range(40)]
    for failures, delay in enumerate(delays):
        ceiling = min(60, 2.0**failures)
        assert ceiling / 2 <= delay <= ceiling
    queue.succeeded("a")
    assert queue.retry("a") <= 1
    queue.close()


async def test_two_keys_that_fail_together_do_not_come_back_together() -> None:
    queue: WorkQueue[str] = WorkQueue(base_delay=100, max_delay=100)
    assert len({queue.retry(str(key)) for key in range(50)}) == 50
    queue.close()


async def test_a_server_that_names_a_delay_is_obeyed() -> None:
    queue: WorkQueue[str] = WorkQueue(base_delay=0.1)
    assert queue.retry("a", after=7.0) == 7.0
    queue.close()


async def test_every_worker_wakes_up_when_the_queue_closes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    for worker in workers:
        with pytest.raises(ClosedError):
            await asyncio.wait_for(worker, 5)
