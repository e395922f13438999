"""Invalid references of every task: the error names the argument, the row of the batch, the value and what is right."""

from decimal import Decimal

import numpy as np
import pytest

from tests.common.command_cases import PUZZLE
from verifiers import InvalidReferenceError, verify, verify_batch

VALID = {
    "gsm8k": {"answer": "18"},
    "countdown": {"numbers": [3, 5, 7], "target": 22},
    "sudoku": {"puzzle": PUZZLE},
}
ONE_NUMBER = "is not one number; .* ends in '#### 18'"
INVALID = [
    *(("gsm8k", "answer", value, ONE_NUMBER) for value in (
        "", " ", "abc", "eighteen", "1 2", "18 eggs", "1/0", "1,25", "x=18", "18 or 19", "\u00b13", "nan", "18\x00",
        "\ud800", "#### ", "9" * 70_000, "1e1000001",
    )),
    *(("gsm8k", "answer", value, "is a .*'#### 18'") for value in (None, True, float("nan"), b"18", 10**700, [18])),
    *(("sudoku", "puzzle", value, words) for value, words in (
        ("432000433010000", "does not have n \\* n cells"), ("", "does not have n \\* n cells"),
        (PUZZLE.replace("4", "5"), "greater than n"), (PUZZLE.replace("0", "x"), "no cell"), ("44" + "0" * 14, "twice"),
        ("1" + "0" * 80 + "\ud800", "no cell"), (4320004330100004, "is a int"), (None, "is a NoneType"),
        (" ".join(["17"] + ["0"] * 255), "greater than n"), (" ".join(["016"] + ["0"] * 255), "greater than n"),
    )),
    *(("countdown", "numbers", value, words) for value, words in (
        ([], "holds 0 numbers; give 1 to 256"), ([1] * 257, "holds 257 numbers"), (np.array(3), "is a ndarray"),
        ("3,5,7", "is a str; give a list of integers"), ({3, 5, 7}, "is a set"), ({3: 5}, "is a dict"), (3, "is a int"),
        (None, "is a NoneType"), ([3, "5", 7], "holds '5' at place 1, a str; give integers"),
        ([3, 5.0, 7], "holds 5.0 at place 1, a float"), ([True, 5, 7], "holds True at place 0, a bool"),
        ([[3, 5, 7]], "place 0, a list"), ([10**4000], "more than 4000 digits"), ([1, 10**5000, "x"], "place 2, a str"),
    )),
    *(("countdown", "target", value, words) for value, words in (
        (None, "is a NoneType that is no rational number; give a rational number such as 22"),
        (float("nan"), "is a float"), (float("inf"), "is a float"), (Decimal("NaN"), "is a Decimal"),
        (Decimal("1e999999999"), "is a Decimal"), (True, "is a bool"), ("1/0", "is a str"), ("twenty", "is a str"),
        ("1e9999999999", "is a str"), ("", "is a str"), ([22], "is a list"), (2 + 0j, "is a complex"),
        (10**4000, "more than 4000 digits"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("task", "argument", "value", "words"), INVALID)
def test_an_invalid_reference_is_named_with_its_place(task, argument, value, words):
    reference = {**VALID[task], argument: value}
    calls = [(verify, completion, reference, None) for completion in ("<answer>18</answer>", None)]
    for count in (3, 400):  # interpreted and compiled
        columns = {name: [valid] * count for name, valid in VALID[task].items()}
        columns[argument][count - 2] = value
        calls.append((verify_batch, ["<answer>18</answer>"] * count, columns, count - 2))
    for function, completions, references, index in calls:
        where = rf"\[{index}\]" if index else ""
        with pytest.raises(InvalidReferenceError, match=rf"^{argument}{where}=(?s:.*){words}") as caught:
            function(task, completions, **references)
        assert (caught.value.argument, caught.value.index) == (argument, index)
        assert caught.value.value is value
