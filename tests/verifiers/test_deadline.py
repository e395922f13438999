"""The hard deadline: one question comes back in time, also while its worker still starts on a busy machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from verifiers import verify, verify_batch
from verifiers._workers import Workers
from verifiers.math500 import cas

TOLERANCE = 0.5  # seconds that a busy system may keep a process from running
ALGEBRA = r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"  # what only a computer algebra system can tell


@pytest.fixture
def busy() -> Iterator[None]:
    """Twice as many processes as there are cores, each of which never rests."""
    code = "while True: pass"
    count = 2 * (os.cpu_count() or 1)
    processes = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(count)]
    yield
    for process in processes:
        process.kill()
        process.wait()


def timed(pool: Workers, job: dict, **options: bool) -> tuple[float, dict]:
    start = time.monotonic()
    reply = pool.ask(job, **options)
    return time.monotonic() - start, reply


def test_the_start_of_a_worker_counts_and_it_starts_on_for_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_CASES", "late 1.5")
    pool = Workers("tests.common.worker_cases", size=1, soft=0.2, hard=1.0)
    seconds, reply = timed(pool, {"do": "echo"})
    assert reply == {"outcome": "timeout", "detail": "no worker was ready within 1 s"} and seconds < 1.0
    pids = pool.pids()
    _, reply = timed(pool, {"do": "echo", "say": "next"}, patient=True)
    assert reply["detail"] == "next" and pool.pids() == pids and len(pids) == 1
    pool.close()


def test_a_patient_question_waits_for_its_worker_and_is_given_its_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_CASES", "late 1.2")
    pool = Workers("tests.common.worker_cases", size=1, soft=0.2, hard=1.0)
    seconds, reply = timed(pool, {"do": "echo", "after": 0.5, "say": "there"}, patient=True)
    assert reply["detail"] == "there" and seconds > 1.7
    seconds, reply = timed(pool, {"do": "sleep"})
    assert reply["detail"] == "killed after 1 s" and 0.85 < seconds < 1.0 + TOLERANCE
    pool.close()


def test_a_worker_that_dies_as_it_is_asked_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKER_CASES", "late 0.7")
    pool = Workers("tests.common.worker_cases", size=1, soft=0.2, hard=1.0)
    seconds, reply = timed(pool, {"do": "die"})  # and the next one starts as late
    assert reply["outcome"] == "timeout" and seconds < 1.0 + TOLERANCE
    pool.close()


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """The computer algebra system as a new process finds it: nothing started, nothing remembered."""
    pytest.importorskip("math_verify")
    workers = Workers("verifiers.math500.cas_worker", size=1)
    monkeypatch.setattr(cas, "workers", workers)
    monkeypatch.setattr(cas, "_known", {})
    yield workers
    workers.close()


def test_one_answer_is_judged_within_three_seconds_from_a_cold_start_on_a_busy_machine(
    cold: Workers, busy: None, record_property
) -> None:
    answer, gold = ALGEBRA
    start = time.monotonic()
    verdict = verify("math500", f"<answer>\\boxed{{{answer}}}</answer>", answer=gold)
    seconds = time.monotonic() - start
    record_property("cold", f"{seconds:.2f} s, {verdict.reason}")
    assert verdict.reason in ("ok", "timeout") and verdict.decided_by == "cas"
    assert seconds < 3.0 + TOLERANCE
    assert len(cold.pids()) == 1


def test_a_batch_is_judged_the_same_on_a_busy_machine(cold: Workers, busy: None) -> None:
    answer, gold = ALGEBRA
    verdicts = verify_batch("math500", [f"<answer>\\boxed{{{answer}}}</answer>"], answer=[gold])
    assert verdicts.reasons == ["ok"] and verdicts.tiers == ["cas"]
