from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hack.cluster.native import process
from hack.cluster.native.owner import Record, Verdict, dead_processes, judge
from hack.cluster.native.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "/home/ann/checkout"


def record(
    checkout: str = OURS,
    versions: str = "v1",
    boot: str = "boot",
    processes: tuple[Process, ...] = (),
    *,
    complete: bool = True,
) -> Record:
    return Record(checkout, versions, boot, processes, complete=complete)


@pytest.mark.parametrize(
    ("found", "dead", "verdict", "why"),
    [
        (None, [], Verdict.FRESH, ""),
        (record(), [], Verdict.REUSE, ""),
        (record(complete=False), [], Verdict.RENEW, "did not finish"),
        (record(), ["etcd", "kubelet"], Verdict.RENEW, "no longer running: etcd, kubelet"),
        (record(versions="v0"), [], Verdict.RENEW, "versions have changed"),
        (record(checkout="/gone"), [], Verdict.TAKE_OVER, "cluster of /gone, which is gone"),
        (record(checkout="/tmp"), [], Verdict.TAKE_OVER, "stopping the cluster of /tmp"),
        (record(checkout="/tmp"), ["etcd"], Verdict.TAKE_OVER, "stopping the cluster of /tmp"),
    ],
)
def test_what_up_does_follows_from_the_record(
    found: Record | None, dead: list[str], verdict: Verdict, why: str
) -> None:
    judged = judge(found, OURS, "v1", dead)
    assert judged.verdict is verdict
    assert why in judged.why


@pytest.fixture
def child() -> Iterator[Process]:
    # Its first line says that the kernel has put the program and its words in place.
    command = [sys.executable, "-u", "-c", "import sys; print(); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout
        started.stdout.readline()
        yield Process("child", started.pid, process.start_time(started.pid) or 0)


def test_a_process_counts_as_alive_only_with_its_own_start_time(child: Process) -> None:
    assert process.is_alive(child)
    assert not process.is_alive(Process("later one", child.pid, child.started + 1))


def test_a_reboot_makes_every_recorded_process_dead(child: Process) -> None:
    here = record(boot=process.boot_id(), processes=(child,))
    assert dead_processes(here) == []
    assert dead_processes(record(boot="an earlier boot", processes=(child,))) == ["child"]


def test_stop_ends_a_process_that_ignores_the_request() -> None:
    deaf = "import signal,sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); input()"
    command = [sys.executable, "-u", "-c", deaf]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout
        started.stdout.readline()
        known = Process("deaf", started.pid, process.start_time(started.pid) or 0)
        process.stop([known], grace_s=0.2)
        assert not process.is_alive(known)


def test_a_process_is_found_by_words_of_its_command_line(child: Process) -> None:
    assert child.pid in {found.pid for found in process.find("-c", "sys.stdin.read()")}
