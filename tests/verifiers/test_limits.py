"""What the limits of the verifiers are there for: a text that raises, or is paid though it is wrong, without each.

Values that wrap around at 2^64 are judged by compiled code, whose integers have 64 bits.
"""

import random

import pytest

from tests.common.soup import judge, use_kernels
from tests.common.sudoku_answers import blanked, solved_grid
from verifiers import verify
from verifiers.countdown import DIGITS_LIMIT, LITERALS_LIMIT
from verifiers.reading.answer import ANSWER_LIMIT


def paid(task: str, answer: str, reference: dict, monkeypatch) -> bool:
    """Whether an answer is right, on which interpreted and compiled code must agree."""
    text = f"<answer>{answer}</answer>"
    alone = verify(task, text, **reference)
    use_kernels(monkeypatch)
    assert list(judge(task, [text], [reference])) == [alone]
    return alone.correct


NUMBERS = {"numbers": [3, 5, 7], "target": 22}


def game(target: int, *numbers: int) -> dict:
    return {"numbers": [*numbers], "target": target}


@pytest.mark.parametrize(
    ("task", "answer", "reference", "right"),
    [
        ("gsm8k", str(2**64 + 18), {"answer": "18"}, False),  # the digits of a plain answer
        ("gsm8k", f"{2**44} 1/{2**20}", {"answer": f"1/{2**20}"}, False),  # a mixed number's numerator is 2^64 + 1
        ("gsm8k", f"1/{2**20}", {"answer": f"1/{2**20}"}, True),
        ("gsm8k", f"{2**44 + 3}/{2**20}", {"answer": f"3/{2**20}"}, False),  # crosswise: 2^64 + 3 * 2^20
        ("gsm8k", f"3/{2**20}", {"answer": f"3/{2**20}"}, True),
        ("gsm8k", "18/0", {"answer": "18"}, False),
        ("gsm8k", "18/0", {"answer": "1"}, False),
        ("gsm8k", str(10**24), {"answer": str(10**24)}, True),
        ("gsm8k", f"{10**24}/2", {"answer": f"{10**24 // 2}"}, True),
        ("gsm8k", "½", {"answer": str(10**24)}, False),
        ("gsm8k", f"½ = {10**24}", {"answer": str(10**24)}, False),
        ("countdown", "3." + "0" * (DIGITS_LIMIT - 1) + "*5+7", NUMBERS, True),
        ("countdown", "3." + "0" * DIGITS_LIMIT + "*5+7", NUMBERS, False),
        ("countdown", "3*5+7" + "=22" * (LITERALS_LIMIT - 3), NUMBERS, True),
        ("countdown", "3*5+7" + "=22" * (LITERALS_LIMIT - 2), NUMBERS, False),
        ("countdown", "3.*5+7", NUMBERS, False),
        ("countdown", "07+1", game(8, 7, 1), False),
        ("countdown", "3.0000000000000000000*5+7", NUMBERS, True),
        ("countdown", f"3*5+7 = {2**64 + 22}", NUMBERS, False),  # one literal
        ("countdown", f"{2**32}*{2**32}+22", game(22, 2**32, 2**32, 22), False),  # a product
        ("countdown", "65536*65536*65536*65536+22", game(22, *[65536] * 4, 22), False),  # of small numbers
        ("countdown", f"{10**17}*9*9+22", game(10**17 * 81 + 22, 10**17, 9, 9, 22), True),
        ("countdown", "+".join([str(9 * 10**17)] * 21), game(9 * 10**17 * 21 - 2**64, *[9 * 10**17] * 21), False),
        ("countdown", str(10**18), game(10**18, 10**18), True),
        ("countdown", str(10**18), game(10**18 + 1, 10**18), False),
        ("countdown", "3", game(2**64 + 3, 3), False),  # a target
        ("sudoku", "1" * 2402, {"puzzle": "0" * 81}, False),
    ],
)  # fmt: skip
def test_what_64_bits_do_not_hold_is_exact_and_literals_are_bounded(
    task, answer, reference, right, monkeypatch
) -> None:
    assert paid(task, answer, reference, monkeypatch) is right


def test_a_hedge_is_two_boxes_near_each_other_with_or_and_nothing_else_between() -> None:
    gaps = {" or ": "hedge", " \\text{ or } ": "hedge", " or" + " " * 300: "ok", " or so many eggs. ": "ok"}
    for gap, reason in gaps.items():
        text = f"<answer>\\boxed{{17}}{gap}\\boxed{{18}}</answer>"
        assert verify("gsm8k", text, answer="18").reason == reason, gap


def test_an_answer_longer_than_the_limit_is_refused_unread() -> None:
    spaces = " " * (ANSWER_LIMIT - 4)
    assert verify("gsm8k", f"<answer>18{spaces}</answer>", answer="18").correct
    assert verify("gsm8k", f"<answer>18{spaces}   </answer>", answer="18").reason == "malformed"


def test_cells_are_bounded_in_number_and_length(monkeypatch) -> None:
    rng = random.Random(4)
    cells = solved_grid(rng, 4)
    puzzle = {"puzzle": blanked(rng, [0, *cells[1:]])}
    first = str(cells[0])
    for written, right in ((first, True), (first.zfill(3), False), (str(2**64 + cells[0]), False)):
        answer = " ".join([written, *map(str, cells[1:])])
        assert paid("sudoku", answer, puzzle, monkeypatch) is right, written
