"""What holds for several tasks alike: splits, released problems, demonstrations, arguments, actions."""

import hashlib
import os
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
import verifiers
from envs import EnvError, Problem
from envs.countdown import problems as countdown
from envs.gsm8k.problems import split_of as gsm8k_split
from envs.math500.problems import split_of as math500_split
from envs.registry import offline_arguments
from tests.common.env_cases import SPLITS, make_splits
from tests.common.marks import slow_if

RELEASED = [
    ("gsm8k", {"level": 1}, 200, "0eb55ed71dbd2d20 fdd4f310557c8bfe 56a8365b13de79d7"),
    ("gsm8k", {"level": 2}, 200, "b7884d91b15baf6d 2722ddf064e8f37d efbe650fd498ddce"),
    ("gsm8k", {"level": 3}, 200, "aaee8b4f273b8085 95a73af603795c9a 678ee6fb4374941e"),
    ("math500", {"level": 1}, 200, "3776c4a5636a1cb9 094a35de68735496 01a2ca9c86ae93af"),
    ("math500", {"level": 2}, 200, "afa204abc5086807 1aed4ba9cd31b780 f10a6bed3e515a62"),
    ("math500", {"level": 3}, 200, "7ec335295ff2fb1f f64109b65871aeaf bcd376b3f8ade082"),
    ("countdown", {"level": 1}, 100, "424190525e34 3e5d0c3a2422 4c3e2117b047"),
    ("countdown", {"level": 2}, 100, "92ed22ae5c7f 32527f1b00aa c10821b83151"),
    ("countdown", {"level": 3}, 100, "a0c6e3462b8d 2c088e3cb2fe cc2b308dd097"),
    ("countdown", {"level": 4}, 100, "e4b9e0f78544 b6d89714f26a 1a0b6ad18351"),
    ("countdown", {"level": 5}, 100, "8472974ab2d8 616e043afde0 4b032158a98b"),
    ("sudoku", {}, 200, "fd77dd08c23d6537 6af6ec66c3afcdcb c68944dfff2ae2b7"),
    ("sudoku", {"blanks": "4-11"}, 256, "501653f8c104372d 7456dae0bbb11eaa b232ad497202a39a"),
    ("sudoku", {"blanks": 12}, 256, "a51cbae8af26ed5f 8af7482ea0086860 0c9d3582d19a5fa1"),
    ("sudoku", {"blanks": 1}, 256, "3f20a5f87be5ae3a 9e7f924181cfbe5a cf11044082f68d6b"),
    ("sudoku", {"size": 9, "level": 1}, 10, "f4ba1cb5453946be fe970d0fb7abaa1f 1d52c1a2feefe27d"),
    ("sudoku", {"size": 9, "level": 4}, 10, "7772e887498d5f46 fe78086e938dbf28 9c2df5de9928232d"),
    ("arithmetic", {}, 200, "57940ea3fba5606b 59f0bf3c72206fdf 2823108f5636f417"),
    ("sorting", {}, 200, "8ae0dc0e17daefd6 3be1cd92f22a9c95 40642564f2de48d8"),
    ("edits", {}, 200, "e9833bfc141fa790 30e71f8ae2b7f2dd 0fe330c7ab57d1bc"),
    ("coloring", {}, 200, "1d8709e249a52ddc 50c0322c77129a1f 5d1d1d1ac77e1874"),
    ("queens", {}, 200, "71b7c4a4609f745a 55f4a1c5505c6419 dbaba9b74099a6d7"),
    ("satisfiability", {}, 200, "76e9afcf3cde5d4f 5b18edf54223fea5 cb863654018ae7de"),
]
"""(task, arguments, number of problems, start of the hashes of train, validation and test); see `digest`."""

WORDED = ("gsm8k", "math500", "countdown")
LEVELS = [(task, arguments["level"]) for task, arguments, *_ in RELEASED if task in WORDED]


