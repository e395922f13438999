"""Countdown by construction against a slow oracle, kernel against plain path, and bounds on hostile lengths."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verifiers._countdown_reference import columns

import verifiers
from tests.common.countdown_oracle import oracle
from tests.common.countdown_writer import Writer
from verifiers import _compile, countdown, verify, verify_batch

_PIECES = st.sampled_from(
    [
        *(
            "3",
            "5",
            "7",
            "22",
            "0",
            "-3",
            "3.0",
            "4611686018427387904",
            "9" * 19,
            "9" * 18,
            "1.5",
            "٣",
            "\uff15",
        ),
        *("+", "-", "*", "/", "(", ")", "=", " ", "\n", "×", "÷", "−", "\u200b", "\u00a0", "**", ".", ","),
        *(
            "\\frac{",
            "}{",
            "}",
            "{",
            "\\times",
            "\\left",
            "\\right",
            "\\,",
            "\\boxed{",
            "\\",
            "<answer>",
            "</answer>",
        ),
        *(
            "The answer is ",
            "Answer: ",
            "not ",
            "x",
            "`",
            "$",
            "“",
            "”",
            "é",
            "\x00",
            "\ud800",
            " or ",
            "####",
            "<|eot_id|>",
        ),
        *("3*5+7", "\\frac{3}{5}", "(3)", "1/3037000501", "\U0001d7d1"),
    ]
)
_TEXTS = st.lists(_PIECES | st.characters(codec=None), max_size=16).map("".join)
_COMPLETIONS = _TEXTS | _TEXTS.map(lambda text: f"<answer>{text}</answer>")
_BIG = (
    st.integers(-(2**62) - 2, -(2**62) + 2)
    | st.integers(2**62 - 2, 2**62 + 2)
    | st.integers(-(10**30), 10**30)
)
_NUMBERS = st.lists(st.integers(-8, 8) | _BIG, min_size=1, max_size=4) | st.just([3, 5, 7])
_TARGETS = st.just(22) | st.fractions(max_denominator=8) | _BIG


def by_kernel(texts, numbers, targets, mode):
    """What the compiled kernel says, the rows it hands on judged by the plain path as in a batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compile, "PLAIN_ROWS", 0)
        return list(verify_batch("countdown", texts, mode=mode, numbers=numbers, target=targets))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_COMPLETIONS, _NUMBERS, _TARGETS), min_size=1, max_size=8))
def test_kernel_and_plain_path_agree(rows):
    texts, numbers, targets = (list(column) for column in zip(*rows, strict=True))
    for mode in ("lenient", "strict"):
        plain = [
            verify("countdown", text, mode=mode, numbers=given_numbers, target=target)
            for text, given_numbers, target in rows
        ]
        assert by_kernel(texts, numbers, targets, mode) == plain
        assert all(verdict.correct is (verdict.reason == "ok") for verdict in plain)


def written(seed, strict, count):
    writer = Writer(random.Random(seed), strict)
    return writer, [writer.problem() for _ in range(count)]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_kernel_and_plain_path_agree_on_what_is_nearly_right(seed, strict):
    writer, problems = written(seed, strict, 3)
    mode = "strict" if strict else "lenient"
    rows = [(a + text + b, n, t) for a, right, b, n, t in problems for text in (right, writer.edit(right))]
    texts, numbers, targets = (list(column) for column in zip(*rows, strict=True))
    plain = [verify("countdown", text, mode=mode, numbers=n, target=t) for text, n, t in rows]
    assert by_kernel(texts, numbers, targets, mode) == plain


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_ten_thousand_right_answers_are_accepted(mode):
    _, problems = written(11, mode == "strict", 10_000)
    texts = [before + text + after for before, text, after, _, _ in problems]
    numbers, targets = [p[3] for p in problems], [p[4] for p in problems]
    verdicts = verify_batch("countdown", texts, mode=mode, numbers=numbers, target=targets)
    assert [texts[row] for row in np.flatnonzero(~verdicts.correct)] == []
    assert all(
        oracle(*row, mode == "strict") for row in list(zip(texts, numbers, targets, strict=True))[:2_000]
    )


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_ten_thousand_wrong_answers_one_edit_away_are_refused(mode):
    writer, problems = written(12, mode == "strict", 10_000)
    wrong = []
    while len(wrong) < 10_000:
        before, text, after, numbers, target = problems[len(wrong)]
        edited = before + writer.edit(text) + after
        if not oracle(edited, numbers, target, mode == "strict"):
            wrong.append((edited, numbers, target))
    texts, numbers, targets = (list(column) for column in zip(*wrong, strict=True))
    verdicts = verify_batch("countdown", texts, mode=mode, numbers=numbers, target=targets)
    assert [texts[row] for row in np.flatnonzero(verdicts.correct)] == []
    assert {"wrong", "rule_broken", "malformed"} <= set(verdicts.counts())


