"""Which habits completions follow, and when a model is called no base."""

from typing import ClassVar

import pytest

import envs
from spg_trainer.sft.habits import Look, habit_answers, habit_names, look


class Case(envs.TextEnv):
    """Which letter? The right one is in the answer block, in either case."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0}

    def __init__(self, split: str = "train") -> None:
        self.split = split

    def __len__(self) -> int:
        return 9

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"letter {index}", {"letter": "abcdefghi"[index]}, completion_prefix="<answer>")

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        found = envs.read_answer(completion)
        right = found is not None and found.lower() == problem.reference["letter"]
        return envs.Score({"correct": float(right)}, "", found and found.lower())

    def demonstration(self, problem: envs.Problem) -> str:
        return f"{problem.reference['letter']}</answer>"

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"first": " A </answer>", "silent": "hm"}


def rows(*texts: tuple[int, str]) -> list[dict]:
    env, found = Case(), []
    for index, text in texts:
        score = env.score(env.problem(index), text)
        row = {"index": index, "completion": text, "extracted": score.extracted}
        found.append({**row, "correct": score.rewards["correct"] == 1})
    return found


def test_a_habit_is_known_by_its_answer_not_by_its_text() -> None:
    found = look(
        Case(), rows((1, "<answer>B</answer>"), (1, "well, <answer>a</answer>"), (1, "<answer>z</answer>"))
    )
    assert (found.follows, found.neither) == ({"right": 1, "first": 1, "silent": 0}, 1)
    assert habit_answers(Case(), 1) == {"first": "a", "silent": "<answer>hm"}


def test_habits_that_raise_are_named(monkeypatch) -> None:
    monkeypatch.setattr(Case, "habits", lambda self, problem: {"first": problem.reference["lost"]})
    with pytest.raises(
        envs.EnvError, match=r"habits\(\) raised KeyError: 'lost' for the problem 'letter 0'"
    ) as caught:
        habit_names(Case())
    assert __file__ in str(caught.value)
    with pytest.raises(envs.EnvError, match="letter 1"):
        habit_answers(Case(), 1)


def test_a_habit_without_an_answer_is_known_by_its_whole_text() -> None:
    found = look(Case(), rows((1, "<answer>hm\n"), (1, "<answer>hmm")))
    assert (found.follows["silent"], found.neither) == (1, 1)


def test_where_habits_agree_a_completion_counts_for_each() -> None:
    found = look(Case(), rows((0, "<answer>a</answer>")))
    assert (found.follows, found.neither) == ({"right": 1, "first": 1, "silent": 0}, 0)


def test_groups_are_counted_by_problem() -> None:
    right, wrong = "<answer>{}</answer>".format, "<answer>z</answer>"
    texts = [(1, right("b")), (1, wrong), (2, wrong), (2, wrong), (3, right("d")), (3, right("d"))]
    found = look(Case(), rows(*texts))
    assert (found.groups, found.mixed, found.never, found.completions) == (3, 1, 1, 6)
    assert found.shares == "right 3, first 0, silent 0, none of these 3 of 6"
    assert (
        found.signal
        == "1 of 3 groups are mixed (right and wrong answers to one problem), 1 have no right one"
    )


@pytest.mark.parametrize(
    ("follows", "neither", "mixed", "never", "words"),
    [
        ({"right": 19, "careless": 252}, 1, 2, 28, ""),  # the embedded model of Sudoku, which learns
        ({"right": 40, "adder": 186}, 38, 13, 18, ""),  # that of Countdown, likewise
        (
            {"right": 54, "additive": 2},
            200,
            8,
            24,
            "200 of 256 completions follow no known habit, and 8 of 32",
        ),
        ({"right": 0, "adder": 256}, 0, 0, 32, "0 of 32 groups are mixed"),
        ({"right": 0, "adder": 160}, 96, 0, 32, "96 of 256 completions follow no known habit, and 0 of 32"),
        ({"right": 254, "adder": 2}, 0, 1, 0, ""),
        ({"right": 256, "adder": 0}, 0, 0, 0, ""),  # nothing left to learn, which the run says anyhow
        ({"right": 96}, 160, 18, 14, ""),  # without habits nobody knows what the wrong ones follow
    ],
)
def test_a_model_is_no_base_if_it_answers_by_no_habit_or_never_right(
    follows, neither, mixed, never, words
) -> None:
    problem = Look(256, follows, neither, 32, mixed, never).problem
    assert problem.startswith(words) if words else problem == ""
    assert ("hardly" in problem) == bool(words)


@pytest.mark.parametrize(
    ("right", "neither", "mixed", "never"),
    [(130, 78, 14, 11), (30, 183, 13, 18)],
    ids=["a third", "most, but many groups are mixed"],
)
def test_a_base_of_which_many_follow_no_habit_may_learn_little(right, neither, mixed, never) -> None:
    problem = Look(256, {"right": right, "once": 48}, neither, 32, mixed, never).problem
    assert problem.startswith(f"{neither} of 256") and "RL may learn little, and may unlearn" in problem


def test_a_few_groups_alone_do_not_show_that_none_is_mixed() -> None:
    assert Look(16, {"right": 4, "careless": 12}, 0, 4, 0, 3).problem == ""
    assert Look(16, {"right": 4, "careless": 0}, 12, 4, 0, 3).problem.startswith("12 of 16 completions")


def test_without_habits_a_base_is_weak_where_most_groups_have_no_right_completion() -> None:
    assert Look(256, {"right": 8}, 248, 32, 6, 26).problem.startswith("6 of 32 groups are mixed")
    assert "RL may learn little" in Look(256, {"right": 8}, 248, 32, 6, 26).problem
    assert Look(256, {"right": 40}, 216, 32, 16, 16).problem == ""


def test_a_base_that_is_hardly_ever_right_may_learn_little() -> None:
    problem = Look(256, {"right": 1, "adder": 255}, 0, 32, 1, 31).problem
    assert problem.startswith("1 of 32 groups are mixed") and "may learn little" in problem
    assert not Look(160, {"right": 1, "adder": 159}, 0, 20, 1, 19).problem, "too few groups to tell"
