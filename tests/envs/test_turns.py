"""Environments that answer back: replies, how an episode ends, many in lockstep, tries, guess, Gymnasium's games."""

import copy
import pickle
from functools import cache
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import EnvError, Problem, TextEnv
from envs.__main__ import main
from envs.adapters.gymnasium_games import GAMES
from envs.checking import check
from envs.episodes import play
from tests.common.marks import slow_if
from tests.common.task_file import write_task


class Spelling(TextEnv):
    """Spell a word of three letters, one letter at a turn; the fourth turn is one too many."""

    reward_weights = {"correct": 1.0, "letters": 0.5}  # noqa: RUF012
    reward_ranges = {"letters": (0, 3)}  # noqa: RUF012
    max_turns = 4
    words = ("abc", "bca", "cab", "aaa")

    def __len__(self) -> int:
        return 200

    def problem(self, index: int) -> Problem:
        return Problem(f"spell {self.words[index % 4]} {index}", {"word": self.words[index % 4]})

    def reply(self, problem, turns):
        if turns[-1] == "boom":
            raise ZeroDivisionError("the author's mistake")
        if turns[-1] == "odd":
            return 3
        return None if "".join(turns) == problem.reference["word"] else f"{len(turns)} so far"

    def score_turns(self, problem, turns):
        right = [a == b for a, b in zip(turns, problem.reference["word"], strict=False)]
        return {"correct": "".join(turns) == problem.reference["word"], "letters": sum(right)}

    def demonstration(self, problem):
        return list(problem.reference["word"])

    def habits(self, problem):
        return {"stuck": "a"}


envs.register("test/Spelling-v0", Spelling)


def test_an_episode_of_turns_pays_at_its_end():
    env = envs.make("spelling", render_mode="ansi")
    prompt, info = env.reset(options={"index": 0})
    assert prompt == "spell abc 0"
    assert env.step("a") == ("1 so far", 0.0, False, False, {"index": 0})
    assert env.step("b") == ("2 so far", 0.0, False, False, {"index": 0})
    observation, reward, terminated, truncated, info = env.step("c")
    assert (observation, reward, terminated, truncated) == ("", 2.5, True, False)
    assert info["correct"] is True and info["rewards"] == {"correct": 1.0, "letters": 3.0}
    lines = [
        "spell abc 0",
        "assistant: a",
        "user: 1 so far",
        "assistant: b",
        "user: 2 so far",
        "assistant: c",
    ]
    assert env.render().splitlines() == [*lines, "reward 2.5, no reason given"]
    with pytest.raises(EnvError, match=r"step\(\) after the end of problem 0"):
        env.step("d")


def test_an_episode_that_goes_on_is_truncated_at_max_turns():
    env = envs.make("spelling")
    env.reset(options={"index": 3})
    assert [env.step("b")[3] for _ in range(3)] == [False] * 3
    assert env.step("a")[:4] == ("", 0.0, False, True)
    env.reset(options={"index": 3})
    assert env._episode.turns == [[]]


def test_what_reply_raises_ends_the_episode_and_what_is_no_text_is_refused():
    env = envs.make("spelling")
    env.reset(options={"index": 0})
    env.step("a")
    with pytest.raises(EnvError, match=r"spelling, problem 0: reply returned 3; it must be a str"):
        env.step("odd")
    assert env.step("b")[0] == "2 so far"  # what was refused is forgotten
    _, reward, terminated, truncated, info = env.step("boom")
    assert (reward, terminated, truncated, info["reason"]) == (0.0, True, False, "error")
    assert info["rewards"] == {"correct": 0.0, "letters": 0.0} and "author's mistake" in info["traceback"]


