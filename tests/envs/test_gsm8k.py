"""GSM8K's generated problems: exact answers, separate splits, prompts, habits, pictures, any action."""

import hashlib
import re
import subprocess
import sys
import warnings
from collections import Counter
from fractions import Fraction

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError
from envs.gsm8k.generator import LEVELS, split_of
from envs.gsm8k.templates import STORIES, TALES

SPLITS = ("train", "validation", "test")


def generated(split: str = "train", **arguments):
    return envs.make("gsm8k", split=split, source="generated", **arguments)


def holds(step: str) -> bool:
    """Whether "12-5=7" is true, by fractions."""
    a, sign, b, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
    a, b = Fraction(a), Fraction(b)
    return Fraction(value) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]


@pytest.mark.parametrize("level", LEVELS)
def test_every_step_is_exact_and_the_last_one_is_the_answer(level):
    for split in SPLITS:
        env = generated(split, level=level)
        for i in range(40):
            problem = env.problem(i)
            for name in ("right", "hasty"):
                steps, answer = problem.metadata[name]
                assert all(holds(step) for step in steps) and steps[-1].endswith(f"={answer}")
            assert problem.reference == {"answer": problem.metadata["right"][1]}
            assert len(problem.metadata["right"][0]) in {1: (2,), 2: (2, 3), 3: (4,)}[level]
            numbers = re.findall(r"\d+", problem.metadata["question"])
            added = sum(int(number) for number in numbers)
            assert problem.metadata["hasty"][1] == str(added)  # the fixed wrong rule


@pytest.mark.parametrize("level", LEVELS)
def test_no_two_splits_share_a_calculation_or_a_text(level):
    steps, texts = {}, {}
    for split in SPLITS:
        env = generated(split, level=level)
        problems = [env.problem(i) for i in range(min(len(env), 600))]
        steps[split] = {p.metadata["right"][0] for p in problems}
        texts[split] = {p.prompt for p in problems}
        assert {split_of(calculation) for calculation in steps[split]} == {split}
        assert len(env) == (1_000_000 if split == "train" else len(texts[split]) == 256 and 256)
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not steps[a] & steps[b] and not texts[a] & texts[b]


def patterns(level: int) -> list[re.Pattern]:
    """One for each template of a level."""
    if level > 1:
        return [re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(tale.text))) for tale in TALES[level]]
    found = []
    for story in STORIES:
        verb = f"(?:{'|'.join(story.more + story.less)})"
        opening, units = story.opening.replace("{name}", r"\w{3}"), "|".join(story.units)
        found.append(re.compile(rf"{opening} \d\d ({units}), {verb} \d, {verb} \d\. (?i:\1)\?"))
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_every_template_is_used_about_equally_often(level):
    env, known = generated(level=level), patterns(level)
    assert len(STORIES) + len(TALES[2]) + len(TALES[3]) >= 24
    used = Counter(
        next(i for i, pattern in enumerate(known) if pattern.fullmatch(env.problem(index).prompt))
        for index in range(500)
    )
    fair = 500 / len(known)
    assert all(fair / 2.5 < used[i] < fair * 2.5 for i in range(len(known)))


def test_level_1_prompts_are_short_and_their_numbers_stand_in_the_same_places():
    env = generated()
    for i in range(500):
        problem = env.problem(i)
        assert len(problem.prompt) <= 40 and problem.prompt.isascii()
        assert [m.start() - len(problem.prompt) for m in re.finditer(r"\d+", problem.prompt)] == [
            -32,
            -17,
            -8,
        ]
    assert all(len(unit) == 4 for story in STORIES for unit in story.units)
    assert all(len(verb) == 5 for story in STORIES for verb in story.more + story.less)
    more, less = ({verb for s in STORIES for verb in getattr(s, side)} for side in ("more", "less"))
    assert not more & less


@pytest.mark.parametrize("arguments", [{}, {"level": 2}, {"level": 3}, {"prompt_style": "paper"}])
def test_demonstrations_score_one_and_the_hasty_solve_few(arguments):
    for split, count in (("train", 256 if arguments else 1000), ("validation", 256), ("test", 256)):
        many = envs.make_vec("gsm8k", count, split=split, source="generated", **arguments)
        problems = [many.env.problem(i) for i in range(count)]
        many.reset(options={"index": range(count)})
        _, rewards, _, _, info = many.step([many.env.demonstration(p) for p in problems])
        assert rewards.tolist() == [1.0] * count and info["rewards"]["format"].all()
        many.reset(options={"index": range(count)})
        _, rewards, _, _, info = many.step([many.env.habits(p)["hasty"] for p in problems])
        assert 0.05 <= rewards.mean() <= 0.2 and info["rewards"]["format"].all()
        assert set(info["reason"]) == {"ok", "wrong"}