def test_the_oracle_is_no_yes_man():
    for answer, right in [
        ("3*5+7", True),
        ("3*5+8", False),
        ("3*5", False),
        ("35+7", False),
        ("3.5+7", False),
    ]:
        assert oracle(f"<answer>{answer}</answer>", [3, 5, 7], 22, False) is right
    assert not oracle("<answer>3*5- -7</answer>", [3, 5, 7], 22, True)


LONG = [
    "(" * 60_000 + "3*5+7",
    "-" * 60_000 + "3*5+7",
    "((" * 200 + "3*5+7" + "))" * 200,
    "\\frac{" * 9_000,
    "\\frac{1}{" * 200 + "1" + "}" * 200,
    "9" * 65_000,
    "3*5+7=" + "9" * 4_001,
    "3*5+7=" + "*".join(["9" * 3_900] * 16),
    "3*5+7=" + "/".join(["9" * 60] * 1_020),
    "3*5+7=" + "+".join(["1/7"] * 500),
    "+".join(["1"] * 30_000),
    "**".join(["9"] * 20_000),
    "`" * 60_000,
    "“" * 10_000 + "”" * 10_000,
    "the " * 16_000,
    "3*5+7" + "\u200b" * 20_000,
    "\\left" * 12_000,
    "\\left" + " " * 60_000,
    "=".join(["22"] * 20_000),
    "3*5+7" + " " * 70_000,
    "<answer>" * 10_000,
    "\\boxed{" * 9_000,
]


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_no_answer_takes_long(mode):
    texts = [f"<answer>{text}</answer>" for text in LONG]
    plain = []
    for text in texts:
        start = time.process_time()
        plain.append(verify("countdown", text, mode=mode, numbers=[3, 5, 7], target=22))
        assert time.process_time() - start < 1.5, text[:40]
    assert by_kernel(texts, [[3, 5, 7]] * len(texts), [22] * len(texts), mode) == plain
    assert [verdict.correct for verdict in plain].count(True) == (mode == "lenient") * 1


def test_depth_is_bounded_and_said_so():
    for depth, right in ((250, True), (300, False)):
        answer = "<answer>" + "(" * depth + "3*5+7" + ")" * depth + "</answer>"
        verdict = verify("countdown", answer, numbers=[3, 5, 7], target=22)
        assert (verdict.correct, verdict.reason == "malformed") == (right, not right)


def test_many_and_huge_numbers_are_exact():
    numbers = [10**3_998 + i for i in range(15)]
    answer = "+".join(map(str, numbers))
    assert verify("countdown", f"<answer>{answer}</answer>", numbers=numbers, target=sum(numbers)).correct
    assert not verify(
        "countdown", f"<answer>{answer}</answer>", numbers=numbers, target=sum(numbers) + 1
    ).correct
    many = list(range(1, 257))
    text = "<answer>" + "+".join(map(str, many)) + "</answer>"
    verdicts = verify_batch("countdown", [text] * 300, numbers=[many] * 300, target=[sum(many)] * 300)
    assert verdicts.correct.all()


@pytest.mark.parametrize(
    "completion", [None, 18.0, b"<answer>3*5+7</answer>", ["3*5+7"], {"answer": "3*5+7"}, float("nan")]
)
def test_any_object_gets_a_verdict(completion):
    verdict = verify("countdown", completion, numbers=[3, 5, 7], target=22)
    assert (verdict.correct, verdict.score, verdict.extracted, verdict.reason) == (
        False,
        0.0,
        None,
        "malformed",
    )
    many = verify_batch("countdown", [completion] * 300, numbers=[[3, 5, 7]] * 300, target=[22] * 300)
    assert list(many) == [verdict] * 300


def test_references_as_columns_hold_what_was_given():
    (values, starts, tops, bottoms), second = columns([[1, 2], (3,), [4, 5]], [1, 2, 3])
    assert (values.tolist(), starts.tolist(), tops.tolist(), bottoms.tolist()) == (
        [1, 2, 3, 4, 5],
        [0, 2, 3, 5],
        [1, 2, 3],
        [1, 1, 1],
    )
    assert second == []
    (values, starts, tops, bottoms), second = columns([[1, 2], [2**70], [4]], [1, 2, "1/3"])
    assert (values.tolist(), starts.tolist(), tops.tolist(), bottoms.tolist()) == (
        [1, 2, 4],
        [0, 2, 2, 3],
        [1, 0, 1],
        [1, 1, 3],
    )
    assert second == [([1, 2], 1, 1), ([2**70], 2, 1), ([4], 1, 3)]


def test_without_numba_a_large_batch_is_judged_plainly(monkeypatch):
    texts = ["<answer>3*5+7</answer>", "<answer>3+5+7</answer>"] * 200
    reference = {"numbers": [[3, 5, 7]] * 400, "target": [22] * 400}
    compiled = list(verify_batch("countdown", texts, **reference))
    monkeypatch.setattr(countdown, "_kernel", lambda: None)
    assert list(verify_batch("countdown", texts, **reference)) == compiled
    assert verifiers.verify_batch("countdown", [], numbers=[], target=[]).counts() == {}