def test_many_episodes_go_in_lockstep_and_equal_single_ones():
    words = [list("abc"), list("bbca"), ["a", "boom"], list("aaa")]
    many = envs.make_vec("spelling", 4, render_mode="ansi")
    many.reset(options={"index": range(4)})
    singles = [envs.make("spelling", render_mode="ansi") for _ in words]
    for index, env in enumerate(singles):
        env.reset(options={"index": index})
    ended, outcome = [False] * 4, [None] * 4
    for turn in range(4):
        actions = [word[turn] if turn < len(word) else "" for word in words]
        observations, rewards, terminated, truncated, info = many.step(actions)
        for row, env in enumerate(singles):
            if ended[row]:
                assert (observations[row], rewards[row]) == ("", 0.0)
                assert terminated[row] or truncated[row]
                continue
            one = env.step(actions[row])
            assert one[:4] == (observations[row], rewards[row], terminated[row], truncated[row])
            ended[row], outcome[row] = one[2] or one[3], one[4]
        for row in range(4):
            if ended[row]:
                assert {n: v[row] for n, v in info["rewards"].items()} == outcome[row]["rewards"]
                assert info["reason"][row] == outcome[row]["reason"]
                assert info["correct"][row] == outcome[row]["correct"]
    assert truncated.tolist() == [False, True, False, False] and all(ended)
    assert [trace is not None for trace in info["traceback"]] == [False, False, True, False]
    assert many.render() == tuple(env.render().rpartition("\n")[0] for env in singles)
    with pytest.raises(EnvError, match="after the end of problem 0, 1, 2, 3"):
        many.step([""] * 4)


def test_gymnasium_takes_turns_without_a_warning(recwarn):
    check_env(gymnasium.make("test/Spelling-v0", render_mode="ansi", disable_env_checker=True).unwrapped)
    assert not [str(w.message) for w in recwarn]


def test_an_environment_divided_by_its_index_answers_as_well():
    env = envs.make("spelling", split="test")
    problem = env.problem(0)
    assert (env.max_turns, env.reply(problem, ["x"])) == (4, "1 so far")
    assert env.step.__self__ is env and play(env, 0, problem, env.demonstration(problem))[1] == [
        "1 so far",
        "2 so far",
    ]


def test_what_is_played_ends_with_the_episode():
    env = envs.make("spelling")
    problem = env.problem(0)
    assert play(env, 0, problem, "a") == (["a"] * 4, [f"{n} so far" for n in (1, 2, 3)])
    assert play(env, 0, problem, ["a", "b"]) == (["a", "b"], ["1 so far"])
    with pytest.raises(EnvError, match="turn 3"):
        play(env, 0, problem, list("abcd"))
    with pytest.raises(EnvError, match="reply"):
        play(env, 0, problem, ["a", "boom"])


class Told(Spelling):
    asked = 0

    def reply(self, problem, turns):
        Told.asked += 1
        return f"{Told.asked} asked"


def test_a_reply_that_depends_on_more_than_the_episode_is_found(tmp_path, monkeypatch):
    head = "from tests.envs.test_turns import Spelling\n"
    write_task(tmp_path / "told.py", Told, id="turns/Told-v0", head=head)
    monkeypatch.chdir(tmp_path)
    found = {finding.name: finding for finding in check("./told.py", 8)}
    assert not found["purity"].ok and "a reply to train" in found["purity"].figure
    sound = {finding.name: finding.ok for finding in check("spelling", 8)}
    assert sound.pop("purity") is False  # a fresh process does not know the class of this test
    assert all(sound.values())


def test_new_writes_a_task_of_turns_that_passes_the_check(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "--turns", "three_questions.py"]) == 0
    name = "./three_questions.py:my/ThreeQuestions-v0"
    assert f"sft --env {name} --mix right=0.4 biggest=0.6" in capsys.readouterr().out
    assert len(Path("three_questions.py").read_text().splitlines()) <= 70
    assert all(finding.ok for finding in check(name, 30))
    assert main(["show", name, "-n", "1"]) == 0
    assert "user: smallest?" in capsys.readouterr().out


# tries=N


@pytest.mark.parametrize(
    ("task", "reference", "said"),
    [
        ("countdown", {"numbers": [7, 3, 2], "target": 24}, {
            "7+7-2": "7 is used twice.", "7+3": "2 is not used.", "9+3-2": "9 is not given.",
            "7+3-2": "It makes 8, not 24.", "7/2*3": "It makes 21/2, not 24.", "7+": "The answer cannot be read.",
        }),
        ("sudoku", {"puzzle": "1000000000000000"}, {
            "111": "The grid must have 16 digits, not 3.", "2134341221434321": "Row 1 column 1 must stay 1.",
            "1134341221434321": "Row 1 repeats 1.", "1234123434124321": "Column 1 repeats 1.",
            "1234234134124123": "Box 1 repeats 2.",
        }),
        ("satisfiability", {"variables": 4, "clauses": ["abC"]}, {"0010": "abC is false."}),
        ("coloring", {"nodes": 3, "edges": ["01", "12"]}, {"122": "Nodes 1 and 2 have the same colour."}),
        ("queens", {"board": "4???????"}, {
            "12345678": "A given queen has moved.",
            "43345678": "The queens of rows 1 and 2 attack each other.", "4": "The answer must be 8 digits",
        }),
        ("arithmetic", {"line": "1+2*3"}, {"9": "The answer is not 9."}),
    ],
)  # fmt: skip
def test_feedback_says_what_was_found(task, reference, said):
    env = envs.make(task, tries=3)
    problem = Problem("", reference)
    for answer, sentence in said.items():
        reply = env.reply(problem, [f"<answer>{answer}</answer>"])
        assert reply.startswith(sentence) and reply.endswith(" Try again.")
    assert env.reply(problem, ["no block"]) == "There is no answer between <answer> and </answer>. Try again."
    assert env.reply(problem, ["", "", ""]) is None


