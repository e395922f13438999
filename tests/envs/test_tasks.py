"""What holds for GSM8K, MATH500 and Countdown alike: splits, pinned problems, demonstrations, arguments, actions."""

import hashlib
import re
import subprocess
import sys
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError, Problem
from envs.countdown.generator import key
from envs.countdown.generator import split_of as countdown_split
from envs.gsm8k.generator import split_of as gsm8k_split
from envs.math500.generator import split_of as math500_split
from tests.common.env_cases import SPLITS, make_splits

# Hashes by task, split and level; docs/environments shows those of GSM8K and MATH500.
PINNED = {
    "gsm8k": {
        "train": ["0eb55ed71dbd2d20", "b7884d91b15baf6d", "aaee8b4f273b8085"],
        "validation": ["fdd4f310557c8bfe", "2722ddf064e8f37d", "95a73af603795c9a"],
        "test": ["56a8365b13de79d7", "efbe650fd498ddce", "678ee6fb4374941e"],
    },
    "math500": {
        "train": ["3776c4a5636a1cb9", "afa204abc5086807", "7ec335295ff2fb1f"],
        "validation": ["094a35de68735496", "1aed4ba9cd31b780", "f64109b65871aeaf"],
        "test": ["01a2ca9c86ae93af", "f10a6bed3e515a62", "bcd376b3f8ade082"],
    },
    "countdown": {
        "train": ["424190525e34", "92ed22ae5c7f", "a0c6e3462b8d", "e4b9e0f78544", "8472974ab2d8"],
        "validation": ["3e5d0c3a2422", "32527f1b00aa", "2c088e3cb2fe", "b6d89714f26a", "616e043afde0"],
        "test": ["4c3e2117b047", "c10821b83151", "cc2b308dd097", "1a0b6ad18351", "4b032158a98b"],
    },
}
LEVELS = [(task, level + 1) for task in PINNED for level in range(len(PINNED[task]["train"]))]


def identity(task: str, problem: Problem) -> tuple[object, str]:
    """(what makes two problems the same, the split that owns it)."""
    if task == "gsm8k":
        steps = problem.metadata["right"][0]
        return steps, gsm8k_split(steps)
    if task == "math500":  # whatever the unknown is called, and whatever it is about
        return re.sub("[A-Za-z]", "", problem.prompt), math500_split(problem.prompt)
    numbers = key(**problem.reference)
    return numbers, countdown_split(numbers)


@pytest.mark.parametrize(("task", "level"), LEVELS)
def test_no_two_splits_share_a_problem(task, level):
    owners = {}
    for split, env in make_splits(task, source="generated", level=level).items():
        problems = [env.problem(i) for i in range(min(len(env), 1000))]
        if split == "train":
            assert len(env) == 1_000_000
        else:
            assert len(env) == len({problem.prompt for problem in problems}) == 256
        for problem in problems:
            same, owner = identity(task, problem)
            assert (
                owner == split == owners.setdefault(same, split) == owners.setdefault(problem.prompt, split)
            )


HABITS = {"gsm8k": ("hasty", 0.05, 0.2), "math500": ("slip", 0, 0), "countdown": ("adder", 0, 0.2)}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        *((task, {"level": level}) for task, level in LEVELS),
        *((task, {"prompt_style": "paper"}) for task in PINNED),
    ],
)
def test_demonstrations_score_one_and_habits_solve_few(task, arguments):
    habit, low, high = HABITS[task]
    count = 1000 if arguments.get("level", 4) < 4 else 256
    for env in make_splits(task, source="generated", **arguments).values():
        problems = [env.problem(i) for i in range(min(len(env), count))]
        right = env.score_batch(problems, [env.demonstration(p) for p in problems])
        assert all(component.all() for component in right.rewards.values())
        wrong = env.score_batch(problems, [env.habits(p)[habit] for p in problems])
        assert low <= wrong.rewards["correct"].mean() <= high and wrong.rewards["format"].all()
        assert set(wrong.reason) <= {"ok", "wrong"}


def digest(task: str, split: str, level: int) -> str:
    """Of the first 100 prompts of Countdown, of 200 prompts with their demonstrations otherwise."""
    env = envs.make(task, split=split, source="generated", level=level)
    if task == "countdown":
        texts, digits = [env.problem(i).prompt for i in range(100)], 12
    else:
        texts, digits = [env.problem(i).prompt + env.demonstration(env.problem(i)) for i in range(200)], 16
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:digits]


@pytest.mark.parametrize("task", PINNED)
def test_released_problems_never_change(task):
    levels = range(1, len(PINNED[task]["train"]) + 1)
    assert {split: [digest(task, split, level) for level in levels] for split in SPLITS} == PINNED[task]


def test_another_process_draws_the_same_problems():
    code = """if True:
        import envs, hashlib
        texts = []
        for task, level in (("gsm8k", 3), ("math500", 3), ("countdown", 1), ("countdown", 5)):
            for split in ("train", "test"):
                env = envs.make(task, split=split, source="generated", level=level)
                texts += [env.problem(i).prompt + env.demonstration(env.problem(i)) for i in (7, 3, 250)]
        digest = hashlib.sha256("|".join(texts).encode()).hexdigest()
    """
    run = [sys.executable, "-c", code + "    print(digest)"]
    other = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    here: dict = {}
    exec(code, here)
    assert other.strip() == here["digest"]


PAPER = {"level": 3, "prompt_style": "paper", "reward_preset": "paper"}


