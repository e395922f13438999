"""The pool of workers: what dies, hangs, swells or is killed; deadlines; threads, forks and daemons; no orphans."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import product

import pytest

from tests.common.marks import slow_if
from tests.common.worker_cases import SLOW, ends, pids, say
from verifiers import verify, verify_batch
from verifiers.math500 import task
from verifiers.worker import Workers, WorkerUnavailable, _Worker

TOLERANCE = 2.0  # seconds that a busy system may keep a process from running
OURS = "tests.common.worker_cases"


@pytest.fixture
def pool():
    workers = Workers(OURS, size=2, soft=0.2, hard=1.5)
    yield workers
    workers.close()


def timed(pool: Workers, job: dict, **limit: float) -> tuple[float, dict]:
    start = time.monotonic()
    reply = pool.ask(job, **limit)
    return time.monotonic() - start, reply


@pytest.mark.parametrize(
    ("job", "outcome", "detail", "survives"),
    [
        ({"do": "hang in C"}, "timeout", "killed after 1.5 s", False),
        pytest.param({"do": "sleep"}, "timeout", "killed after 1.5 s", False, marks=pytest.mark.slow),
        ({"do": "hang in Python"}, "timeout", "not decided within 0.2 s", True),
        ({"do": "die"}, "error", "died twice (7)", False),
        ({"do": "swell"}, "error", "needs more memory than a worker may have", False),
        ({"do": "stumble"}, "error", "KeyError: 'a bug'", True),
        ({"do": "shout", "say": "clean"}, "equal", "clean", True),
    ],
)
def test_every_question_gets_its_own_answer_whatever_the_worker_does(pool, job, outcome, detail, survives):
    assert pids(pool) == []
    assert say(pool, "first")["detail"] == "first"
    (pid,) = pids(pool)
    seconds, reply = timed(pool, job)
    assert reply["outcome"] == outcome and detail in reply["detail"]
    if "killed" in detail:  # by the clock, or its own time
        assert 1.3 < seconds < (1.5 + TOLERANCE if job["do"] == "sleep" else SLOW)
    assert (pid in pids(pool)) == survives or ends(pid)
    assert say(pool, "next")["detail"] == "next"
    assert (pids(pool) == [pid]) == survives


def test_a_worker_killed_before_or_during_a_question_is_replaced(pool, tmp_path):
    job = {"do": "die once", "mark": str(tmp_path / "mark"), "say": "yes"}
    assert pool.ask(job)["detail"] == "yes"
    for after in (0.0, 0.2):
        (pid,) = pids(pool)
        threading.Timer(after, os.kill, (pid, signal.SIGKILL)).start()
        assert after or ends(pid)
        assert pool.ask({"do": "echo", "after": 0.5, "say": "still"})["detail"] == "still"
        assert pid not in pids(pool)


def test_ctrl_c_during_a_question_leaves_a_pool_that_still_answers(pool):
    say(pool, "warm")
    threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        pool.ask({"do": "sleep"})
    assert say(pool, "next")["detail"] == "next"


def test_an_unavailable_worker_says_why_and_is_not_started_again(monkeypatch):
    monkeypatch.setenv("WORKER_CASES", "unavailable")
    pool = Workers(OURS, size=1)
    for _ in range(2):
        with pytest.raises(WorkerUnavailable, match="pip install nowhere"):
            pool.ask({"do": "echo"})
    assert pids(pool) == []
    monkeypatch.delenv("WORKER_CASES")
    pool.close()
    assert say(pool, "now")["detail"] == "now"
    pool.close()


def test_a_closed_pool_starts_again_and_leaves_no_trace(pool):
    handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
    say(pool, "warm")
    before = set(threading.enumerate())
    warm = pids(pool)
    pool.close()
    assert pids(pool) == [] and all(ends(pid) for pid in warm)
    assert say(pool, "again")["detail"] == "again"
    assert set(threading.enumerate()) <= before
    assert [signal.getsignal(number) for number in sorted(signal.valid_signals())] == handlers


def test_bytes_go_there_and_back_beside_a_job_without_a_deadline():
    workers = Workers(OURS, size=1, soft=None, hard=None)
    assert workers.ask({"do": "count", "payload": b"\n" * 3_000_000})["detail"] == "\n" * 3_000_000
    workers.close(for_good=True)
    with pytest.raises(WorkerUnavailable, match="closed"):
        say(workers, "again")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_middle_of_questions_has_workers_of_its_own(pool):
    say(pool, "warm")
    stop = threading.Event()
    heard: list[bool] = []

    def keep_asking(name: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            heard.append(say(pool, f"{name}.{count}")["detail"] == f"{name}.{count}")

    threads = [threading.Thread(target=keep_asking, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()

    def child() -> None:
        answers = [say(pool, f"child {i}")["detail"] for i in range(3)]
        results.send((answers, pids(pool)))

    context, children = multiprocessing.get_context("fork"), []
    for _ in range(2):
        received, results = context.Pipe(duplex=False)
        process = context.Process(target=child, daemon=True)
        process.start()
        results.close()
        children.append(received.recv())
        process.join(SLOW)
    stop.set()
    for thread in threads:
        thread.join(SLOW)
    assert heard and all(heard)
    for answers, theirs in children:
        assert answers == [f"child {i}" for i in range(3)] and theirs and not {*theirs} & {*pids(pool)}
        assert all(map(ends, theirs)), "the workers of a fork end with it"


def _ask_in_a_daemon(results):
    results.put(say(Workers(OURS, size=1), "from a daemon")["detail"])


def test_a_daemonic_process_may_ask():
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_ask_in_a_daemon, args=(results,), daemon=True)
    process.start()
    assert results.get(timeout=SLOW) == "from a daemon"
    process.join(SLOW)


PARENT = """
import sys, threading, time
sys.path[:0] = {path!r}
from tests.common.worker_cases import pids
from verifiers.worker import Workers
pool = Workers("tests.common.worker_cases", size=1, soft=0.3, hard={hard})
pool.ask({{"do": "echo"}})
print(*pids(pool), flush=True)
threading.Thread(target=pool.ask, args=({job!r},), daemon=True).start()
time.sleep(0.3)
print("asked", flush=True)
{then}
"""


JOBS, ENDS = ("echo", "hang in Python", "hang in C"), ("kill -9", "Ctrl-C", "exit")
TOGETHER = ("hang in C", "kill -9"), ("hang in Python", "Ctrl-C"), ("hang in C", "exit"), ("echo", "exit")


@pytest.mark.parametrize(
    ("job", "end"), slow_if(product(JOBS, ENDS), lambda job, end: (job, end) not in TOGETHER)
)
def test_no_worker_survives_its_parent(job, end):
    then = "sys.exit(0)" if end == "exit" else "time.sleep(600)"
    hard = 0.6 if job == "hang in C" else 600.0
    text = PARENT.format(path=[p for p in sys.path if p], job={"do": job}, then=then, hard=hard)
    options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, "-c", text], **options)
    pid = int(process.stdout.readline())
    assert process.stdout.readline() == "asked\n"
    if end == "kill -9":
        process.kill()
    elif end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: everything in the foreground
    process.communicate(timeout=SLOW)
    assert ends(pid)


@pytest.fixture
def late(monkeypatch):
    """One worker that takes some seconds to start."""
    monkeypatch.setenv("WORKER_CASES", "late 1.2")
    workers = Workers(OURS, size=1, soft=0.2, hard=1.0)
    yield workers
    workers.close()


def test_the_start_of_a_worker_does_not_count(late):
    seconds, reply = timed(late, {"do": "echo", "after": 0.5, "say": "there"})
    assert reply["detail"] == "there" and seconds > 1.7
    seconds, reply = timed(late, {"do": "sleep"})
    assert reply["detail"] == "killed after 1 s" and 0.85 < seconds < 1.0 + TOLERANCE


def test_a_callers_limit_holds_for_start_work_and_queue(late):
    late.hard = 30.0

    def limited() -> str:
        seconds, reply = timed(late, {"do": "sleep"}, until=time.monotonic() + 0.5)
        assert reply["outcome"] == "timeout" and seconds < 0.5 + TOLERANCE
        return reply["detail"]

    assert limited() == "no worker was ready in time"
    say(late, "warm")
    assert limited() == "killed at the caller's limit"
    thread = threading.Thread(target=late.ask, args=({"do": "echo", "after": 1.0},))
    thread.start()
    while not late._free.empty():  # until it has the worker
        time.sleep(0.01)
    assert "before a worker was free" in limited()
    thread.join()


def test_a_worker_that_waits_for_a_processor_loses_no_time(monkeypatch):
    workers = Workers(OURS, size=1, soft=None, hard=0.5)
    say(workers, "warm")
    monkeypatch.setattr(_Worker, "used", lambda worker: 0.1)  # what a loaded machine says
    monkeypatch.setattr(_Worker, "computes", lambda worker: True)
    assert workers.ask({"do": "echo", "after": 1.0, "say": "late"})["detail"] == "late"
    monkeypatch.undo()
    assert workers.ask({"do": "echo", "after": 1.0})["detail"] == "killed after 0.5 s"
    workers.close()


def test_a_cold_worker_of_the_computer_algebra_system_decides_or_runs_out_of_time(monkeypatch):
    workers = Workers("verifiers.math500.cas", size=1)
    monkeypatch.setattr(task, "cas_workers", lambda: workers)
    monkeypatch.setattr(task, "_judged_by_cas", {})
    text = r"<answer>\boxed{\sum_{k=1}^{n} k}</answer>"
    gold = r"\frac{n(n+1)}{2}"  # what no other tier can tell
    verdict = verify("math500", text, answer=gold)
    assert verdict.reason in ("ok", "timeout") and verdict.decided_by == "cas"
    patient = verify_batch("math500", [text], answer=[gold])
    assert (patient.reasons, patient.tiers) == (["ok"], ["cas"])
    workers.close()