@pytest.mark.parametrize("task", ["countdown", "sudoku", "gsm8k", "math500", "queens", "doubling"])
def test_tries_end_with_a_right_answer_and_keep_the_answer_to_themselves(task):
    from tests.common import env_cases  # noqa: F401 - registers "doubling"

    source = {"source": "generated"} if task in ("gsm8k", "math500") else {}
    env = envs.make(task, tries=3, **source)
    once = envs.make(task, **source)
    assert (env.max_turns, once.max_turns) == (3, 1) and "[tries=3" in env.spec_name
    assert pickle.loads(pickle.dumps(env)).reply(env.problem(0), ["x"]) == env.reply(env.problem(0), ["x"])
    for index in range(8):
        problem = env.problem(index)
        if task == "doubling":
            wrong, right = "-1", str(problem.reference["answer"])
        else:
            (wrong,), right = env.habits(problem).values(), env.demonstration(problem)
        turns, replies = play(env, index, problem, [wrong, right] if reject(once, problem, wrong) else right)
        assert replies == [env.reply(problem, [turn]) for turn in turns[:-1]]
        if task != "doubling":
            assert all(envs.read_answer(right) not in reply.rstrip(".").split() for reply in replies)
        env.reset(options={"index": index})
        steps = [env.step(turn) for turn in turns]
        assert steps[-1][2:4] == (True, False) and steps[-1][4]["correct"]
        once.reset(options={"index": index})
        assert steps[-1][4] == once.step(turns[-1])[4]


def reject(env, problem, text) -> bool:
    score = env.score(problem, text)
    return (score if isinstance(score, dict) else score.rewards)["correct"] == 0


def test_tries_are_refused_where_they_make_no_sense():
    with pytest.raises(EnvError, match=r"guess.* 4 "):
        envs.make("guess", tries=2)
    for tries in (0, 1.5, True, "3"):
        with pytest.raises(EnvError, match=f"tries={tries!r} "):
            envs.make("sudoku", tries=tries)
    assert envs.make("sudoku", tries=1).spec_name == "sudoku" and envs.make("sudoku", tries=1).max_turns == 1


# guess


@pytest.mark.slow
def test_guess_has_enough_different_problems_to_measure_and_counting_solves_few_of_them():
    found = {}
    for split, number in (("train", 3000), ("validation", 63), ("test", 52)):
        env = envs.make("guess", split=split)
        content = [env.problem(i).reference for i in range(number)]
        found[split] = {tuple(reference.values()) for reference in content}
        assert split == "train" or len(env) == len(found[split]) == number
    assert len(found["train"]) == 257 and len(set.union(*found.values())) == 372  # none is in two splits
    assert sum(number < low + 4 for low, _, number in found["test"]) == 20


def test_guess_is_found_by_bisecting_and_answers_every_guess():
    for level, highest in ((1, 15), (2, 31), (3, 63)):
        env = envs.make("guess", level=level)
        assert env.max_turns == 3 + level
        for index in range(50):
            problem = env.problem(index)
            low, high, number = problem.reference.values()
            assert 1 <= low <= number <= high <= highest and high - low >= highest // 2
            assert problem.prompt == f"guess {low}-{high}"
            turns, replies = play(env, index, problem, env.demonstration(problem))
            assert env.reply(problem, turns) is None
            for turn, reply in zip(turns, replies, strict=False):
                assert reply == ("higher" if int(turn[8:-9]) < number else "lower")
    for text in ("", "<answer>seven</answer>", "<answer>-1</answer>", f"<answer>{'9' * 9}</answer>"):
        assert env.reply(problem, [text]) == "That is no number."


