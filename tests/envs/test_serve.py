"""`python -m envs serve`: what a client of OpenEnv gets is what `envs.make(...).step` gives, whoever else plays."""

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import envs
from envs.__main__ import main
from envs.episodes import chat
from envs.errors import EnvError
from tests.common.browser import CHROMIUM, chromium
from tests.common.serving import Server, said_by, served
from tests.common.task_file import write_task


class Ping(envs.TextEnv):
    """Answer with the number, once it is asked for a second time."""

    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012
    max_turns = 3

    def __len__(self):
        return 40

    def problem(self, index):
        if index == 39:
            raise ZeroDivisionError("the author's mistake in a problem")
        chat = [{"role": "system", "content": "Play."}, {"role": "user", "content": f"Number {index}?"}]
        return envs.Problem(chat, {"answer": str(index)}, completion_prefix="I say ")

    def reply(self, problem, turns):
        if turns[-1] == "boom":
            raise ValueError("the author's mistake in a reply")
        return None if len(turns) > 1 and turns[-1].isdigit() else f"Again, after {turns[-1]!r}."

    async def score_turns(self, problem, turns):
        await asyncio.sleep(0.001)
        return {"correct": turns[-1] == problem.reference["answer"], "short": 1 / len(turns)}


TASKS = {
    "sudoku": "sudoku",
    "countdown": "countdown",
    "arithmetic": "arithmetic",
    "gsm8k": "gsm8k",
    "math500": "math500",
    "frozenlake-v1": "gymnasium:FrozenLake-v1",
    "queens": "queens",
}
ARGUMENTS = {"gsm8k": {"source": "generated"}, "math500": {"source": "generated"}, "countdown": {"tries": 3}}
FLAGS = [f"{task}.{name}={value}" for task, of in ARGUMENTS.items() for name, value in of.items()]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("own") / "ping.py"
    write_task(path, Ping, id="my/Ping-v0")
    return str(path)


@pytest.fixture(scope="module")
def server(file) -> Iterator[Server]:
    words = [*TASKS.values(), f"{file}:my/Ping-v0", "--env-args", *FLAGS, "--workers", "2"]
    with served(*words, package="envs", changes="front.MAX_BODY = 1 << 20") as one:
        yield one


@contextmanager
def session(server: Server, task: str, token: str = "") -> Iterator[Any]:
    """A function that sends a message over a WebSocket and returns the answer."""
    from websockets.sync.client import connect

    address = f"{f':{token}@' if token else ''}{server.host}:{server.port}"
    with connect(f"ws://{address}/{task}/ws", max_size=None) as socket:

        def ask(message: Any) -> dict[str, Any]:
            socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
            return json.loads(socket.recv(timeout=60))

        yield ask


def opened(task: str, split: str, file: str) -> envs.TextEnv:
    name = TASKS.get(task, f"{file}:my/Ping-v0")
    return envs.make(name, split=split, **ARGUMENTS.get(task, {}))


def texts(env: envs.TextEnv, index: int, rng: random.Random) -> list[str]:
    """Completions that a model may write: right, plausible, and neither."""
    problem = env.problem(index)
    known = [text for text in env.habits(problem).values() if isinstance(text, str)]
    try:
        right = env.demonstration(problem)
        known += [right] if isinstance(right, str) else right
    except EnvError:
        pass
    return [rng.choice([*known, "<answer>1</answer>", "", "no ☃", f"{index}"]) for _ in range(30)]


