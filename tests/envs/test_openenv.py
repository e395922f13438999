"""`openenv:ADDRESS`: a server's environment is a task like any other; one of ours is as it is without the server."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import envs
from envs.adapters.openenv.client import connections
from envs.episodes import Episodes, play
from envs.errors import EnvError
from tests.common import other_openenv
from tests.common.serving import served
from tests.common.task_file import write_task

pytest.importorskip("websockets")
pytest.importorskip("uvicorn")


class Ping(envs.TextEnv):
    reward_weights = {"correct": 1.0, "short": 0.5}  # noqa: RUF012
    reward_ranges = {"short": (0.0, 2.0)}  # noqa: RUF012
    max_turns = 3

    def __len__(self):
        return 60

    def problem(self, index):
        chat = [{"role": "system", "content": "Play."}, {"role": "user", "content": f"Number {index}?"}]
        return envs.Problem(chat, {"answer": str(index)}, completion_prefix="I say ")

    def reply(self, problem, turns):
        return None if len(turns) > 1 and turns[-1].isdigit() else f"Again, after {turns[-1]!r}."

    def score_turns(self, problem, turns):
        right = turns[-1] == problem.reference["answer"]
        return envs.Score(
            {"correct": float(right), "short": 1 / len(turns)}, "ok" if right else "wrong", turns[-1]
        )


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    return write_task(tmp_path_factory.mktemp("own") / "pong.py", Ping, id="my/Pong-v0")


@pytest.fixture(scope="module")
def address(file) -> Iterator[str]:
    """Of a server with a token, which clients find in an environment variable."""
    with (
        pytest.MonkeyPatch.context() as patch,
        served(file, "sudoku", "--token", "sesame", package="envs") as server,
    ):
        patch.setenv("SPG_SERVE_TOKEN", "sesame")
        yield server.address


@contextmanager
def other(kind: str = "game", port: int = 0) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server that is not ours, in a process of its own."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [sys.executable, other_openenv.__file__, str(port), kind]
    with subprocess.Popen(command) as process:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.mark.parametrize("task", ["pong", "sudoku"])
def test_our_own_server_gives_what_the_environment_gives(address, file, task):
    """Many episodes side by side, over fewer connections: prompts, replies, rewards, reasons and ends."""
    for split in ("train", "test"):
        here = envs.make(file if task == "pong" else task, split=split)
        there = envs.make(f"openenv:{address}/{task}", split=split, sessions=3)
        assert len(there) == len(here) and there.max_turns == here.max_turns
        assert dict(there.reward_weights) == dict(here.reward_weights)
        indices = [i % min(len(here), 5) for i in range(12)]
        played = []
        for env in (here, there):
            episodes = Episodes(env, indices)
            going_on = list(range(len(indices)))
            while going_on:
                number = len(episodes.turns[going_on[0]])
                texts = {i: str(here.problem(indices[i]).reference.get("answer", "x")) for i in going_on}
                going_on = episodes.take_turn(
                    {i: text if i % 3 <= number else "hm" for i, text in texts.items()}
                )
            scores = episodes.score()
            played.append((episodes, scores))
        (ours, scored), (theirs, scored_there) = played
        assert [p.prompt for p in ours.problems] == [p.prompt for p in theirs.problems]
        assert [p.completion_prefix for p in ours.problems] == [p.completion_prefix for p in theirs.problems]
        assert (ours.turns, ours.replies, ours.ended) == (theirs.turns, theirs.replies, theirs.ended)
        assert scored.total.tolist() == scored_there.total.tolist() and scored.reason == scored_there.reason
        assert scored.extracted == scored_there.extracted and not any(scored_there.traceback)
        for name, values in scored.rewards.items():
            np.testing.assert_array_equal(values, scored_there.rewards[name])


def test_a_server_of_others(tmp_path):
    """Fields are found, seeds make problems, the reward is the sum of the steps', and it is named in the run."""
    with other() as (address, _):
        env = envs.make(f"openenv:{address}", num_problems=20)
        assert (len(env), env.max_turns, env.origin) == (20, 10, {address: "guess, version 2.1"})
        problem = env.problem(7)
        secret = problem.prompt.split()[2]
        wrong = str((int(secret) + 1) % 10)
        for texts, reward, reason in [
            ([secret], 1.0, "ok"),
            ([wrong, secret], 0.5, "wrong"),
            ([wrong, wrong], 0.0, "wrong"),
        ]:
            turns, replies = play(env, 7, problem, texts)
            assert (turns, replies) == (texts, ["wrong, again"] * (len(texts) - 1))
            episodes = Episodes(env, [7])
            for text in texts:
                episodes.take_turn({0: text})
            scores = episodes.score()
            assert (scores.total[0], scores.reason[0]) == (reward, reason)
            assert scores.rewards["correct"][0] == (reward >= 1)
        seeds = [env._reset_arguments(i)["seed"] for i in range(20)]
        test = envs.make(f"openenv:{address}", split="test")
        assert not set(seeds) & {test._reset_arguments(i)["seed"] for i in range(20)}
        assert [f.ok for f in envs.checking.check(f"openenv:{address}", 5)].count(
            False
        ) <= 1  # it shows no solution
    with pytest.raises(EnvError, match=r"No OpenEnv server answers at .* Is it running there\?"):
        envs.make(f"openenv:{address}")


