"""The Sudoku environment, and the forms of its prompts and completions."""

from collections.abc import Mapping, Sequence
from math import isqrt

from envs.answer_block import tagged_completion
from envs.bases.generated import GeneratedEnv
from envs.errors import check_choice
from envs.problem import Problem, Score, Scores
from envs.sudoku import problems as puzzles
from envs.sudoku import rewards
from envs.sudoku.rewards import REWARD_PRESETS
from envs.text.terminal import paint
from verifiers.sudoku import flaw

EXAMPLES = {
    4: (
        ("3400200403020243", "3421213443121243"),
        ("0234001023400020", "1234341223414123"),
        ("0032000002133004", "1432234142133124"),
    ),
    9: (
        (
            "596087040000000067307056890604012905000749002912800004701000400003628079209471308",
            "596187243128934567347256891674312985835749612912865734781593426453628179269471358",
        ),
    ),
}
"""{size: (puzzle, solution) of each example in the instruct prompt}; their grids are of the split train."""

_RULES = """\
You are given a {n}x{n} Sudoku as {cells} digits: {rows} rows of {rows}, from top to bottom, where 0 is an empty cell.
Replace every 0 by a digit from 1 to {n} and change nothing else, so that each row, each column and each \
of the {boxes} holds {digits} exactly once.
First think inside <reasoning> and </reasoning>. Then write the finished grid, again as {cells} digits without \
spaces, inside <answer> and </answer>."""
_WORDS = {
    4: {"rows": "four", "boxes": "four 2x2 corner boxes", "digits": "1, 2, 3 and 4"},
    9: {"rows": "nine", "boxes": "nine 3x3 boxes", "digits": "each digit from 1 to 9"},
}
_CELLS = {
    "given": ("bold", " {} ", ""),
    "right": ("green", "({})", "right"),
    "wrong": ("red", "x{} ", "wrong"),
    "broken": ("alarm", "!{} ", "overwrites the given"),
    "blank": ("dim", " . ", ""),
}
"""{kind of cell: (style of `paint`, what `render_text` shows, with {} for the digit, words in the legend, if any)}."""


