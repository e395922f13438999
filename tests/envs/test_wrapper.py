"""Tries, splits and mixtures around an author's environment: what is theirs, and that all else stays the author's."""

import copy
import pickle
from types import FunctionType, MethodType

import gymnasium
import numpy as np
import pytest

import envs
from envs import EnvError, Problem, Score, Scores, TextEnv
from envs.combining.divided import Divided
from envs.combining.mixture import Mixture
from envs.combining.several_tries import Tries
from envs.combining.wrapper import Combined, author_task, innermost
from envs.core import TaskEnv, render_turns
from envs.problem import read_problem
from envs.scoring import score_all
from envs.vector import TextVectorEnv


class Heard(TextEnv):
    """Repeat the number."""

    reward_weights = {"correct": 1.0, "short": 0.0}  # noqa: RUF012
    reward_ranges = {"short": (0, 2)}  # noqa: RUF012
    notice = "An echo."
    origin = {"echoes": "1"}  # noqa: RUF012

    def __init__(self, level: int = 1) -> None:
        self.level, self.batches = level, []

    def __len__(self) -> int:
        return 60

    def problem(self, index: int) -> Problem:
        if index == 59:
            raise KeyError("no such row")
        return Problem(f"say {index}", {"number": index})

    def score_batch(self, problems, completions) -> Scores:
        self.batches.append(len(problems))
        correct = [float(c == str(p.reference["number"])) for p, c in zip(problems, completions, strict=True)]
        reasons = ["ok" if c else "wrong" for c in correct]
        return Scores({"correct": correct, "short": [2.0] * len(correct)}, reasons, completions)

    def feedback(self, problem: Problem, score: Score) -> str:
        return f"level {self.level}: not {score.extracted}."

    def demonstration(self, problem: Problem) -> str:
        return str(problem.reference["number"])

    def habits(self, problem: Problem) -> dict[str, str]:
        return {"zero": "0"}

    def render_text(self, problem: Problem, completion: str | None) -> str:
        return f"[{problem.prompt}|{completion}]"


envs.register("test/Heard-v0", Heard)


def test_wrappers_hold_no_method_and_no_copy_of_what_is_the_authors():
    mixed, around = (
        envs.make("heard + arithmetic", **{"heard.tries": 2}),
        envs.make("heard + sorting", tries=3),
    )
    part = mixed.parts["heard"]
    chain = [mixed, mixed.inner, part, part.inner, part.inner.inner, around, around.inner, around.inner.inner]
    kinds = [TaskEnv, Mixture, TaskEnv, Divided, Tries, TaskEnv, Tries, Mixture]
    for one, kind in zip(chain, kinds, strict=True):
        assert type(one) is kind or (kind is Mixture and isinstance(one, Mixture))
        assert isinstance(one, Combined) and isinstance(one, gymnasium.Env) == (kind is TaskEnv)
        assert not [name for name, value in vars(one).items() if isinstance(value, FunctionType | MethodType)]
        assert not vars(one).keys() & {"reward_weights", "reward_ranges", "notice", "origin", "max_turns"}


def test_what_a_wrapper_does_not_change_the_author_answers():
    env = envs.make("heard", split="train", tries=3, level=2)
    author = author_task(env, env.problem(0))
    assert type(author) is Heard and author is innermost(env) is env.inner.inner.inner
    assert (env.level, env.tries, env.max_turns, author.max_turns) == (2, 3, 3, 1)
    assert env.spec_name == "heard[tries=3,level=2]" and not hasattr(env, "task")
    assert envs.make("gsm8k", source="generated", tries=2).task == "gsm8k", "the author's own"
    assert (env.reward_ranges, env.origin) == ({"short": (0, 2)}, {"echoes": "1"})
    assert env.notice.startswith("An echo. heard[") and env.notice.count("80/10/10") == 1
    problem = env.problem(4)
    assert problem.reference["number"] == env.indices[4]
    right = env.demonstration(problem)
    assert env.habits(problem) == {"zero": "0"} and env.render_text(problem, "x") == author.render_text(
        problem, "x"
    )
    assert env.reply(problem, ["x"]) == "level 2: not x. Try again." and env.reply(problem, [right]) is None
    assert env.score(problem, right).rewards == {"correct": 1.0, "short": 2.0}
    assert (
        render_turns(env, problem, ["x", right], ["no"])
        == f"[{problem.prompt}|x]\nuser: no\n[{problem.prompt}|{right}]"
    )
    with pytest.raises(AttributeError, match="Heard"):
        env.nonsense  # noqa: B018


