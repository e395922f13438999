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


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (str(2**64 + 18), "18"),  # the digits of a plain answer
        (f"{2**44} 1/{2**20}", f"1/{2**20}"),  # a mixed number's numerator is 2^64 + 1
        (f"{2**44 + 3}/{2**20}", f"3/{2**20}"),  # multiplied crosswise: 2^64 + 3 * 2^20
        ("18/0", "18"),
        ("18/0", "1"),
    ],
)
def test_a_number_that_64_bits_do_not_hold_is_no_other_number(answer, gold, monkeypatch) -> None:
    assert not paid("gsm8k", answer, {"answer": gold}, monkeypatch)
    assert paid("gsm8k", gold, {"answer": gold}, monkeypatch)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        (str(10**24), str(10**24), True),
        (f"{10**24}/2", f"{10**24 // 2}", True),
        ("½", str(10**24), False),
        (f"½ = {10**24}", str(10**24), False),
    ],
)
def test_numbers_that_64_bits_do_not_hold_are_compared_exactly(answer, gold, right, monkeypatch) -> None:
    assert paid("gsm8k", answer, {"answer": gold}, monkeypatch) is right


def test_a_hedge_is_two_boxes_near_each_other_with_or_and_nothing_else_between(monkeypatch) -> None:
    for gap, reason in (
        (" or ", "hedge"),
        (" \\text{ or } ", "hedge"),
        (" or" + " " * 300, "ok"),
        (" or so many eggs. ", "ok"),
    ):
        text = f"<answer>\\boxed{{17}}{gap}\\boxed{{18}}</answer>"
        assert verify("gsm8k", text, answer="18").reason == reason, gap


def test_an_answer_longer_than_the_limit_is_refused_unread() -> None:
    spaces = " " * (ANSWER_LIMIT - 4)
    assert verify("gsm8k", f"<answer>18{spaces}</answer>", answer="18").correct
    assert verify("gsm8k", f"<answer>18{spaces}   </answer>", answer="18").reason == "malformed"


NUMBERS = {"numbers": [3, 5, 7], "target": 22}


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("3." + "0" * (DIGITS_LIMIT - 1) + "*5+7", True),
        ("3." + "0" * DIGITS_LIMIT + "*5+7", False),
        ("3*5+7" + "=22" * (LITERALS_LIMIT - 3), True),
        ("3*5+7" + "=22" * (LITERALS_LIMIT - 2), False),
        ("3.*5+7", False),
    ],
)
def test_literals_are_bounded_in_number_and_length(answer, right, monkeypatch) -> None:
    assert paid("countdown", answer, NUMBERS, monkeypatch) is right


@pytest.mark.parametrize(
    ("answer", "numbers", "target", "right"),
    [
        (f"3*5+7 = {2**64 + 22}", [3, 5, 7], 22, False),  # one literal
        (f"{2**32}*{2**32}+22", [2**32, 2**32, 22], 22, False),  # a product
        (f"{10**17}*9*9+22", [10**17, 9, 9, 22], 10**17 * 81 + 22, True),
        ("+".join(["900000000000000000"] * 21), [9 * 10**17] * 21, 9 * 10**17 * 21 - 2**64, False),  # a sum
        (str(10**18), [10**18], 10**18, True),
        (str(10**18), [10**18], 10**18 + 1, False),
        ("3", [3], 2**64 + 3, False),  # a target
        ("3.0000000000000000000*5+7", [3, 5, 7], 22, True),
    ],
)
def test_integers_that_64_bits_do_not_hold_are_exact(answer, numbers, target, right, monkeypatch) -> None:
    assert paid("countdown", answer, {"numbers": numbers, "target": target}, monkeypatch) is right


def test_cells_are_bounded_in_number_and_length(monkeypatch) -> None:
    rng = random.Random(4)
    cells = solved_grid(rng, 4)
    puzzle = {"puzzle": blanked(rng, [0, *cells[1:]])}
    first = str(cells[0])
    for written, right in ((first, True), (first.zfill(3), False), (str(2**64 + cells[0]), False)):
        answer = " ".join([written, *map(str, cells[1:])])
        assert paid("sudoku", answer, puzzle, monkeypatch) is right, written
    assert not paid("sudoku", "1" * 2402, {"puzzle": "0" * 81}, monkeypatch)