@pytest.mark.parametrize("name", ["GSM8K", "MATH500", "Countdown"])
@pytest.mark.parametrize("arguments", [{}, PAPER])
def test_gymnasium_accepts_them_without_a_warning(name, arguments):
    arguments = arguments if name == "Countdown" else {"source": "generated", **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"envs:spg/{name}-v0", render_mode="ansi", **arguments).unwrapped
        check_env(env)
    shown = [value if key == "source" else f"{key}={value}" for key, value in arguments.items()]
    found = env.spec_name.removeprefix(name.lower()).strip("[]")
    assert set(found.split(",")) == set(shown or [""])


@pytest.mark.parametrize("task", PINNED)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tets"}, 'split="tets" is unknown. Did you mean "test"?'),
        ({"prompt_style": "papers"}, 'prompt_style="papers" is unknown. Did you mean "paper"?'),
        ({"level": 6}, 'level="6" is unknown. Known: 1, 2, 3'),
        ({"level": True}, 'level="True" is unknown'),
        ({"level": "1"}, 'level="1" is unknown'),
        ({"reward_preset": "papr"}, 'Did you mean "paper"? Known: default, paper'),
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
        ("gsm8k", {"source": "generated", "revision": "v1"}, "revision=v1 is for source=hub, not for gen"),
        ("gsm8k", {"level": 2}, "level=2 is for source=generated; hub has no levels"),
        ("math500", {"source": "generated", "revision": "v1"}, "revision=v1 is for source=hub, not for gen"),
        ("math500", {"source": "generated", "test_revision": "v1"}, "test_revision=v1 is for source=hub"),
        ("math500", {"level": 2}, "level=2 is for source=generated; hub has no levels"),
        ("gsm8k", {}, "source=generated"),  # there is no hub in tests
        ("math500", {}, "source=generated"),
    ],
)
def test_arguments_that_do_not_fit_the_source_are_refused(task, arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make(task, **arguments)


REWARD_RANGES = {"gsm8k": (-float("inf"), 4), "math500": (0, 2.75), "countdown": (0, 1)}
PIECES = ["<answer>", "</answer>", "7", "12", "+", "(", ")", "\\boxed{", "<|eot_id|>", "\ud800", "\n", "}"]
ACTIONS = st.one_of(
    st.text(),
    st.binary().map(lambda b: b.decode("latin-1")),
    st.text("0123456789<answer>/\\ {}^_|\n.,=()+-*x", max_size=60),
    st.text("0123456789+-*/() .,=<>", max_size=60).map(lambda text: f"<answer>{text}</answer>"),
    st.text("0123456789\\fracsqrt{}^+-", max_size=30).map(lambda text: f"<answer>\\boxed{{{text}}}</answer>"),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
)


@pytest.mark.parametrize("task", PINNED)
@pytest.mark.parametrize("preset", ["default", "paper"])
@settings(max_examples=150, deadline=None)
@given(action=ACTIONS)
def test_any_string_is_scored_and_rendered(task, preset, action):
    check_action(task, preset, action)


@pytest.mark.parametrize("task", PINNED)
def test_surrogates_and_long_texts_are_actions_too(task):
    long = ("<answer>" * 20_000, "1" * 200_000, "{" * 200_000, "\\boxed{" * 30_000)
    for action in ("\ud800", "<answer>\ud800</answer>", *long):
        assert not check_action(task, "paper", action)["correct"]


def check_action(task: str, preset: str, action: str) -> dict:
    level = 3 if task == "math500" else 1
    env = envs.make(
        task, split="test", source="generated", level=level, reward_preset=preset, render_mode="ansi"
    )
    env.reset(options={"index": 1})
    _, reward, _, _, info = env.step(action)
    low, high = REWARD_RANGES[task]
    assert low <= reward <= high and "traceback" not in info and info["reason"] != "error"
    assert set(info["rewards"]) == set(env.reward_weights)
    assert all(value <= 1 and (value >= 0 or name == "xml_count") for name, value in info["rewards"].items())
    assert isinstance(env.render(), str)
    return info


@pytest.mark.parametrize(
    ("task", "head", "verdicts"),
    [
        ("gsm8k", ["question  {question}"], ["wrong", "wrong (no_answer)", "right"]),
        (
            "math500",
            ["subject   {subject}", "problem   {problem}"],
            ["wrong (wrong, typed)", "wrong (no_answer, text)", "right (ok, text)"],
        ),
    ],
)
def test_rendering_shows_question_answer_gold_and_verdict(task, head, verdicts, monkeypatch):
    env = envs.make(task, source="generated", split="test")
    problem = env.problem(0)
    gold = problem.reference["answer"]
    wrong, unread, right = verdicts
    head = [line.format(**problem.metadata) for line in head]
    assert env.render_text(problem, None, color=False).splitlines() == [*head, f"gold      {gold}"]
    assert env.render_text(problem, "I say\x1b[2J\n<answer>997</answer>", color=False).splitlines() == [
        *head,
        "answer    I say\ufffd[2J",
        "          <answer>997</answer>",
        f"gold      {gold}",
        f"verdict   {wrong}",
    ]
    assert env.render_text(problem, "none", color=False).endswith(f"verdict   {unread}")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = env.render_text(problem, env.demonstration(problem))
    assert f"\x1b[32m{gold}\x1b[0m</answer>" in shown and shown.endswith(f"\x1b[32m{right}\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))
