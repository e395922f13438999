"""The reward in verl's form, called as verl's reward managers call it: by keywords, with a float back."""

from functools import partial

import pytest

import verifiers
from verifiers import compute_score
from verifiers.score import DATA_SOURCES


@pytest.mark.parametrize("data_source", [*DATA_SOURCES, "gsm8k", "math500"])
def test_published_sets_are_judged_by_their_tasks(data_source):
    for text, score in (("<answer>18</answer>", 1.0), ("<answer>17</answer>", 0.0), (None, 0.0)):
        extra = {"split": "train", "index": 3}
        found = compute_score(data_source=data_source, solution_str=text, ground_truth="18", extra_info=extra)
        assert found == score and type(found) is float


def test_tasks_with_several_references_take_them_by_name():
    numbers = {"numbers": [3, 5, 7], "target": 22}
    assert compute_score("countdown", "<answer>3*5+7</answer>", numbers) == 1.0
    with pytest.raises(verifiers.ArgumentError, match=r"'numbers': \.\.\., 'target': "):
        compute_score("countdown", "<answer>3*5+7</answer>", "22")


def test_a_problem_in_extra_info_asks_for_its_form_and_copies_of_it_earn_nothing():
    judged, copy = partial(compute_score, "lighteval/MATH"), r"\boxed{(x+1)(x+2)}"
    assert judged(copy, "x^2+3x+2") == 1.0
    assert judged(copy, "x^2+3x+2", {"problem": "Expand $(x+1)(x+2)$."}) == 0.0
    assert judged(r"\boxed{2+3}", "5") == 0.0
    assert judged(r"\boxed{5}", "5", {"problem": "What is 2+3?"}) == 1.0


def test_an_unknown_data_source_is_named():
    with pytest.raises(verifiers.UnknownTaskError, match="gsm8"):
        compute_score("gsm8", "18", "18")
