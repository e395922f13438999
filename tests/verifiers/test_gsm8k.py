"""GSM8K verdicts: the table of notations, references, and the guards."""

import numpy as np
import pytest

from verifiers import Reason, Tier, verify, verify_batch

ACCEPTED = [
    *((text, "-18") for text in (
        "-18", "\u221218", "\u201318", "- 18", "minus 18", "negative 18 dollars", "The profit is -18", r"-\$18",
        "$-18",
    )),
    *((text, "18") for text in (
        "+18", "$18", r"\$18.00", "\u20ac18", "18 USD", "USD 18", "18%", r"18\%", "18 eggs", "18eggs",
        r"18\text{ eggs}", r"18\,\text{cm}", "She makes 18", "The answer is 18.", "Answer: 18", "18 cm^2",
        r"18 \text{ cm}^2", "18 m\u00b2", "18\u00b0", r"18^\circ", r"18^{\circ}C", "18th", r"18^{\text{th}}",
        "18-hour", "18 miles/hour", "$18/hr", "18 eggs per day", "18 eggs per 3 days", "18 dollars!", "- She makes 18",
        "\u7b54\u6848\u662f18", "18\u5143", "36/2", "36\u00f72", r"\dfrac{36}{2}", "x = 18", "18 = x", "18 = 18",
        r"9 \times 2 = 18", "x = 36/2 = 18", r"x \approx 18", "= 18", r"1.8 \times 10^1", r"1.8 \times 10^{1}",
        "1.8 \u00d7 10\u00b9", "1.8e1", "1.8E+1", "180e-1", "1.8*10^1", "18.", "18.0", "0018", r"\mathbf{18}",
        "**18**", "**Answer:** 18", "(18)", '"18"', "`18`", r"\(18\)", r"\[18\]", "$18$", "<b>18</b>", "\n18\n",
        r"\boxed{}18", r"\boxed{18", r"\boxed{18>", "boxed{18}", "\uff11\uff18", "\u0661\u0668", "1\u200b8", "18\xad",
    )),
    *((text, "1250") for text in (
        "1,250", "1{,}250", r"1,\!250", r"1\,250", "1\u2009250", "1\u202f250", "1\xa0250", "1\u066c250",
        "\uff11\uff0c\uff12\uff15\uff10",
    )),
    ("0", "-0"), ("\u00a318.50", "18.5"), ("1,250,000.50", "1250000.5"), ("1/2", "0.5"), ("1 / 2", "0.5"),
    (r"\frac{1}{2}", "0.5"), ("\u00bd", "0.5"), (".5", "0.5"), ("1\u20442", "1/2"), (r"\frac12", "1/2"),
    (r"-\frac{1}{2}", "-0.5"), (r"\frac{-1}{2}", "-0.5"), ("2 1/2", "2.5"), (r"2\frac{1}{2}", "2.5"),
    (r"2 \frac{1}{2} cups", "2.5"), ("2\u00bd", "2.5"), ("-2 1/2", "-2.5"), (r"18 \cdot 10^{-1}", "1.8"),
    ("1.5 million", "1500000"), ("5 hundred", "500"), ("18k", "18000"),
]  # fmt: skip

