"""Problems generated and completions judged per second: all at once, one by one, and reasoning-gym's like.

For every built-in environment: the problems of `problem(index)`, and the steps of the vector form against a loop of
`env.step` (in both without the reset, which makes the problem); beside it, where reasoning-gym is installed and has a
comparable dataset, its items per second and its `score_answer` on its own answers. The completions are the
demonstrations and, every other one, a habit. All in one run, on one core, alternating; the median of the rounds
counts (processor time).

    python benchmarks/environments.py [--num-envs 512] [--rounds 5] [--envs sudoku countdown ...]
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import envs
from envs import registry
from envs.errors import EnvError
from envs.registry import offline_arguments

LIKE = {
    "countdown": ("countdown", {"min_numbers": 3, "max_numbers": 3}),
    "gsm8k": ("gsm_symbolic", {}),
    "sudoku": ("mini_sudoku", {}),
    "arithmetic": ("chain_sum", {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 2}),
    "sorting": ("number_sorting", {"min_numbers": 3, "max_numbers": 3}),
    "edits": ("string_manipulation", {}),
    "coloring": ("graph_color", {"min_num_vertices": 6, "max_num_vertices": 6}),
    "queens": ("n_queens", {"min_remove": 3, "max_remove": 3}),
    "satisfiability": ("propositional_logic", {}),
}
"""Our environment -> the dataset of reasoning-gym that is most like it, with settings of about the same size."""


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peer(name: str, count: int) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """(makes `count` items, judges them) of the comparable dataset; None without one, or without the package."""
    if name not in LIKE:
        return None
    try:
        from reasoning_gym import create_dataset
    except ImportError:
        return None
    dataset, settings = LIKE[name]
    few = min(count, 64)  # some need 30 ms an item
    items = create_dataset(dataset, seed=0, size=count, **settings)
    entries = [items[index] for index in range(few)]
    answers = [entry["answer"] or str(entry["metadata"].get("possible_answer", "")) for entry in entries]

    def make() -> None:
        for index in range(few):
            items[index]

    def judge() -> None:
        for answer, entry in zip(answers, entries, strict=True):
            items.score_answer(answer, entry)

    return make, judge


def measure(id: str, count: int, rounds: int) -> str:
    """One row of the table."""
    arguments = offline_arguments(id)
    env, many = registry.make(id, **arguments), registry.make_vec(id, count, **arguments)
    rng = np.random.default_rng(0)
    indices = [rng.integers(len(env), size=count) for _ in range(rounds + 1)]
    texts = []
    for chosen in indices:
        problems = [env.problem(int(index)) for index in chosen]
        habits = [next(iter(env.habits(problem).values())) for problem in problems]
        rights = [env.demonstration(problem) for problem in problems]
        texts.append(
            [
                habit if row % 2 else right
                for row, (habit, right) in enumerate(zip(habits, rights, strict=True))
            ]
        )

    def steps(round: int) -> float:
        """Only the step: reset makes the problems, which is measured apart."""
        many.reset(options={"index": indices[round]})
        return seconds(lambda: many.step(texts[round]))

    def loop(round: int) -> float:
        spent = 0.0
        for index, text in zip(indices[round], texts[round], strict=True):
            env.reset(options={"index": int(index)})
            spent += seconds(lambda text=text: env.step(text))
        return spent

    theirs = peer(registry.short_name(id), count)
    rows = []
    for round in range(rounds + 1):  # the first compiles, or reads compiled code from disk
        fresh = [int(index) for index in rng.integers(len(env), size=count)]
        row = [
            seconds(lambda fresh=fresh: [env.problem(index) for index in fresh]),
            steps(round),
            loop(round),
        ]
        if theirs:
            with contextlib.redirect_stdout(io.StringIO()):
                row += [seconds(work) * count / min(count, 64) for work in theirs]
        rows.append(row)
    made, batch, single, *other = (
        count / max(statistics.median(column), 1e-9) for column in zip(*rows[1:], strict=True)
    )
    cells = [f"{made:,.0f}", f"{batch:,.0f}", f"{single:,.0f}", f"{batch / single:.1f}x"]
    if other:
        cells += [
            LIKE[registry.short_name(id)][0],
            f"{other[0]:,.0f}",
            f"{made / other[0]:.1f}x",
            f"{other[1]:,.0f}",
        ]
    else:
        cells += ["-"] * 4
    return f"| {env.spec_name} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description="Problems and steps per second of the built-in environments."
    )
    parser.add_argument("--num-envs", type=int, default=512, help="completions of one step (512)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--envs", nargs="+", help="these only")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # figures are for one core
    try:
        ids = [
            envs.resolve(name) for name in args.envs or [i for i in registry.known() if i.startswith("spg/")]
        ]
    except EnvError as error:
        parser.error(str(error))
    ours = "environment | problems/s | vector steps/s | one by one, /s | ratio"
    head = f"{ours} | reasoning-gym | problems/s | ratio | scored/s"
    sys.stdout.write(f"| {head} |\n|---|{'---:|' * 4}---|{'---:|' * 3}\n")
    for id in ids:
        sys.stdout.write(measure(id, args.num_envs, args.rounds) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
