"""The process wall: workers that die, hang, swell or are killed, asked by threads and forks; none is left."""

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from verifiers import _worker_child, _workers
from verifiers._workers import Workers, WorkerUnavailable

SLOW = 60.0  # seconds that a loaded machine may take for what should be immediate


@pytest.fixture
def pool() -> Iterator[Workers]:
    workers = Workers("worker_cases", size=2, soft=0.2, hard=1.5)
    yield workers
    workers.close()


def is_there(pid: int) -> bool:
    """True while the process lives; one that only waits to be collected is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self/stat").exists()


def ends(pid: int, seconds: float = SLOW) -> bool:
    """True if the process is gone before so many seconds have passed."""
    until = time.monotonic() + seconds
    while is_there(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def say(pool: Workers, text: object) -> dict:
    return pool.ask({"do": "echo", "say": text})


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
    reply = pool.ask(job)
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
    assert 1.5 <= time.monotonic() - start < 1.5 + 5.0


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
    assert pool.ask({"do": "die once", "mark": str(tmp_path / "mark"), "say": "yes"})["detail"] == "yes"
    (pid,) = pool.pids()
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    assert pool.ask({"do": "echo", "after": 0.5, "say": "still"})["detail"] == "still"
    assert pid not in pool.pids()


def test_64_threads_at_once_each_get_their_own_answer_while_some_workers_fail(pool: Workers) -> None:
    def ask(i: int) -> str:
        if i % 16 == 5:
            return pool.ask({"do": "die"})["outcome"]
        return say(pool, i)["detail"]

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(ask, range(192)))
    assert answers == ["error" if i % 16 == 5 else str(i) for i in range(192)]
    assert len(pool.pids()) <= 2


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
    workers = Workers("worker_cases", size=1)
    results.put(workers.ask({"do": "echo", "say": "from a daemon"})["detail"])


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
from verifiers._workers import Workers
pool = Workers("worker_cases", size=1, soft=0.3, hard={hard})
pool.ask({{"do": "echo"}})
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
    pool = Workers("worker_cases", size=1)
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


FORBIDDEN = {"eval", "exec", "parse_expr", "compile", "__import__", "pickle", "signal", "marshal", "shelve"}
SYMPY = {"sympy", "math_verify", "latex2sympy2_extended"}
IN_THE_WORKER = {"_cas_worker.py", "_cas_compare.py", "_cas_reader.py"}


def used(tree: ast.AST) -> set[str]:
    """Names that are imported or called, `shell` if that keyword is passed."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {part for alias in node.names for part in alias.name.split(".")}
            found |= set((getattr(node, "module", "") or "").split("."))
        elif isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
            found |= {keyword.arg for keyword in node.keywords if keyword.arg == "shell"}
        elif isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            found.add(node.id)
    return found


def files() -> list[Path]:
    return sorted(Path(find_spec("verifiers").origin).parent.rglob("*.py"))


def test_the_package_neither_calls_nor_imports_what_runs_text() -> None:
    found = {
        path.name: sorted(used(ast.parse(path.read_text())) & (FORBIDDEN | {"shell"})) for path in files()
    }
    assert not {name: names for name, names in found.items() if names}


def test_sympy_is_imported_in_the_worker_only_and_the_workers_files_by_itself_only() -> None:
    for path in files():
        names = used(ast.parse(path.read_text()))
        if path.name not in IN_THE_WORKER:
            assert not names & (SYMPY | {name.removesuffix(".py") for name in IN_THE_WORKER}), path.name


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "import pickle",
        "from sympy import parse_expr",
        "f(x, shell=True)",
        "x = exec",
        "import a.pickle",
    ],
)
def test_each_of_them_would_be_seen(text: str) -> None:
    assert used(ast.parse(text)) & (FORBIDDEN | {"shell"})
