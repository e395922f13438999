"""Several tasks in one environment: each problem is of one of them, by weight, and judged by it alone."""

from collections import Counter

import numpy as np
import pytest

import envs
from envs.combining import mixture
from envs.combining.wrapper import author_task
from envs.problem import read_problem
from envs.scoring import score_all
from envs.splits import distinct_problems

BOTH = "sorting + arithmetic"


def test_each_task_has_the_share_of_its_weight_and_all_its_problems() -> None:
    env = envs.make(BOTH, split="validation", **{"arithmetic.weight": 3})
    assert env.spec_name == "sorting+3*arithmetic"
    first = Counter(env.problem(index).task for index in range(40))
    assert first == {"sorting": 10, "arithmetic": 30}
    for task, part in env.parts.items():
        own = {str(env.problem(i).prompt) for i in range(len(env)) if env.problem(i).task == task}
        assert own == {str(part.problem(i).prompt) for i in range(len(part))}
    assert len(distinct_problems(env, 32)) == 32


def test_weights_need_not_be_whole_numbers() -> None:
    env = envs.make(f"{BOTH} + edits", **{"sorting.weight": 0.5, "edits.weight": 1.5})
    assert env.counts == {"sorting": 1, "arithmetic": 2, "edits": 3}
    assert sorted(set(env.order)) == sorted(env.order) and len(env.order) == 6


def test_a_completion_earns_what_its_own_task_says() -> None:
    env = envs.make("countdown + arithmetic", reward_weights={"numbers_used": 0.5})
    problems = [read_problem(env, index) for index in range(4)]
    texts = [env.demonstration(problem) for problem in problems]
    scored = score_all(env, range(4), problems, texts)
    assert scored.rewards["correct"].tolist() == [1.0] * 4
    used = scored.rewards["numbers_used"]
    for problem, text, value, total in zip(problems, texts, used, scored.total, strict=True):
        part = author_task(env, problem)
        alone = score_all(part, [0], [problem], [text])
        assert total == alone.total[0] == (1.5 if problem.task == "countdown" else 1.0)
        assert np.isnan(value) == (problem.task == "arithmetic")
        assert env.habits(problem) == part.habits(problem)


@pytest.mark.parametrize("order", ["sorting + {rows}", "{rows} + sorting"])
def test_each_task_keeps_its_own_weights_beside_one_with_a_reward_of_its_own(tmp_path, order) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "Say hello."}\n' * 8)
    (tmp_path / "mine.py").write_text(
        "def short(completions, **kwargs):\n    return [1.0 for _ in completions]\n"
    )
    names = order.format(rows=rows)
    env = envs.make(names, **{"rows.reward": f"{tmp_path / 'mine.py'}:short"})
    weights = {task: dict(part.reward_weights) for task, part in env.parts.items()}
    assert weights["sorting"]["correct"] == 1.0
    assert weights["rows"] == {**weights["rows"], "correct": 0.0, "short": 1.0}
    paid = envs.make(
        names, reward_weights={"correct": 2.0}, **{"rows.reward": f"{tmp_path / 'mine.py'}:short"}
    )
    assert {part.reward_weights["correct"] for part in paid.parts.values()} == {2.0}


def test_the_same_problem_of_two_tasks_is_evaluated_for_each() -> None:
    env = envs.make("sorting + sorting", split="validation")
    indices = distinct_problems(env, 8)
    assert Counter(env.problem(index).task for index in indices) == {"sorting": 4, "sorting-2": 4}


def test_a_task_of_several_turns_beside_one_of_a_single_turn() -> None:
    env = envs.make(BOTH, **{"arithmetic.tries": 3})
    assert env.max_turns == 3
    for index in range(2):
        env.reset(options={"index": index})
        task = env.problem(index).task
        reply, _, ended, cut, _ = env.step("no idea")
        assert ended == (task == "sorting") and not cut and bool(reply) == (task == "arithmetic")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"level": 2}, "Give sorting.level=2, arithmetic.level=2"),
        (
            {"infill": True},
            "infill=True: which task is it for. Give sorting.infill=True, arithmetic.infill=True",
        ),
        ({"chess.level": 2}, "which task is it for"),
        ({"sorting.colour": 2}, 'takes no argument "colour"'),
        ({"sorting.weight": 0}, "must be a number above 0"),
        ({"sorting.weight": "much"}, "must be a number above 0"),
        ({"sorting.weight": 1e9}, "too far apart"),
        ({"reward_weights": {"beauty": 1}}, "beauty"),
    ],
)
def test_what_cannot_be_is_told(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(envs.EnvError, match=said):
        envs.make(BOTH, **arguments)


def test_every_task_of_a_mixture_must_be_known() -> None:
    with pytest.raises(envs.EnvError, match="Did you mean"):
        envs.make("sorting + arithmetics")


def test_names_of_tasks() -> None:
    names = "spg/Sudoku-v0 + ./my/task.py:my/Own.Task-v2 + data/rows.jsonl.gz + sudoku + reasoning_gym:leg_counting"
    assert list(mixture.tasks_of(names)) == ["sudoku", "own_task", "rows", "sudoku-2", "leg_counting"]
