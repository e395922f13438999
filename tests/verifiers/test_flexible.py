"""Mode flexible: of a completion that marks and names no answer, the value of its last sentence is judged."""

import gzip
import json
import re
import time
from functools import partial

import pytest

from tests.common import speed
from tests.common.casebook import cases
from tests.common.soup import REFERENCES, RIGHT, judge
from verifiers import ArgumentError, reward_function, verify, verify_batch

UNMARKED = [
    # From public logs of models that end without a mark, and the last lines of worked solutions.
    ("So, the ladders cost 96 dollars.", "96"), ("18 eggs", "18"), ("14 * 3\n= 42 inches.", "42"),
    ("Answer: It will take 227 minutes to dry all 12 shirts.", None),
    ("Answer: The number of hens not in the yard is 40.", "40"), ("Kylar needs to pay $64 for the 16 glasses.", "64"),
    ("Therefore, Eliza earned $460 for working 45 hours this week.", "460"),
    ("Lloyd makes $294 per week by selling 84 dozen eggs.", "294"), ("The trip takes 5 hours at 60 mph.", "5"),
    ("Maria walked 24 miles in total over the 3 days.", "24"),
    ("Tim deals with 120 calls during his 5-day work week.", "120"), (r"So \(9 \times 2 = 18\) eggs are left.", "18"),
    ("<think>It may be 40.</think> It costs 18 dollars.", "18"), ("18 eggs<|im_end|>\nuser\nAnd 20?", "18"),
    ("The loss is -$1,250.50.", "-1250.5"), ("The change is -18.", "-18"),
]  # fmt: skip
# What no rule may pay: 18 is denied, asked for, left open, changed, or a part of a longer value.
OPEN = [
    "It is 19 or 18 eggs.", "Is it 18?", "The total isn't 18.", "It is not 18.", "So it cannot be 18.",
    "It is 18 - x.", "They need 2 x 18", "She needs twice 18", "It is half of 18", "The answer is 18 or 19.",
    "The answer is half of 18.", "<answer>18 or 19</answer>", "<answer>2*18</answer>", "<think>It is 18",
    "The answer is 17 boys and 18 girls.", "", "no", "$x$ is odd.", "It is eighteen.", '{"answer": "x + 18"}',
    '{"answer": "17, 18"}', '{"answer": "sqrt(18)"}', '{"answer": "18x"}',
]  # fmt: skip


@pytest.mark.parametrize(("completion", "answer"), UNMARKED)
def test_the_value_that_a_completion_ends_with_is_judged(completion: str, answer: str | None) -> None:
    for gold in ("7", answer or "227"):
        right = gold == answer
        assert verify("gsm8k", completion, mode="flexible", answer=gold).correct is right
        assert verify_batch("gsm8k", [completion], mode="flexible", answer=[gold]).correct.tolist() == [right]


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("completion", OPEN)
def test_a_value_that_is_denied_or_left_open_is_not_paid(task: str, completion: str) -> None:
    assert not verify(task, completion, mode="flexible", answer="18").correct


@pytest.mark.parametrize(
    ("completion", "answer", "other"),
    [
        (r"So $x = \frac{1}{2}$ holds.", r"\frac12", "2"), (r"So the final value is \frac{1}{8}.", r"\frac18", "8"),
        ("The probability is $ \\frac{1}{3} $.", r"\frac13", "3"),
        (r"The sum is $\frac{3}{2}$. $\blacksquare$", r"\frac32", "3"), ("(5, -3)", "(5,-3)", "-3"),
        ("Therefore the correct graph is\n\n(B)", "B", "C"), (r"The area is $18\pi$.", r"18\pi", "18"),
    ],
)  # fmt: skip
def test_of_math_a_formula_is_one_value(completion: str, answer: str, other: str) -> None:
    assert verify("math500", completion, mode="flexible", answer=answer).correct
    assert not verify("math500", completion, mode="flexible", answer=other).correct
    assert not verify("math500", completion, answer=answer).correct


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_what_is_no_text_has_no_answer(task: str) -> None:
    assert verify(task, None, mode="flexible", answer="18").reason == "malformed"


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_a_marked_answer_is_judged_as_in_lenient_mode(task: str) -> None:
    texts = [f"<answer>{right}</answer> or 7." for right in RIGHT[task]]
    texts += [f"\\boxed{{{right}}} 7" for right in RIGHT[task]]
    texts += ["\\boxed{17 or 18} is 18.", "<answer>\\boxed{1 2}</answer> 18"]
    answers = [REFERENCES[task][0]["answer"]] * (len(texts) - 2) + ["18"] * 2
    lenient = verify_batch(task, texts, answer=answers)
    assert list(verify_batch(task, texts, mode="flexible", answer=answers)) == list(lenient)
    assert lenient.correct.tolist() == [True] * (len(texts) - 2) + [False] * 2


