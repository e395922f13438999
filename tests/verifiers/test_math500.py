"""MATH verdicts: extraction, tiers, hostile answers, answers by construction; notations: casebook/math.txt."""

import gzip
import json
import random
import re
import time
from pathlib import Path

import pytest

from tests.common import rational_expressions, speed
from tests.common.casebook import cases
from tests.common.command_cases import environment, python
from tests.common.math500_cases import CASES
from verifiers import Tier, verify, verify_batch
from verifiers.math500 import task
from verifiers.math500.asked.finished import surd_of
from verifiers.math500.compare.meaning import meaning
from verifiers.math500.parser import Reading, read
from verifiers.reading.tokens import Malformed, tokens_of
from verifiers.verdicts import CAS, ERROR


def boxed(answer: str) -> str:
    return f"so\n</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer><|eot_id|>"


def published(shared_data: Path, split: str) -> list[dict]:
    with gzip.open(shared_data / "math500" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def no_cas(monkeypatch: pytest.MonkeyPatch) -> list:
    """Nobody asks the computer algebra system; the pairs that would have been asked."""
    asked = []
    monkeypatch.setattr(task, "ask_cas", lambda pairs: asked.extend(pairs) or [(ERROR, CAS)] * len(pairs))
    return asked


def test_plain_notations_need_no_computer_algebra(no_cas: list) -> None:
    blocks = [case for case in cases("math") if case.kind == "block"]
    right = [case for case in blocks if case.right and "problem" not in case.reference]
    golds = [case.reference["answer"] for case in right]
    assert verify_batch("math500", [boxed(case.answer) for case in right], answer=golds).correct.all()
    assert len(right) > 1000 and not no_cas


def test_one_more_than_a_reference_is_wrong(shared_data) -> None:
    golds = [row["answer"] for row in published(shared_data, "test")]
    shifted = [gold + "1" if gold[-1].isdigit() else f"{gold}+1" for gold in golds]
    assert not verify_batch("math500", [boxed(text) for text in shifted], answer=golds).correct.any()


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_by_construction_without_computer_algebra(count: int, no_cas: list) -> None:
    rng, cases = random.Random(count), list(CASES.values())
    rows = []
    for row in range(count):
        gold, right, wrong = cases[row % len(cases)](rng)
        rows += [(right, gold, True), (rng.choice(wrong), gold, False)]
    verdicts = verify_batch("math500", [boxed(row[0]) for row in rows], answer=[row[1] for row in rows])
    failures = [pair for pair in zip(rows, verdicts, strict=True) if pair[0][2] != pair[1].correct]
    assert not failures, failures[:5]


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_rational_expressions_have_their_value_and_no_other(count: int, no_cas: list) -> None:
    """Brackets, fractions, mixed numbers and products in all forms."""
    rng = random.Random(count)
    made = rational_expressions.made(rng, count)
    golds = [rational_expressions.reference(rng, one.value) for one in made]
    verdicts = verify_batch("math500", [boxed(one.text) for one in made], answer=golds)
    assert [one for one, right in zip(made, verdicts.correct, strict=True) if not right] == []
    wrong = [(one, value) for one in made for value in rational_expressions.wrong_values(rng, one)]
    golds = [rational_expressions.reference(rng, value) for _, value in wrong]
    verdicts = verify_batch("math500", [boxed(one.text) for one, _ in wrong], answer=golds)
    assert [pair for pair, paid in zip(wrong, verdicts.correct, strict=True) if paid] == [] and not no_cas


@pytest.mark.parametrize(
    ("completion", "lenient", "strict", "reason"),
    [
        (r"<answer>\boxed{5}</answer>", True, True, "ok"), ("<answer>5</answer>", True, False, "malformed"),
        (r"<answer>so \boxed{5}</answer>", True, False, "malformed"),
        (r"<answer>\boxed{4} \boxed{5}</answer>", True, False, "hedge"),
        (r"<answer>\boxed{5} \boxed{5}</answer>", True, False, "malformed"),
        (r"<answer>\boxed{4} or \boxed{5}</answer>", False, False, "hedge"), (r"\boxed{5}", True, False, "no_answer"),
        ("the answer is 5", True, False, "no_answer"), ("so\n#### 5", True, False, "no_answer"),
        ("<answer>\\boxed{5\0}</answer>", False, False, "malformed"),
        ("Final Answer: The final answer is $5$. I hope it is correct.", True, False, "no_answer"),
        ("The final answer is 4. I hope it is correct.\n" * 2, False, False, "no_answer"),
        ("The final answer is $5$.", True, False, "no_answer"),
        ("The final answer is . I hope it is correct. 5", False, False, "no_answer"),
        ("The final answer is\n\n5. I hope it is correct.", True, False, "no_answer"),
    ],
)  # fmt: skip
def test_extraction(completion: str, lenient: bool, strict: bool, reason: str) -> None:
    assert verify("math500", completion, answer="5").correct == lenient
    verdict = verify("math500", completion, answer="5", mode="strict")
    assert (verdict.correct, verdict.reason) == (strict, reason)


@pytest.mark.parametrize(
    ("answer", "gold", "tier"),
    [
        ("(3, 4)", "(3,4)", Tier.TEXT), ("0.5", r"\frac12", Tier.RATIONAL), ("(0.5, 4)", r"(\frac12,4)", Tier.TYPED),
        (r"\sqrt{8}", r"2\sqrt{2}", Tier.PROBE), (r"\frac{", "5", Tier.GRAMMAR),
    ],
)  # fmt: skip
def test_the_cheapest_tier_decides(answer: str, gold: str, tier: Tier) -> None:
    assert verify("math500", f"<answer>{answer}</answer>", answer=gold).decided_by == tier


# References.


def test_an_answer_whose_judging_fails_is_wrong_and_told_and_does_not_end_the_batch(
    monkeypatch, caplog, judging_fails
) -> None:
    compared = task.compared

    def fails(value, *others, **named):
        if "('sym', 'y')" in str(value):
            raise ValueError("a fault of ours")
        return compared(value, *others, **named)

    monkeypatch.setattr(task, "compared", fails)
    judged = verify_batch("math500", ["\\boxed{y+20}", "\\boxed{x+2}"], answer=["20+y", "2+x"])
    assert list(judged.correct) == [False, True]
    assert "'y+20' counts as wrong" in caplog.text and "a fault of ours" in caplog.text


@pytest.mark.parametrize("gold", ["5)", r"\frac{0}{0}", r"\langle 1 \rangle", "x" * 5000, "5\ud800", "a\0b"])
def test_what_no_grammar_reads_is_compared_as_text(gold):
    itself = "malformed" if "\0" in gold or "\ud800" in gold else "ok"  # no answer may hold these
    for answer, reason in ((gold, itself), ("5", "wrong")):
        verdict = verify("math500", f"<answer>{answer}</answer>", answer=gold)
        assert (verdict.reason, verdict.decided_by) == (reason, Tier.TEXT)


@pytest.mark.parametrize("gold", [6, 6.0, 6.5, -3, 1e-07])
def test_numbers_are_references_too(gold):
    for name in ("math", "gsm8k") if gold != 1e-07 else ("math",):
        assert verify(name, f"<answer>{gold}</answer>", answer=gold).correct
        assert not verify(name, f"<answer>{gold}1</answer>", answer=gold).correct


def test_every_published_gold_opens_and_is_right(shared_data: Path):
    for split, empty in (("train", 2), ("test", 0)):
        rows = published(shared_data, split)
        kept = [row for row in rows if row["answer"].strip()]
        assert len(rows) - len(kept) == empty
        columns = {"answer": [row["answer"] for row in kept], "problem": [row["problem"] for row in kept]}
        texts = [f"<answer>\\boxed{{{row['answer']}}}</answer>" for row in kept]
        for mode in ("lenient", "strict"):
            assert verify_batch("math500", texts, mode=mode, **columns).correct.all()


# Hostile answers, and packages that are missing.


BOMBS = [
    "{" * 30_000, "(" * 60_000, "-" * 60_000, "\\frac" * 10_000, "9" * 60_000, "x^" * 2000 + "2", "1," * 1500 + "1",
    "\\sqrt{" * 500 + "2" + "}" * 500, "+".join(["x"] * 700), "9!" * 300, "(x+1)^{9999}", "(9^{9999})^{9999}",
    "9^{9^{9^{9}}}", "e^{e^{e^{e^{9}}}}", "1000!!", "\\tan\\frac{\\pi}{2}", "\\pm" * 50 + "1", "1e999",
    "\\text{" * 400 + "a" + "}" * 400, "\\sqrt{2}" * 300, "+".join(f"\\sqrt{{{n}}}" for n in range(2, 200)),
    ".\u2463", "1.\u2463", "\u2463", "\\pi!\\infty", "10^{-9999}\\pi\\infty",
    "\\frac{1}{\\sqrt{2}-\\sqrt{2}}", "\\cos" * 200 + "1", "|" * 3000, "\\{" * 2000, "\\boxed{" * 9000,
    "\\sum_{k=1}^{100} 12" * 8, "\\int_0^1 \\int_0^1 " * 20 + "5 dx" + " dx" * 39, "*".join(["999!"] * 200),
    "+x".join(["\\sum_{k=1}^{100} x^{k/3}"] * 60), "+x".join(["\\int_0^{100} e^{-x^2}\\sin(100x) dx"] * 60),
    "e^{999999}\\sqrt{2}+0", "(\\pi^{9999})^{999}", "\\sin(e^{13})^{-9999}",
]  # fmt: skip


@pytest.mark.parametrize("gold", ["5", "x", "\\sqrt{2}", "(1,2)", "\\{1, x\\}"])
def test_bombs_are_answered_at_once(gold: str, no_cas: list) -> None:
    for bomb in BOMBS:
        start = time.process_time()
        assert not verify("math500", f"<answer>{bomb}</answer>", answer=gold).correct
        taken = time.process_time() - start
        assert taken < 2 or taken < speed.here(2), bomb[:40]


def test_a_root_of_very_many_digits_is_not_looked_into() -> None:
    assert surd_of(("fn", "root", (("num", 1, 8), ("num", 3, 1)))) == (64, 3)
    assert surd_of(("fn", "root", (("num", 1, 10**4000), ("num", 99, 1)))) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * 5_000, "too long"), ("x+" * 800 + "x", "too many tokens"), ("9" * 1_001, "too many digits"),
        ("(" * 50 + "1" + ")" * 50, "too deep"), ("\\text{abc", "brace"), ("a}", "brace"),
        ("\\begin 5", "environment"), ("\\-5", "\\-"), ("=".join(["1"] * 50), "too many sides"), ("x_+", "label"),
        ("foo5", "a word run into a number"), (r"\langle 1 \rangle", "a vector"), (r"\gcd 5", "gcd"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}", "rows of several lengths"), ("4{10}", "digits in braces"),
        (r"\sum_{i=1}^2 \sum_{j=1}^3 ij", "sum"), (r"[0,3) \setminus \{x\}", "points in no order"),
        (r"(2,7) \setminus 1", "a difference of sets"), (r"\pm 1 \pm 2", "two plus-minus signs"),
        ("5 6", "two numbers"), (r"2\frac{3}{2}", "neither a mixed number nor clearly"), ("5_{x}", "digits expected"),
    ],
)  # fmt: skip
def test_what_is_beyond_a_limit_is_not_read(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=re.escape(why)):
        meaning(reading(text).value)


