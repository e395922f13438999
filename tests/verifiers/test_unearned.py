"""What a policy would learn to be paid for without the work: formulas and numbers of the problem, in any place."""

import pytest

import verifiers

OPTIONS = "What is $513^2-487^2$? (A) 25000 (B) 26000 (C) 27000 (D) 28000"
PARTS = r"Find the partial fraction decomposition of $\frac{1}{x(x+1)}$."
INTERVAL = "Solve $x^2-7x+10<0$. Give your answer in interval notation."
CASES = [
    (r"513^2-487^2", "26000", OPTIONS, False),
    ("25000+1000", "26000", OPTIONS, False),
    (r"513^2-487^2", "B", OPTIONS, False),
    ("26,000", "B", OPTIONS, True),
    ("B", "26000", OPTIONS, True),
    ("360", r"2^3\cdot 3^2\cdot 5", "Write 360 as a product of primes.", False),
    (r"5\cdot 2^3\cdot 3^2", r"2^3\cdot 3^2\cdot 5", "Write 360 as a product of primes.", True),
    ("0.0000032", r"3.2\times 10^{-6}", "Write $0.0000032$ in scientific notation.", False),
    ("32", "2^5", "Write 32 as a power of 2.", False),
    ("32", "2^5", "What is the fifth power of 2?", True),
    (r"\frac{9}{4}", r"2\frac{1}{4}", r"Convert $\frac{9}{4}$ to a mixed number.", False),
    (r"72\text{ km/h}", r"20\text{ m/s}", "Convert $72$ km/h to meters per second.", False),
    ("20", r"20\text{ m/s}", "Convert $72$ km/h to meters per second.", True),
    ("2,5", "(2,5)", INTERVAL, False),
    (r"\langle 2,5\rangle", "(2,5)", INTERVAL, False),
    ("2<x<5", "(2,5)", INTERVAL, True),
    ("-(x+1)(-x-2)", "x^2+3x+2", "Expand $(x+1)(x+2)$.", False),
    ("x(x+1)+2(x+1)", "x^2+3x+2", "Expand $(x+1)(x+2)$.", False),
    ("2+3x+x^2", "x^2+3x+2", "Expand $(x+1)(x+2)$.", True),
    (r"\frac{x^2+x}{2}", r"\frac{x^2}{2}+\frac{x}{2}", r"Expand $\frac{x(x+1)}{2}$.", True),
    ("x(x+3)+2", "(x+1)(x+2)", "Factor $x^2+3x+2$.", False),
    ("-(x(x+3)+2)", "-(x+1)(x+2)", "Factor $-x^2-3x-2$.", False),
    ("-(x+2)(-x-1)", "(x+1)(x+2)", "Factor $x^2+3x+2$.", True),
    (
        "2x+2",
        "2(x+1)",
        "A square is stretched by a factor of $x+1$ and then of two. How long is its side of 1?",
        True,
    ),
    ("(x^2+x)^{-1}", r"\frac{1}{x}-\frac{1}{x+1}", PARTS, False),
    (r"\frac{-1}{x+1}+\frac1x", r"\frac{1}{x}-\frac{1}{x+1}", PARTS, True),
    ("1,2,3", "3,2,1", "Write 1, 2, 3 backwards.", False),
]


@pytest.mark.parametrize(("answer", "gold", "problem", "is_right"), CASES)
def test_the_problem_itself_is_not_paid(answer: str, gold: str, problem: str, is_right: bool) -> None:
    completion = f"\\boxed{{{answer}}}"
    assert verifiers.verify("math500", completion, answer=gold, problem=problem).correct is is_right
    batch = verifiers.verify_batch("math500", [completion], answer=[gold], problem=[problem])
    assert batch[0].correct is is_right


def test_a_letter_of_money_behind_no_number_is_no_error() -> None:
    assert verifiers.verify("math500", r"\boxed{\$[1,2]018B}", answer="5").reason == "malformed"
