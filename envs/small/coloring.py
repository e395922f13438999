"""Give the nodes of a graph colours so that no edge joins two nodes of the same colour."""

from itertools import combinations

import numpy as np

from envs.problem import Problem
from envs.small import SmallEnv


class Coloring(SmallEnv):
    """Three colours for a graph (`spg/Coloring-v0`) of 6, 7 or 8 nodes, which has at least one solution.

    Prompt: "color 6: 01 02 14 23 25 34 35", the number of nodes and the edges, each as its two nodes. Answer: for each
    node its colour, 1, 2 or 3; any solution counts. level: 6 nodes and 7 edges, 7 and 11, or 8 and 15. Habit
    "forgetful", a way to answer that is often wrong: a node differs from the first earlier node that it is joined to,
    and forgets the others.
    """

    habit = "forgetful"

    def draw(self, rng: np.random.Generator) -> list[str]:
        """Edges that join nodes of different colours in one random colouring, which thus is a solution."""
        nodes, num_edges = 5 + self.level, 3 + 4 * self.level
        colors = rng.permutation(np.arange(nodes) % 3)
        possible_edges = [f"{a}{b}" for a, b in combinations(range(nodes), 2) if colors[a] != colors[b]]
        return sorted(rng.choice(possible_edges, num_edges, replace=False).tolist())

    def as_problem(self, edges: list[str]) -> Problem:
        nodes = 5 + self.level
        return Problem(f"color {nodes}: {' '.join(edges)}", {"nodes": nodes, "edges": edges})

    def is_right(self, answer: str, nodes: int, edges: list[str]) -> bool:
        return len(answer) == nodes and set(answer) <= set("123") and fits(answer, edges)

    def flaw(self, answer: str, nodes: int, edges: list[str]) -> str:
        if len(answer) != nodes or not set(answer) <= set("123"):
            return f"The answer must be {nodes} digits, each 1, 2 or 3."
        broken_edges = [edge for edge in edges if not fits(answer, [edge])]
        if not broken_edges:
            return ""
        first_node, second_node = broken_edges[0]
        return f"Nodes {first_node} and {second_node} have the same colour."

    def solution(self, nodes: int, edges: list[str]) -> str:
        return first_coloring(nodes, edges)

    def mistake(self, nodes: int, edges: list[str]) -> str:
        colors = ""
        for node in range(nodes):
            # The earlier nodes that this one is joined to.
            earlier = [int(a) for a, b in edges if b == str(node)]
            colors += "2" if earlier and colors[earlier[0]] == "1" else "1"
        return colors


def fits(colors: str, edges: list[str]) -> bool:
    """Whether no edge joins two nodes of the same colour. colors: of nodes 0, 1, ...; it may lack the last nodes."""
    return all(colors[int(a)] != colors[int(b)] for a, b in edges if int(b) < len(colors))


def first_coloring(nodes: int, edges: list[str], colors: str = "") -> str:
    """Of the solutions that begin with `colors`, the smallest when read as a number; "" if there is none."""
    if not fits(colors, edges):
        return ""
    if len(colors) == nodes:
        return colors
    solutions = (first_coloring(nodes, edges, colors + color) for color in "123")
    return next((solution for solution in solutions if solution), "")