def reading(text: str) -> Reading:
    return read(tokens_of(text, frozenset("x")), frozenset("x"))


@pytest.mark.parametrize("inside", ["1 1/2", "so 5", "Bob (5)"])
def test_a_side_that_is_only_a_name_leaves_no_mark(inside: str) -> None:
    assert any(reading(inside)[1:])
    name, value = reading(f"P({inside}|A) = 7").value.sides
    assert value == ("num", 7, 1) and "| A" in name.text
    assert not any(reading(f"P({inside}|A) = 7")[1:])


def test_what_joins_a_list_is_told_by_the_list_alone() -> None:
    assert reading("x is 1 or y is 2").value.join == "or"
    assert reading("x is 1, y is 2 or z is 3").value.join == "or"


def test_work_that_is_left_breaks_the_rule_of_a_problem(no_cas: list) -> None:
    unfinished = r"\boxed{x^3+\frac{1}{x^3}=3^3-9}"
    problem = r"Given that $x+\frac1x=3$, find $x^3+\frac{1}{x^3}$."
    assert verify("math500", unfinished, answer="18", problem=problem).reason == "rule_broken"
    completion = r"\boxed{\lim_{x \to 0} \frac{\sin x}{x}}"
    assert verify("math500", completion, answer="1", problem="Find it.").reason == "rule_broken"
    assert not no_cas
    assert not verify("math500", completion, answer="1").correct and no_cas
    no_cas.clear()
    assert not verify("math500", r"\boxed{1}", answer=r"\lim_{x \to 0} \frac{\sin x}{x}").correct and no_cas