# gymnasium:NAME


def rewards_of(name: str, seed: int, words: list[str], rules, **settings) -> float:
    game = gymnasium.make(name, **settings)
    game.reset(seed=seed)
    return sum(float(game.step(rules.actions.index(word))[1]) for word in words)


FOUR = ("Blackjack-v1", "FrozenLake-v1", "CliffWalking-v1", "Taxi-v4")


@pytest.mark.parametrize("name", slow_if(FOUR, lambda name: name not in ("Blackjack-v1", "FrozenLake-v1")))
def test_a_game_of_gymnasium_pays_what_gymnasium_pays(name: str, at_length: bool):
    env = envs.make(f"gymnasium:{name}")
    for index in range(5):
        problem = env.problem(index)
        turns = env.habits(problem)["random"]
        env.reset(options={"index": index})
        steps = [env.step(turn) for turn in turns]
        words = [turn[8:-9] for turn in turns]
        assert steps[-1][1] == rewards_of(name, problem.reference["seed"], words, env.rules)
        assert steps[-1][2] or steps[-1][3]
        assert env.reply(problem, turns[:1]) == env.reply(problem, turns[:1])  # whatever was played between
    found = {finding.name: finding for finding in check(f"gymnasium:{name}", 6 if at_length else 2)}
    assert all(finding.ok for finding in found.values()), found


@pytest.mark.parametrize("name", ["Blackjack-v1", "Taxi-v4"])
def test_a_game_that_goes_on_is_the_one_that_is_played_anew(name: str):
    """Episodes turn by turn, two at a time, backwards, from copies, and after a game that broke down."""
    env = envs.make(f"gymnasium:{name}")
    problems = [env.problem(index) for index in range(4)]
    games = [(problem, env.habits(problem)["random"]) for problem in problems]

    def replies(env, problem, turns, lengths):
        return {n: env.reply(problem, turns[:n]) for n in lengths}

    def anew(problem, turns, length):
        return envs.make(f"gymnasium:{name}").reply(problem, turns[:length])

    expected = [{n + 1: anew(*game, n + 1) for n in range(len(game[1]))} for game in games]
    counts = [range(1, len(turns) + 1) for _, turns in games]
    assert [replies(env, *game, count) for game, count in zip(games, counts, strict=True)] == expected
    assert [replies(env, *game, count[::-1]) for game, count in zip(games, counts, strict=True)] == expected
    most = max(map(len, counts))
    mixed = [[env.reply(p, turns[:n]) for p, turns in games if n <= len(turns)] for n in range(1, most + 1)]
    assert mixed == [[e[n] for e in expected if n in e] for n in range(1, most + 1)]
    longest = max(range(4), key=lambda k: len(games[k][1]))
    (problem, turns), last = games[longest], expected[longest][len(games[longest][1])]
    env.played(problem.reference["seed"], turns[:-1])
    for copied in (copy.copy(env), copy.deepcopy(env), env):
        assert copied.reply(problem, turns) == last
    step, env._env.unwrapped.step = env._env.unwrapped.step, None  # the action itself has been taken
    with pytest.raises(TypeError):
        env.reply(problem, turns)
    env._env.unwrapped.step = step
    assert env.reply(problem, turns) == last


def test_what_is_solved_is_the_goal_of_the_game():
    lake = envs.make("gymnasium:FrozenLake-v1", is_slippery=False)
    assert lake.spec_name == "gymnasium:frozenlake-v1[is_slippery=False]"
    path = [f"<answer>{word}</answer>" for word in ("down", "down", "right", "right", "down", "right")]
    problem = lake.problem(0)
    assert play(lake, 0, problem, path)[1] == ["4", "8", "9", "10", "14"]
    assert lake.score_turns(problem, path).rewards == {"return": 1.0, "correct": 1.0}
    assert lake.score_turns(problem, path[:5]).reason == "unfinished"
    fallen = lake.score_turns(problem, ["<answer>right</answer>", "<answer>down</answer>"])
    assert (fallen.reason, fallen.rewards) == ("wrong", {"return": 0.0, "correct": 0.0})
    assert lake.reply(problem, ["<answer>jump</answer>"]) is None  # it is lost, else a win would teach it
    assert lake.score_turns(problem, ["<answer>jump</answer>"]).reason == "wrong"
    hasty = lake.habits(problem)["hasty"]
    assert [play(lake, 0, problem, hasty)[1], lake.score_turns(problem, hasty).reason] == [
        ["4", "8"],
        "wrong",
    ]
    cliff = envs.make("gymnasium:CliffWalking-v1")
    safe = [f"<answer>{word}</answer>" for word in ["up", *["right"] * 11, "down"]]
    assert cliff.score_turns(cliff.problem(0), safe).rewards == {"return": -13.0, "correct": 1.0}
    assert (
        envs.make("gymnasium:FrozenLake-v1", prompt_style="rules").problem(0).prompt.startswith("Frozen lake")
    )


