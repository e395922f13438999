"""Which habits completions follow, and how many groups are mixed."""

from typing import ClassVar

import envs
from spg_trainer.evaluation.habits import count_habits, habit_answers


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
        answer = envs.read_answer(completion)
        right = answer is not None and answer.lower() == problem.reference["letter"]
        return envs.Score({"correct": float(right)}, "", answer and answer.lower())

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"first": " A </answer>", "silent": "hm"}


def rows(*texts: tuple[int, str]) -> list[dict]:
    env, made = Case(), []
    for index, text in texts:
        score = env.score(env.problem(index), text)
        row = {"index": index, "completion": text, "extracted": score.extracted}
        made.append({**row, "correct": score.rewards["correct"] == 1})
    return made


def test_a_habit_is_known_by_its_answer_not_by_its_text() -> None:
    texts = (1, "<answer>B</answer>"), (1, "well, <answer>a</answer>"), (1, "<answer>z</answer>")
    counts = count_habits(Case(), rows(*texts))
    assert (counts.follows, counts.neither) == ({"right": 1, "first": 1, "silent": 0}, 1)
    assert habit_answers(Case(), 1) == {"first": "a", "silent": "<answer>hm"}


def test_groups_are_counted_by_problem(monkeypatch) -> None:
    right, wrong = "<answer>{}</answer>".format, "<answer>z</answer>"
    texts = [(1, right("b")), (1, wrong), (2, wrong), (2, wrong), (3, right("d")), (3, right("d"))]
    counts = count_habits(Case(), rows(*texts))
    assert (counts.groups, counts.mixed, counts.all_right, counts.completions) == (3, 1, 1, 6)
    assert counts.shares == "right 3, first 0, silent 0, none of these 3 of 6"
    assert counts.signal.startswith("1 of 3 groups are mixed")
    assert count_habits(Case(), rows(*texts[:4])).signal.endswith(", 0 all right, 1 all wrong")
    assert count_habits(Case(), rows(*texts[2:])).mixed == 0
    monkeypatch.setattr(Case, "habits", lambda *_: {})
    assert count_habits(Case(), rows(*texts)).shares == "right 3 of 6"
