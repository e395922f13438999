"""A Sudoku board for the terminal, readable with colours and without."""

import os
from math import isqrt

from envs.core import Problem

_RESET = "\x1b[0m"
_COLORS = {
    "given": "\x1b[1m",
    "right": "\x1b[32m",
    "wrong": "\x1b[31m",
    "broken": "\x1b[1;37;41m",
    "blank": "\x1b[2m",
}
_MARKS = {"given": " {} ", "right": "({})", "wrong": "x{} ", "broken": "!{} ", "blank": " . "}
_LEGEND = {"right": "right", "wrong": "wrong", "broken": "overwrites the given"}


def draw(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """The board of a Sudoku problem, with what the completion wrote into it.

    A given stands bare, a right cell in brackets, a wrong one after an x, an overwritten given after an !, a
    blank as a dot. A completion from which no n*n digits can be read leaves the board empty and says why below
    it. color: None = coloured unless the environment variable NO_COLOR is set.
    """
    colored = "NO_COLOR" not in os.environ if color is None else color
    puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
    grid, note = (None, "") if completion is None else _read(puzzle, completion)
    if note == "ok":
        solution = grid  # a puzzle with several solutions: the one found is as right as the stored one
    kinds = [_kind(*cell) for cell in zip(puzzle, solution, grid or puzzle, strict=True)]
    cells = [_paint(kind, digit, colored) for kind, digit in zip(kinds, grid or puzzle, strict=True)]
    size = isqrt(len(puzzle))
    box = isqrt(size)
    rule = "+".join(["-" * (3 * box)] * box)  # a cell is three characters wide
    lines = []
    for row in range(size):
        one = cells[size * row : size * row + size]
        lines += [rule] if row and row % box == 0 else []
        lines.append("|".join("".join(one[i : i + box]) for i in range(0, size, box)))
    explained = [
        _paint(kind, "n", colored).replace("n ", "n") + f" {text}"
        for kind, text in _LEGEND.items()
        if kind in kinds
    ]
    if explained:
        lines.append("  ".join(explained))
    if note and grid is None:
        lines.append(f"no grid of {len(puzzle)} digits in the answer ({note})")
    return "\n".join(lines)


def _read(puzzle: str, completion: str) -> tuple[str | None, str]:
    """(the n*n digits that the verifier judged, or None; the verifier's reason)."""
    from verifiers import verify

    verdict = verify("sudoku", completion, puzzle=puzzle)
    # The verifier allows spaces, bars and other marks between the digits.
    found = [str(int(c)) for c in verdict.extracted or "" if c.isdecimal()]
    return "".join(found) if len(found) == len(puzzle) else None, str(verdict.reason)


def _kind(given: str, right: str, shown: str) -> str:
    if shown == given:
        return "blank" if given == "0" else "given"
    if given != "0":
        return "broken"
    return "right" if shown == right else "wrong"


def _paint(kind: str, digit: str, colored: bool) -> str:
    text = _MARKS[kind].format(digit)
    return f"{_COLORS[kind]}{text}{_RESET}" if colored else text