def test_a_server_that_comes_back_is_gone_on_with(address):
    with other() as (address, process):
        port = int(address.rpartition(":")[2])
        env = envs.make(f"openenv:{address}")
        problem = env.problem(1)
        episodes = Episodes(env, [1])
        assert episodes.take_turn({0: "no"}) == [0]
        process.kill()
        process.wait()
        with other(port=port):
            assert episodes.take_turn({0: problem.prompt.split()[2]}) == []
            assert episodes.score().total[0] == 0.5


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (
            "unclear",
            {},
            r"which field of an action takes the completion\? Give action=FIELD; .*guess, why",
        ),
        ("unclear", {"action": "gues"}, "Did you mean action=guess"),
        (
            "unclear",
            {"action": "guess"},
            r"which text is the model to read\? Give observation=FIELD.*left=",
        ),
        ("unclear", {"action": "guess", "observation": "lft"}, "Did you mean observation=left"),
        ("game", {"sessions": 0}, "at least 1"),
        ("game", {"timeout": "x"}, "seconds above 0"),
    ],
)
def test_what_is_unclear_is_asked(kind, arguments, text):
    with other(kind) as (address, _), pytest.raises(EnvError, match=text):
        envs.make(f"openenv:{address}", **arguments)


def test_fields_that_are_given_are_used():
    with other("unclear") as (address, _):
        env = envs.make(f"openenv:{address}", action="guess", observation="right")
        assert env.problem(0).prompt == "another text"
        assert env.spec_name == f"openenv:{address.removeprefix('http://')}[action=guess,observation=right]"


def test_a_failure_is_the_reason_of_an_episode():
    """A server whose episodes cannot be played again, and one that takes a single session."""
    with other("random") as (address, _):
        env = envs.make(f"openenv:{address}")
        problem = env.problem(3)
        for number in range(50):  # by chance it may show the same again
            episodes = Episodes(env, [3])
            connections(address).idle.clear()  # no session stands at the beginning of this episode
            episodes.take_turn({0: f"no {number}"})
            if episodes.raised[0]:
                break
        assert "gave something else" in episodes.raised[0] and "depend on its seed" in episodes.raised[0]
        assert episodes.score().reason == ["error"] and problem
    with other("full") as (address, _):
        env = envs.make(f"openenv:{address}")
        episodes = Episodes(env, [0, 1, 2])
        episodes.take_turn({i: "no" for i in range(3)})
        assert any("sessions=N" in (trace or "") for trace in episodes.raised)
        for split in ("train", "test"):
            env = envs.make(f"openenv:{address}", sessions=1, split=split)
            episodes = Episodes(env, [0, 1, 2])
            assert episodes.take_turn({i: "no" for i in range(3)}) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("openenv:localhost:8000", "e.g. openenv:http://127.0.0.1:8000"),
        ("openenv:http://:secret@127.0.0.1:8000", "SPG_SERVE_TOKEN"),
    ],
)
def test_what_is_no_address(name, text):
    with pytest.raises(EnvError, match=text) as raised:
        envs.make(name)
    assert "secret" not in str(raised.value)


def test_a_token_is_taken_from_the_environment(address, file, monkeypatch):
    assert len(envs.make(f"openenv:{address}/pong")) == len(envs.make(file, split="train"))
    monkeypatch.delenv("SPG_SERVE_TOKEN")
    with pytest.raises(EnvError, match="SPG_SERVE_TOKEN"):
        envs.make(f"openenv:{address}/pong")
