"""How the references of a file are read, in sentences."""

import pytest

from verifiers.references import ROWS_READ, how_read


def told(task: str, answers: list, **settings) -> list[str]:
    return how_read(
        task, [(f"row {n}", {"answer": answer, **settings}) for n, answer in enumerate(answers, 1)]
    )


OF_MATH = ["12,50", "18,5", "7", "is", "LOW", "October 2024", "1.250", "x + 1"]
TOLD = [
    ("math500", OF_MATH, {}, [
        "2 of 8 references are read as lists (`12,50`, `18,5`), in any order;",
        "2 of 8 references are read as products of letters (`is`, `LOW`);",
        "1 of 8 references cannot be read as mathematics, only compared as text (`October 2024`)",
        "1 of 8 references has three digits behind a point (`1.250`), which are decimals;",
    ]),
    ("math500", ["3, 5", "7"], {}, ["1 of 2 references is read as lists (`3, 5`), in any order."]),
    ("gsm8k", ["25500 ml", "25500 km", "$5", "5 EUR", "9"], {}, [
        "2 of 5 references name a unit (`25500 ml`, `25500 km`), and units are not compared;",
        "2 different references count as equal: '25500 ml' (row 1) and '25500 km' (row 2).",
    ]),
    ("gsm8k", ["25500 ml", "9"], {"unit": "ml"}, []),
    ("gsm8k", ["1.250", "9"], {}, ["1 of 2 references has three digits behind a point (`1.250`), which are decimals;"]),
    ("gsm8k", ["1.250", "18,5"], {"decimal": ","},
     ['1 of 2 references has three digits behind a point (`1.250`), which are thousands by decimal=","']),
    ("gsm8k", ["3.14", "1,250"], {}, []), ("gsm8k", [18.5, 1250], {"decimal": ","}, []),
    ("gsm8k", ["3 + 4 = 7\n#### 7", "8 - 1 = 7\n#### 7", "7"], {}, []),
    ("text", ["low", "LOW", "Low", "low"], {}, ["2 pairs of references count as equal: 'low' (row 1) and 'LOW'"]),
    ("text", ["low", "LOW", "high"], {"case": "exact"}, []),
    ("json", ['{"a": 1, "b": 2}', '{"a": 1, "b": 3}'], {"keys": "a"}, ["2 different references count as equal"]),
    ("gsm8k", ["5 km"] * (ROWS_READ + 1), {},
     [f"{ROWS_READ:,} of the first {ROWS_READ:,} references name a unit (`5 km`)"]),
    ("choice", ["A", "(A)"], {}, []),
]  # fmt: skip
"""(task, references, settings, how each sentence begins)"""


@pytest.mark.parametrize(("task", "answers", "settings", "begins"), TOLD)
def test_how_references_are_read_is_told(task, answers, settings, begins) -> None:
    for sentence, begin in zip(told(task, answers, **settings), begins, strict=True):
        assert sentence == begin if begin.endswith(".") else sentence.startswith(begin)


def test_a_decimal_comma_is_proposed_for_lists_that_may_be_numbers() -> None:
    numbers, lists = sorted(told("math500", ["12,50", "3, 5", "7"]), key=len, reverse=True)
    assert "(`12,50`)" in numbers and 'decimal=","' in numbers
    assert lists == "1 of 3 references is read as lists (`3, 5`), in any order."


def test_different_references_that_count_as_equal_are_named_with_their_lines() -> None:
    (pairs,) = told("math500", ["Low", "7", "LOW", "1/2", "0.5", "1/3"])[-1:]
    assert pairs == (
        "2 pairs of references count as equal: 'Low' (row 1) and 'LOW' (row 3); '1/2' (row 4) and '0.5' (row 5)."
    )
    (values,) = told("json", ['{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', "[true]", "[1]"])
    assert "row 1) and" in values and "row 2)." in values


def test_nothing_is_told_of_puzzles() -> None:
    assert how_read("sudoku", [("a", {"puzzle": "4320004330100004"})]) == []