REJECTED = [
    *((text, "18") for text in (
        "--18", "\u00b118", r"\pm 18", "Total - 18", "-18", "minus 18", "x-18", "18-x", "18+", "18 or 17", "17 or 18",
        "18 or so", "17-18", "17\u201318", "18 to 19", "18, 19", "18 and 19", "18 19", "18 eggs, 3 days",
        "18 per 3 per 2", "18 miles/2 hours", "18 cm2", "$18 $19", "18 - 2", "20 - 2", "9*2", r"9 \times 2", "18 + 0",
        "18!", "18^2", "18\u00b2", "2^18", r"\sqrt{18}", "\u221a18", r"18\pi", "f(18)", "x18", "18x^2", "18 minus 2",
        "18 - x", r"\frac{18}{0}", "17 = 18", "18 = 17", "3x = 18", "x = 18 - 2", "x != 18", r"x \neq 18", "x < 18",
        "18 < x", r"\geq 18", "\u226518", r"1.8 \times 10^2", r"1.8 \times 9^1", "1e400", "18 thousand", "18k",
        "18\u4e07", r"18 \times 10^{99999999999}", "17.9999999999999999999", "18..", "18...", "eighteen", "x", "...",
        r"\infty", "nan", "not 18", "more than 18", "0x12", "18\u2082", "18_2", "18\u0305",
    )),
    *((text, "2") for text in (
        "2(9)", r"\frac{2}{3}", "2/3/4", "2 5/3", r"\frac{x}{2}", r"\frac{\frac{1}{2}}{2}", "2 and a half", "2 thirds",
    )),
    ("+-18", "-18"), ("Total - 18", "-18"), ("18", "-18"), ("50%", "0.5"), ("1,2500", "12500"), ("12,50", "1250"),
    ("1 250", "1250"), ("1'250", "1250"), ("1_250", "1250"), ("1.250,00", "1250"), ("1250,000", "1250000"),
    ("1,250 000", "1250000"), ("0,250", "250"), ("6,250", "6"), ("18,5", "18.5"), ("18.5.1", "18.5"), ("3:00", "3"),
    ("2 3/3", "3"), ("2.5 1/2", "3"), ("5\u00b2", "52"), ("5\u00b2", "5"), ("9**9", "9"), ("1/0", "1"),
    ("1/3", "0.333333"), ("10^2", "10"), ("10\u00b2", "10"), ("3.33\u2026", "3.33"), (r"0.\overline{3}", "0"),
    (r"0.\overline{3}", "1/3"), ("\u246e", "15"),
]  # fmt: skip

STRICT = [  # an answer in a box in the block, its reference, and whether strict mode takes it
    *((text, answer, True) for text, answer in (
        ("18", "18"), ("-18", "-18"), ("0", "0"), ("18.50", "18.5"), ("0.5", "1/2"), (" 18 ", "18"),
    )),
    *((text, answer, False) for answer in ("18", "0.5", "1250") for text in (
        "018", "18.", ".5", "+18", "1,250", "$18", "18%", "18 eggs", "36/2", "x=18", "1e1", "18\n", "\u0661\u0668",
        "--18",
    )),
]  # fmt: skip
BIG = "1" + "0" * 30


def lenient(text, answer):
    return verify("gsm8k", f"<answer>{text}</answer>", answer=answer)


@pytest.mark.parametrize("text, answer", ACCEPTED)
def test_accepts(text, answer):
    boxed = verify("gsm8k", f"so\n<answer>\n\\boxed{{{text}}}\n</answer>", answer=answer)
    assert lenient(text, answer).correct, text
    assert boxed.correct or text.count("{") != text.count("}"), text
    assert lenient(text, answer).decided_by == Tier.RATIONAL
    # the notation is read, not waved through: no other value passes
    assert not lenient(text, "7").correct


@pytest.mark.parametrize("text, answer", REJECTED)
def test_rejects(text, answer):
    verdict = lenient(text, answer)
    assert (verdict.correct, verdict.score) == (False, 0.0)
    assert verdict.reason in (Reason.WRONG, Reason.MALFORMED, Reason.HEDGE)


@pytest.mark.parametrize("text, answer, correct", STRICT)
def test_strict_takes_its_format_only(text, answer, correct):
    completion = f"so\n<answer>\n\\boxed{{{text}}}\n</answer>"
    assert verify("gsm8k", completion, answer=answer, mode="strict").correct is correct