ALMOST_ALONE = """
import sys
for name in ("sympy", "mpmath", "math_verify", "latex2sympy2_extended", "flint", "rich", "pyarrow"):
    sys.modules[name] = None
"""
DECIDED = [("0.5", r"\frac12"), ("(x+1)^2", "x^2+2x+1"), ("[1,2)", "[1,2)"), ("6", "5")]
PROVED = [(r"\sqrt{8}", r"2\sqrt{2}"), (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}")]
JUDGE = f"""
from verifiers import verify_batch
answers, golds = zip(*{DECIDED + PROVED})
print(verify_batch("math500", [f"<answer>{{answer}}</answer>" for answer in answers], answer=golds).reasons)
"""


def test_with_numpy_and_numba_alone_only_proofs_end_as_errors(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(ALMOST_ALONE)
    done = python("-c", JUDGE, text=True, env=environment(tmp_path))
    assert done.stdout == "['ok', 'ok', 'ok', 'wrong', 'error', 'error']\n", done.stderr
    assert "sympy cannot be imported" in done.stderr


def test_a_number_in_another_base_of_any_length_ends_no_batch() -> None:
    answers = [f"\\boxed{{2{'F' * count}_{{16}}=47}}" for count in (1, 3_600)]
    verdicts = verify_batch("math500", answers, answer=["47"] * 2, problem=["Convert it to base ten."] * 2)
    assert verdicts.correct.tolist() == [True, False]


def test_a_problem_of_blank_lines_takes_no_time() -> None:
    began = time.process_time()
    assert verify("math500", "\\boxed{5}", answer="5.0", problem="\n" * 200_000 + "What is it?").correct
    assert time.process_time() - began < speed.here(1)


def test_a_short_answer_is_judged_once_by_many_small_batches():
    """As those of a server or of a step of training, in which a problem's completions give the same answers."""
    judged = task._judge_short.cache_info().misses
    for _ in range(5):
        assert verify_batch("math500", [r"\boxed{3+\frac{1}{7}}"] * 2, answer=[r"\frac{22}{7}", "3"]).reasons
    assert task._judge_short.cache_info().misses == judged + 2
