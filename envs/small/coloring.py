"""Give the nodes of a graph colours so that no edge joins two of the same."""

from itertools import combinations

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Coloring(SmallEnv):
    """Three colours for a graph (`spg/Coloring-v0`) of 6, 7 or 8 nodes, which has at least one solution.

    Prompt: "color 6: 01 02 14 23 25 34 35", the number of nodes and the edges. Answer: a digit 1 to 3 for each node;
    any solution counts. level: 6 nodes and 7 edges, 7 and 11, or 8 and 15. Habit "forgetful": a node minds only the
    first of its edges to an earlier node.
    """

    habit = "forgetful"

    def draw(self, rng: np.random.Generator) -> list[str]:
        """Edges that all join nodes of different colours of one random colouring."""
        nodes, most = 5 + self.level, 3 + 4 * self.level
        colors = rng.permutation(np.arange(nodes) % 3)
        pairs = [f"{a}{b}" for a, b in combinations(range(nodes), 2) if colors[a] != colors[b]]
        return sorted(rng.choice(pairs, most, replace=False).tolist())

    def as_problem(self, edges: list[str]) -> Problem:
        nodes = 5 + self.level
        return Problem(f"color {nodes}: {' '.join(edges)}", {"nodes": nodes, "edges": edges})

    def is_right(self, answer: str, nodes: int, edges: list[str]) -> bool:
        return len(answer) == nodes and set(answer) <= set("123") and fits(answer, edges)

    def flaw(self, answer: str, nodes: int, edges: list[str]) -> str:
        if len(answer) != nodes or not set(answer) <= set("123"):
            return f"The answer must be {nodes} digits, each 1, 2 or 3."
        same = [edge for edge in edges if not fits(answer, [edge])]
        return "Nodes {} and {} have the same colour.".format(*same[0]) if same else ""

    def solution(self, nodes: int, edges: list[str]) -> str:
        return first_coloring(nodes, edges)

    def mistake(self, nodes: int, edges: list[str]) -> str:
        colors = ""
        for node in range(nodes):
            near = [int(edge[0]) for edge in edges if edge[1] == str(node)]
            colors += "2" if near and colors[near[0]] == "1" else "1"
        return colors


def fits(colors: str, edges: list[str]) -> bool:
    """Whether no edge between the nodes coloured so far joins two of the same colour."""
    return all(colors[int(a)] != colors[int(b)] for a, b in edges if int(b) < len(colors))


def first_coloring(nodes: int, edges: list[str], colors: str = "") -> str:
    """The smallest colouring, read as a number, that begins with `colors`, or "" if none does."""
    if not fits(colors, edges) or len(colors) == nodes:
        return colors if fits(colors, edges) else ""
    return next(filter(None, (first_coloring(nodes, edges, colors + color) for color in "123")), "")
