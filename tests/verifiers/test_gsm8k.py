"""GSM8K verdicts: references, reasons, strict mode, numbers of any size; notations: casebook/gsm8k.txt."""

import numpy as np
import pytest

from verifiers import verify, verify_batch


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
