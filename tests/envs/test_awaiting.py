"""Methods that are `async`: order, limits, what a failure is called, and that nothing waits for ever."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import envs
from envs import EnvError, Problem, Score, Scores, TextEnv
from envs.authoring import async_calls
from envs.combining.several_tries import Tries

SECONDS = 0.1
"""That the judge thinks over each completion."""


@contextlib.contextmanager
def judge_on_loopback():
    """An HTTP judge that pays the number in a text; one that cannot says so, and one that hangs says nothing."""
    closing = threading.Event()
    under_way: set[int] = set()

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self):
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
            under_way.add(id(self))
            server.most = max(server.most, len(under_way))
            closing.wait(None if text == "hang" else SECONDS)
            under_way.discard(id(self))
            with contextlib.suppress(OSError):  # who asked may be gone
                self.send_response(500 if text == "fail" else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"grade": text}).encode())

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        most = 0

    server = Server(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        closing.set()
        server.shutdown()
        server.server_close()


def ask(url: str, text: str, timeout: float = 30) -> str:
    request = urllib.request.Request(url, json.dumps({"text": text}).encode())
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return json.load(reply)["grade"]


class Later(TextEnv):
    """Pays the number that a completion is, which `judge` is asked for; notes how many calls were open at once."""

    reward_weights = {"correct": 1.0, "grade": 1.0}  # noqa: RUF012
    reward_ranges = {"grade": (0, 1000)}  # noqa: RUF012
    score_concurrency = 8
    score_timeout = 1.0
    open = most = 0

    def __len__(self):
        return 1000

    def problem(self, index):
        return Problem(f"say {index}", {"number": index})

    async def judge(self, text):
        await asyncio.sleep(0.01)
        if text == "hang":
            await asyncio.sleep(100)
        return float(text)

    async def score(self, problem, completion):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            grade = float(await self.judge(completion))
        finally:
            self.open -= 1
        return Score({"correct": float(grade == problem.reference["number"]), "grade": grade}, "graded")


def step(env, completions, indices=None):
    many = envs.TextVectorEnv(env, len(completions))
    many.reset(options={"index": range(len(completions)) if indices is None else indices})
    return many.step(completions)[4]


def test_a_judge_over_http_keeps_order_and_limits_and_its_failures_are_counted_by_reason():
    texts = [str(number) for number in range(48)]
    texts[5] = texts[6] = texts[40] = "fail"
    texts[17] = texts[18] = "hang"
    with judge_on_loopback() as (url, server):
        env = Later()
        env.judge = lambda text: asyncio.to_thread(ask, url, text)
        info = step(env, texts)
    expected = [float(text) if text.isdigit() else 0.0 for text in texts]
    assert info["rewards"]["grade"].tolist() == expected
    assert Counter(info["reason"]) == {"graded": 43, "error": 3, "timeout": 2}
    assert [info["reason"][i] for i in (5, 17, 40)] == ["error", "timeout", "error"]
    assert (
        "HTTPError" in info["traceback"][5] and "more than score_timeout=1 seconds" in info["traceback"][17]
    )
    assert "in score\n" in info["traceback"][17] and info["traceback"][0] is None
    assert env.most == 8 and server.most > 3  # more than hang


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_so_many_calls_as_set_are_open_at_once(concurrency):
    env = Later()
    env.score_concurrency = concurrency
    info = step(env, [str(number) for number in range(20)])
    assert info["correct"].all() and env.most == min(20, concurrency)


def test_a_batch_that_is_async_is_one_call_and_after_its_failure_each_is_scored_alone():
    class Batch(Later):
        score = TextEnv.score
        calls: tuple = ()

        async def score_batch(self, problems, completions):
            self.calls += (len(completions),)
            grades = np.array([await self.judge(text) for text in completions])
            return Scores(
                {"correct": grades * 0, "grade": grades}, ["graded"] * len(grades), [None] * len(grades)
            )

    env = Batch()
    assert step(env, ["1", "2"])["rewards"]["grade"].tolist() == [1, 2] and env.calls == (2,)
    info = step(env, ["1", "hang", "no number", "4"])
    assert info["reason"] == ["graded", "timeout", "error", "graded"] and env.calls == (2, 4, 1, 1, 1, 1)
    assert info["rewards"]["grade"].tolist() == [1, 0, 0, 4]
    env.reset(options={"index": 3})
    assert env.step("3")[4]["rewards"]["grade"] == 3

    first = iter([True])

    async def once(text):  # a service that has recovered when it is asked again
        if next(first, False):
            raise ConnectionError("busy")
        return float(text)

    env.judge = once
    assert step(env, ["1", "2"])["reason"] == ["graded", "graded"]


def test_one_episode_and_the_batch_of_the_base_class_wait_too():
    env = Later()
    env.reset(options={"index": 7})
    _, reward, _, _, info = env.step("7")
    assert reward == 8 and info["correct"] and info["reason"] == "graded"
    scores = env.score_batch([env.problem(3), env.problem(4)], ["3", "5"])
    assert scores.rewards == {"correct": [1.0, 0.0], "grade": [3.0, 5.0]}
    with pytest.raises(ValueError, match="no number"):
        env.score_batch([env.problem(3)], ["no number"])


def test_a_notebook_whose_own_loop_runs_can_wait():
    async def cell():
        return step(Later(), ["0", "1"])["reason"]

    assert asyncio.run(cell()) == ["graded", "graded"]


def test_what_an_environment_keeps_can_be_used_in_the_next_batch():
    env, kept = Later(), []

    async def judge(text):
        kept.append(kept[0] if kept else asyncio.Queue(1))
        if not kept[0].empty():
            await kept[0].get()
        await kept[0].put(asyncio.get_running_loop())
        return float(text)

    env.judge, env.score_concurrency = judge, 1
    assert step(env, ["0", "1"])["correct"].all() and step(env, ["0", "1"])["correct"].all()
    assert len(kept) == 4


@pytest.mark.parametrize("what", ["leaves", "will not be cancelled", "is cancelled"])
def test_a_call_that_ends_the_process_or_does_not_end_is_one_failure(what):
    env = Later()
    env.score_timeout = 0.3

    async def judge(text):
        if text == "1" and what == "leaves":
            sys.exit(3)
        if text == "1" and what == "is cancelled":
            raise asyncio.CancelledError
        for _ in range(20 if text == "1" else 0):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
        return float(text)

    env.judge = judge
    info = step(env, ["0", "1", "2"])
    failed = "timeout" if what.startswith("will") else "error"
    assert info["reason"] == ["graded", failed, "graded"]


def test_a_method_that_blocks_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr(async_calls, "SLACK", 0.3)
    env, end = Later(), threading.Event()
    env.score_timeout = 0.2

    async def judge(text):
        end.wait(20)
        return 0.0

    env.judge = judge
    with pytest.raises(EnvError, match=r"blocks the event loop.*(?s:.*)to_thread"):
        step(env, ["0"])
    end.set()
    env.judge, env.score_timeout = Later().judge, 60.0
    assert step(env, ["0"])["correct"].all()  # the next batch has a loop of its own


def test_waiting_for_another_environment_inside_async_is_refused():
    env, other = Later(), Later()

    async def judge(text):
        return other.score_batch([other.problem(1)], [text]).rewards["grade"][0]

    env.judge = judge
    info = step(env, ["1"])
    assert info["reason"] == ["error"] and "await the methods" in info["traceback"][0]


@pytest.mark.parametrize(
    ("limit", "value", "seen"),
    [
        ("score_concurrency", 0, "score_concurrency=0 must be a whole number"),
        ("score_concurrency", True, "score_concurrency=True"),
        ("score_timeout", 0, "score_timeout=0 must be a number of seconds above 0"),
        ("score_timeout", None, "score_timeout=None"),
        ("score_timeout", float("inf"), "score_timeout=inf"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_limit_that_is_none_is_refused(limit, value, seen):
    env = Later()
    setattr(env, limit, value)
    with pytest.raises(EnvError, match=seen):
        step(env, ["0"])


def test_tries_wait_for_all_verdicts_side_by_side():
    judged = Later()
    env = Tries(judged, 2)
    many = envs.TextVectorEnv(env, 8)
    many.reset(options={"index": range(8)})
    replies = many.step(["0", "9", "2", "9", "9", "5", "6", "7"])[0]
    assert [bool(reply) for reply in replies] == [False, True, False, True, True, False, False, False]
    assert judged.most == 8
    with_failures = envs.TextVectorEnv(env, 3)
    with_failures.reset(options={"index": range(3)})
    info = with_failures.step(["hang", "no number", "2"])[4]
    assert info["reason"] == ["timeout", "error", "graded"]
    info = many.step(["", "1", "", "3", "8", "", "", ""])[4]
    assert info["correct"].tolist() == [True] * 4 + [False] + [True] * 3


def test_limits_reach_a_divided_environment_and_a_timeout_that_is_not_async_has_the_same_reason():
    class Slow(Later):
        score_concurrency = 2

        async def score_turns(self, problem, turns):
            return await self.score(problem, turns[-1])

    envs.register("test/Slow-v0", Slow)
    divided = envs.make("test/Slow-v0", split="test")
    step(divided, ["1", "2", "3", "4"])
    assert divided.score_concurrency == 2 and divided.inner.inner.most == 2

    class Patient(Later):
        def score(self, problem, completion):
            raise TimeoutError("of the author's client")

    assert step(Patient(), ["1"])["reason"] == ["timeout"]


def test_a_thread_that_hangs_does_not_keep_the_process_from_ending(tmp_path):
    code = """
import asyncio, threading, envs
from tests.envs.test_awaiting import Later, step
env = Later()
env.score_timeout = 0.3
env.judge = lambda text: asyncio.to_thread(threading.Event().wait)
print(step(env, ["0"])["reason"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['timeout']\n" and done.returncode == 0, done.stderr


def test_the_name_of_an_environment_is_made_only_for_what_is_awaited():
    names = []

    def name() -> str:
        names.append("task")
        return names[-1]

    limits = async_calls.Limits(1, 5.0)
    assert async_calls.call_all(name, [lambda: 3], limits)[0].value == 3 and not names
    assert async_calls.call_all(name, [lambda: asyncio.sleep(0, 4)], limits)[0].value == 4 and names
