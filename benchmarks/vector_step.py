"""Rewards of 512 Sudoku completions in one vector step against judging one after the other; problems per second.

The per-item loop is the environment's own `score` for each completion and the weighted sum of its components.
Where the package reasoning-gym is installed, its Sudoku (mini_sudoku, sudoku) makes and judges as many answers
in the same run. Everything alternates on one core; the median of the rounds counts (processor time).

    python benchmarks/vector_step.py [--num-envs 512] [--rounds 100] [--problems 100]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import envs
from envs.sudoku.problems import LEVELS, draw_9x9

_WORDS = (
    "we fill the first row, then the column, then the box, so that each digit from 1 to 4 is there once. "
)
_KINDS = ("right", "careless", "torn")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def medians(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each, the works taking turns, after one round that does not count."""
    times = [[seconds(work) for work in works] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def completions_of(env: envs.TextEnv, problems: list[envs.Problem], characters: int) -> list[str]:
    """Right, careless and torn completions in turn, after `characters` of words."""
    words = (_WORDS * (1 + characters // len(_WORDS)))[:characters]
    texts = []
    for i, problem in enumerate(problems):
        right = env.demonstration(problem)
        text = {"right": right, "careless": env.habits(problem)["careless"], "torn": right[:-12]}
        texts.append(words + text[_KINDS[i % 3]])
    return texts


def reasoning_gym_scorer(size: int, n: int) -> Callable[[], object] | None:
    """reasoning-gym's judging of n right and wrong answers to its own puzzles; None where not installed."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return None
    import reasoning_gym

    data = reasoning_gym.create_dataset("mini_sudoku" if size == 4 else "sudoku", size=64, seed=0)
    entries = [data[i % 64] for i in range(n)]
    answers = [e["answer"] if i % 2 else e["answer"].replace("1", "2") for i, e in enumerate(entries)]
    return lambda: [data.score_answer(a, e) for a, e in zip(answers, entries, strict=True)]


def steps(num_envs: int, rounds: int) -> list[str]:
    """The table of vector steps."""
    rows = [
        f"| {num_envs} completions | per-item loop, ms | vector step, ms | ratio | reasoning-gym, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("4x4, bare answers", {}, 0),
        ("4x4, worked (paper style)", {"prompt_style": "paper"}, 0),
        ("4x4, after 900 characters", {}, 900),
        ("4x4, bare, reward_preset=paper", {"reward_preset": "paper"}, 0),
        ("9x9, bare answers", {"size": 9}, 0),
    ]
    for name, arguments, characters in cases:
        many = envs.make_vec("sudoku", num_envs, split="test", **arguments)
        env, index = many.env, [i % 256 for i in range(num_envs)]
        problems = [env.problem(i) for i in index]
        texts = completions_of(env, problems, characters)
        spent: list[float] = []

        def step(many=many, index=index, texts=texts, spent=spent) -> None:
            many.reset(options={"index": index})  # not part of the step
            spent.append(seconds(lambda: many.step(texts)))

        def loop(env=env, problems=problems, texts=texts) -> list[float]:
            scores = [env.score(p, t) for p, t in zip(problems, texts, strict=True)]
            return [sum(w * s.rewards[name] for name, w in env.reward_weights.items()) for s in scores]

        step()
        works = [step, loop]
        theirs = reasoning_gym_scorer(arguments.get("size", 4), num_envs) if not characters else None
        _, slow, *other = medians([*works, theirs] if theirs else works, rounds)
        fast = statistics.median(spent[2:])
        told = f"{other[0] * 1e3:.1f}" if other else "-"
        rows.append(f"| {name} | {slow * 1e3:.1f} | {fast * 1e3:.2f} | {slow / fast:.0f}x | {told} |")
    return rows


def reasoning_gym_maker(size: int, blanks: tuple[int, int], n: int) -> Callable[[], object] | None:
    """reasoning-gym's making of n puzzles with these blanks; None where not installed or out of its range."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return None
    import reasoning_gym

    name = "mini_sudoku" if size == 4 else "sudoku"
    data = reasoning_gym.create_dataset(name, size=n, seed=0, min_empty=blanks[0], max_empty=blanks[1])
    return lambda: [data[i] for i in range(n)]


def generation(n: int) -> list[str]:
    """The table of problems per second."""
    rows = [
        "| train problems | plain Python, /s | compiled, /s | ratio | reasoning-gym, /s |",
        "|---|---:|---:|---:|---:|",
    ]
    none: frozenset[str] = frozenset()
    for size in (4, 9):
        for level, blanks in LEVELS[size].items():
            works: list[Callable[[], object]] = []
            for compiled in (False, True) if size == 9 else (False,):
                env = envs.make("sudoku", size=size, level=level)
                draw = lambda i, c=compiled, b=blanks: draw_9x9("train", i, b, none, compiled=c)  # noqa: E731
                one = draw if size == 9 else env.problem
                works.append(lambda one=one: [one(i) for i in range(n)])
            theirs = reasoning_gym_maker(size, blanks or (7, 12), min(n, 20))
            ours = [n / took for took in medians(works, 3)]
            other = f"{min(n, 20) / medians([theirs], 3)[0]:,.0f}" if theirs else "-"
            low, high = blanks or (7, 12)
            name = f"{size}x{size}, level {level} ({low} to {high} blanks)"
            fast = f"{ours[1]:,.0f} | {ours[1] / ours[0]:.1f}x" if size == 9 else "- | -"
            rows.append(f"| {name} | {ours[0]:,.0f} | {fast} | {other} |")
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Sudoku rewards per vector step, and problems per second.")
    parser.add_argument("--num-envs", type=int, default=512, help="completions per step (512)")
    parser.add_argument("--rounds", type=int, default=100, help="steps, of which the median counts (100)")
    parser.add_argument("--problems", type=int, default=100, help="problems generated per round (100)")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # figures are for one core
    tables = [*steps(args.num_envs, args.rounds), "", *generation(args.problems)]
    sys.stdout.write("\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
