"""Invalid references of every task: the error names the argument, the row of the batch, the value and what is right."""

from decimal import Decimal

import numpy as np
import pytest

from tests.common.command_cases import PUZZLE
from verifiers import InvalidReferenceError, reward_function, verify, verify_batch

VALID = {
    "gsm8k": {"answer": "18"},
    "countdown": {"numbers": [3, 5, 7], "target": 22},
    "sudoku": {"puzzle": PUZZLE},
    "math500": {"answer": "5"},
}
INVALID = [
    *(("math500", "answer", value, "an answer is LaTeX") for value in (
        None, "", "  ", "$$", r"\text{}", r"\boxed{}", "{}", r"\left(\right)", "**", "****", "__", r"\left.\right.",
        True, b"5", ["5"], float("nan"), float("inf"), 10**700,
    )),
    ("math500", "answer", [2, 3, 5], 'Write several values as one text, "2, 3, 5"'),
    *(("gsm8k", "answer", value, "'#### 18'") for value in (
        "", " ", "abc", "eighteen", "1 2", "eggs", "($5)", "$5 EUR", "us 5", "1/0", "1,25", "x=18", "18 or 19",
        "\u00b13", "nan", "18\x00", "\ud800", "#### ", "9" * 70_000, "1e1000001", None, True, float("nan"), b"18",
        10**700, [18],
    )),
    *(("sudoku", "puzzle", value, "is no ") for value in (
        "432000433010000", "", PUZZLE.replace("4", "5"), PUZZLE.replace("0", "x"), "44" + "0" * 14,
        "1" + "0" * 80 + "\ud800", 4320004330100004, None, " ".join(["17"] + ["0"] * 255),
        " ".join(["016"] + ["0"] * 255),
    )),
    *(("countdown", "numbers", value, r"such as \[3, 5, 7\]") for value in (
        [], [1] * 257, np.array(3), "3,5,7", {3: 5}, 3, None, [3, "5", 7], [3, 5.5, 7], [True, 5, 7], [[3, 5, 7]],
        [10**4000], [1, 10**5000, "x"],
    )),
    *(("countdown", "target", value, "such as 22") for value in (
        None, float("nan"), float("inf"), Decimal("NaN"), Decimal("1e999999999"), True, "1/0", "twenty", "1e9999999999",
        "", [22], 2 + 0j, 10**4000,
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


def test_a_target_may_be_a_tensor_and_its_verdict_is_explained():
    torch = pytest.importorskip("torch")
    numbers = torch.tensor([3, 5, 7])
    assert verify("countdown", "<answer>3*5+7</answer>", numbers=numbers, target=torch.tensor(22)).correct
    assert verify(
        "countdown", "<answer>7/(3+5)</answer>", numbers=numbers, target=torch.tensor(0.875)
    ).correct
    columns = {"numbers": numbers.repeat(2, 1), "target": torch.tensor([22, 23])}
    many = verify_batch("countdown", ["<answer>3*5+7</answer>"] * 2, **columns)
    assert many.correct.tolist() == [True, False] and many.details[1] == "It makes 22, not 23."


@pytest.mark.parametrize("column", ["#### 24", "It is 3 * 8 = <<3*8=24>>24.\n#### 24", "so \\boxed{24}", 24])
def test_gsm8ks_column_is_a_reference_of_math500_too(column):
    assert verify("math500", "<answer>\\boxed{24}</answer>", answer=column, mode="strict").correct
    assert not verify("math500", "<answer>\\boxed{3}</answer>", answer=column).correct


NOISY = {3 * 8.17: "24.51", 0.1 + 0.2: "0.3", 1 / 8: "0.125", 1e16 + 2: "10000000000000002"}


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_the_noise_of_a_calculation_is_no_part_of_a_number(task):
    texts = [f"<answer>{text}</answer>" for text in NOISY.values()]
    assert [verify(task, text, answer=number).correct for number, text in zip(NOISY, texts, strict=True)] == [
        True
    ] * 4
    assert verify_batch(task, texts * 100, answer=[*NOISY] * 100).correct.all()
    assert verify(task, "<answer>0.3333333333333333</answer>", answer=1 / 3).correct
    assert not verify(task, "<answer>0.333333333333333</answer>", answer=1 / 3).correct


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize(("kind", "whole"), [(np.float16, 1001), (np.float32, 2**27), (np.float64, 2**40)])
def test_a_narrow_float_of_a_column_is_the_decimal_that_it_prints_as(task, kind, whole):
    text, column = "<answer>0.1</answer>", np.array([0.1], kind)
    assert verify(task, text, answer=kind(0.1)).correct
    assert verify_batch(task, [text], answer=column).correct.all()
    assert reward_function(task)(completions=[text], answer=column) == [1.0]
    assert verify(task, f"<answer>{whole}</answer>", answer=kind(whole)).correct  # exact in the type
