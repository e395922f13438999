"""Sudoku verdicts: sizes, extraction, modes, scores; notations and near misses: casebook/sudoku.txt."""

import random
import unicodedata

import pytest

from tests.common.command_cases import PUZZLE, SOLUTION
from tests.common.sudoku_answers import blanked, solved_grid
from verifiers import Reason, Tier, verify, verify_batch
from verifiers.reading.signs import DIGIT_ZEROS


def lenient(answer: str, puzzle: str = PUZZLE):
    return verify("sudoku", f"so\n<answer>\n{answer}\n</answer>", puzzle=puzzle)


@pytest.mark.parametrize(
    ("answer", "reason", "tier"),
    [
        (SOLUTION, "ok", "grammar"), ("4321124334122124", "wrong", "grammar"), (PUZZLE, "wrong", "grammar"),
        ("1321124334122134", "rule_broken", "grammar"), ("9991129994922139", "rule_broken", "grammar"),
        ("43211243341221344", "malformed", "grammar"), ("ABCDABCDABCDABCD", "malformed", "grammar"),
        ("   ", "no_answer", "text"), (rf"\boxed{{{SOLUTION}}} or \boxed{{4321124334122143}}", "hedge", "text"),
        (rf"\boxed{{{SOLUTION}}} or \boxed{{{SOLUTION}}}", "ok", "grammar"),
    ],
)  # fmt: skip
def test_reasons_tell_the_failures_apart(answer, reason, tier):
    verdict = lenient(answer)
    assert (verdict.reason, verdict.decided_by, verdict.correct) == (reason, tier, reason == "ok")


def test_every_decimal_digit_of_unicode_is_a_digit_and_nothing_else_is():
    digits = [chr(code) for code in range(0x110000) if unicodedata.decimal(chr(code), None) == 1]
    assert len(digits) > 60
    assert all(lenient(digit, "0").correct for digit in digits)
    others = [chr(code) for code in range(0x110000) if chr(code).isnumeric() and not chr(code).isdecimal()]
    newer = {zero + value for zero in DIGIT_ZEROS for value in range(10)}  # than this interpreter's tables
    assert not any(lenient(other, "0").correct for other in others[::7] if ord(other) not in newer)


def test_any_solution_of_the_rules_counts():
    empty = "0" * 16
    assert lenient("1234341221434321", empty).correct
    latin_square = lenient("1234234134124123", empty)
    assert not latin_square.correct and latin_square.reason is Reason.WRONG


@pytest.mark.parametrize("box", [1, 2, 3, 4, 5, 6, 7])
def test_every_size_is_judged_by_the_same_rules(box):
    rng = random.Random(box)
    cells = solved_grid(rng, box)
    puzzle = blanked(rng, [0, *cells[1:]])
    separator = "" if box < 4 else " "
    text = separator.join(map(str, cells))
    for mode in ("lenient", "strict"):
        assert verify("sudoku", f"<answer>{text}</answer>", mode=mode, puzzle=puzzle).correct
    assert lenient(text.replace(" ", " | "), puzzle.replace(" ", ", ")).correct
    cells[0] = cells[0] % (box * box) + 1
    wrong = lenient(separator.join(map(str, cells)), puzzle)
    assert wrong.correct is (box == 1)
    if box > 3:
        assert lenient(text.replace(" ", "", 1), puzzle).reason == "malformed"
        spaced = f"<answer>{text.replace(' ', '  ', 1)}</answer>"
        assert verify("sudoku", spaced, mode="strict", puzzle=puzzle).score == 0


def test_the_guard_refuses_nul_surrogates_and_over_long_answers():
    for bad in ("\x00", "\ud800", " " * 70_000 + "1"):
        verdict = lenient(SOLUTION + bad + " ")
        assert (verdict.reason, verdict.decided_by, verdict.score) == ("malformed", Tier.TEXT, 0.0)
        assert verify("sudoku", f"{bad}<answer>{SOLUTION}</answer>{bad}", puzzle=PUZZLE).correct
    assert lenient(SOLUTION + " " * 60_000).correct


def test_score_is_the_share_of_blanks_in_no_conflict():
    """Blanks of the puzzle: 3, 4, 5, 9, 11, 12, 13, 14. With a 2 for the 3 in cell 14, that cell clashes with cell 12
    (row), with the given in cell 2 (column) and with cell 11 (box); cells 3, 4, 5, 9 and 13 stand in no conflict."""
    scores = {"4321124334122124": 5 / 8, "4320124334122134": 7 / 8, "4325124334122134": 7 / 8}
    scores |= {SOLUTION: 1.0, PUZZLE: 0.0, "1321124334122134": 0.0, SOLUTION[:15]: 0.0}
    assert {answer: lenient(answer).score for answer in scores} == scores


def test_score_is_one_exactly_for_solved_grids():
    rng = random.Random(0)
    for _ in range(300):
        puzzle = blanked(rng, solved_grid(rng, 2))
        answer = "".join(cell if cell != "0" else rng.choice("1234") for cell in puzzle)
        verdict = lenient(answer, puzzle)
        assert 0.0 <= verdict.score <= 1.0
        assert (verdict.score == 1.0) is verdict.correct


@pytest.mark.parametrize(
    ("text", "lenient", "flexible"),
    [
        ("1234341221434321", "no_answer", "ok"), ("The first row is 1 2 3 4", "no_answer", "no_answer"),
        ("Puzzle:\n1234\n3412\n2143\n4321\nNo:\n4321\n2143\n3412\n1234", "no_answer", "rule_broken"),
        ("<answer>1234341221434321 or 4321214334121234</answer>", "malformed", "malformed"),
    ],
)  # fmt: skip
def test_a_grid_that_no_mark_names_is_read_in_flexible_mode(text, lenient, flexible):
    puzzle = "1204001020400301"
    for mode, reason in (("lenient", lenient), ("flexible", flexible)):
        assert verify("sudoku", text, puzzle=puzzle, mode=mode).reason == reason
    assert set(verify_batch("sudoku", [text] * 3, puzzle=[puzzle] * 3, mode="flexible").reasons) == {flexible}


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("314242311324241", "The grid must have 16 digits, not 15."),
        ("3142423113242411", "Row 1 column 3 must stay 2."),
        ("33424231", "The grid must have 16 digits, not 8."),
        ("Row 1: 3142", "The answer must be the 16 digits of the grid, row by row, and nothing else."),
    ],
)
def test_what_is_wrong_with_a_grid_is_said(answer, detail):
    text, puzzle = f"<answer>{answer}</answer>", "0020420013040403"
    one = verify("sudoku", text, puzzle=puzzle)
    many = verify_batch("sudoku", [text] * 2, puzzle=[puzzle] * 2)
    assert one.detail == many[1].detail == many.details[0] == detail
