"""Answers made to take long, and objects that are no answers."""

import time

import pytest

from tests.common.soup import MODES
from verifiers import batch, verify, verify_batch

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
REFERENCES = {
    "gsm8k": {"answer": "18"},
    "countdown": {"numbers": [3, 5, 7], "target": 22},
    "sudoku": {"puzzle": PUZZLE},
}
RIGHT = {"gsm8k": "\\boxed{18}", "countdown": "3*5+7", "sudoku": SOLUTION}
SECONDS = {"gsm8k": 2.0, "countdown": 1.5, "sudoku": 2.0}  # of processor time for one answer
DIGITS = "9" * 100_000
LONG = {
    "gsm8k": [
        DIGITS[:65_000], DIGITS, "1/" + DIGITS[:60_000], f"{'1' * 30_000}/{'1' * 30_000}", "1 " * 30_000, "1," * 30_000,
        "\\frac{" * 10_000, "-" * 60_000, "<" * 60_000, "1=" * 30_000, "/ " * 30_000, "{" * 60_000,
        "18\u200b" * 12_000, "1 1/" * 15_000, "18^" + "{" * 60_000, "18e" + "9" * 60_000, "-a" * 30_000, "(1" * 30_000,
        "1,234" * 12_000, "\\boxed{" * 50_000, "<answer>" * 100_000, "18" + " " * 60_000 + "18",
    ],
    "countdown": [
        "(" * 60_000 + "3*5+7", "-" * 60_000 + "3*5+7", "((" * 200 + "3*5+7" + "))" * 200, "\\frac{" * 9_000,
        "\\frac{1}{" * 200 + "1" + "}" * 200, "9" * 65_000, "3*5+7=" + "9" * 4_001,
        "3*5+7=" + "*".join(["9" * 3_900] * 16), "3*5+7=" + "/".join(["9" * 60] * 1_020),
        "3*5+7=" + "+".join(["1/7"] * 500), "+".join(["1"] * 30_000), "**".join(["9"] * 20_000), "`" * 60_000,
        "“" * 10_000 + "”" * 10_000, "the " * 16_000, "\\left" * 12_000, "\\left" + " " * 60_000,
        "=".join(["22"] * 20_000), "3*5+7" + " " * 70_000, "<answer>" * 10_000, "\\boxed{" * 9_000,
    ],
    "sudoku": [
        *(part * (400_000 // len(part)) for part in (
            "<answer>", "\\boxed{", "\\boxed{1}", "\\boxed{ ", "</answer>", "####", "1", "}", "{", "\\", "or",
        )),
        "\\boxed{" * 40_000 + "1" + "}" * 40_000, "\\boxed{1} or " * 40_000,
    ],
}  # fmt: skip
LONG_AND_RIGHT = {  # in lenient mode
    "gsm8k": ["18" + ">" * 60_000, f"18{'0' * 60_000}e-60000"],
    "countdown": ["3*5+7" + "\u200b" * 20_000],
    "sudoku": [SOLUTION + " " * 60_000],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", LONG)
def test_no_answer_takes_long(task, mode, monkeypatch):
    wrong, right = LONG[task], LONG_AND_RIGHT[task]
    texts = [f"<answer>{text}</answer>" for text in (*wrong, *right)]
    if task == "sudoku":
        texts += [*wrong, *(f"<answer>{text}" for text in wrong)]
    verdicts = []
    for text in texts:
        start = time.process_time()
        verdicts.append(verify(task, text, mode=mode, **REFERENCES[task]))
        assert time.process_time() - start < SECONDS[task], text[:40]
    correct = [verdict.correct for verdict in verdicts]
    expected = mode == "lenient" or task == "sudoku"  # white space around an answer is nobody's mistake
    assert correct == [False] * len(wrong) + [expected] * len(right) + [False] * (
        len(texts) - len(wrong + right)
    )
    monkeypatch.setattr(batch, "MIN_COMPILED_ROWS", 0)
    columns = {name: [value] * len(texts) for name, value in REFERENCES[task].items()}
    assert list(verify_batch(task, texts, mode=mode, **columns)) == verdicts


def test_a_batch_of_long_answers_takes_no_longer():
    texts = [f"<answer>{text}</answer>" for text in (*LONG["gsm8k"], *LONG_AND_RIGHT["gsm8k"])] * 20
    start = time.process_time()
    verify_batch("gsm8k", texts, answer=["18"] * len(texts))
    assert time.process_time() - start < 40.0


class Hostile(str):
    def __len__(self):
        raise RuntimeError

    encode = __str__ = __hash__ = __eq__ = isascii = __len__


class Liar:
    @property
    def __class__(self):
        raise RuntimeError


@pytest.mark.parametrize("task", REFERENCES)
def test_any_object_is_a_completion(task):
    right, reference = f"<answer>{RIGHT[task]}</answer>", REFERENCES[task]
    others = [
        None,
        18,
        18.0,
        True,
        [right],
        {"content": right},
        right.encode(),
        object(),
        Liar(),
        float("nan"),
    ]
    for other in others:
        verdict = verify(task, other, **reference)
        assert (verdict.correct, verdict.score, verdict.reason) == (False, 0.0, "malformed")
        assert verdict.extracted is None
    for count in (1, 40):  # interpreted and compiled
        completions = [*others, Hostile(right), right] * count
        columns = {name: [value] * len(completions) for name, value in reference.items()}
        verdicts = verify_batch(task, completions, **columns)
        assert verdicts.correct.tolist() == ([False] * 10 + [True] * 2) * count
        assert verdicts.extracted[:10] == [None] * 10
        assert verdicts.extracted[10:12] == [verify(task, right, **reference).extracted] * 2
