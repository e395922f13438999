"""Does an environment keep its contract? Figures for its author, and for every change to this package."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from envs import registry
from envs.checking_tools import content, demonstration, digests, junk, prompt_text, spread, wilson
from envs.core import Problem, ScoredBatch, TextEnv, read_problem, score_all
from envs.errors import EnvError
from envs.splits import SPLITS

SLOWEST = 2.0
"""Seconds of processor time within which any completion must be judged."""
_FEW = 16
"""Problems that are tried in more costly ways: made again in a fresh process, judged with junk, one by one."""
_CHILD = (
    "import json, sys; from envs.checking_tools import digests; "
    "json.dump(digests(*json.loads(sys.argv[1])), sys.stdout)"
)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool
    figure: str
    """What was measured, or what is wrong."""


@dataclass(frozen=True)
class Report:
    """All that was found out about one environment."""

    env: str
    """Its `spec_name`."""
    findings: list[Finding]
    figures: dict[str, Any]
    """For machines: sizes of the splits, solved rates, ranges of the components."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(finding.ok for finding in self.findings)


@dataclass(frozen=True)
class _Work:
    """What the checks look at, and where they leave their figures."""

    name: str
    arguments: dict[str, Any]
    parts: dict[str, TextEnv]
    count: int
    figures: dict[str, Any]

    @property
    def train(self) -> TextEnv:
        return self.parts["train"]

    def judge(
        self, env: TextEnv, indices: Sequence[int], problems: list[Problem], texts: list[str]
    ) -> ScoredBatch:
        """The scores; notes the range of each component, and raises EnvError for what `score` raised."""
        judged = score_all(env, indices, problems, texts)
        for index, text, trace in zip(indices, texts, judged.traceback, strict=True):
            if trace is not None:
                raise EnvError(f"score raised on problem {index}, for {text!r:.60}: {trace.splitlines()[-1]}")
        ranges = self.figures["components"]
        for name, values in judged.rewards.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
        return judged


def check(name: str, problems: int = 1000, **arguments: Any) -> Report:
    """Checks an environment on up to `problems` problems of each split; docs/add_a_task.md says what is looked at.

    name, arguments: as for `make`, without `split`. Raises EnvError if it cannot be opened at all.
    """
    start = time.monotonic()
    parts = {split: registry.make(name, split=split, **arguments) for split in SPLITS}
    sizes = {split: len(env) for split, env in parts.items()}
    work = _Work(name, arguments, parts, problems, {"problems": sizes, "components": {}})
    findings = []
    for title, run in _CHECKS.items():
        try:
            findings.append(Finding(title, True, run(work)))
        except EnvError as error:
            findings.append(Finding(title, False, str(error)))
        except Exception as error:  # what an author's code or Gymnasium raises is a finding too
            findings.append(Finding(title, False, f"{type(error).__name__}: {error}"))
    return Report(work.train.spec_name, findings, work.figures, time.monotonic() - start)


def _gymnasium(work: _Work) -> str:
    """Gymnasium's own checker passes and has nothing to say."""
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        id = registry.resolve(work.name)
        check_env(
            gymnasium.make(id, render_mode="ansi", disable_env_checker=True, **work.arguments).unwrapped
        )
    if caught:
        raise EnvError(f"check_env warns: {caught[0].message}")
    return "check_env without a warning"


def _pure(work: _Work) -> str:
    """A problem depends on the arguments and on its index, and on nothing else."""
    count = min(_FEW, work.count)
    first = digests(work.name, work.arguments, count)
    backwards = digests(work.name, work.arguments, count, backwards=True)
    job = json.dumps([work.name, work.arguments, count])
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, job],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvError(f"a fresh process cannot open it: {last}")
    elsewhere = json.loads(done.stdout)
    for problem, digest in first.items():
        for other, where in ((backwards, "in another order"), (elsewhere, "in a fresh process")):
            if other[problem] != digest:
                raise EnvError(f"problem {problem} is another one {where}; it must depend on its index only")
    return f"{len(first)} problems are the same in another order and in a fresh process"


def _splits(work: _Work) -> str:
    """No problem is in two splits."""
    seen: dict[str, str] = {}
    different = dict.fromkeys(SPLITS, 0)
    for split, env in work.parts.items():
        for index in spread(len(env), work.count):
            problem = read_problem(env, index)
            other = seen.setdefault(content(problem), split)
            if other != split:
                raise EnvError(f"problem {index} of {split} is in {other} too: {problem.prompt!r:.80}")
        different[split] = sum(held == split for held in seen.values())
    return (
        ", ".join(f"{number:,} of {split}" for split, number in different.items()) + " differ, none is in two"
    )


def _demonstrations(work: _Work) -> str:
    """Every demonstration is right."""
    solved = 0
    for split, env in work.parts.items():
        indices = spread(len(env), work.count)
        problems = [read_problem(env, index) for index in indices]
        texts = [demonstration(env, problem) for problem in problems]
        if None in texts:
            return f"none for problem {indices[texts.index(None)]} of {split}: sft has nothing to learn from"
        right = work.judge(env, indices, problems, texts).rewards["correct"] == 1
        if not right.all():
            wrong = int(np.argmin(right))
            raise EnvError(f"problem {indices[wrong]} of {split} is not solved by {texts[wrong]!r:.80}")
        solved += len(indices)
    work.figures["demonstrations"] = solved
    return f"all {solved:,} solve their problem"