def test_the_rewards_of_the_author_can_be_set_from_outside():
    env = envs.make("heard", split="train", tries=2, reward_weights={"short": 0.5})
    author = author_task(env, env.problem(0))
    assert env.reward_weights == author.reward_weights == {"correct": 1.0, "short": 0.5}
    env.reward_weights = {"correct": 0.0, "short": 1.0}
    assert score_all(env, [0], [env.problem(0)], ["x"]).total.tolist() == [2.0]
    mixed = envs.make("heard + arithmetic", reward_weights={"short": 0.25, "format": 0.1})
    assert mixed.reward_weights == {"correct": 1.0, "short": 0.25, "format": 0.1}
    assert mixed.parts["arithmetic"].reward_weights == {"correct": 1.0, "format": 0.1}


def test_a_batch_reaches_the_author_in_one_call_through_all_wrappers():
    env = envs.make("heard", split="train", tries=3)
    author = author_task(env, env.problem(0))
    many = TextVectorEnv(env, 5)
    many.reset(options={"index": range(5)})
    answers = [env.demonstration(env.problem(i)) for i in range(5)]
    author.batches.clear()
    assert many.step(answers)[4]["correct"].all()
    assert author.batches == [1] * 5 + [5]  # each try is judged for its reply; at the end all are
    assert env.score_batch([env.problem(0)], answers[:1]).reason == ["ok"]


def test_tries_around_a_mixture_keep_each_tasks_own_rewards():
    env = envs.make("heard + countdown", tries=2)
    problems = [read_problem(env, i) for i in range(4)]
    assert env.max_turns == 2 and set(env.parts) == {"heard", "countdown"}
    for i, problem in enumerate(problems):
        env.reset(options={"index": i})
        assert env.step("x")[0].endswith("Try again.")
        info = env.step(env.demonstration(problem))[4]
        assert info["correct"] and np.isnan(info["rewards"]["short"]) == (problem.task == "countdown")
    scores = env.score_batch(problems, ["x"] * 4)
    assert np.isnan(scores.rewards["numbers_used"]).tolist() == [p.task == "heard" for p in problems]


def test_copies_of_wrapped_environments_do_not_share_them():
    env = envs.make("heard", split="train", tries=3)
    problem = env.problem(2)
    for other in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
        assert author_task(other, problem) is not author_task(env, problem)
        author_task(other, problem).level = 9
        assert other.reply(problem, ["x"]).startswith("level 9") and env.reply(problem, ["x"]).startswith(
            "level 1"
        )
        assert (len(other), other.spec_name, other.max_turns) == (len(env), env.spec_name, 3)


def test_an_error_of_the_author_is_told_with_his_file_through_all_wrappers():
    env = envs.make("heard", tries=2)
    with pytest.raises(
        EnvError, match=r"heard\[tries=2\], problem 59: KeyError 'no such row'\n.*test_wrapper.py:\d+"
    ):
        env.reset(options={"index": 59})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"score": lambda self, problem, completion, answer: 0}, r"score\(self, problem, completion, answer\) cannot"),
        ({"score": lambda problem, completion: 0}, r"score\(problem, completion\) cannot be called as score\(self,"),
        ({"score_batch": lambda self, problems: 0}, r"score_batch\(self, problems\) cannot.*completions\)"),
        ({"score_turns": staticmethod(lambda problem: 0)}, r"score_turns\(problem\) cannot"),
    ],
)  # fmt: skip
def test_a_score_that_cannot_be_called_is_refused_when_it_is_registered(methods, message):
    body = {"__len__": Heard.__len__, "problem": Heard.problem, "reward_weights": {"correct": 1.0}}
    with pytest.raises(EnvError, match=f"test/Odd-v0: Odd.{message}"):
        envs.register("test/Odd-v0", type("Odd", (TextEnv,), body | methods))


@pytest.mark.parametrize(
    "methods",
    [
        {"score": lambda self, *texts: {"correct": 1}},
        {"score": lambda self, problem, completion, scale=1: {"correct": scale}},
        {"score": staticmethod(lambda problem, completion: {"correct": 1})},
        {"score": classmethod(lambda cls, problem, completion: {"correct": 1})},
        {"score_turns": lambda self, problem, turns: {"correct": 1}},
        {"score_turns": lambda self, p, turns: {"correct": 1}, "score_batch": lambda self, ps, cs: None},
        {"score": lambda self, p, c: {"correct": 1}, "score_batch": lambda self, ps, cs: envs.Scores(
            {"correct": [1] * len(ps)}, ["ok"] * len(ps), [None] * len(ps))},
    ],
)  # fmt: skip
def test_every_form_of_a_score_is_called_as_it_is_written(methods):
    body = {"__len__": Heard.__len__, "problem": Heard.problem, "reward_weights": {"correct": 1.0}}
    cls = type("Formed", (TextEnv,), {**body, **methods})
    envs.register("test/Formed-v0", cls)
    env = envs.make("test/Formed-v0", split="train")
    for count in (1, 3):
        problems = [env.problem(i) for i in range(count)]
        scored = score_all(env, range(count), problems, [["a", "b"]] * count)
        assert scored.total.tolist() == [1.0] * count and not any(scored.traceback)
