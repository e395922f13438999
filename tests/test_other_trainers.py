"""Packages of others, in environments of their own, as clients of our servers: OpenEnv, TRL, verifiers and more.

Each Python is named by a variable, e.g. SPG_TRL; without it the packages are installed into a new environment.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
import venv
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import envs
from envs.errors import EnvError
from spg_trainer.settings.weights import models_folder
from tests.common import other_trainers
from tests.common.serving import Server, served
from verifiers import verify_batch
from verifiers.worker import environment

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1800)]
TASKS = (
    "sudoku",
    "countdown",
    "arithmetic",
    "coloring",
    "edits",
    "queens",
    "satisfiability",
    "sorting",
    "guess",
)
HUB = ("gsm8k", "math500")
ARGUMENTS = [f"{task}.source=generated" for task in HUB]


def python(variable: str, folder: Path, *packages: str) -> str:
    """A Python that has these packages."""
    if variable in os.environ:
        return os.environ[variable]
    venv.create(folder / variable, with_pip=True)
    found = str(folder / variable / "bin" / "python")
    for package in packages:
        subprocess.run([found, "-m", "pip", "install", "-q", package], check=True)
    return found


def result_of(python: str, kind: str, server: Server, folder: Path, value: Any) -> Any:
    """What another Python makes of a value, by a function of `other_trainers`."""
    file = folder / f"{kind}.json"
    file.write_text(json.dumps(value))
    command = [python, other_trainers.__file__, kind, server.address, str(file)]
    quiet = {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, env={**os.environ, **quiet}, cwd=folder
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def server():
    with served(*TASKS, *HUB, "--env-args", *ARGUMENTS, package="envs") as one:
        yield one


def opened(task: str, split: str) -> envs.TextEnv:
    return envs.make(task, split=split, **({"source": "generated"} if task in HUB else {}))


def episodes(count: int) -> list[tuple[str, str, int, list[str]]]:
    """Episodes of all tasks with about `count` completions: right ones, habits, and nonsense."""
    rng, jobs, written = random.Random(5), [], 0
    while written < count:
        task, split = rng.choice(TASKS + HUB), rng.choice(["train", "validation", "test"])
        env = opened(task, split)
        index = rng.randrange(min(len(env), 100))
        problem = env.problem(index)
        known = [text for text in env.habits(problem).values() if isinstance(text, str)]
        try:
            right = env.demonstration(problem)
            known += [right] if isinstance(right, str) else right
        except EnvError:
            pass
        completions = [rng.choice([*known, "<answer>1</answer>", "", "½ ☃"]) for _ in range(env.max_turns)]
        jobs.append((task, split, index, completions))
        written += len(completions)
    return jobs


@pytest.mark.parametrize(
    ("variable", "package"), [("SPG_OPENENV_CORE", "openenv-core==0.3.0"), ("SPG_OPENENV", "openenv==0.10.0")]
)
def test_the_client_of_openenv_earns_what_the_environment_pays(server, tmp_path, variable, package):
    """A thousand completions of all tasks, by the newest openenv-core and by its successor."""
    jobs = episodes(1000)
    played = result_of(python(variable, tmp_path, package), "play", server, tmp_path, jobs)
    completions = 0
    for (task, split, index, texts), (begun, *steps) in zip(jobs, played, strict=True):
        env = opened(task, split)
        prompt, _ = env.reset(options={"index": index})
        assert begun[0]["prompt"] == prompt and begun[2] is False
        for text, (observation, reward, done) in zip(texts, steps, strict=False):
            reply, expected, terminated, truncated, info = env.step(text)
            assert (reward, done, observation["reply"]) == (expected, terminated or truncated, reply)
            if done:
                for name in ("rewards", "correct", "reason", "extracted"):
                    assert observation["metadata"][name] == info[name]
            completions += 1
        assert steps[-1][2]
    assert completions > 900


def test_trl_trains_on_a_served_task(server, tmp_path):
    env = envs.make("sudoku")
    right = {str(i): env.demonstration(env.problem(i)) for i in (1, 4)}
    settings = {"task": "sudoku", "indices": list(range(8)), "right": right, "folder": str(tmp_path / "trl")}
    done = result_of(
        python("SPG_TRL", tmp_path, "torch==2.13.0", "trl==1.16.0", "openenv==0.10.0"),
        "train",
        server,
        tmp_path,
        settings,
    )
    assert len(done["seen"]) == 8 and len(done["mean"]) == 2
    for index, text, reward in done["seen"]:
        env.reset(options={"index": index})
        assert env.step(text)[1] == reward


def test_the_other_package_named_verifiers_plays_a_served_task(server, tmp_path):
    """Its Python has no package of ours, and cannot have one; it reaches ours over HTTP."""
    env = envs.make("countdown")
    completions = [
        (i, env.demonstration(env.problem(i)) if i % 2 else "<answer>1</answer>") for i in range(6)
    ]
    other = python("SPG_PRIME_VERIFIERS_OPENENV", tmp_path, "verifiers[openenv]==0.4.0")
    played = result_of(
        other, "verifiers", server, tmp_path, {"task": "countdown", "completions": completions}
    )
    for (index, text), (prompt, reward) in zip(completions, played, strict=True):
        assert env.reset(options={"index": index})[0] == prompt
        assert env.step(text)[1] == reward


@pytest.fixture(scope="module")
def verdicts():
    with served() as one:
        yield one


ANSWERS = [
    "<answer>18</answer>",
    "#### 18",
    "18 or 19",
    "I do not know.",
    "So the answer is 18.",
    "<answer>17",
]


def test_openrlhf_gets_our_verdicts(verdicts, tmp_path):
    """Its wheel, whose other requirements want a GPU, is not installed: its file `agent.py` is."""
    rows = [(f"{number} + ...?", text, "18") for number, text in enumerate(ANSWERS)]
    other = python("SPG_AIOHTTP", tmp_path, "aiohttp")
    wheel = os.environ.get("SPG_OPENRLHF_WHEEL")
    if wheel is None:
        command = [other, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), "openrlhf==0.11.2"]
        subprocess.run(command, check=True)
        (wheel,) = map(str, tmp_path.glob("openrlhf-*.whl"))
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("openrlhf/utils/agent.py"))
        agent = packed.extract(name, tmp_path)
    asked = [(prompt + text, prompt, label) for prompt, text, label in rows]
    settings = {"agent": agent, "source": "openai/gsm8k", "rows": asked}
    got = result_of(other, "openrlhf", verdicts, tmp_path, settings)
    expected = verify_batch("gsm8k", ANSWERS, answer=["18"] * len(ANSWERS)).correct.astype(float).tolist()
    assert [one["rewards"] for (one,) in got] == [[reward] for reward in expected]


def test_nemo_gym_gets_our_verdicts(verdicts, tmp_path):
    """Its Python must be 3.12 or newer: $SPG_NEMO_GYM names one that has it."""
    if "SPG_NEMO_GYM" not in os.environ:
        pytest.skip("SPG_NEMO_GYM names no Python that has nemo-gym")
    prompt = {"responses_create_params": {"input": [{"role": "user", "content": "9+9?"}]}}
    rows = [
        {**prompt, "data_source": "gsm8k", "expected_answer": "18", "completion": text} for text in ANSWERS
    ]
    got = result_of(os.environ["SPG_NEMO_GYM"], "nemo_gym", verdicts, tmp_path, rows)
    expected = verify_batch("gsm8k", ANSWERS, answer=["18"] * len(ANSWERS))
    assert (
        got["rewards"] == expected.correct.astype(float).tolist() and got["extracted"] == expected.extracted
    )
    assert got["mean"] == pytest.approx(expected.correct.mean())


def test_the_environment_that_openenv_writes_can_be_trained_on(tmp_path):
    """What `openenv init` writes, served by OpenEnv's own server, which takes one session; two steps of our trainer."""
    other = Path(python("SPG_OPENENV_CORE", tmp_path, "openenv-core==0.3.0"))
    subprocess.run(
        [other.with_name("openenv"), "init", "echo_env"], cwd=tmp_path, check=True, capture_output=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = [other, "-m", "uvicorn", "echo_env.server.app:app", "--port", str(port), "--log-level", "error"]
    with subprocess.Popen(serving, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}) as server:
        try:
            for _ in range(1200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            words = f"--env openenv:http://127.0.0.1:{port} --env-args sessions=1 max_turns=2"
            words += f" --model {models_folder() / 'tiny-countdown'}"
            words += " --max-completion-length 12 --prompts-per-step 4 --num-generations 4 --max-steps 2"
            words += f" --eval-problems 4 --validation-problems 4 --output-dir {tmp_path / 'run'}"
            done = subprocess.run(
                [sys.executable, "-m", "spg_trainer", *words.split()],
                capture_output=True,
                text=True,
                timeout=600,
                env={**environment(), "OMP_NUM_THREADS": "1"},
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            server.kill()
    written = [json.loads(line) for line in (tmp_path / "run" / "samples" / "step-000002.jsonl").open()]
    assert written
    for row in written:  # it pays 0.1 for each character that it is told
        told = sum(len(turn["completion"]) for turn in row["turns"])
        assert row["rewards"]["reward"] == pytest.approx(0.1 * told) and row["reason"] in (
            "ok",
            "wrong",
            "unfinished",
        )