@pytest.mark.parametrize(
    "completion",
    [
        "<answer>18</answer>", r"\boxed{18}", "#### 18", r"<answer>\boxed{18}", r"<answer>x \boxed{18}</answer>",
        r"<answer>\boxed{18}.</answer>", r"<answer>\boxed{18} \boxed{18}</answer>", r"<answer>\boxed {18}</answer>",
        r"<answer>\boxed{\boxed{18}}</answer>", r"<answer>\boxed{17} or \boxed{18}</answer>",
        r"<answer>\boxed{18}</answer><answer>\boxed{18}</answer>",
    ],
)  # fmt: skip
def test_strict_wants_one_box_and_nothing_else(completion):
    assert not verify("gsm8k", completion, answer="18", mode="strict").correct


@pytest.mark.parametrize(
    "completion, reason",
    [
        ("", "no_answer"), ("it is 18", "no_answer"), ("<answer> </answer>", "no_answer"), ("####", "no_answer"),
        ("\\boxed{18}", "ok"), ("so <answer>18", "ok"), ("so\n#### 18\n", "ok"), ("#### 17\n#### 18", "ok"),
        ("\\boxed{17} <answer>18</answer>", "ok"), ("<answer>17</answer><answer>18</answer>", "ok"),
        ("<answer>18</answer><|eot_id|><answer>17</answer>", "ok"),
        ("<answer>\\boxed{17} or \\boxed{18}</answer>", "hedge"),
        ("<answer>18 or 17</answer>", "hedge"), ("<answer>18 = 17</answer>", "hedge"), ("<answer>17</answer>", "wrong"),
        ("<answer>18 - 2</answer>", "malformed"), ("<answer>18\x00</answer>", "malformed"),
        ("<answer>18\ud800</answer>", "malformed"), ("<answer>" + "1" * 65_537 + "</answer>", "malformed"),
    ],
)  # fmt: skip
def test_reasons(completion, reason):
    verdict = verify("gsm8k", completion, answer="18")
    assert verdict.reason == reason
    assert verdict.correct is (reason == "ok")


@pytest.mark.parametrize(
    "answer",
    [
        "18", " 18\n", "18.00", "$18", "\\$18", "36/2", "0018", 18, np.int64(18),
        "She sells 2 * 9 = <<2*9=18>>18.\n#### 18",
    ],
)  # fmt: skip
def test_references_in_many_forms(answer):
    assert lenient("18", answer).correct
    assert not lenient("19", answer).correct
    assert verify_batch("gsm8k", ["<answer>18</answer>"] * 300, answer=[answer] * 300).correct.all()


@pytest.mark.parametrize(
    "text, answer, correct",
    [
        (BIG, BIG, True), (BIG + "1", BIG, False), (f"{BIG}/1{'0' * 29}", "10", True), (f"-{BIG}", BIG, False),
        (f"1.8{'0' * 40}", "1.8", True), (f"0.{'0' * 40}1", "0", False), (f"18{'0' * 40}e-40", "18", True),
        (f"{BIG} = {BIG}.0", BIG, True), (f"{BIG} = {BIG}1", BIG, False), (f"1/{'3' * 25}", f"2/{'6' * 25}", True),
        (f"1/{'3' * 25}", f"2/{'6' * 24}7", False), ("999999999999999999", "999999999999999999", True),
        ("1000000000000000000", "1000000000000000000", True), ("9223372036854775808", "-9223372036854775808", False),
        ("1e10000", "1e10000", True), ("1e1000000001", "1e10000", False), ("1e9999999999=1e9999999998", "18", False),
        (f"{BIG} 1/2", f"2{'0' * 29}1/2", True),
        (f"{BIG} 1/2", f"2{'0' * 29}3/2", False), ("0/5", "0", True), ("0e99999999999", "0", True),
        ("999999999/1000000000", "0.999999999", True), ("999999999999999/7", "999999999999999/7", True),
        ("999999999999999/7", "999999999999998/7", False), (f"{'9' * 17}/7", f"{'9' * 17}0/70", True),
    ],
)  # fmt: skip
def test_what_overflows_is_compared_exactly(text, answer, correct):
    assert lenient(text, answer).correct is correct
    batch = verify_batch("gsm8k", [f"<answer>{text}</answer>"] * 300, answer=[answer] * 300)
    assert batch.correct.tolist() == [correct] * 300