@pytest.mark.parametrize("size", [5_000, pytest.param(500_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_time_grows_with_the_text_alone(task: str, size: int) -> None:
    """Twice the characters take at most 2.5 times the time, and 100,000 of them at most four seconds."""
    pieces = "1 + |x - |\\left 1|1 |1,|1, |$1|\\(|\\[1|$$|1/|a1.|1. |$ |-|1 1/|= 1 |1+|1 not |is not, |answer is \\("
    pieces += "|a|1|(1,|\\sqrt"

    def seconds(text: str) -> float:
        began = time.process_time()
        verify(task, text, mode="flexible", answer="18")
        return time.process_time() - began

    def is_slow(piece: str) -> bool:
        text = piece * (2 * size // len(piece))
        once, twice = seconds(text[:size]), seconds(text)
        return twice > min(2.5 * once, speed.here(size / 25_000))

    # A clock may be slow for a moment: what is slow is so each time.
    assert [piece for piece in pieces.split("|") if all(is_slow(piece) for _ in range(4))] == []


def test_it_is_never_what_a_call_or_a_reward_does_unasked() -> None:
    assert not verify("gsm8k", "18 eggs", answer="18").correct
    assert reward_function("gsm8k")(completions=["18 eggs"], answer=["18"]) == [0.0]
    flexible = reward_function("gsm8k", mode="flexible")
    assert flexible(completions=["18 eggs"], answer=["18"]) == [1.0] and flexible.__name__ == "gsm8k_flexible"


def test_a_task_without_it_says_so() -> None:
    for call in (partial(verify, "code", ""), partial(reward_function, "code")):
        with pytest.raises(ArgumentError, match='"code" has no mode "flexible"; use "lenient"'):
            call(mode="flexible")


def test_worked_solutions_are_read_better_than_by_their_last_number(shared_data, at_length) -> None:
    """By default every fourth."""
    with gzip.open(shared_data / "gsm8k" / "train.jsonl.gz", "rt") as lines:
        solutions = [json.loads(line)["answer"] for line in lines][:: 1 if at_length else 4]
    working = [re.sub("<<.*?>>", "", solution.rpartition("####")[0]) for solution in solutions]
    correct = verify_batch("gsm8k", working, mode="flexible", answer=solutions).correct.mean()
    last = [re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)[-1:] for text in working]
    marked = [f"<answer>{''.join(text)}</answer>" for text in last]
    by_last_number = verify_batch("gsm8k", marked, answer=solutions).correct.mean()
    assert correct > by_last_number > 0.9


def test_half_a_character_before_a_value_does_not_move_it() -> None:
    found = verify("math500", "\ud800 5 is what is left \U00010000", answer="5", mode="flexible")
    assert found.correct and found.extracted == "5"


@pytest.mark.parametrize("task", ["countdown", "sudoku"])
def test_an_expression_or_grid_that_no_mark_names_is_read_as_a_whole(task: str) -> None:
    found = [case for case in cases(task) if case.kind == "flexible"]
    alone = [verify(task, case.answer, mode="flexible", **case.reference) for case in found]
    assert [case for case, verdict in zip(found, alone, strict=True) if verdict.correct != case.right] == []
    references = [case.reference for case in found]
    assert list(judge(task, [case.answer for case in found], references, "flexible")) == alone


@pytest.mark.parametrize("unit", ["(", "3*", "3 × ", "\\frac{", "\\,", "* ", "} ", "é", "\\é3+4 ", "\ud800"])
def test_a_long_line_is_read_whatever_it_repeats(unit: str) -> None:
    text = unit * 20_000
    assert not verify("countdown", f"{text}3+4{text}", mode="flexible", numbers=[3, 5], target=22).correct
    assert not verify("sudoku", text, mode="flexible", puzzle="4320004330100004").correct
