"""A Sudoku board for the terminal, readable with colours and without."""

from math import isqrt

from envs.core import Problem
from envs.terminal import painter

_CELLS = {  # kind of a cell: style, mark
    "given": ("bold", " {} "),
    "right": ("green", "({})"),
    "wrong": ("red", "x{} "),
    "broken": ("alarm", "!{} "),
    "blank": ("dim", " . "),
}
_LEGEND = {"right": "(n) right", "wrong": "xn wrong", "broken": "!n overwrites the given"}


def render(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """The board of a Sudoku problem, with what the completion wrote into it.

    A completion from which no n*n digits can be read leaves the board empty and says why below it.
    """
    paint = painter(color)
    puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
    grid, reason = (None, "") if completion is None else _read(puzzle, completion)
    if reason == "ok":
        solution = grid  # of a puzzle with several solutions each one is as right as the stored one
    board = grid or puzzle
    kinds = [_kind(*cell) for cell in zip(puzzle, solution, board, strict=True)]
    marks = zip(map(_CELLS.get, kinds), board, strict=True)
    cells = [paint(style, mark.format(digit)) for (style, mark), digit in marks]
    size = isqrt(len(puzzle))
    box = isqrt(size)
    rule = "+".join(["-" * (3 * box)] * box)  # a cell is three characters wide
    lines = []
    for row in range(size):
        one = cells[size * row : size * row + size]
        lines += [rule] if row and row % box == 0 else []
        lines.append("|".join("".join(one[i : i + box]) for i in range(0, size, box)))
    legend = []
    for kind in _LEGEND:
        if kind in kinds:
            mark, _, text = _LEGEND[kind].partition(" ")
            legend.append(f"{paint(_CELLS[kind][0], mark)} {text}")
    if legend:
        lines.append("  ".join(legend))
    if reason and grid is None:
        lines.append(f"no grid of {len(puzzle)} digits in the answer ({reason})")
    return "\n".join(lines)


def _read(puzzle: str, completion: str) -> tuple[str | None, str]:
    """(the n*n digits that the verifier judged, or None; the verifier's reason)."""
    from verifiers import verify

    verdict = verify("sudoku", completion, puzzle=puzzle)
    # The verifier allows spaces, bars and other marks between the digits.
    digits = [str(int(c)) for c in verdict.extracted or "" if c.isdecimal()]
    return "".join(digits) if len(digits) == len(puzzle) else None, str(verdict.reason)


def _kind(given: str, right: str, written: str) -> str:
    if written == given:
        return "blank" if given == "0" else "given"
    if given != "0":
        return "broken"
    return "right" if written == right else "wrong"
