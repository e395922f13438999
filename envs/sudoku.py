"""Sudoku, 4x4 and 9x9: puzzles with one solution, on solution grids that no two splits share."""

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs import sudoku_board, sudoku_data, sudoku_grids, sudoku_nine
from envs.core import Problem, Scores, TextEnv
from envs.errors import EnvError, check_choice
from envs.sudoku_text import careless, has_format, paper_cells, paper_prompt, worked

LEVELS: dict[int, dict[int, tuple[int, int] | None]] = {
    4: {1: None, 2: (9, 10), 3: (11, 11), 4: (12, 12)},
    9: {1: sudoku_data.TEST_BLANKS_9, 2: (20, 32), 3: (36, 46), 4: (49, 54)},
}
"""{size: {level: fewest and most blanks}}; None = the papers' mix of 7 to 12."""

_MAX_BLANKS = {4: sudoku_grids.MAX_BLANKS, 9: sudoku_nine.MAX_BLANKS}
_PLAIN_PROBLEMS = 50  # 9x9: so many cost less in plain Python than numba needs to start


class Sudoku(TextEnv):
    """4x4 and 9x9 Sudoku (`spg/Sudoku-v0`), at 4x4 the task of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

    Prompt: "sudoku " and the cells (plain), or instructions and worked examples (paper). Action: a text with
    the solved grid in <answer>...</answer>.

    Rewards:
        correct (0 or 1): the grid is complete, legal and keeps every given, by `verifiers.verify("sudoku")`.
        format (0 or 1): exactly one closed <answer> block, and in it n*n digits from 1 to n and nothing else.
        cells (0 to 1): the verifier's partial credit: the share of blanks whose digit clashes with no other.
        paper_cells (0 to 1; reward_preset="paper" only): the share of blanks that equal the stored solution.

    Splits: 1,000,000 train, 256 validation and 256 test problems. 4x4: on 180, 20 and 88 of the 288 grids; the
    88 are those of the papers' test file. 9x9: a hash of the grid, its digits renamed, names its split.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0, "cells": 0.0}

    def __init__(
        self,
        split: str = "train",
        source: str = "generated",
        prompt_style: str = "plain",
        blanks: str | int | None = None,
        size: int = 4,
        level: int = 1,
        reward_preset: str = "default",
    ) -> None:
        """Opens one split; raises EnvError for an unknown value and for a file that cannot be used.

        split: "train", "validation" or "test".
        source: "generated", or the path of a .jsonl file of {"puzzle", "solution"} rows that takes the place
            of the test problems; train and validation are generated without the solution grids of the file.
        prompt_style: "plain" (short, for tiny models) or "paper" (for instruction-tuned ones).
        blanks: how many cells are empty: "4-11" or 8, from 1 to 12 (9x9: to 54); None = by the level.
        size: 4 or 9, the side of the board.
        level: 1 to 4, easy to hard, see LEVELS; 4x4 at level 1 is the papers' mix of blanks.
        reward_preset: "default" pays `correct`; "paper" pays `paper_cells`, as d1 and SPG do.
        """
        check_choice("sudoku", "split", split, sudoku_grids.SPLIT_SIZES)
        check_choice("sudoku", "prompt_style", prompt_style, ["plain", "paper"])
        check_choice("sudoku", "size", size, LEVELS)
        check_choice("sudoku", "level", level, LEVELS[size])
        check_choice("sudoku", "reward_preset", reward_preset, ["default", "paper"])
        self.split, self.source, self.prompt_style = split, str(source), prompt_style
        self.size, self.level = size, level
        self.blanks = LEVELS[size][level] if blanks is None else _read_blanks(blanks, _MAX_BLANKS[size])
        if reward_preset == "paper":
            self.reward_weights = {"paper_cells": 1.0, "correct": 0.0, "format": 0.0, "cells": 0.0}
        # Read for every split, so that a wrong path is told at once and not after the training.
        brought = None if self.source == "generated" else sudoku_data.read_puzzles(self.source, size)
        grids = (grid for _, grid in brought or ())
        self._excluded = frozenset(grids if size == 4 else map(sudoku_nine.renamed, grids))
        self._asked = 0
        self._rows = brought if split == "test" and brought is not None else self._fixed_rows()
        if split == "train" and size == 4:
            self._table = sudoku_grids.blank_table(self.blanks)
            sudoku_grids.ranks_left(split, self._excluded)  # raises where the file leaves nothing

    def _fixed_rows(self) -> Sequence[tuple[str, str]] | None:
        """The problems of the split as a list, or None where each is drawn when it is asked for."""
        if self.split == "test" and self.blanks == LEVELS[self.size][1]:
            return sudoku_data.test_puzzles(self.size)
        if self.split == "train" or self.size == 9:
            return None
        return sudoku_grids.fixed_set(self.split, self.blanks, self._excluded)

    def __len__(self) -> int:
        """Problems of the split: 1,000,000, 256 and 256, or the rows of the file that was given."""
        return sudoku_grids.SPLIT_SIZES[self.split] if self._rows is None else len(self._rows)

    def problem(self, index: int) -> Problem:
        """Puzzle number `index`, the same for the same arguments, with its solution in the metadata."""
        if not 0 <= index < len(self):
            raise EnvError(
                f"{self.spec_name}: no problem {index!r:.80} in {self.split}, which has {len(self)}."
            )
        puzzle, solution = self._draw(index) if self._rows is None else self._rows[index]
        prompt = f"sudoku {puzzle}" if self.prompt_style == "plain" else paper_prompt(puzzle)
        return Problem(
            prompt, {"puzzle": puzzle}, metadata={"solution": solution, "blanks": puzzle.count("0")}
        )

    def _draw(self, index: int) -> tuple[str, str]:
        if self.size == 4:
            return sudoku_grids.train_puzzle(index, self._table, self._excluded)
        assert self.blanks is not None  # every level of 9x9 has a range
        self._asked += 1
        compiled = self._asked > _PLAIN_PROBLEMS  # quicker; the problems are the same
        return sudoku_nine.draw(self.split, index, self.blanks, self._excluded, compiled=compiled)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """The components of n completions, judged by one verifier call."""
        from verifiers import verify_batch

        puzzles = [p.reference["puzzle"] for p in problems]
        verdicts = verify_batch("sudoku", completions, puzzle=puzzles)
        rewards = {
            "correct": np.asarray(verdicts.correct, np.float64),
            "format": np.array([has_format(c, self.size) for c in completions], np.float64),
            "cells": np.asarray(verdicts.score, np.float64),
        }
        if "paper_cells" in self.reward_weights:
            solutions = [p.metadata["solution"] for p in problems]
            rewards["paper_cells"] = paper_cells(completions, puzzles, solutions)
        return Scores(rewards, verdicts.reasons, verdicts.extracted)

    def demonstration(self, problem: Problem) -> str:
        """The solution, written as the prompt asks."""
        return self._write(problem, problem.metadata["solution"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "careless": each blank gets the smallest digit that its row still lacks."""
        return {"careless": self._write(problem, careless(problem.reference["puzzle"]))}

    def render_text(self, problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
        """The board with givens, right cells, wrong cells and overwritten givens, each with its mark.

        color: with ANSI colours or not; None = with, unless the environment variable NO_COLOR is set.
        """
        return sudoku_board.draw(problem, completion, color=color)

    def _write(self, problem: Problem, grid: str) -> str:
        if self.prompt_style == "plain":
            return f"<answer>{grid}</answer>"
        return worked(problem.reference["puzzle"], grid)


def _read_blanks(blanks: str | int, most: int) -> tuple[int, int]:
    """ "4-11" -> (4, 11), 8 -> (8, 8)."""
    parts = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", str(blanks))
    low, high = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, 0)
    if not 1 <= low <= high <= most:
        raise EnvError(
            f'sudoku: blanks={blanks!r:.80} is not a number or a range such as "4-11" within 1 to '
            f"{most} (with more, few or no puzzles of this size have a single solution)."
        )
    return low, high
