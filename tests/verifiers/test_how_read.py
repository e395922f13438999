"""How the references of a file are read, in sentences."""

from verifiers.references import ROWS_READ, how_read


def told(task: str, answers: list, **settings) -> list[str]:
    rows = [{"answer": answer, **settings} for answer in answers]
    return how_read(task, [(f"rows.jsonl, line {line}", row) for line, row in enumerate(rows, 1)])


def test_mathematics_that_is_read_into_plain_answers_is_told() -> None:
    answers = ["12,50", "18,5", "7", "is", "LOW", "October 2024", "1.250", "x + 1"]
    lists, letters, text, point = told("math500", answers)
    assert lists.startswith("2 of 8 references are read as lists (`12,50`, `18,5`), in any order;")
    assert letters.startswith("2 of 8 references are read as products of letters (`is`, `LOW`);")
    assert text.startswith(
        "1 of 8 references cannot be read as mathematics, only compared as text (`October 2024`)"
    )
    assert point.startswith(
        "1 of 8 references has three digits behind a point (`1.250`), which are decimals;"
    )


def test_units_that_are_not_compared_are_told() -> None:
    unit, equal = told("gsm8k", ["25500 ml", "25500 km", "$5", "5 EUR", "9"])
    assert unit.startswith(
        "2 of 5 references name a unit (`25500 ml`, `25500 km`), and units are not compared;"
    )
    assert equal == (
        "2 different references count as equal: '25500 ml' (rows.jsonl, line 1) and '25500 km' (rows.jsonl, line 2)."
    )
    assert told("gsm8k", ["25500 ml", "9"], unit="ml") == []


def test_how_three_digits_behind_a_point_are_read_is_told() -> None:
    (point,) = told("gsm8k", ["1.250", "9"])
    assert "which are decimals" in point
    (comma,) = told("gsm8k", ["1.250", "18,5"], decimal=",")
    assert "which are thousands" in comma
    assert told("gsm8k", ["3.14", "1,250"]) == []
    assert told("gsm8k", [18.5, 1250], decimal=",") == []


def test_a_decimal_comma_is_proposed_for_lists_that_may_be_numbers() -> None:
    numbers, lists = sorted(told("math500", ["12,50", "3, 5", "7"]), key=len, reverse=True)
    assert "(`12,50`)" in numbers and 'decimal=","' in numbers
    assert lists == "1 of 3 references is read as lists (`3, 5`), in any order."


def test_different_references_that_count_as_equal_are_named_with_their_lines() -> None:
    (pairs,) = told("math500", ["Low", "7", "LOW", "1/2", "0.5", "1/3"])[-1:]
    assert pairs == (
        "2 pairs of references count as equal: 'Low' (rows.jsonl, line 1) and 'LOW' (rows.jsonl, line 3); "
        "'1/2' (rows.jsonl, line 4) and '0.5' (rows.jsonl, line 5)."
    )
    (labels,) = told("text", ["low", "LOW", "Low", "high", "low"])
    assert labels.startswith("2 pairs of references count as equal: 'low' (rows.jsonl, line 1) and 'LOW'")
    assert told("text", ["low", "LOW", "high"], case="exact") == []
    (values,) = told("json", ['{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', "[true]", "[1]"])
    assert "line 1) and" in values and "line 2)." in values
    (by_key,) = told("json", ['{"a": 1, "b": 2}', '{"a": 1, "b": 3}'], keys="a")
    assert by_key.startswith("2 different references count as equal")


def test_a_solution_counts_by_the_number_behind_its_mark() -> None:
    assert told("gsm8k", ["3 + 4 = 7\n#### 7", "8 - 1 = 7\n#### 7", "7"]) == []


def test_a_long_file_is_looked_at_as_far_as_it_says() -> None:
    (unit,) = told("gsm8k", ["5 km"] * (ROWS_READ + 1))
    assert unit.startswith(f"{ROWS_READ:,} of the first {ROWS_READ:,} references name a unit (`5 km`)")


def test_nothing_is_told_of_tasks_that_read_nothing_into_a_reference() -> None:
    assert told("choice", ["A", "(A)"]) == []
    assert how_read("sudoku", [("a", {"puzzle": "4320004330100004"})]) == []