def assert_plays_as_the_environment(
    ask: Any, env: envs.TextEnv, split: str, index: int, rng: random.Random
) -> None:
    """An episode over the wire has the prompts, replies, rewards and end that it has in this process."""
    prompt, _ = env.reset(options={"index": index})
    got = ask({"type": "reset", "data": {"split": split, "index": index}})["data"]
    metadata = got["observation"]["metadata"]
    assert (got["observation"]["prompt"], got["reward"], got["done"]) == (prompt, None, False)
    assert (metadata["index"], metadata["max_turns"]) == (index, env.max_turns)
    assert metadata["reward_weights"] == dict(env.reward_weights)
    turns, replies = [], []
    for text in texts(env, index, rng):
        reply, reward, terminated, truncated, info = env.step(text)
        got = ask({"type": "step", "data": {"completion": text}})["data"]
        assert (got["reward"], got["done"]) == (reward, terminated or truncated)
        assert got["observation"]["reply"] == reply
        turns.append(text)
        if got["done"]:
            for name in ("rewards", "correct", "reason", "extracted"):
                assert got["metadata"][name] == info[name]
            assert (
                got["metadata"]["truncated"] == truncated
                and got["metadata"] == got["observation"]["metadata"]
            )
            return
        replies.append(reply)
        assert got["observation"]["prompt"] == chat(env.problem(index), turns, replies)
    raise AssertionError("the episode did not end")


@pytest.mark.parametrize("task", [*TASKS, "ping"])
def test_an_episode_is_that_of_the_environment(server, file, task):
    rng = random.Random(task)
    with session(server, task) as ask:
        for split in ("train", "validation", "test"):
            env = opened(task, split, file)
            for _ in range(3):
                index = rng.randrange(min(len(env), 30))
                assert_plays_as_the_environment(ask, env, split, index, rng)


@pytest.mark.slow
def test_a_thousand_completions_of_all_tasks_at_once(server, file):
    def play(number: int) -> None:
        rng = random.Random(number)
        task = rng.choice([*TASKS, "ping"])
        with session(server, task) as ask:
            for split in ("train", "test"):
                env = opened(task, split, file)
                for _ in range(4):
                    assert_plays_as_the_environment(ask, env, split, rng.randrange(min(len(env), 30)), rng)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(play, range(125)))


def test_a_seed_draws_the_problem_that_it_draws_here(server, file):
    env = opened("sudoku", "test", file)
    for seed in (0, 1, 2**40):
        prompt, info = env.reset(seed=seed)
        _, got = server.post("/sudoku/reset", {"split": "test", "seed": seed})
        assert (got["observation"]["prompt"], got["metadata"]["index"]) == (prompt, info["index"])
    indices = {server.post("/sudoku/reset", {})[1]["metadata"]["index"] for _ in range(5)}
    assert len(indices) > 1  # without a seed they are random


def test_over_http_an_episode_goes_by_its_id(server):
    _, one = server.post("/ping/reset", {"split": "train", "index": 1})
    _, other = server.post("/ping/reset", {"split": "train", "index": 2})
    ids = [got["metadata"]["episode_id"] for got in (one, other)]
    numbers = [got["observation"]["prompt"][-1]["content"].split()[1].rstrip("?") for got in (one, other)]
    for id in ids:
        assert (
            server.post("/ping/step", {"episode_id": id, "action": {"completion": "hm"}})[1]["done"] is False
        )
    for id, number in zip(ids, reversed(numbers), strict=True):  # each answers with the number of the other
        _, got = server.post("/ping/step", {"episode_id": id, "action": {"completion": number}})
        assert got["done"] and got["metadata"]["correct"] is False and got["reward"] == 0.25
    status, state = server.request("GET", f"/ping/state?episode_id={ids[0]}")
    assert (status, state["step_count"], state["done"], state["episode_id"]) == (200, 2, True, ids[0])
    mine = {"episode_id": "mine", "index": 1}  # any other may be the problem whose author made a mistake
    assert server.post("/ping/reset", mine)[0] == 200
    assert server.post("/ping/reset", mine)[0] == 422  # nobody restarts what another plays
    assert server.post("/sudoku/step", {"episode_id": ids[0], "action": {"completion": ""}})[0] == 404


