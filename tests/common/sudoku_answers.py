"""Sudoku grids at random, puzzles from them, answers in every accepted notation, and a slow oracle."""

import random
import re
import unicodedata
from collections.abc import Iterator
from itertools import count

from tests.common.constructed import Case


def solved_grid(rng: random.Random, box: int) -> list[int]:
    """A random n x n solution: the cyclic pattern with digits, rows and columns shuffled within their bands."""
    size = box * box
    order = [band * box + i for band in rng.sample(range(box), box) for i in rng.sample(range(box), box)]
    across = [band * box + i for band in rng.sample(range(box), box) for i in rng.sample(range(box), box)]
    names = rng.sample(range(1, size + 1), size)
    return [names[(box * (row % box) + row // box + column) % size] for row in order for column in across]


def blanked(rng: random.Random, cells: list[int]) -> str:
    shown = [cell if rng.random() < 0.5 else 0 for cell in cells]
    return " ".join(map(str, shown)) if len(cells) > 81 else "".join(map(str, shown))


_SPACES = (" ", "\n", ", ", "|", "-", "\t", "\u00a0", "][", " + ", "、", "│", " & ")
_WRAPS = (
    ("", ""), ("[", "]"), ("`", "`"), ("```\n", "\n```"), ('"', '"'), ("\\boxed{", "}"), ("$", "$"), ("\\[", "\\]"),
    ("\\(\\texttt{", "}\\)"), ("\n", "."), ("\ufeff", ""), ("| ", " |"), ("“", "”."),
    ("\\begin{matrix}", "\\end{matrix}"),
)  # fmt: skip
_BLOCK = ("<answer>", "</answer>")
_TAGS = (_BLOCK, ("x</answer>\n<answer>\n", "\n</answer>."), ("<answer>", ""), ("<answer>", "<|eot_id|>z"))
_ZEROS = (48, 48, 48, 48, 0x660, 0x966, 0xFF10, 0x1D7CE)


def notated(rng: random.Random, cells: list[int]) -> str:
    """A right answer in one of the accepted notations."""
    size = round(len(cells) ** 0.5)
    zero, between, rows = rng.choice(_ZEROS), rng.choice(("", "", *_SPACES)), rng.choice(_SPACES)
    if size > 9:
        between = rng.choice(_SPACES)
    numbers = ["".join(chr(zero + int(digit)) for digit in str(cell)) for cell in cells]
    lines = [between.join(numbers[row * size : row * size + size]) for row in range(size)]
    before, after = rng.choice(_WRAPS)
    opened, closed = rng.choice(_TAGS)
    return f"{opened}{before}{rows.join(lines)}{after}{closed}"


def oracle(completion: str, puzzle: str) -> bool:
    """Slow and independent: is the text in the tags this puzzle's solution in some accepted notation?"""
    text = completion.split("<|eot_id|>")[0].split("<|endoftext|>")[0]
    if "</answer>" in text.split("<answer>", 1)[-1] and "<answer>" in text:
        text = text[: text.rindex("</answer>")]
    if "<answer>" not in text:
        return False
    text = text.rsplit("<answer>", 1)[1]
    if "\\boxed{" in text and "}" in text:
        text = text.split("\\boxed{", 1)[1].rsplit("}", 1)[0]
    for word in ("\\boxed", "\\texttt", "\\begin{matrix}", "\\end{matrix}", "\\[", "\\]", "\\(", "\\)"):
        text = text.replace(word, " ")
    text = text.replace("\ufeff", "").strip("`\"”“'|]) \n\t$}")
    text = text[:-1] if text.endswith(".") else text
    text = re.sub(r"(?<![^\s|*])\*+(?![\s|*])|(?<![\s|*])\*+(?![^\s|:.,*])", " ", text)  # bold type
    numbers, run = [], ""
    wide = len(puzzle.split()) > 1
    for character in text + " ":
        digit = unicodedata.decimal(character, None)
        if digit is None:
            if not (character.isspace() or character in "|+-,[]`\"'“”$&{}、│"):
                return False
            numbers += [run] if run else []
            run = ""
        elif wide:
            run += str(digit)
        else:
            numbers.append(str(digit))
    given = puzzle.split() if wide else list(puzzle)
    size = round(len(given) ** 0.5)
    if len(numbers) != len(given) or any(
        int(g) not in (0, int(n)) for g, n in zip(given, numbers, strict=True)
    ):
        return False
    grid = [[int(number) for number in numbers[row * size : row * size + size]] for row in range(size)]
    box, whole = round(size**0.5), set(range(1, size + 1))
    corners = [(row, column) for row in range(0, size, box) for column in range(0, size, box)]
    boxes = [{grid[r + i][c + j] for i in range(box) for j in range(box)} for r, c in corners]
    return all(unit == whole for unit in [*map(set, grid), *map(set, zip(*grid, strict=True)), *boxes])


def cases(seed: int, strict: bool) -> Iterator[Case]:
    """Right answers and what one edit makes of them; most grids 4 x 4, some 9 x 9 and 16 x 16."""
    rng = random.Random(seed)
    for i in count():
        cells = solved_grid(rng, 4 if i % 100 == 0 else 3 if i % 20 == 1 else 2)
        puzzle = blanked(rng, cells)
        right = notated(rng, cells)
        place = rng.choice([i for i, character in enumerate(right) if character.isdecimal()])
        other = rng.choice("0123456789./x*\u0664\u00b2 ")
        new = rng.choice((other, other, "", other + right[place]))
        edited = right[:place] + new + right[place + 1 :]
        yield Case(right, edited, {"puzzle": puzzle}, lambda text, puzzle=puzzle: oracle(text, puzzle))
