"""Answers by the thousand: right ones in every accepted notation, and those one edit away, against slow oracles."""

import re
from itertools import islice

import pytest

from tests.common import countdown_writer, gsm8k_oracle, sudoku_answers
from tests.common.soup import judge

CASES = {"gsm8k": gsm8k_oracle.cases, "countdown": countdown_writer.cases, "sudoku": sudoku_answers.cases}
COUNTS = [1_000, pytest.param(10_000, marks=pytest.mark.slow)]
TASKS = [("gsm8k", "lenient"), ("countdown", "lenient"), ("countdown", "strict"), ("sudoku", "lenient")]


BEHIND_A_SENTENCE = re.compile(r"answer(?: is)?:? [^<]{1,80}[.!?][ `][^<]*</answer>", re.IGNORECASE)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("task", "mode"), TASKS)
def test_right_answers_are_accepted(task, mode, count):
    made = list(islice(CASES[task](11, mode == "strict"), count))
    verdicts = judge(task, [case.right for case in made], [case.reference for case in made], mode)
    assert [made[row].right for row in (~verdicts.correct).nonzero()[0]] == []
    assert all(case.oracle(case.right) for case in made[: count // 10])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("task", "mode"), TASKS)
def test_answers_one_edit_away_are_refused(task, mode, count):
    wrong = (case for case in CASES[task](12, mode == "strict") if not case.oracle(case.edited))
    # A sentence's answer ends with it, so an edit behind its end is not read in lenient mode.
    read = (case for case in wrong if mode == "strict" or not BEHIND_A_SENTENCE.search(case.edited))
    made = list(islice(read, count))
    verdicts = judge(task, [case.edited for case in made], [case.reference for case in made], mode)
    assert [made[row].edited for row in verdicts.correct.nonzero()[0]] == []
    assert (verdicts.score < 1.0).all() and {"wrong", "malformed"} <= set(verdicts.counts())