def test_what_a_client_asks_first(server):
    assert server.request("GET", "/list_environments")[1] == [*TASKS, "ping"]
    status, schema = server.request("GET", "/ping/schema")
    assert status == 200 and schema["action"]["required"] == ["completion"]
    assert {"observation", "state"} < schema.keys() and server.request("GET", "/schema")[1] == schema
    _, metadata = server.request("GET", "/ping/metadata")
    assert metadata["name"] == "my/Ping-v0 ping" and metadata["version"] == envs.__version__
    assert metadata["description"].startswith("Answer with the number")
    assert server.post("/ping/ping/num_tasks", {"split": "train"})[1]["num_tasks"] == len(range(40)) - sum(
        server.post("/ping/num_tasks", {"split": split})[1]["num_tasks"] for split in ("validation", "test")
    )
    assert server.request("GET", "/sudoku/health") == (200, {"status": "healthy"})
    judged = server.metric("spg_verdicts_total")
    _, got = server.post("/sudoku/reset", {})
    server.post("/sudoku/step", {"episode_id": got["metadata"]["episode_id"], "action": {"completion": ""}})
    assert server.metric("spg_verdicts_total") == judged + 1


def test_what_cannot_be_used_is_refused_in_one_sentence(server):
    _, got = server.post("/ping/reset", {"split": "train", "index": 0})
    id = got["metadata"]["episode_id"]
    for path, body, status, text in [
        ("/pong/reset", {}, 404, 'Did you mean "ping"?'),
        ("/ping/rest", {}, 404, "reset, step"),
        ("/ping/schema", {}, 405, "Not Allowed"),
        ("/ping/reset", {"split": "dev"}, 422, "validation"),
        ("/ping/reset", {"index": -1}, 422, "at least 0"),
        ("/ping/reset", {"index": 10**6}, 422, "indices are whole numbers"),
        ("/ping/reset", {"seed": "x"}, 422, '"seed"'),
        ("/ping/reset", {"inedx": 1}, 422, 'Did you mean "index"?'),
        ("/ping/reset", b"[", 422, "JSON"),
        ("/ping/step", {"action": {"completion": "x"}}, 422, '"episode_id" is missing'),
        ("/ping/step", {"episode_id": "0" * 32, "action": {"completion": "x"}}, 404, "call /reset"),
        ("/ping/step", {"episode_id": id, "action": {"completion": 3}}, 422, '"completion"'),
        ("/ping/step", {"episode_id": id, "action": {"completion": "x", "code": "y"}}, 422, "'code'"),
        ("/ping/step", {"episode_id": id, "action": "x"}, 422, '"completion"'),
    ]:
        got_status, reply = server.post(path, body)
        assert got_status == status and text in reply["error"] and "\n" not in reply["error"], (
            path,
            body,
            reply,
        )
    with session(server, "ping") as ask:
        for message, code in [
            ("{", "INVALID_JSON"),
            ("[1]", "INVALID_JSON"),
            ({"type": "mcp", "data": {}}, "UNKNOWN_TYPE"),
            ({"type": "step", "data": {"completion": "x"}}, "VALIDATION_ERROR"),
            ({"type": "step", "data": []}, "VALIDATION_ERROR"),
            ({"type": "reset", "data": {"index": 10**6}}, "EXECUTION_ERROR"),
        ]:
            answer = ask(message)
            assert (answer["type"], answer["data"]["code"]) == ("error", code), (message, answer)
        assert ask({"type": "reset", "data": {"index": 0}})["type"] == "observation"


def test_an_authors_mistake_is_the_reason_of_one_episode(server, file):
    """A reply that raises ends its episode, a problem that raises is refused; neither shows the author's code."""
    env = opened("ping", "train", file)
    broken = next(i for i in range(len(env)) if env.indices[i] == 39) if 39 in env.indices else None
    with session(server, "ping") as ask:
        ask({"type": "reset", "data": {"split": "train", "index": 0}})
        got = ask({"type": "step", "data": {"completion": "boom"}})["data"]
        assert (got["done"], got["reward"], got["metadata"]["reason"]) == (True, 0.0, "error")
        assert "traceback" not in got["metadata"] and "Traceback" not in json.dumps(got)
        if broken is not None:
            answer = ask({"type": "reset", "data": {"split": "train", "index": broken}})
            assert answer["data"]["code"] == "EXECUTION_ERROR" and "problem" in answer["data"]["message"]


