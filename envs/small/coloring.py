"""Give the nodes of a graph colours so that no edge joins two of the same."""

from itertools import combinations
from typing import ClassVar

import numpy as np

from envs.answers import judge
from envs.core import Problem, Score, TextEnv
from envs.errors import check_choice
from envs.splits import draw_for


class Coloring(TextEnv):
    """Three colours for a graph (`spg/Coloring-v0`) of 6, 7 or 8 nodes, which has at least one solution.

    Prompt: "color 6: 01 02 14 23 25 34 35", the number of nodes and the edges. Answer: a digit 1 to 3 for each node.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", level: int = 1) -> None:
        """Opens one split. level: 1, 2 or 3: 6 nodes and 7 edges, 7 and 11, or 8 and 15."""
        check_choice("coloring", "level", level, [1, 2, 3])
        self.split, self.level = split, level

    def __len__(self) -> int:
        """100,000 problems to train on, 256 in each other split."""
        return 100_000 if self.split == "train" else 256

    def problem(self, index: int) -> Problem:
        """A graph whose edges all join nodes of different colours of a hidden colouring."""
        nodes = 5 + self.level
        edges = draw_for(self.split, index, self._edges)
        return Problem(f"color {nodes}: {' '.join(edges)}", {"nodes": nodes, "edges": edges})

    def score(self, problem: Problem, completion: str) -> Score:
        """correct: one digit from 1 to 3 a node, and two different ones at every edge; any solution counts."""
        nodes, edges = problem.reference["nodes"], problem.reference["edges"]
        return judge(
            completion,
            lambda colors: len(colors) == nodes and set(colors) <= set("123") and fits(colors, edges),
        )

    def demonstration(self, problem: Problem) -> str:
        """The smallest solution, read as a number."""
        return f"<answer>{first_coloring(**problem.reference)}</answer>"

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "forgetful": a node minds only the first of its edges to an earlier node."""
        colors = ""
        for node in range(problem.reference["nodes"]):
            near = [int(edge[0]) for edge in problem.reference["edges"] if edge[1] == str(node)]
            colors += "2" if near and colors[near[0]] == "1" else "1"
        return {"forgetful": f"<answer>{colors}</answer>"}

    def _edges(self, rng: np.random.Generator) -> list[str]:
        nodes, most = 5 + self.level, 3 + 4 * self.level
        hidden = rng.permutation(np.arange(nodes) % 3)
        pairs = [f"{a}{b}" for a, b in combinations(range(nodes), 2) if hidden[a] != hidden[b]]
        return sorted(rng.choice(pairs, most, replace=False).tolist())


def fits(colors: str, edges: list[str]) -> bool:
    """Whether no edge between the nodes coloured so far joins two of the same colour."""
    return all(colors[int(a)] != colors[int(b)] for a, b in edges if int(b) < len(colors))


def first_coloring(nodes: int, edges: list[str], colors: str = "") -> str:
    """The smallest colouring that begins with `colors`, or "" if none does."""
    if not fits(colors, edges) or len(colors) == nodes:
        return colors if fits(colors, edges) else ""
    return next(filter(None, (first_coloring(nodes, edges, colors + color) for color in "123")), "")
