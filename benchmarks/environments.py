"""Problems generated and completions judged per second: all at once, one by one, and reasoning-gym's like.

For every built-in environment and some of its variants: the problems of `problem(index)`, and the steps of the vector
form against a loop of `env.step` (in both without the reset, which makes the problem). Beside it, where reasoning-gym
is installed and has a comparable dataset, its items per second and its `score_answer` on its own answers. The
completions are the demonstrations and, every other one, a habit. All in one run, on one core, alternating; the median
of the rounds counts (processor time).

    python benchmarks/environments.py [--num-envs 512] [--rounds 5] [--envs sudoku countdown ...]
"""

import argparse
import contextlib
import importlib.util
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring import hardware, medians, one_core, print_head, print_row, seconds

import envs
from envs import registry
from envs.registry import offline_arguments, short_name

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("sudoku", {"prompt_style": "instruct"}),
    ("sudoku", {"reward_preset": "paper"}),
    ("sudoku", {"size": 9}),
    ("sudoku", {"size": 9, "level": 4}),
]
LIKE: dict[str, tuple[str, dict[str, Any]]] = {
    "countdown": ("countdown", {"min_numbers": 3, "max_numbers": 3}),
    "gsm8k": ("gsm_symbolic", {}),
    "sudoku": ("mini_sudoku", {"min_empty": 7, "max_empty": 12}),
    "sudoku[size=9]": ("sudoku", {"min_empty": 8, "max_empty": 16}),
    "sudoku[size=9,level=4]": ("sudoku", {"min_empty": 49, "max_empty": 54}),
    "arithmetic": ("chain_sum", {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 2}),
    "sorting": ("number_sorting", {"min_numbers": 3, "max_numbers": 3}),
    "edits": ("string_manipulation", {}),
    "coloring": ("graph_color", {"min_num_vertices": 6, "max_num_vertices": 6}),
    "queens": ("n_queens", {"min_remove": 3, "max_remove": 3}),
    "satisfiability": ("propositional_logic", {}),
}
"""Our environment -> the dataset of reasoning-gym that is most like it, with settings of about the same size."""
PEER_ITEMS = 64
"""At most so many of reasoning-gym in each round: some need 30 ms an item."""


def peer(label: str, count: int) -> list[Callable[[], object]]:
    """Makes `count` items of the comparable dataset, and judges their answers; nothing without one."""
    if label not in LIKE or importlib.util.find_spec("reasoning_gym") is None:
        return []
    import reasoning_gym

    dataset, settings = LIKE[label]
    items = reasoning_gym.create_dataset(dataset, seed=0, size=count, **settings)
    entries = [items[index] for index in range(count)]
    answers = [entry["answer"] or str(entry["metadata"].get("possible_answer", "")) for entry in entries]

    def make() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for index in range(count):
                items[index]

    def judge() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            for answer, entry in zip(answers, entries, strict=True):
                items.score_answer(answer, entry)

    return [make, judge]


def completions_of(env: envs.TextEnv, indices: list[int]) -> list[str]:
    """Right completions and, every other one, a habit."""
    texts = []
    for row, index in enumerate(indices):
        problem = env.problem(index)
        texts.append(next(iter(env.habits(problem).values())) if row % 2 else env.demonstration(problem))
    return texts


def measure(name: str, arguments: dict[str, Any], count: int, rounds: int) -> None:
    """One row of the table."""
    id = envs.resolve(name)
    env_args = {**offline_arguments(id), **arguments}
    env, vector = envs.make(id, **env_args), envs.make_vec(id, count, **env_args)
    rng = np.random.default_rng(0)
    indices = [int(index) for index in rng.integers(len(env), size=count)]
    texts = completions_of(env, indices)
    spent: dict[str, list[float]] = {"batch": [], "single": []}

    def problems() -> None:
        for index in rng.integers(len(env), size=count):
            env.problem(int(index))

    def batch() -> None:
        vector.reset(options={"index": indices})
        spent["batch"].append(seconds(lambda: vector.step(texts)))

    def single() -> None:
        total = 0.0
        for index, text in zip(indices, texts, strict=True):
            env.reset(options={"index": index})
            total += seconds(lambda text=text: env.step(text))
        spent["single"].append(total)

    shown = ",".join(f"{key}={value}" for key, value in arguments.items())
    label = short_name(id) + (f"[{shown}]" if shown else "")
    few = min(count, PEER_ITEMS)
    made, _, _, *theirs = medians([problems, batch, single, *peer(label, few)], rounds)
    fast, slow = (float(np.median(times[1:])) for times in spent.values())
    cells = [f"{count / made:,.0f}", f"{count / fast:,.0f}", f"{count / slow:,.0f}", f"{slow / fast:.1f}x"]
    if theirs:
        items, scored = (few / max(took, 1e-9) for took in theirs)
        cells += [LIKE[label][0], f"{items:,.0f}", f"{count / made / items:.1f}x", f"{scored:,.0f}"]
    print_row([label, *cells, *["-"] * (8 - len(cells))])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-envs", type=int, default=512, help="completions of one step (512)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--envs", nargs="+", help="some of them, with their variants")
    args = parser.parse_args()
    one_core()
    names = args.envs or [short_name(id) for id in registry.known() if id.startswith("spg/")]
    print(f"{hardware()}; {args.num_envs} completions, median of {args.rounds}\n")
    ours = ("environment", "problems/s", "vector steps/s", "one by one, /s", "ratio")
    print_head([*ours, "reasoning-gym", "problems/s", "ratio", "scored/s"])
    for name in names:
        for _, arguments in [(name, {}), *(variant for variant in VARIANTS if variant[0] == name)]:
            measure(name, arguments, args.num_envs, args.rounds)


if __name__ == "__main__":
    main()