def test_what_is_said_and_what_is_asked():
    env = generated("test")
    problem = env.problem(0)
    a, b, c = re.findall(r"\d+", problem.prompt)
    steps, answer = problem.metadata["right"]
    assert env.demonstration(problem) == f"{steps[0]} {steps[1]}<answer>{answer}</answer>"
    assert env.habits(problem)["hasty"].startswith(f"{a}+{b}=") and f"+{c}=" in env.habits(problem)["hasty"]
    paper = generated("test", prompt_style="paper")
    assert paper.problem(0).prompt.endswith(f"</answer>\n\n\n{problem.prompt}")
    assert paper.demonstration(problem) == (
        f"<reasoning>\n{steps[0]}\n{steps[1]}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
    )


def test_a_released_problem_never_changes():
    found = {}
    for level in LEVELS:
        for split in SPLITS:
            env = generated(split, level=level)
            text = "\n".join(env.problem(i).prompt + env.demonstration(env.problem(i)) for i in range(200))
            found[split, level] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == PINNED


def test_a_problem_is_the_same_in_another_process():
    code = (
        "import envs\nfor s in ('train', 'test'):\n e = envs.make('gsm8k', split=s, source='generated', level=3)\n"
        " import sys; sys.stdout.write('|'.join(e.problem(i).prompt for i in (7, 3, 250)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [generated(s, level=3).problem(i).prompt for s in ("train", "test") for i in (7, 3, 250)]
    assert other == "|".join(here[:3]) + "|".join(here[3:])


@pytest.mark.parametrize("arguments", [{}, {"level": 3, "prompt_style": "paper", "reward_preset": "paper"}])
def test_gymnasium_finds_nothing_to_say(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("envs:spg/GSM8K-v0", source="generated", render_mode="ansi", **arguments)
        check_env(env.unwrapped)
    shown = ["generated", *(f"{k}={v}" for k, v in sorted(arguments.items()))]
    assert set(env.unwrapped.spec_name.removeprefix("gsm8k[").removesuffix("]").split(",")) == set(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tets"}, 'split="tets" is unknown. Did you mean "test"?'),
        ({"prompt_style": "papers"}, 'prompt_style="papers" is unknown. Did you mean "paper"?'),
        ({"level": 4}, 'level="4" is unknown. Known: 1, 2, 3'),
        ({"reward_preset": "papr"}, 'Did you mean "paper"?'),
        ({"revision": "v1"}, "revision=v1 is for source=hub, not for generated"),
        ({"source": "hub", "level": 2}, "level=2 is for source=generated; hub has no levels"),
    ],
)
def test_unknown_values_are_named(arguments, message):
    with pytest.raises(EnvError, match=re.escape(message)):
        envs.make("gsm8k", **{"source": "generated", **arguments})
    with pytest.raises(EnvError, match="no problem 256"):
        generated("test").problem(256)


ACTIONS = st.one_of(
    st.text(),
    st.text("0123456789<answer>/ \n|.,-", max_size=60),
    st.binary().map(lambda b: b.decode("latin-1")),
)


@settings(max_examples=200, deadline=None)
@given(ACTIONS, st.sampled_from(["default", "paper"]))
def test_any_string_is_an_action(action, preset):
    env = generated("test", render_mode="ansi", reward_preset=preset)
    env.reset(options={"index": 1})
    _, reward, _, _, info = env.step(action)
    assert reward <= 4 and "traceback" not in info and info["reason"] != "error"
    assert isinstance(env.render(), str)


def test_lone_surrogates_and_long_texts_are_actions_too():
    env = generated(reward_preset="paper")
    for action in ("\ud800", "<answer>\ud800</answer>", "<answer>" * 20_000, "1" * 200_000):
        env.reset(options={"index": 1})
        info = env.step(action)[4]
        assert not info["correct"] and "traceback" not in info
        assert isinstance(env.render_text(env.problem(1), action), str)


def test_the_picture_shows_question_answer_gold_and_verdict(monkeypatch):
    env = generated("test")
    problem = env.problem(0)
    gold = problem.reference["answer"]
    assert env.render_text(problem, None, color=False).splitlines() == [
        f"question  {problem.prompt}",
        f"gold      {gold}",
    ]
    assert env.render_text(problem, "I say\x1b[2J\n<answer>7</answer>", color=False).splitlines()[1:] == [
        "answer    I say\ufffd[2J",
        "          <answer>7</answer>",
        f"gold      {gold}",
        "verdict   wrong",
    ]
    assert env.render_text(problem, "none", color=False).endswith("verdict   wrong (no_answer)")
    monkeypatch.delenv("NO_COLOR", raising=False)
    right = env.render_text(problem, env.demonstration(problem))
    assert f"\x1b[32m{gold}\x1b[0m</answer>" in right and right.endswith("\x1b[32mright\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))


PINNED = {
    ("train", 1): "0eb55ed71dbd2d20",
    ("validation", 1): "fdd4f310557c8bfe",
    ("test", 1): "56a8365b13de79d7",
    ("train", 2): "b7884d91b15baf6d",
    ("validation", 2): "2722ddf064e8f37d",
    ("test", 2): "efbe650fd498ddce",
    ("train", 3): "aaee8b4f273b8085",
    ("validation", 3): "95a73af603795c9a",
    ("test", 3): "678ee6fb4374941e",
}
