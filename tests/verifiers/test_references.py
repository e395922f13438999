"""Invalid references of every task: the error names the argument, the row of the batch, the value and what is right."""

from decimal import Decimal

import numpy as np
import pytest

from verifiers import InvalidReferenceError, verify, verify_batch

PUZZLE = "4320004330100004"
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
    *(("gsm8k", "answer", value, "is a .*'#### 18'") for value in (None, True, 1.5, b"18", 10**700, [18])),
    ("sudoku", "puzzle", "432000433010000", "does not have n \\* n cells"),
    ("sudoku", "puzzle", "", "does not have n \\* n cells"),
    ("sudoku", "puzzle", PUZZLE.replace("4", "5"), "greater than n"),
    ("sudoku", "puzzle", PUZZLE.replace("0", "x"), "no cell"),
    ("sudoku", "puzzle", "44" + "0" * 14, "twice"),
    ("sudoku", "puzzle", "1" + "0" * 80 + "\ud800", "no cell"),
    ("sudoku", "puzzle", 4320004330100004, "is a int"),
    ("sudoku", "puzzle", None, "is a NoneType"),
    ("sudoku", "puzzle", " ".join(["17"] + ["0"] * 255), "greater than n"),
    ("sudoku", "puzzle", " ".join(["016"] + ["0"] * 255), "greater than n"),
    ("countdown", "numbers", [], "holds 0 numbers; give 1 to 256"),
    ("countdown", "numbers", [1] * 257, "holds 257 numbers"),
    ("countdown", "numbers", "3,5,7", "is a str; give a list of integers"),
    ("countdown", "numbers", {3, 5, 7}, "is a set"),
    ("countdown", "numbers", {3: 5}, "is a dict"),
    ("countdown", "numbers", 3, "is a int"),
    ("countdown", "numbers", None, "is a NoneType"),
    ("countdown", "numbers", np.array(3), "is a ndarray"),
    ("countdown", "numbers", [3, "5", 7], "holds '5' at place 1, a str; give integers"),
    ("countdown", "numbers", [3, 5.0, 7], "holds 5.0 at place 1, a float"),
    ("countdown", "numbers", [True, 5, 7], "holds True at place 0, a bool"),
    ("countdown", "numbers", [[3, 5, 7]], "place 0, a list"),
    ("countdown", "numbers", [10**4000], "more than 4000 digits"),
    ("countdown", "numbers", [1, 10**5000, "x"], "place 2, a str"),
    ("countdown", "target", None, "is a NoneType that is no rational number; give a rational number such as 22"),
    ("countdown", "target", float("nan"), "is a float"),
    ("countdown", "target", float("inf"), "is a float"),
    ("countdown", "target", Decimal("NaN"), "is a Decimal"),
    ("countdown", "target", Decimal("1e999999999"), "is a Decimal"),
    ("countdown", "target", True, "is a bool"),
    *(("countdown", "target", value, "is a str") for value in ("1/0", "twenty", "1e9999999999", "")),
    ("countdown", "target", [22], "is a list"),
    ("countdown", "target", 2 + 0j, "is a complex"),
    ("countdown", "target", 10**4000, "more than 4000 digits"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "argument", "value", "words"), INVALID)
def test_an_invalid_reference_is_named_with_its_place(task, argument, value, words):
    for completion in ("<answer>18</answer>", None):
        with pytest.raises(InvalidReferenceError, match=rf"^{argument}=(?s:.*){words}") as caught:
            verify(task, completion, **{**VALID[task], argument: value})
        assert (caught.value.argument, caught.value.index) == (argument, None)
        assert caught.value.value is value
    for count in (3, 400):  # interpreted and compiled
        columns = {name: [valid] * count for name, valid in VALID[task].items()}
        columns[argument][count - 2] = value
        where = rf"^{argument}\[{count - 2}\]=(?s:.*){words}"
        with pytest.raises(InvalidReferenceError, match=where) as caught:
            verify_batch(task, ["<answer>18</answer>"] * count, **columns)
        assert (caught.value.argument, caught.value.index) == (argument, count - 2)
        assert caught.value.value is value