def test_an_answer_that_is_no_action_does_not_pay_better_than_playing():
    for name, paid, ends in (("Blackjack-v1", -1.0, True), ("CliffWalking-v1", -300.0, False)):
        env = envs.make(f"gymnasium:{name}", turns=3)
        problem = env.problem(0)
        turns, replies = play(env, 0, problem, ["<answer>jump</answer>"] * (1 if ends else 3))
        assert env.score_turns(problem, turns).rewards["return"] == paid
        assert all(reply.startswith("No such action.") for reply in replies)
        score = env.score_turns(problem, turns)
        assert (score.reason, score.rewards["correct"]) == ("wrong" if ends else "unfinished", 0.0)
    taxi = envs.make("gymnasium:Taxi-v4")
    (stuck, word) = next(
        (p, word)
        for p in map(taxi.problem, range(20))
        for word in taxi.rules.actions
        if word not in taxi.legal(taxi.played(p.reference["seed"], ()))
    )
    assert taxi.score_turns(stuck, [f"<answer>{word}</answer>"]).rewards["return"] == -10.0
    cliff = envs.make("gymnasium:CliffWalking-v1", turns=3)
    falls, junk = (
        cliff.score_turns(cliff.problem(0), [word] * 3).rewards["return"]
        for word in ("<answer>right</answer>", "<answer>jump</answer>")
    )
    assert junk <= falls == -300
    lake = envs.make("gymnasium:FrozenLake-v1", is_slippery=False, reward_schedule=(10, -10, -1))
    assert lake.score_turns(lake.problem(0), ["<answer>jump</answer>"]).rewards["return"] == -10


def test_where_there_is_a_table_the_habit_planned_plays_as_well_as_can_be():
    lake, cliff, taxi = (
        envs.make(f"gymnasium:{name}", **settings)
        for name, settings in (
            ("FrozenLake-v1", {"is_slippery": False}),
            ("CliffWalking-v1", {}),
            ("Taxi-v4", {}),
        )
    )
    for env, best in ((lake, 1.0), (cliff, -13.0)):
        turns = env.habits(problem := env.problem(0))["planned"]
        assert env.score_turns(problem, turns).rewards == {"return": best, "correct": 1.0}
        assert len(turns) == (6 if env is lake else 13)
    # Taxi pays 20 for the last action and -1 for each before it; 20 turns are enough for most starts.
    problems = [taxi.problem(index) for index in range(20)]
    paid = [
        (taxi.score_turns(p, turns).rewards["return"], len(turns))
        for p in problems
        for turns in [taxi.habits(p)["planned"]]
    ]
    assert sum(total == 21 - count for total, count in paid) > 15
    # By hand, with ice: from the state before the goal, "down" slips to the goal, back to the left or stays.
    slips = envs.make("gymnasium:FrozenLake-v1").plan
    assert slips[14]["down"] == pytest.approx(
        (1 + 0.99 * max(slips[14].values()) + 0.99 * max(slips[13].values())) / 3
    )
    blackjack = envs.make("gymnasium:Blackjack-v1")
    assert list(blackjack.habits(blackjack.problem(0))) == ["random", "basic", "bold", "cautious"]
    for env, mix in ((lake, "planned=1 hasty=1 random=1"), (blackjack, "basic=1 bold=1 cautious=1 random=1")):
        with pytest.raises(EnvError, match=f"no demonstrations.*--mix {mix}"):
            env.demonstration(env.problem(0))


