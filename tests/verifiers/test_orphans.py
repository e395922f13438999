"""Workers and the processes around them: forks have their own, daemons may ask, none survives its parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.common.worker_cases import SLOW, ends, say
from verifiers.workers import Workers


@pytest.fixture
def pool() -> Iterator[Workers]:
    workers = Workers("tests.common.worker_cases", size=2, soft=0.2, hard=1.5)
    yield workers
    workers.close()


def in_a_fork(work: Callable[[], str]) -> str:
    """The result of `work` in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        result = pipe.read()
    os.waitpid(pid, 0)
    return result


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_in_the_middle_of_questions_has_workers_of_its_own(pool: Workers) -> None:
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

    def child() -> str:
        answers = [say(pool, f"child {i}")["detail"] for i in range(5)]
        return f"{answers == [f'child {i}' for i in range(5)]} {' '.join(map(str, pool.pids()))}"

    results = [in_a_fork(child) for _ in range(3)]
    stop.set()
    for thread in threads:
        thread.join(SLOW)
    assert heard and all(heard)
    for result in results:
        right, *pids = result.split()
        assert right == "True" and pids and not set(map(int, pids)) & set(pool.pids())
        assert all(ends(int(pid)) for pid in pids), "the workers of a fork end with it"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_fork_holds_no_pipe_of_its_parent(pool: Workers) -> None:
    say(pool, "warm")
    (worker,) = pool._alive
    numbers = [worker._process.stdin.fileno(), worker._process.stdout.fileno()]
    assert all(os.path.exists(f"/proc/self/fd/{n}") for n in numbers)
    pipes = {os.readlink(f"/proc/self/fd/{n}") for n in numbers}

    def child() -> str:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                continue
        return str(bool(pipes & set(links)))

    assert in_a_fork(child) == "False"
    assert say(pool, "parent")["detail"] == "parent"


def _ask_in_a_daemon(results: "multiprocessing.Queue[str]") -> None:
    workers = Workers("tests.common.worker_cases", size=1)
    results.put(say(workers, "from a daemon")["detail"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_daemonic_process_may_ask(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_ask_in_a_daemon, args=(results,), daemon=True)
    process.start()
    assert results.get(timeout=SLOW) == "from a daemon"
    process.join(SLOW)


PARENT = """
import sys, threading, time
sys.path[:0] = {path!r}
from verifiers.workers import Workers
pool = Workers("tests.common.worker_cases", size=1, soft=0.3, hard={hard})
pool.ask({{"do": "echo"}}, patient=True)
print(*pool.pids(), flush=True)
threading.Thread(target=pool.ask, args=({job!r},), daemon=True).start()
time.sleep(0.3)
print("asked", flush=True)
{then}
"""


def parent(job: dict, then: str = "time.sleep(600)", hard: float = 600.0) -> tuple[subprocess.Popen, int]:
    """A Python process whose one worker is busy with `job`, and the worker's pid."""
    text = PARENT.format(path=[p for p in sys.path if p], job=job, then=then, hard=hard)
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    pid = int(process.stdout.readline())
    assert process.stdout.readline() == "asked\n"
    return process, pid


@pytest.mark.parametrize(
    "job", [{"do": "echo"}, {"do": "sleep"}, {"do": "hang in Python"}], ids=["idle", "asleep", "busy"]
)
@pytest.mark.parametrize("end", ["kill -9", "Ctrl-C", "exit"])
def test_no_worker_survives_its_parent(job: dict, end: str) -> None:
    process, pid = parent(job, then="sys.exit(0)" if end == "exit" else "time.sleep(600)")
    if end == "kill -9":
        process.kill()
    elif end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: everything in the foreground
    process.communicate(timeout=SLOW)
    assert ends(pid)


def test_a_worker_that_hangs_in_c_ends_soon_after_a_kill_of_its_parent() -> None:
    process, pid = parent({"do": "hang in C"}, hard=0.6)
    process.kill()
    process.communicate(timeout=SLOW)
    assert ends(pid)