def identity(task: str, problem: Problem) -> tuple[object, str]:
    """(what makes two problems the same, the split that owns it)."""
    if task == "gsm8k":
        steps = problem.metadata["right"][0]
        return steps, gsm8k_split(steps)
    if task == "math500":  # whatever the unknown is called, and whatever it is about
        return re.sub("[A-Za-z]", "", problem.prompt), math500_split(problem.prompt)
    numbers = countdown.key(**problem.reference)
    return numbers, countdown.split_of(numbers)


@pytest.mark.parametrize(("task", "level"), LEVELS)
def test_no_two_splits_share_a_problem(task, level):
    owners = {}
    for split, env in make_splits(task, source="generated", level=level).items():
        problems = [env.problem(i) for i in range(min(len(env), 300))]
        if split == "train":
            assert len(env) == 1_000_000
        else:
            assert len(env) == len({problem.prompt for problem in problems}) == 256
        for problem in problems:
            same, owner = identity(task, problem)
            assert (
                owner == split == owners.setdefault(same, split) == owners.setdefault(problem.prompt, split)
            )


HABITS = {
    **{"gsm8k": ("hasty", 0.05, 0.2), "math500": ("slip", 0, 0), "countdown": ("adder", 0, 0.2)},
    **{"sudoku": ("careless", 0.02, 0.06), "9x9": ("careless", 0.02, 0.12)},
}


@pytest.mark.parametrize(
    ("task", "arguments", "splits"),
    [
        *((task, {"level": level}, SPLITS) for task, level in LEVELS),
        *((task, {"prompt_style": "instruct"}, SPLITS) for task in WORDED),
        *(("sudoku", {"prompt_style": style}, ("train",)) for style in ("plain", "instruct")),
        *(("sudoku", {"prompt_style": style, "size": 9}, ("test",)) for style in ("plain", "instruct")),
    ],
)
def test_demonstrations_score_one_and_habits_solve_few(task, arguments, splits, at_length):
    habit, low, high = HABITS["9x9" if "size" in arguments else task]
    few = {5: 20} if at_length else {4: 20, 5: 20}  # Countdown's solver takes longer at these levels
    count = few.get(arguments.get("level", 0), 256)
    for split in splits if at_length else splits[-1:]:
        env = envs.make(task, split=split, source="generated", **arguments)
        problems = [env.problem(i) for i in range(min(len(env), count))]
        right = env.score_batch(problems, [env.demonstration(p) for p in problems])
        assert all(component.all() for component in right.rewards.values())
        wrong = env.score_batch(problems, [env.habits(p)[habit] for p in problems])
        assert low <= wrong.rewards["correct"].mean() <= high and wrong.rewards["format"].all()
        assert set(wrong.reason) <= {"ok", "wrong"}


def digest(task: str, arguments: dict, count: int, split: str) -> str:
    """Of the first prompts, with their demonstrations except in Countdown and Sudoku, whose solvers may change."""
    env = envs.make(task, split=split, **arguments, **offline_arguments(envs.resolve(task)))
    problems = [env.problem(i) for i in range(count)]
    solved = task not in ("countdown", "sudoku")
    texts = [p.prompt + env.demonstration(p) if solved else p.prompt for p in problems]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@pytest.mark.parametrize(("task", "arguments", "count", "hashes"), RELEASED)
def test_released_problems_never_change(task, arguments, count, hashes):
    found = [digest(task, arguments, count, split) for split in SPLITS]
    assert " ".join(map(lambda full, pinned: full[: len(pinned)], found, hashes.split())) == hashes