def _habits(work: _Work) -> str:
    """How often each habit is right, with its interval."""
    env, indices = work.train, spread(len(work.train), work.count)
    told: dict[str, list[tuple[int, Problem, str]]] = {}
    for index in indices:
        problem = read_problem(env, index)
        for name, text in env.habits(problem).items():
            told.setdefault(name, []).append((index, problem, text))
    if "right" in told:
        raise EnvError('a habit is called "right", which is the name of the demonstration; call it otherwise')
    figures = {}
    for name, rows in told.items():
        where, problems, texts = map(list, zip(*rows, strict=True))
        solved = int(work.judge(env, where, problems, texts).rewards["correct"].sum())
        figures[name] = {"solved": solved / len(rows), "interval": wilson(solved, len(rows)), "n": len(rows)}
    work.figures["habits"] = figures
    return ", ".join(_rate(name, **figure) for name, figure in figures.items()) or "none given"


def _rate(name: str, solved: float, interval: tuple[float, float], n: int) -> str:
    return f"{name} solves {solved:.1%} [{interval[0]:.1%}, {interval[1]:.1%}] of {n:,}"


def _junk(work: _Work) -> str:
    """What is no answer is not right, raises nothing and takes no time."""
    env, tried, slowest = work.train, 0, 0.0
    rng = np.random.default_rng(0)
    for index in spread(len(env), _FEW):
        problem = read_problem(env, index)
        for kind, text in junk(problem, demonstration(env, problem), rng):
            start = time.process_time()
            judged = work.judge(env, [index], [problem], [text])
            seconds = time.process_time() - start
            if judged.rewards["correct"][0]:
                raise EnvError(f"problem {index} counts as solved by {kind}: {text!r:.60}")
            if seconds > SLOWEST:
                raise EnvError(f"problem {index}: {kind} took {seconds:.1f} s to judge, {text!r:.60}")
            tried, slowest = tried + 1, max(slowest, seconds)
    return f"none of {tried:,} is right, raises or takes long (at most {slowest * 1000:.0f} ms)"


def _others(work: _Work) -> str:
    """The answer to another problem, or the prompt itself, is not always right: the check looks at the problem."""
    env, indices, told = work.train, spread(len(work.train), work.count), []
    problems = [read_problem(env, index) for index in indices]
    shifted = [demonstration(env, problem) for problem in problems[1:] + problems[:1]]
    tries = {
        "its own prompt as the answer": [f"<answer>{prompt_text(problem)}</answer>" for problem in problems]
    }
    if None not in shifted and len(problems) > 1:
        tries = {"another problem's demonstration": shifted, **tries}
    for kind, texts in tries.items():
        solved = int(work.judge(env, indices, problems, texts).rewards["correct"].sum())
        if solved == len(indices):
            raise EnvError(f"{kind} is always right; score must look at its problem and at the answer")
        told.append(f"{kind} is right in {solved / len(indices):.1%}")
        work.figures[kind] = solved / len(indices)
    return f"{', '.join(told)} of {len(indices):,}"


def _components(work: _Work) -> str:
    """Each component stayed within its range."""
    seen = work.figures["components"]
    for name, (low, high) in seen.items():
        lowest, highest = work.train.reward_ranges.get(name, (0.0, 1.0))
        if low < lowest or high > highest:
            raise EnvError(
                f"{name} went from {low:g} to {high:g}, outside {lowest:g} to {highest:g}; if that is meant, "
                f'write reward_ranges = {{"{name}": (lowest, highest)}} in the class'
            )
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in seen.items())


def _vector(work: _Work) -> str:
    """Many at once get what each gets alone."""
    env, rng = registry.make(work.name, split="train", **work.arguments), np.random.default_rng(1)
    rows: list[tuple[int, str]] = []
    for index in spread(len(env), _FEW):
        problem = read_problem(env, index)
        right = demonstration(env, problem)
        texts = [*env.habits(problem).values(), *([right] if right is not None else [])]
        rows += [(index, text) for text in texts] + [(index, text) for _, text in junk(problem, right, rng)][
            :8
        ]
    many = registry.make_vec(work.name, len(rows), split="train", **work.arguments)
    many.reset(options={"index": [index for index, _ in rows]})
    _, totals, _, _, infos = many.step([text for _, text in rows])
    for row, (index, text) in enumerate(rows):
        env.reset(options={"index": index})
        _, reward, _, _, info = env.step(text)
        batch = {name: float(values[row]) for name, values in infos["rewards"].items()}
        alone = (reward, info["rewards"], info["reason"], info["extracted"])
        if alone != (float(totals[row]), batch, infos["reason"][row], infos["extracted"][row]):
            raise EnvError(f"problem {index}: score and score_batch do not agree on {text!r:.60}")
    return f"{len(rows)} completions at once score as one by one"


_CHECKS = {
    "gymnasium": _gymnasium,
    "purity": _pure,
    "splits": _splits,
    "demonstrations": _demonstrations,
    "habits": _habits,
    "junk": _junk,
    "swapped": _others,
    "components": _components,
    "vector form": _vector,
}
