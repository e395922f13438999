"""Sudoku on a 4x4 board: puzzles with one solution, on solution grids that no two splits share."""

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs import sudoku_board, sudoku_data
from envs.core import TextEnv
from envs.errors import EnvError, nearest
from envs.records import Problem, Scores
from envs.sudoku_grids import MAX_BLANKS, SPLIT_SIZES, blank_table, fixed_set, train_puzzle

PAPER_EXAMPLES = (
    ("3400200403020243", "3421213443121243"),
    ("0234001023400020", "1234341223414123"),
    ("0032000002133004", "1432234142133124"),
)
"""Puzzles of 7, 8 and 9 blanks that the paper-style prompt solves first; their grids belong to train."""

_RULES = """\
You are given a 4x4 Sudoku as 16 digits: four rows of four, from top to bottom, where 0 is an empty cell.
Replace every 0 by a digit from 1 to 4 and change nothing else, so that each row, each column and each \
of the four 2x2 corner boxes holds 1, 2, 3 and 4 exactly once.
First think inside <reasoning> and </reasoning>. Then write the finished grid, again as 16 digits without \
spaces, inside <answer> and </answer>."""


class Sudoku(TextEnv):
    """4x4 Sudoku (`spg/Sudoku-v0`), the task of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

    Prompt: "sudoku " and 16 digits (plain), or instructions and three worked examples (paper). Action: a text
    with the solved grid in <answer>...</answer>.

    Rewards:
        correct (0 or 1): the grid is complete, legal and keeps every given, by `verifiers.verify("sudoku")`.
        format (0 or 1): exactly one closed <answer> block, and in it 16 digits from 1 to 4 and nothing else.
        cells (0 to 1): the verifier's partial credit: the share of blanks whose digit clashes with no other.

    Splits: 1,000,000 train, 256 validation and 256 test problems on 180, 20 and 88 of the 288 grids; the 88
    are those of the papers' test file.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0, "cells": 0.0}

    def __init__(
        self,
        split: str = "train",
        source: str = "generated",
        prompt_style: str = "plain",
        blanks: str | int | None = None,
    ) -> None:
        """Opens one split; raises EnvError for an unknown value and for a file that cannot be used.

        split: "train", "validation" or "test".
        source: "generated", or the path of a .jsonl file of {"puzzle", "solution"} rows that takes the place
            of the test problems; train and validation stay generated.
        prompt_style: "plain" (23 characters, for tiny models) or "paper" (for instruction-tuned ones).
        blanks: how many cells are empty: "4-11" or 8, from 1 to 12; None = the papers' mix of 7 to 12.
        """
        _check_choice("split", split, list(SPLIT_SIZES))
        _check_choice("prompt_style", prompt_style, ["plain", "paper"])
        self.split, self.source, self.prompt_style = split, str(source), prompt_style
        self.blanks = _read_blanks(blanks)
        self._table = blank_table(self.blanks)
        self._rows: Sequence[tuple[str, str]] | None = None
        # Read for every split, so that a wrong path is told at once and not after the training.
        brought = None if self.source == "generated" else sudoku_data.read_puzzles(self.source)
        if split == "test" and brought is not None:
            self._rows = brought
        elif split == "test" and self.blanks is None:
            self._rows = sudoku_data.test_puzzles()
        elif split != "train":
            self._rows = fixed_set(split, self.blanks)

    def __len__(self) -> int:
        """Problems of the split: 1,000,000, 256 and 256, or the rows of the file that was given."""
        return SPLIT_SIZES["train"] if self._rows is None else len(self._rows)

    def problem(self, index: int) -> Problem:
        """Puzzle number `index`, the same for the same arguments, with its solution in the metadata."""
        if not 0 <= index < len(self):
            raise EnvError(
                f"{self.spec_name}: no problem {index!r:.80} in {self.split}, which has {len(self)}."
            )
        puzzle, solution = train_puzzle(index, self._table) if self._rows is None else self._rows[index]
        prompt = f"sudoku {puzzle}" if self.prompt_style == "plain" else _paper_prompt(puzzle)
        return Problem(
            prompt, {"puzzle": puzzle}, metadata={"solution": solution, "blanks": puzzle.count("0")}
        )

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """correct, format and cells of n completions, judged by one verifier call."""
        from verifiers import verify_batch

        verdicts = verify_batch("sudoku", completions, puzzle=[p.reference["puzzle"] for p in problems])
        rewards = {
            "correct": np.asarray(verdicts.correct, np.float64),
            "format": np.array([has_format(completion) for completion in completions], np.float64),
            "cells": np.asarray(verdicts.score, np.float64),
        }
        return Scores(rewards, verdicts.reasons, verdicts.extracted)

    def demonstration(self, problem: Problem) -> str:
        """The solution, written as the prompt asks."""
        return self._write(problem, problem.metadata["solution"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "careless": each blank gets the smallest digit that its row still lacks."""
        return {"careless": self._write(problem, careless(problem.reference["puzzle"]))}

    def picture(self, problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
        """The board with givens, right cells, wrong cells and overwritten givens, each with its mark.

        color: with ANSI colours or not; None = with, unless the environment variable NO_COLOR is set.
        """
        return sudoku_board.draw(problem, completion, color=color)

    def _write(self, problem: Problem, grid: str) -> str:
        if self.prompt_style == "plain":
            return f"<answer>{grid}</answer>"
        return _worked(problem.reference["puzzle"], grid)


def careless(puzzle: str) -> str:
    """The grid of a solver that looks at rows only: left to right, the smallest digit the row still lacks."""
    grid = ""
    for row in (puzzle[i : i + 4] for i in range(0, 16, 4)):
        lacking = iter(sorted(set("1234") - set(row)))
        grid += "".join(digit if digit != "0" else next(lacking) for digit in row)
    return grid


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one closed <answer> block of 16 digits 1 to 4."""
    text = re.split(r"<\|eot_id\|>|<\|endoftext\|>", completion, maxsplit=1)[0]
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return False
    answer = text.partition("<answer>")[2].partition("</answer>")
    grid = answer[0].strip()
    return answer[1] != "" and len(grid) == 16 and set(grid) <= set("1234")


def _worked(puzzle: str, grid: str) -> str:
    """The completion that the paper-style prompt asks for: row by row, then the grid."""
    lines = []
    for i in range(0, 16, 4):
        lacking = " ".join(sorted(set("1234") - set(puzzle[i : i + 4]))) or "nothing"
        lines.append(
            f"Row {i // 4 + 1}: {puzzle[i : i + 4]} lacks {lacking}, so it becomes {grid[i : i + 4]}."
        )
    body = "\n".join(lines)
    return f"<reasoning>\n{body}\n</reasoning>\n<answer>\n{grid}\n</answer>"


def _paper_prompt(puzzle: str) -> str:
    shown = [f"Puzzle: {example}\n{_worked(example, grid)}" for example, grid in PAPER_EXAMPLES]
    examples = "\n\n".join(f"Example {i}\n{text}" for i, text in enumerate(shown, 1))
    return f"{_RULES}\n\n{examples}\n\nNow solve this one.\nPuzzle: {puzzle}"


def _check_choice(name: str, value: object, known: list[str]) -> None:
    if value not in known:
        raise EnvError(
            f'sudoku: {name}="{value}" is unknown. {nearest(str(value), known)}Known: {", ".join(known)}.'
        )


def _read_blanks(blanks: str | int | None) -> tuple[int, int] | None:
    """ "4-11" -> (4, 11), 8 -> (8, 8), None -> None."""
    if blanks is None:
        return None
    parts = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", str(blanks))
    low, high = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not 1 <= low <= high <= MAX_BLANKS:
        raise EnvError(
            f'sudoku: blanks={blanks!r:.80} is not a number or a range such as "4-11" within 1 to '
            f"{MAX_BLANKS} (with fewer than four givens no puzzle has a single solution)."
        )
    return low, high
