"""Seconds of a training step of several turns, and of one of a single turn, each against what it should cost.

A step of T turns is compared with T steps of one turn whose prompts are the chats of its rounds, as many completions
each, in the same process and in turns with it. Rows that are equal go through the model once; prompts of one turn come
in groups and chats do not, so that here every row goes through it, on both sides, and the weights hardly move. With
--against, a step of a task of one turn is compared with that of another checkout of this project, each in processes of
its own, one after the other. Seconds are those of the processor.

    python benchmarks/turns.py [--turns 2 4] [--rounds 5] [--against ../older-checkout]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from measuring import hardware, medians, one_core, print_head, print_row, seconds

import envs
from spg_trainer.rollout.canvas import Row
from spg_trainer.rollout.passes import Columns
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.loop import train_step
from spg_trainer.training.plan import settle
from spg_trainer.training.run import Run
from spg_trainer.training.setup import open_run


class Numbers(envs.TextEnv):
    """Asks for a number, `turns` times; every second episode is paid, so that all take part in the update."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0}
    chats: ClassVar[list[list[envs.problem.Prompt]]] = []
    """By the number of the round, chats that were really held."""

    def __init__(self, split: str = "train", turns: int = 1, number: int = 0) -> None:
        """number: of the round whose chats are the prompts; 0 = there are none yet."""
        self.split, self.max_turns, self.number, self.scored = split, turns, number, 0

    def __len__(self) -> int:
        return len(self.chats[self.number]) if self.number else 1000

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(self.chats[self.number][index] if self.number else f"number {index:03}", {})

    def reply(self, problem: envs.Problem, turns: Sequence[str]) -> str:
        return "It makes 9, not 24. Try again."

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        self.scored += 1
        return {"correct": float(self.scored % 2)}


def hold_chats(run: Run, turns: int) -> None:
    """Plays a step of dialogues, and keeps what the model read in each round, of every second one."""
    scored = run.source.collect(0)
    Numbers.chats = [[] for _ in range(turns)]
    for b, (problem, turn) in enumerate(zip(scored.problems, scored.turn.tolist(), strict=True)):
        completions, replies = scored.dialogue(b)
        if scored.generation[b] % 2:
            Numbers.chats[turn].append(envs.episodes.chat(problem, completions[:turn], replies[:turn]))


NUMBERS = "benchmark/Numbers-v0"
envs.register(NUMBERS, Numbers)


def make_run(folder: Path, groups: int, size: int, env: str, **env_args: int) -> Run:
    """A run of the embedded model that neither validates nor evaluates, of completions of 12 tokens."""
    lengths = {"max_completion_length": 12, "block_length": 12, "diffusion_steps": 12, "temperature": 1.0}
    sizes = {
        "prompts_per_step": groups,
        "num_generations": size,
        "num_iterations": 1,
        "learning_rate": 1e-12,
        "max_steps": 10**6,
    }
    none = {"eval_problems": 0, "eval_steps": 0, "save_steps": 0, "sample_steps": 0, "force": True}
    more = {"algorithm": "spg", "env_args": env_args, "output_dir": str(folder), **lengths, **sizes, **none}
    return open_run(settle(defaults(Config, env=env, model="tiny", **more)), quiet=True)


def each_row(rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """What `Columns._distinct` would return of rows that all differ: those with the most padding first."""
    example = sorted(range(len(rows)), key=lambda i: -rows[i].padding)
    source = [0] * len(rows)
    for place, i in enumerate(example):
        source[i] = place
    return source, example


def in_rounds(args: argparse.Namespace, folder: Path) -> None:
    """A table of steps of several turns, and of the steps of their rounds, without a merge of equal rows in either."""
    print_head(["turns", "a step, s", "its rounds, s", "ratio"])
    with patch.object(Columns, "_distinct", lambda self, rows, looks: each_row(rows)):
        for turns in args.turns:
            at = folder / str(turns)
            dialogues = make_run(at / "whole", args.groups, 8, NUMBERS, turns=turns)
            hold_chats(dialogues, turns)
            parts = [make_run(at / str(n), 4 * args.groups, 2, NUMBERS, number=n) for n in range(turns)]
            works = [lambda run=run: train_step(run) for run in (dialogues, *parts)]
            dialogue, *rounds = medians(works, args.rounds)
            print_row([turns, f"{dialogue:.2f}", f"{sum(rounds):.2f}", f"{dialogue / sum(rounds):.3f}x"])


def one_turn(args: argparse.Namespace, folder: Path) -> list[float]:
    """Seconds of some steps of Countdown, after one that is not counted."""
    run = make_run(folder, args.groups, 8, "countdown")
    return [seconds(lambda: train_step(run)) for _ in range(4)][1:]


def against(args: argparse.Namespace) -> None:
    """A table of a step of one turn of both trees, whose processes take turns."""
    trees = {"theirs": args.against.resolve(), "ours": Path(__file__).resolve().parents[1]}
    found: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(args.rounds):
        for name, tree in trees.items():
            command = [sys.executable, __file__, "--one-turn", "--groups", str(args.groups)]
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            output = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            ).stdout
            found[name] += map(float, output.split())
    theirs, ours = (statistics.median(found[name]) for name in trees)
    print_head(["one turn", "theirs, s", "ours, s", "speed"])
    print_row(["a step", f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.3f}x"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, nargs="*", default=[2, 4], help="turns of an episode (2 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--groups", type=int, default=8, help="groups of 8 episodes in a step (8)")
    parser.add_argument("--against", type=Path, help="another checkout, to compare a step of one turn with")
    parser.add_argument("--one-turn", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    one_core()
    with tempfile.TemporaryDirectory() as name:
        if args.one_turn:
            print(*one_turn(args, Path(name)))
            return
        print(f"{hardware()}; {args.groups} groups of 8, 12 tokens; median of {args.rounds}\n", flush=True)
        if args.turns:
            in_rounds(args, Path(name))
        if args.against:
            against(args)


if __name__ == "__main__":
    main()