@pytest.mark.parametrize(("habit", "first"), [("bold", 20), ("cautious", 12)])
def test_the_habits_of_blackjack_stick_from_a_sum_on(habit: str, first: int):
    env = envs.make("gymnasium:Blackjack-v1")
    for problem in map(env.problem, range(30)):
        turns = env.habits(problem)[habit]
        seen = [env.played(problem.reference["seed"], turns[:n]).observation[0] for n in range(len(turns))]
        assert turns == [f"<answer>{'hit' if you < first else 'stick'}</answer>" for you in seen]


@pytest.mark.parametrize(
    ("settings", "way", "reason"),
    [
        ({}, "down down down", "wrong"),
        ({"map_name": "8x8"}, "down " * 7 + "right " * 3, "wrong"),
        ({"desc": ["SF", "FG"]}, "down right", "ok"),
        ({"desc": ["SFH", "FFF", "FFG"]}, "down down right right", "ok"),
        ({"desc": ["SFFF", "FHFG"]}, "down right", "wrong"),
        ({"desc": ["SFFG"]}, "right right right", "ok"),
    ],
)
def test_who_is_hasty_on_the_ice_walks_down_and_then_right_on_any_map(settings, way, reason):
    lakes = [envs.make("gymnasium:FrozenLake-v1", is_slippery=False, **settings)]
    lakes += [envs.make("gymnasium:FrozenLake8x8-v1", is_slippery=False)] * ("map_name" in settings)
    for lake in lakes:
        turns = lake.habits(problem := lake.problem(0))["hasty"]
        assert turns == [f"<answer>{word}</answer>" for word in way.split()]
        assert lake.score_turns(problem, turns).reason == reason


def test_the_habit_basic_of_blackjack_is_the_best_play():
    chance = dict.fromkeys(range(1, 10), 1 / 13) | {10: 4 / 13}

    def drawn(hard: int, ace: bool) -> list[tuple[float, int, bool]]:
        return [(p, hard + card, ace or card == 1) for card, p in chance.items()]

    def counted(hard: int, ace: bool) -> int:
        return hard + 10 if ace and hard < 12 else hard

    @cache
    def dealt(hard: int, ace: bool, own: int) -> float:
        """What sticking on `own` earns against a dealer who draws up to 17."""
        if (total := counted(hard, ace)) < 17:
            return sum(p * dealt(*more, own) for p, *more in drawn(hard, ace))
        return 1 if total > 21 else np.sign(own - total)

    @cache
    def worth(hard: int, ace: bool, dealer: int, choose: str) -> float:
        """What the best play earns, or that of `basic`, and on the way whether the two differ."""
        if (own := counted(hard, ace)) > 21:
            return -1
        stick = sum(p * dealt(*more, own) for p, *more in drawn(dealer, dealer == 1))
        hit = sum(p * worth(*more, dealer, choose) for p, *more in drawn(hard, ace))
        if choose == "best":
            return max(stick, hit)
        return hit if basic((own, dealer, int(own != hard)), None) == "hit" else stick

    basic = GAMES["Blackjack"].habits["basic"]
    hands = [
        (p * q, first + second, 1 in (first, second))
        for first, p in chance.items()
        for second, q in chance.items()
    ]
    for dealer in chance:
        for _, *hand in hands:
            assert worth(*hand, dealer, "basic") == pytest.approx(worth(*hand, dealer, "best"), abs=1e-12)
    earned = sum(p * q * worth(*hand, dealer, "basic") for dealer, p in chance.items() for q, *hand in hands)
    assert earned == pytest.approx(-0.0466, abs=1e-4)


def test_no_seed_is_in_two_splits_and_what_cannot_be_played_is_refused():
    splits = [envs.make("gymnasium:Blackjack-v1", split=split) for split in ("train", "validation", "test")]
    seeds = [{env.problem(i).reference["seed"] for i in range(100)} for env in splits]
    assert sum(map(len, seeds)) == len(set().union(*seeds)) == 300
    for name, message in (
        ("Blackjak-v1", "Blackjack"),
        ("Taxi-v3", "deprecated"),
        ("Pendulum-v1", "must be gymnasium.spaces.Discrete"),
    ):
        with pytest.raises(EnvError, match=message):
            envs.make(f"gymnasium:{name}")
    with pytest.raises(EnvError, match="turns=0"):
        envs.make("gymnasium:Blackjack-v1", turns=0)
    assert np.isfinite(envs.make("gymnasium:CartPole-v1").reset(seed=1)[1]["index"])