@pytest.mark.parametrize("task", [*WORDED, "sudoku"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tets"}, 'split="tets" is unknown. Did you mean "test"?'),
        ({"prompt_style": "instrukt"}, 'Did you mean "instruct"?'),
        ({"level": 6}, 'level="6" is unknown. Known: 1, 2, 3'),
        ({"level": True}, 'level="True"'),
        ({"level": "2"}, "level='2' should be level=2, a whole number"),
        ({"reward_preset": "papr"}, 'Did you mean "paper"?'),
    ],
)
def test_unknown_values_are_named(task, arguments, message):
    with pytest.raises(EnvError, match=f"{task}: .*{re.escape(message)}"):
        envs.make(task, **{"source": "generated", **arguments})
    env = envs.make(task, source="generated", split="test")
    for index in (256, -1):
        with pytest.raises(EnvError, match=f"{task}.*: no problem {index}"):
            env.problem(index)


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("gsm8k", {"source": "generated", "revision": "v1"}, "revision=v1 is for source=hub"),
        ("math500", {"level": 2}, "level=2 is for source=generated"),
        ("gsm8k", {}, 'source="generated"'),  # there is no hub in tests
    ],
)
def test_arguments_that_do_not_fit_the_source_are_refused(task, arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make(task, **arguments)


REWARD_RANGES = {"gsm8k": (-float("inf"), 4), "math500": (0, 2.75)}
GRID = "4123231414323241"
PIECES = [
    *"<answer> </answer> <answer 7 12 + ( ) \\boxed{ } <|eot_id|>".split(),
    GRID,
    GRID[:4],
    "٣",
    " ",
    "\n",
    "\ud800",
]
ACTIONS = st.one_of(
    st.text(),
    st.binary().map(lambda b: b.decode("latin-1")),
    st.text("0123456789<answer>/\\ {}^_|\n.,=()+-*x∧", max_size=60),
    st.text("0123456789+-*/() .,=<>", max_size=60).map(lambda text: f"<answer>{text}</answer>"),
    st.text("0123456789\\fracsqrt{}^+-", max_size=30).map(lambda text: f"<answer>\\boxed{{{text}}}</answer>"),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
)
OPENED = [(task, {}) for task in dict.fromkeys(task for task, *_ in RELEASED)]
OPENED += [(task, {"reward_preset": "paper"}) for task in (*WORDED, "sudoku")]
OPENED += [("sudoku", {"reward_preset": "paper", "size": 9}), ("math500", {"level": 3})]
WEIGHTS = {"correct": 0.6, "cells": 0.3, "format": 0.1}
OPENED += [("sudoku", {"reward_weights": WEIGHTS, "prompt_style": "instruct"})]


@pytest.mark.parametrize(("task", "arguments"), OPENED)
@settings(max_examples=40 if os.environ.get("SPG_TEST_SLOW") else 10, deadline=None)
@given(actions=st.lists(ACTIONS, min_size=4, max_size=4))
def test_any_strings_are_scored_rendered_and_scored_the_same_in_a_batch(task, arguments, actions):
    reasons = set(check_actions(task, arguments, actions)["reason"])
    assert task in (*WORDED, "sudoku") or reasons <= {"ok", "wrong", "no_answer"}


LONG = (
    *("<answer>" * 90_000, "</answer>" * 50_000, "1" * 500_000, "{" * 300_000, r"\boxed{" * 40_000),
    *("<" * 400_000, "<reasoning>" * 40_000, "\n<answer>\n" * 60_000),
    *("<reasoning></reasoning>" + " \n" * 200_000, r"\frac" * 60_000, r"\sqrt" * 60_000, f"{'9' * 500_000}x"),
    *(f"<reasoning>{text * 40_000}" for text in ("</reasoning><answer>", "</reasoning> ")),
)


@pytest.mark.parametrize(
    "task", slow_if([*WORDED, "sudoku"], lambda task: task not in ("countdown", "math500"))
)
def test_surrogates_and_long_texts_are_actions_too_and_take_linear_time(task, at_length):
    env = envs.make(task, split="test", source="generated", reward_preset="paper")
    problem = env.problem(1)

    def seconds(text: str) -> float:
        begun = time.process_time()
        actions = [text, f"<answer>{text}</answer>", f"\\boxed{{{text}"]
        assert not env.score_batch([problem] * 3, actions).rewards["correct"].any()
        return time.process_time() - begun

    def seconds_of_a_look(text: str) -> float:
        """How long Python takes to look once at each byte of the three actions, on this machine and now."""
        begun = time.process_time()
        for byte in 3 * text.encode():
            assert byte
        return time.process_time() - begun

    for text in LONG if at_length else LONG[::4]:
        # Between 1 and 122 such looks were measured on three machines. One expression of re that starts at every tag
        # anew, and is so quadratic, takes 3,000. The first time, what reads long texts may be compiled or loaded.
        limit = 600 * seconds_of_a_look(text)
        assert any(seconds(text) < limit for _ in range(2)), text[:30]
    longer_than_any_limit = [text[:100_000] for text in LONG[:3]]  # of what is read of an answer
    actions = ["\ud800", "<answer>\ud800</answer>", *longer_than_any_limit]
    check_actions(task, {"reward_preset": "paper"}, actions)


@pytest.mark.parametrize("task", [*WORDED, "sudoku"])
def test_a_batch_is_verified_in_one_call(task, monkeypatch):
    env, calls, real = envs.make(task, split="test", source="generated"), [], verifiers.verify_batch
    problems = [env.problem(i) for i in range(200)]
    monkeypatch.setattr(verifiers, "verify_batch", lambda *a, **k: calls.append(1) or real(*a, **k))
    scores = env.score_batch(
        problems, [env.demonstration(p) if i % 3 else "" for i, p in enumerate(problems)]
    )
    assert len(calls) == 1 and scores.rewards["correct"].sum() == 133


def check_actions(task: str, arguments: dict, actions: list[str]) -> dict:
    """Asserts what holds for any completions; returns what the vector environment says of them."""
    arguments = {**offline_arguments(envs.resolve(task)), "split": "test", **arguments}
    env = envs.make(task, render_mode="ansi", **arguments)
    indices = [(5, 0, 255, 5)[i % 4] for i in range(len(actions))]
    actions = [*actions, env.demonstration(env.problem(7))]
    many = envs.TextVectorEnv(env, len(actions))
    prompts, opened = many.reset(options={"index": np.array([*indices, 7])})
    _, rewards, _, _, info = many.step(actions)
    assert info["correct"][-1]
    low, high = REWARD_RANGES.get(task, (0, 1))
    for i, action in enumerate(actions):
        assert env.reset(options={"index": int(info["index"][i])})[0] == prompts[i]
        _, reward, _, _, one = env.step(action)
        row = {name: info[name][i] for name in ("index", "correct", "reason", "extracted")}
        row["rewards"] = {name: values[i] for name, values in info["rewards"].items()}
        assert (one, reward) == (row, rewards[i]) and low <= reward <= high
        assert one["reason"] not in ("", "error") and set(one["rewards"]) == set(env.reward_weights)
        bounded = [value for name, value in one["rewards"].items() if name != "xml_count"]
        assert 0 <= min(bounded) and max(one["rewards"].values()) <= 1
        assert isinstance(env.render(), str)
    assert info["index"].tolist() == opened["index"].tolist() == [*indices, 7]
    assert "traceback" not in info
    return info


PAPERS_WEIGHTS = {
    "gsm8k": {"exact": 2, "integer": 0.5, "strict_format": 0.5, "soft_format": 0.5, "xml_count": 1},
    "math500": {"equivalent": 2, "tags": 1},
    "countdown": {"numbers_used": 0, "paper": 1},
    "sudoku": {"cells": 0, "paper_cells": 1},
}


@pytest.mark.parametrize("task", PAPERS_WEIGHTS)
def test_the_papers_preset_has_its_weights_and_takes_changes(task):
    own = {"source": "generated", "reward_preset": "paper"}
    paper = envs.make(task, **own).reward_weights
    assert paper == {"correct": 0, "format": 0, **PAPERS_WEIGHTS[task]}
    assert envs.make(task, **own, reward_weights={"correct": 3}).reward_weights == {**paper, "correct": 3}
    default = envs.make(task, source="generated").reward_weights
    assert {name: weight for name, weight in default.items() if weight} == {"correct": 1}
