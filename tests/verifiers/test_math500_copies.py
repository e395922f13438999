"""Copies of the problem and unfinished answers: refused where the problem is given, and nothing else is."""

import gzip
import json
import re
from pathlib import Path

import pytest

from verifiers import InvalidReferenceError, verify_batch
from verifiers.math500.copies import plain

REFUSED = {  # problem: (gold, answers)
    r"What is the value of $513^2 - 487^2$?": (
        "26000",
        (
            *("513^2-487^2", r"513^{2} - 487^{2}", r"\left(513^2-487^2\right)", "n = 513^2 - 487^2"),
            *("(513+487)(513-487)", r"513 \cdot 513 - 487 \cdot 487", r"513^2 - 487^2 \text{ units}"),
            *("The answer is 513^2 - 487^2", "1000 * 26", "26000 + 0", r"1 \cdot 26000"),
        ),
    ),
    r"Find $\gcd(10,15)$.": ("5", (r"\gcd(10,15)", r"\gcd(15,10)", r"g = \gcd(10,15)")),
    r"Compute $\sum_{i=1}^{5} 1$.": ("5", (r"\sum_{i=1}^{5} 1", r"\sum_{k=1}^5 1", r"\int_0^5 1 dx", "2 + 3")),
    "Eight people stand in a row. In how many ways?": ("40320", ("8!", "8 \\cdot 7!", r"\frac{9!}{9}")),
    "How many teams of 3 of 5 people are there?": ("10", (r"\binom{5}{3}", r"\frac{5!}{3! \cdot 2!}", r"5 \cdot 2")),
    "What do the first five integers add up to?": ("15", (r"\sum_{i=1}^{5} i", r"\sum_{k = 1}^5 k")),
    r"Find $\tan 45^\circ$.": ("1", (r"\tan 45^\circ", r"\cot 45^\circ", r"\log_2 2", r"\sin\frac{\pi}{2}")),
    r"Simplify $\sqrt{200}$.": (r"10\sqrt{2}", (r"\sqrt{200}", r"\sqrt {200}", "√{200}", r"x = \sqrt{200}")),
    r"Reduce $\frac{14}{21}$.": (r"\frac{2}{3}", (r"\frac{14}{21}", "14/21", r"\dfrac{14}{21}", "{14 / 21}")),
    "Expand $8(t+c)$.": ("8t+8c", ("8(t+c)", r"8\left( t + c \right)", r"8 \cdot (t+c)", "1(8t+8c)", "8t+8c+0")),
    r"Write $1\frac{3}{4}$ as a fraction.": (r"\frac{7}{4}", (r"1\frac{3}{4}", r"1 \frac34")),
    r"Express $0.\overline{4}$ as a fraction.": (r"\frac{4}{9}", (r"0.\overline{4}",)),
    "A line has the equation $2x - y + 1 = 0$. Write it as $y = mx+b$.": ("y=2x+1", ("2x-y+1=0", "2x - y + 1 = 0")),
    "Write $-3 < x < 5$ as an interval.": ("(-3,5)", ("-3 < x < 5",)),
    "Find $x$ if $x^2 = 50$ and $x > 0$.": (r"5\sqrt{2}", (r"\sqrt{25 \cdot 2}", r"\sqrt{49+1}")),
    "Find the product of $2+3i$ and $1-i$.": ("5+i", ("(2+3i)(1-i)", "(1-i)(2+3i)")),
}  # fmt: skip
KEPT = {
    r"What is the value of $513^2 - 487^2$?": (
        "26000",
        ("26000", "26,000", "513^2-487^2 = 26000", "26000 = 513^2 - 487^2", r"2.6 \times 10^4", "26000.0", "n = 26000"),
    ),
    r"Find $\gcd(10,15)$ and name it $g$.": ("5", ("5", "g = 5", "10/2", r"\sqrt{25}", "f(g) = 5")),
    "What do the first five integers add up to?": ("15", (r"\sum_{i=1}^{5} i = 15", r"S = \sum_{i=1}^{5} i = 15")),
    r"Simplify $\sqrt{200}$.": (r"10\sqrt{2}", (r"10\sqrt2", r"10 \cdot \sqrt{2}", r"\sqrt{2} \cdot 10")),
    r"Reduce $\frac{14}{21}$.": (r"\frac{2}{3}", ("2/3", r"\dfrac{2}{3}", r"\frac{4}{6}", r"\frac{-2}{-3}")),
    "Expand $(x+1)^2$.": ("x^2+2x+1", ("1+2x+x^2", "x^{2} + 2 x + 1", r"x^2+1+2x")),
    "A pen costs 5 dollars. And 5 pens cost 25. One more?": ("5", ("5", r"\$5", "5 dollars", r"5\text{ dollars}")),
    r"Two of the angles are $40^\circ$ and $40^\circ$, so are two others.": (r"40^\circ", ("40", r"40^{\circ}")),
    r"Is it $\text{east}$ or $\text{west}$?": (r"\text{east}", ("east", r"\text{East}", r"\textbf{east}")),
    r"$\textbf{(A)}\ 3 \qquad \textbf{(B)}\ 4$": (r"\text{(B)}", (r"\textbf{(B)}\ 4", "B", "(B) 4")),
    r"Name $x$ with $2^x = 3$, to the base 2.": (r"\log_2 3", (r"\log_{2} 3", r"\frac{\ln 3}{\ln 2}")),
    "How many orders are there?": ("10!", ("10!", r"10 \cdot 9!", "3628800")),
    r"Are $x = 0.5$ or $1/2$ equal to $3 - 2.5$?": (r"\frac{1}{2}", ("0.5", "1/2", r"\frac12")),
    "The sum is $12x + 3$; what is two $x$ more?": ("2x", ("x \\cdot 2", "2 x")),
    "Find the $(x,y)$ with $x+y=3$, $x-y=1$.": ("(2,1)", ("(x,y) = (2,1)", "2, 1", "(2.0, 1)")),
    "Roots of $x^2=5$?": (r"\pm\sqrt{5}", (r"\sqrt{5}, -\sqrt{5}", r"x = \pm \sqrt{5}")),
}  # fmt: skip


