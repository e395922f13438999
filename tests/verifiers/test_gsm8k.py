"""GSM8K verdicts: references, reasons, strict mode, numbers of any size; notations: casebook/gsm8k.txt."""

import numpy as np
import pytest

from verifiers import verify, verify_batch

BIG = "1" + "0" * 30


def lenient(text, answer):
    return verify("gsm8k", f"<answer>{text}</answer>", answer=answer)


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
