"""The process wall: workers that die, hang, swell or are killed, asked by threads and forks; none is left."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.common.worker_cases import SLOW, ends, say
from verifiers.workers import Workers, WorkerUnavailable


@pytest.fixture
def pool() -> Iterator[Workers]:
    workers = Workers("tests.common.worker_cases", size=2, soft=0.2, hard=1.5)
    yield workers
    workers.close()


def test_nothing_starts_before_the_first_question_and_one_worker_is_enough_for_one_thread(
    pool: Workers,
) -> None:
    assert pool.pids() == []
    assert say(pool, "a")["detail"] == "a"
    first = pool.pids()
    assert say(pool, "b")["detail"] == "b"
    assert pool.pids() == first and len(first) == 1


@pytest.mark.parametrize(
    ("job", "outcome", "detail"),
    [
        ({"do": "hang in C"}, "timeout", "killed after 1.5 s"),
        ({"do": "sleep"}, "timeout", "killed after 1.5 s"),
        ({"do": "hang in Python"}, "timeout", "not decided within 0.2 s"),
        ({"do": "die"}, "error", "exit code 7"),
        ({"do": "stumble"}, "error", "KeyError: 'a bug'"),
        ({"do": "shout", "say": "clean"}, "equal", "clean"),
    ],
)
def test_whatever_a_worker_does_there_is_an_answer_and_the_next_question_gets_its_own(
    pool: Workers, job: dict, outcome: str, detail: str
) -> None:
    say(pool, "warm")
    start = time.monotonic()
    reply = pool.ask(job, patient=True)
    assert reply["outcome"] == outcome and detail in reply["detail"]
    assert time.monotonic() - start < SLOW
    assert say(pool, "next")["detail"] == "next"


def test_a_worker_that_gives_up_at_its_soft_deadline_lives_on_and_one_that_is_killed_does_not(
    pool: Workers,
) -> None:
    say(pool, "warm")
    (pid,) = pool.pids()
    pool.ask({"do": "hang in Python"})
    assert pool.pids() == [pid]
    pool.ask({"do": "sleep"})
    assert pid not in pool.pids() and ends(pid)


def test_the_hard_deadline_holds(pool: Workers) -> None:
    say(pool, "warm")
    start = time.monotonic()
    pool.ask({"do": "sleep"})
    assert 1.3 < time.monotonic() - start < 1.5 + 0.5


def test_a_worker_out_of_memory_says_so_and_is_replaced(pool: Workers) -> None:
    say(pool, "warm")
    if pool.memory == "absent":
        pytest.skip("no RLIMIT_AS here")
    (pid,) = pool.pids()
    reply = pool.ask({"do": "swell"})
    assert reply["outcome"] == "error" and "memory" in reply["detail"]
    assert say(pool, "next")["detail"] == "next"
    assert ends(pid)


def test_the_memory_cap_is_reported_and_absent_where_the_system_has_none(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(pool, "warm")
    assert pool.memory == "absent" or 0 < pool.memory <= 1 << 30
    monkeypatch.setitem(sys.modules, "resource", None)
    assert _worker_child.limit_memory(1 << 30) == "absent"


def test_a_worker_killed_from_outside_between_questions_is_replaced(pool: Workers) -> None:
    say(pool, "warm")
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    assert say(pool, "next")["detail"] == "next"


def test_a_worker_killed_in_the_middle_of_a_question_is_asked_again(pool: Workers, tmp_path: Path) -> None:
    job = {"do": "die once", "mark": str(tmp_path / "mark"), "say": "yes"}
    assert pool.ask(job, patient=True)["detail"] == "yes"
    (pid,) = pool.pids()
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    job = {"do": "echo", "after": 0.5, "say": "still"}
    assert pool.ask(job, patient=True)["detail"] == "still"
    assert pid not in pool.pids()


def test_64_threads_at_once_each_get_their_own_answer_while_some_workers_fail(pool: Workers) -> None:
    def ask(i: int) -> str:
        if i % 16 == 5:
            return pool.ask({"do": "die"}, patient=True)["outcome"]
        return say(pool, i)["detail"]

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(ask, range(192)))
    assert answers == ["error" if i % 16 == 5 else str(i) for i in range(192)]
    assert len(pool.pids()) <= 2


def test_ctrl_c_during_a_question_leaves_a_pool_that_still_answers(pool: Workers) -> None:
    say(pool, "warm")
    threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        pool.ask({"do": "sleep"})
    assert say(pool, "next")["detail"] == "next"


def test_a_worker_that_was_never_given_back_is_not_waited_for_for_ever(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_workers, "QUEUE_SECONDS", 0.1)
    for _ in range(pool.size):
        pool._take()
    assert say(pool, "new")["detail"] == "new"


def test_what_can_never_answer_says_why_at_once_and_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_CASES", "unavailable")
    pool = Workers("tests.common.worker_cases", size=1)
    for _ in range(2):
        with pytest.raises(WorkerUnavailable, match="run: pip install something"):
            pool.ask({"do": "echo"})
    assert pool.pids() == []
    monkeypatch.delenv("WORKER_CASES")
    pool.close()
    assert say(pool, "now")["detail"] == "now"
    pool.close()


def test_a_closed_pool_starts_again_and_no_signal_handler_or_thread_is_left(pool: Workers) -> None:
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    say(pool, "warm")
    assert threading.active_count() == len(threading.enumerate())
    before = set(threading.enumerate())
    pids = pool.pids()
    pool.close()
    assert pool.pids() == [] and all(ends(pid) for pid in pids)
    assert say(pool, "again")["detail"] == "again"
    assert set(threading.enumerate()) <= before
    assert [signal.getsignal(number) for number in sorted(signal.valid_signals())] == handlers