def cases(table):
    return [(problem, gold, answer) for problem, (gold, answers) in table.items() for answer in answers]


def judged(rows, *, asked: bool):
    """The rows' answers with what came of them, in a batch, which waits for the computer algebra system to start."""
    problems, golds, answers = zip(*rows, strict=True)
    given = {"answer": golds, **({"problem": problems} if asked else {})}
    reasons = verify_batch("math500", [f"\\boxed{{{answer}}}" for answer in answers], **given).reasons
    return [(problem, answer, reason) for (problem, _, answer), reason in zip(rows, reasons, strict=True)]


def test_a_copy_of_the_problem_breaks_the_rule():
    rows = cases(REFUSED)
    assert [row for row in judged(rows, asked=True) if row[2] != "rule_broken"] == []
    assert [row for row in judged(rows, asked=False) if row[2] != "ok"] == []  # graders get what they got


def test_other_equal_forms_stay_right():
    assert [row for row in judged(cases(KEPT), asked=True) if row[2] != "ok"] == []


@pytest.mark.parametrize("problem", [7, ["x"], b"x"])
def test_a_problem_that_is_no_text_is_refused(problem):
    with pytest.raises(InvalidReferenceError, match=r"problem\[0\]=.* give its text, or None"):
        verify_batch("math500", ["\\boxed{5}"], answer=["5"], problem=[problem])


FORMULAS = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$(.+?)\$", re.DOTALL)
SIDES = re.compile(r"=|\\le|\\ge|<|>|,")


def formulas(problem: str) -> set[str]:
    """The formulas of a problem and their parts, whatever of them may stand in a box."""
    found = {next(filter(None, match)) for match in FORMULAS.findall(problem.replace("\\$", ""))}
    parts = {part for formula in found for part in SIDES.split(formula)} | found
    return {part.strip(" .,") for part in parts if part.strip(" .,") and part.count("{") == part.count("}")}


@pytest.mark.parametrize("split", ["test", pytest.param("train", marks=pytest.mark.slow)])
def test_no_formula_of_a_published_problem_is_paid(shared_data: Path, split: str):
    with gzip.open(shared_data / "math500" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["answer"].strip()]
    copies = [(part, row["answer"], row["problem"]) for row in rows for part in formulas(row["problem"])]
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in copies), strict=True)
    before = verify_batch("math500", texts, answer=golds)
    paid = [case for case, right in zip(copies, before.correct, strict=True) if right]
    assert len(paid) > (30 if split == "test" else 1000)
    texts, golds, problems = zip(*((f"\\boxed{{{part}}}", *rest) for part, *rest in paid), strict=True)
    after = verify_batch("math500", texts, answer=golds, problem=problems)
    number = re.compile(
        r"[-\d.,]+(\^\{\\\w+\{(st|nd|rd|th)\}\}|\^\\circ|\^\{\\circ\}|\\%)?"
    )  # a bare number is no copy
    left = [
        (part, gold)
        for (part, gold, _), verdict in zip(paid, after, strict=True)
        if verdict.correct and verdict.decided_by != "text" and not number.fullmatch(part)
        if plain(part) != plain(gold)
    ]
    assert left == []


def test_no_right_completion_of_a_model_is_lost(shared_data: Path):
    with gzip.open(shared_data / "llada_generations" / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    columns = {"answer": [row["answer"] for row in rows], "problem": [row["question"] for row in rows]}
    verdicts = verify_batch("math500", [row["completion"] for row in rows], **columns)
    assert verdicts.correct.tolist() == [row["correct"] for row in rows]