class Sudoku(GeneratedEnv):
    """4x4 and 9x9 Sudoku (`spg/Sudoku-v0`), at 4x4 the task of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

    Prompt: "sudoku " and the cells (plain), or instructions and worked examples (instruct). Action: a text with
    the solved grid in `<answer>...</answer>`.

    Rewards:
        correct (0 or 1): the grid is complete, legal and keeps every given, by `verifiers.verify("sudoku")`.
        format (0 or 1): exactly one closed `<answer>` block, and in it n*n digits from 1 to n and nothing else.
        cells (0 to 1): the verifier's partial credit: the share of blanks whose digit clashes with no other.
        paper_cells (0 to 1; reward_preset="paper" only): the share of blanks that equal the stored solution.

    Splits: 1,000,000 train, 256 validation and 256 test problems. At 4x4, they have 180, 20 and 88 of the 288 grids;
    the 88 solve the puzzles of the papers' test file. At 9x9, a hash of the grid, with its digits renamed, picks the
    split.
    """

    task = "sudoku"
    prompt_styles = ("plain", "instruct")
    prompt_fields = ("puzzle",)
    reward_presets = REWARD_PRESETS
    reward_weights: Mapping[str, float] = REWARD_PRESETS["default"]

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

        Args:
            source: "generated", or the path of a file of {"puzzle", "solution"} rows, which are then the test problems;
                train and validation are generated without the solution grids of the file.
            prompt_style: "plain" (short, for tiny models), "instruct" (for instruction-tuned ones), or a file with a
                prompt of your own that holds {puzzle} (`envs.text.prompt_file`).
            blanks: how many cells are empty: "4-11" or 8, from 1 to 12 (9x9: to 54); None = by the level.
            size: 4 or 9, the side of the board.
            level: 1 to 4, easy to hard, see LEVELS; 4x4 at level 1 is the papers' mix of blanks.
            reward_preset: "default" pays `correct`; "paper" pays `paper_cells`, as d1 and SPG do.
        """
        check_choice(self.task, "size", size, puzzles.LEVELS)
        self.levels = puzzles.LEVELS[size]
        super().__init__(split, level, prompt_style, reward_preset)
        self.source, self.size = str(source), size
        self.blanks = puzzles.LEVELS[size][level] if blanks is None else puzzles.read_blanks(blanks, size)
        # The user's file is read for every split, to keep its grids out of the other splits, and to refuse a wrong path
        # at once, not after the training.
        users_test = () if self.source == "generated" else puzzles.read_puzzles(self.source, size)
        # 9x9 grids are kept with their digits renamed, as `draw_9x9` compares them.
        self._excluded = frozenset(grid if size == 4 else puzzles.renamed(grid) for _, grid in users_test)
        if split == "test" and users_test:
            self._items = users_test
        elif split == "test" and self.blanks == puzzles.LEVELS[size][1]:  # level 1
            self._items = puzzles.test_puzzles(size)
        elif size == 4 and split != "train":  # validation, or test with other blanks
            self._items = puzzles.fixed_set(split, self.blanks, self._excluded)
        elif size == 4:  # train
            self._table = puzzles.blank_table(self.blanks)
            puzzles.split_ranks(split, self._excluded)  # raises if the file leaves no grid
        # All other splits are of 9x9 puzzles, which `_draw` makes without a table.

    def _draw(self, index: int) -> tuple[str, str]:
        """(puzzle, solution) of a split that has no fixed set in `_items`: 4x4 train, or 9x9.

        9x9 puzzles take long to make, so validation draws each when it is asked for, and so does test, unless it is
        read from a file.
        """
        if self.size == 4:
            return puzzles.train_puzzle(index, self._table, self._excluded)
        return puzzles.draw_9x9(self.split, index, self.blanks, self._excluded)

    def problem(self, index: int) -> Problem:
        puzzle, solution = self._item(index)
        prompt, prefix = self._prompt(
            {"puzzle": puzzle}, plain=f"sudoku {puzzle}", instruct=lambda: instruct_prompt(puzzle)
        )
        metadata = {"solution": solution, "blanks": puzzle.count("0")}
        return Problem(prompt, {"puzzle": puzzle}, prefix, metadata)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        return rewards.score(problems, completions, self.reward_weights)

    def demonstration(self, problem: Problem) -> str:
        return self._write(problem, problem.metadata["solution"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit (a plausible wrong way), "careless": each blank gets the smallest digit that its row lacks."""
        return {"careless": self._write(problem, careless(problem.reference["puzzle"]))}

    def feedback(self, problem: Problem, score: Score) -> str:
        found_flaw = "" if score.extracted is None else flaw(problem.reference["puzzle"], score.extracted)
        return found_flaw or super().feedback(problem, score)

    def completion_template(self, problem: Problem) -> str:
        """The grid with a hole of one token for each blank, in the prompt's style."""
        grid = problem.reference["puzzle"].replace("0", "[MASK]")
        return self._completion(grid, work="[MASK*]")

    def _write(self, problem: Problem, grid: str) -> str:
        """The completion with this grid as its answer, in the prompt's style."""
        return self._completion(grid, work=row_by_row(problem.reference["puzzle"], grid))

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The board of a Sudoku problem, filled in by the completion.

        If no n*n digits can be read from the completion, the blanks stay empty, and a line below says why.
        """
        from verifiers import verify

        puzzle, solution = problem.reference["puzzle"], problem.metadata["solution"]
        board, complaint = puzzle, ""
        if completion is not None:
            verdict = verify("sudoku", completion, puzzle=puzzle)
            # The verifier allows spaces, bars and other marks between the digits, and digits of other scripts.
            answer = verdict.extracted or ""
            written = "".join(str(int(character)) for character in answer if character.isdecimal())
            if len(written) == len(puzzle):
                board = written
            else:
                complaint = f"no grid of {len(puzzle)} digits in the answer ({verdict.reason})"
            if verdict.correct:
                solution = written  # if there are several solutions, all are as right as the stored one
        kinds = list(map(_kind_of_cell, puzzle, solution, board))
        legend = "  ".join(
            f"{paint(style, mark.format('n').strip())} {words}"
            for kind, (style, mark, words) in _CELLS.items()
            if words and kind in kinds
        )
        return "\n".join(line for line in (*_drawn(board, kinds), legend, complaint) if line)


def _drawn(board: str, kinds: list[str]) -> list[str]:
    """The lines of a board, with rules between its boxes; kinds: of the cells, see `_CELLS`."""
    cells = []
    for kind, digit in zip(kinds, board, strict=True):
        style, mark, _ = _CELLS[kind]
        cells.append(paint(style, mark.format(digit)))
    size = isqrt(len(board))
    box = isqrt(size)
    # The parts of each row that lie in one box.
    row_parts = ["".join(cells[start : start + box]) for start in range(0, len(cells), box)]
    lines = ["|".join(row_parts[start : start + box]) for start in range(0, len(row_parts), box)]
    rule = "+".join(["-" * (3 * box)] * box)  # a cell is three characters wide
    for row in range(size - box, 0, -box):  # from below, so that the numbers of the rows above do not change
        lines.insert(row, rule)
    return lines


def _kind_of_cell(puzzle_digit: str, solution_digit: str, written_digit: str) -> str:
    """The kind of a cell, see `_CELLS`, by its digits in the puzzle, in the solution and in the completion."""
    if written_digit == puzzle_digit:
        return "blank" if puzzle_digit == "0" else "given"
    if puzzle_digit != "0":
        return "broken"
    return "right" if written_digit == solution_digit else "wrong"


def _rows_of(grid: str) -> list[str]:
    size = isqrt(len(grid))
    return [grid[i : i + size] for i in range(0, len(grid), size)]


def _missing_digits(row: str) -> list[str]:
    return sorted(set("123456789"[: len(row)]) - set(row))


def careless(puzzle: str) -> str:
    """The grid by rows only: from left to right, each blank gets the smallest digit that the row still lacks."""
    grid = ""
    for row in _rows_of(puzzle):
        missing = iter(_missing_digits(row))
        grid += "".join(digit if digit != "0" else next(missing) for digit in row)
    return grid


def row_by_row(puzzle: str, grid: str) -> str:
    """The working that the instruct prompt asks for: what each row lacks and becomes."""
    lines = []
    for number, (row, full) in enumerate(zip(_rows_of(puzzle), _rows_of(grid), strict=True), 1):
        missing = " ".join(_missing_digits(row)) or "nothing"
        lines.append(f"Row {number}: {row} lacks {missing}, so it becomes {full}.")
    return "\n".join(lines)


def instruct_prompt(puzzle: str) -> str:
    """One user message: the rules, the tags, solved puzzles, and the puzzle."""
    size = isqrt(len(puzzle))
    rules = _RULES.format(n=size, cells=size * size, **_WORDS[size])
    parts = [rules]
    for i, (example, grid) in enumerate(EXAMPLES[size], 1):
        worked = tagged_completion(row_by_row(example, grid), grid)
        parts.append(f"Example {i}\nPuzzle: {example}\n{worked}")
    return "\n\n".join([*parts, f"Now solve this one.\nPuzzle: {puzzle}"])