def test_sessions_do_not_see_each_other(server, file):
    """Many sessions at once, of which some send nonsense, some leave in the middle, and some are cut by their size."""
    failures: list[Any] = []

    def play(number: int) -> None:
        rng = random.Random(number)
        env = opened("ping", "train", file)
        try:
            with session(server, "ping") as ask:
                for _ in range(4):
                    if number % 4 == 0:
                        assert ask(rng.choice(['{"type": "ste', "[]", '{"type": 1}']))["type"] == "error"
                    index = rng.randrange(len(env))
                    if env.indices[index] == 39:
                        continue
                    assert_plays_as_the_environment(ask, env, "train", index, rng)
                if number % 4 == 1:
                    ask({"type": "reset", "data": {}})
                if number % 4 == 2:
                    with pytest.raises(Exception, match="1009"):
                        ask({"type": "step", "data": {"completion": "x" * (1 << 21)}})
        except BaseException as error:
            failures.append((number, error))

    threads = [threading.Thread(target=play, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def test_the_command_says_why_it_cannot_start(file, capsys):
    for words, text in [
        (["sudokoo"], 'Did you mean "sudoku"?'),
        (["sudoku", "spg/Sudoku-v0"], "both be served at /sudoku"),
        (["sudoku", "countdown", "--env-args", "blanks=4"], "sudoku.blanks=4"),
    ]:
        assert main(["serve", *words]) == 2 and text in capsys.readouterr().err
    for needed in ("starlette", "uvicorn", "httptools", "websockets", "prometheus_client"):
        pytest.importorskip(needed)
    status, said = said_by(capsys, "sudoku", "--env-args", "blank=4", package="envs")  # a worker finds it out
    assert status == 2 and 'no argument "blank"' in said and "Traceback" not in said, said


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_plays_the_page(server, tmp_path):
    """A person plays a round of several turns and one that is refused, by the page, in a real browser."""
    with chromium(tmp_path / "profile") as browser:
        browser.ask("Page.navigate", url=server.address + "/")
        browser.run(
            "new Promise(r => document.readyState === 'complete' ? r() : addEventListener('load', r))"
        )
        wait = (
            "new Promise(done => {const look = () => document.querySelectorAll('#episode pre').length >= %d"
        )
        wait += " ? done([...document.querySelectorAll('#episode pre')].map(p => p.className + ': ' + p.textContent))"
        wait += " : setTimeout(look, 50); look()})"
        browser.run(
            "document.getElementById('task').value = 'ping'; document.getElementById('task').onchange()"
        )
        browser.run(
            "document.getElementById('index').value = '0'; document.querySelector('#start button').click()"
        )
        assert "Number" in browser.run(wait % 1)[0]
        number = browser.run(wait % 1)[0].split("Number ")[1].rstrip("?")
        for count, text in ((3, "<b>hm</b>"), (5, number)):
            browser.run(f"document.getElementById('completion').value = {json.dumps(text)}")
            browser.run("document.querySelector('#answer button').click()")
            shown = browser.run(wait % count)
        assert shown[1] == "assistant: <b>hm</b>" and shown[2].startswith("user: Again")
        assert shown[4].startswith("end: reward 1.25 (correct 1, short 0.5)")
        assert browser.run("document.getElementById('address').textContent") == server.address + "/ping"
        browser.run(
            "document.getElementById('index').value = '-5'; document.querySelector('#start button').click()"
        )
        assert browser.run(wait % 1)[0].startswith('error: "index" is -5')
        assert [call for call in browser.complaints() if "422" not in json.dumps(call)] == []


def test_a_token_is_asked_for_an_episode_outlives_its_worker_and_a_signal_ends_the_server(file):
    pytest.importorskip("websockets")
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with served(f"{file}:my/Ping-v0", "--token", "sesame", package="envs") as server:
        assert server.post("/reset", {})[0] == 401 and server.request("GET", "/")[0] == 401
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{server.port}/ws")
        # At the root, as one task is served; without an index it might draw the problem with the author's mistake.
        assert server.post("/reset", {"index": 0}, Authorization="Bearer sesame")[0] == 200
        with session(server, "ping", token="sesame") as ask:
            ask({"type": "reset", "data": {"split": "train", "index": 0}})
            assert ask({"type": "step", "data": {"completion": "hm"}})["data"]["done"] is False
            os.kill(server.workers()[0], signal.SIGKILL)
            deadline = time.monotonic() + 120
            while (got := ask({"type": "step", "data": {"completion": "0"}}))["type"] == "error":
                assert time.monotonic() < deadline
            lost = server.metric("spg_workers_lost_total", Authorization="Bearer sesame")
            assert got["data"]["done"] and lost == 1
            ask({"type": "reset", "data": {"split": "train", "index": 0}})
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(120) == 0


def nonsense(rng: random.Random) -> str | bytes:
    """A message that no honest client sends over a WebSocket."""
    odd = [None, True, -1, 2**70, 1e308, "", "x" * 5000, [], {}, [[]], {"completion": []}, "\ud800"]
    fields = ["type", "data", "completion", "index", "split", "seed", "episode_id", "metadata"]
    inside = {name: rng.choice(odd) for name in rng.sample(fields, rng.randrange(4))}
    kinds = ["reset", "step", "state", "mcp", "Reset", 1, None, ["reset"]]
    message = {"type": rng.choice(kinds), "data": rng.choice([inside, *odd]), **rng.choice([inside, {}])}
    text = json.dumps(message)
    return rng.choice(
        [
            text,
            text,
            text,
            text[: rng.randrange(len(text))],
            "[" * 50_000,
            '{"type":' * 9000,
            rng.randbytes(50),
        ]
    )


@pytest.mark.parametrize("number", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_hostile_messages_are_answered_and_no_session_harms_another(server, file, number):
    """Nonsense over WebSockets and HTTP, and steps in an episode of another by guessed ids."""
    failures: list[Any] = []
    _, got = server.post("/ping/reset", {"split": "train", "index": 3})
    own = got["metadata"]["episode_id"]

    def attack(seed: int) -> None:
        rng = random.Random(seed)
        try:
            if seed % 3:
                with session(server, rng.choice(["ping", "sudoku"])) as ask:
                    for _ in range(3):
                        answer = ask(nonsense(rng))
                        assert answer["type"] in ("error", "observation", "state"), answer
                        assert "Traceback" not in json.dumps(answer) and ".py" not in json.dumps(answer)
            else:
                guessed = rng.choice(
                    [own[:-1] + "0" * (own[-1] != "0"), own.upper(), own[::-1], "", "../" + own, {}]
                )
                body = {"episode_id": guessed, "action": {"completion": "3"}}
                path = rng.choice(["/ping/step", "/sudoku/step"])
                status, answer = server.post(path, rng.choice([body, nonsense(rng)] if seed % 2 else [body]))
                assert status in (404, 413, 422), (status, answer)
        except Exception as error:
            if "1000" not in str(error):  # {"type": "close"} by chance, or a frame that is no text
                failures.append((seed, repr(error)))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(attack, range(number)))
    assert not failures, failures[:3]
    assert server.metric("spg_workers_lost_total") == 0
    _, state = server.request("GET", f"/ping/state?episode_id={own}")
    assert (state["step_count"], state["done"]) == (0, False)


def test_an_idle_episode_is_forgotten_behind_those_that_are_in_use():
    pytest.importorskip("starlette")
    from envs.serve.openenv_front import IDLE_SECONDS, OpenEnvFront, Session

    front = OpenEnvFront.__new__(OpenEnvFront)
    front.sessions, long_ago = {}, time.monotonic() - 2 * IDLE_SECONDS
    for number in range(300):
        front.sessions["task", str(number)] = Session(str(number), last_used=long_ago)
    for number in range(200):
        front._session("task", str(number))
    front._forget_idle()
    assert {name for _, name in front.sessions} == {str(number) for number in range(200)}
