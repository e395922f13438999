"""A worker of `python -m envs serve`: reads problems, and takes the steps of many episodes together."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from gymnasium.utils import seeding

from envs.combining.wrapper import innermost
from envs.core import TextEnv
from envs.episodes import Episodes, cause
from envs.errors import EnvError
from envs.problem import Problem, check_index, choose_index, read_problem
from envs.registry import make, resolve
from envs.task import summary
from verifiers import __version__, batch
from verifiers.limit import time_limit
from verifiers.serve.queue import Answer

_log = logging.getLogger(__name__)


MEMORY = None  # the address space of a worker has no limit


def prepare(
    tasks: Mapping[str, Mapping[str, Any]], seconds: float, workers: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Opens every task; returns the function that answers jobs. Raises EnvError if a task cannot be opened.

    tasks: {name in addresses: {"env": name for `make`, "arguments": {...}}}. seconds: that scoring may take. workers:
    how many there are.
    """
    if workers > 1:
        batch.MAX_THREADS = 1  # the cores are shared out between processes already
    player = Player(tasks, seconds)
    for task in tasks:
        player.env(task, "train")
    return lambda job: {"answers": player.answers(job["requests"])}


class Player:
    """The environments that are served, one for each task and split, opened when first asked for."""

    def __init__(self, tasks: Mapping[str, Mapping[str, Any]], seconds: float) -> None:
        self.tasks, self.seconds = tasks, seconds
        # These two are cached: env(task, split) and problem(task, split, index).
        self.env = lru_cache(maxsize=None)(self._env)
        self.problem = lru_cache(maxsize=4096)(lambda task, split, i: read_problem(self.env(task, split), i))

    def _env(self, task: str, split: str) -> TextEnv:
        served = self.tasks[task]
        return make(served["env"], **{**served["arguments"], "split": split})

    def answers(self, requests: Sequence[tuple[str, bytes]]) -> list[Answer]:
        """The answers to requests, each an address, TASK/step, TASK/reset or TASK/about, and a body."""
        answers: dict[int, Answer] = {}  # {the place of a request: its answer}
        steps: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)  # {(task, split): {place: job}}
        for place, (address, body) in enumerate(requests):
            task, asked = address.split("/")
            job = json.loads(body)
            if asked == "step":
                steps[task, job["split"]][place] = job
            else:
                work = {"reset": self.reset, "about": self.about}[asked]
                answers[place] = _answer(task, partial(work, task, job))
        for (task, _), jobs in steps.items():
            answers |= zip(jobs, self.steps(task, list(jobs.values())), strict=True)
        return [answers[place] for place in range(len(requests))]

    def steps(self, task: str, jobs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Takes a step of many episodes of a split; if that fails, takes each alone, so that the others succeed."""
        if len(jobs) > 1:
            try:
                return [_written(task, step) for step in self.step(task, jobs)]
            except Exception as error:  # a task's error; below, the episode that causes it raises it again
                _log.debug("%s: a batch of steps failed: %s", task, error)
        return [_answer(task, lambda job=job: self.step(task, [job])[0]) for job in jobs]

    def reset(self, task: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """The problem that `index` names, or that `env.reset(seed=seed)` draws; without both a random one."""
        env = self.env(task, job["split"])
        if job["index"] is None:
            generator, _ = seeding.np_random(job["seed"])
            index = int(choose_index(env, generator, None))
        else:
            index = check_index(env, job["index"])
        problem: Problem = self.problem(task, job["split"], index)
        return {
            "index": index,
            "prompt": problem.prompt,
            "completion_prefix": problem.completion_prefix,
            "completion_template": problem.completion_template,
        }

    def about(self, task: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """What a client may want to know of a task before the first episode."""
        env = self.env(task, job["split"])
        return {
            "name": env.spec_name,
            "id": resolve(self.tasks[task]["env"]),
            "description": summary(type(innermost(env))),
            "version": __version__,
            "max_turns": env.max_turns,
            "reward_weights": dict(env.reward_weights),
            "reward_ranges": {
                name: [_finite(end) for end in ends] for name, ends in env.reward_ranges.items()
            },
            "problems": {job["split"]: len(env)},
        }

    def step(self, task: str, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Takes the last of each job's `turns`; all episodes that end are scored in one call."""
        split = jobs[0]["split"]
        env = self.env(task, split)
        indices = [job["index"] for job in jobs]
        problems = [self.problem(task, split, index) for index in indices]
        before_step = [(job["turns"][:-1], job["replies"]) for job in jobs]
        episodes = Episodes(env, indices, problems, begun=before_step)
        with time_limit(self.seconds):
            going_on = episodes.take_turn({i: job["turns"][-1] for i, job in enumerate(jobs)})
            ended = [i for i in range(len(jobs)) if i not in going_on]
            scores = episodes.score(ended) if ended else episodes.scores
        steps: list[dict[str, Any]] = [{"done": False, "reply": ""} for _ in jobs]
        for i in going_on:
            steps[i]["reply"] = episodes.replies[i][-1]
        for i in ended:
            rewards = {name: _finite(float(values[i])) for name, values in scores.rewards.items()}
            steps[i] = {
                "done": True,
                "truncated": bool(episodes.truncated[i]),
                "reward": float(scores.total[i]),
                "rewards": rewards,
                "correct": rewards["correct"] == 1.0,
                "reason": scores.reason[i],
                "extracted": scores.extracted[i],
            }
            if scores.traceback[i] is not None:  # it is for the task's author; a client only gets the reason
                _log.error("%s, problem %d: %s", env.spec_name, indices[i], cause(env, scores.traceback[i]))
        return steps


def _answer(task: str, work: Callable[[], dict[str, Any]]) -> Answer:
    """What `work` returns as an answer; if it raises, the answer says so."""
    try:
        return _written(task, work())
    except EnvError as error:
        return Answer(422, " ".join(str(error).split()))  # one line
    except Exception as error:
        _log.exception("a served environment failed")
        text = f"The environment failed on this request ({type(error).__name__}); the server's log says more."
        return Answer(500, text)


def _written(task: str, value: Mapping[str, Any]) -> Answer:
    """A value as an answer; that of a step which ends its episode has a verdict, which is counted."""
    verdicts = ((task, value["reason"] or "none", 1),) if value.get("done") else ()
    return Answer(200, json.dumps(value), verdicts)


def _finite(value: float) -> float | None:
    """A number for JSON: None for NaN (a component that the problem's task does not have) and for infinity."""
    return value if math.isfinite(value) else None
