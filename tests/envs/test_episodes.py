"""Episodes side by side: replies, the ways to end, scores in one call, and errors that change nothing."""

import numpy as np
import pytest

import envs
from envs import EnvError
from envs.episodes import Episodes
from tests.envs.test_turns import Spelling


class Counting(Spelling):
    """Counts how often it is asked for scores, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    score_turns = envs.TextEnv.score_turns

    def score_batch(self, problems, completions):
        self.asked.append(list(completions))
        correct = [float(c == p.reference["word"][-1]) for p, c in zip(problems, completions, strict=True)]
        return envs.Scores({"correct": correct, "letters": correct}, ["ok"] * len(problems), completions)


def test_each_way_to_end_is_told_apart():
    episodes = Episodes(Spelling(), [0, 1, 2, 3, 0])
    assert [episodes.prompt(i) for i in (0, 3)] == ["spell abc 0", "spell aaa 3"]
    assert episodes.take_turn({0: "a", 1: "b", 2: "boom", 3: "x", 4: "a"}) == [0, 1, 3, 4]
    assert episodes.take_turn({0: "b", 1: "c", 3: "x"}) == [0, 1, 3]
    episodes.cut([4])
    assert episodes.take_turn({0: "c", 1: "x", 3: "x"}) == [1, 3] and episodes.take_turn({3: "x"}) == []
    assert episodes.ended == ["over", None, "raised", "max_turns", "no_room"]
    assert episodes.terminated.tolist() == [True, False, True, False, False]
    assert episodes.truncated.tolist() == [False, False, False, True, True]
    assert "author's mistake" in episodes.raised[2] and episodes.raised.count(None) == 4
    assert episodes.turns[4] == ["a"] and episodes.replies[4] == []  # what was said last is not read
    assert episodes.prompt(1) == [
        {"role": "user", "content": "spell bca 1"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "1 so far"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "2 so far"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "3 so far"},
    ]


def test_all_or_some_are_scored_in_one_call_and_the_scores_are_kept():
    env = Counting()
    episodes = Episodes(env, [0, 1, 2, 0])
    episodes.take_turn({0: "c", 1: "x", 2: "boom", 3: "c"})
    assert not episodes.scores.total.any()
    episodes.score([0, 2])
    assert env.asked == [["c", "boom"]]
    assert episodes.scores.total.tolist() == [1.5, 0, 0, 0]
    assert episodes.scores.reason == ["ok", "", "error", ""] and "boom" not in episodes.scores.traceback[2]
    episodes.score()
    assert env.asked[1:] == [["c", "x", "boom", "c"]]
    assert episodes.scores.total.tolist() == [1.5, 0, 0, 1.5]


def test_an_episode_can_begin_after_some_turns_and_with_problems_that_were_read():
    env = Spelling()
    problems = [env.problem(0), env.problem(1)]
    episodes = Episodes(env, [0, 1], problems, [(["a", "b"], ["1 so far", "2 so far"]), ([], [])])
    assert episodes.problems[0] is problems[0]
    assert episodes.take_turn({0: "c", 1: "b"}) == [1] and episodes.ended == ["over", None]
    assert episodes.score([0]).rewards["letters"].tolist() == [3.0, 0.0]


def test_what_is_refused_changes_nothing():
    episodes = Episodes(Spelling(), [0, 1])
    episodes.take_turn({0: "a", 1: "b"})
    for completions, message in (
        ({0: "b", 1: "odd"}, "problem 1: reply returned 3"),
        ({0: "b", 1: None}, "problem 1: the action is None"),
    ):
        with pytest.raises(EnvError, match=message):
            episodes.take_turn(completions)
    assert episodes.turns == [["a"], ["b"]] and episodes.replies == [["1 so far"]] * 2
    for letter in "bc":
        episodes.take_turn({0: letter})
    with pytest.raises(EnvError, match=r"step\(\) after the end of problem 0\."):
        episodes.take_turn({0: "d", 1: "c"})
    assert episodes.turns[1] == ["b"]


def test_a_copy_plays_on_alone():
    episodes = Episodes(Spelling(), [0])
    other = episodes.copy()
    assert other.take_turn({0: "boom"}) == [] and other.score().reason == ["error"]
    assert episodes.ended == [None] and episodes.turns == [[]] and episodes.scores.reason == [""]
    assert episodes.raised == [None] and episodes.problems is other.problems


def test_a_problem_is_read_once_however_many_episodes_it_has():
    class Reading(Spelling):
        reads: list[int] = []  # noqa: RUF012

        def problem(self, index):
            self.reads.append(index)
            return super().problem(index)

    episodes = Episodes(Reading(), np.array([3, 5, 3, 3]).tolist())
    assert Reading.reads == [3, 5] and len(episodes) == 4


def test_in_a_mixture_each_task_is_asked_once_and_what_it_does_not_pay_is_no_number():
    env = envs.make("countdown + arithmetic", **{"arithmetic.tries": 2})
    episodes = Episodes(env, range(4))
    tasks = [problem.task for problem in episodes.problems]
    assert episodes.take_turn(dict.fromkeys(range(4), "?")) == [
        i for i in range(4) if tasks[i] == "arithmetic"
    ]
    episodes.score()
    missing = np.isnan(episodes.scores.rewards["numbers_used"])
    assert missing.tolist() == [task == "arithmetic" for task in tasks] and 0 < missing.sum() < 4


def test_an_early_score_holds_for_the_same_completion_alone():
    env = Counting()
    assert Episodes(env, [0]).may_score_early() == []
    env.score_while_decoding = True
    assert Episodes(env, [0]).may_score_early() == [], "it has several turns"
    env.max_turns = 1
    episodes = Episodes(env, [0, 1, 2, 0, 1])
    assert episodes.may_score_early() == [0, 1, 2, 3, 4]
    episodes.score_early({3: "c", 2: "boom"})
    episodes.score_early({0: "x", 4: "a"})
    copied = episodes.copy()
    for these in (episodes, copied):
        # Number 0 was written anew since then, `reply` raises for number 2, and number 1 was not scored yet.
        these.take_turn({0: "c", 1: "x", 2: "boom", 3: "c", 4: "a"})
        these.score()
        assert env.asked == [["c", "boom"], ["x", "a"], ["c", "x", "boom"]]
        assert these.scores.total.tolist() == [1.5, 0, 0, 1.5, 1.5]
        assert (
            these.scores.reason == ["ok", "ok", "error", "ok", "ok"]
            and "boom" not in these.scores.traceback[2]
        )
        env.asked.pop()
