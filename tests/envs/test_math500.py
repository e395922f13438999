"""MATH500's generated problems: exact answers, separate splits, prompts, the slip, pictures, any action."""

import hashlib
import re
import subprocess
import sys
import warnings
from collections import Counter
from fractions import Fraction

import gymnasium
import pytest
from envs.math500.item import frac, root, term
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs import EnvError
from envs.math500.generator import LEVELS, split_of
from tests.common.math500_oracle import ORACLE, answer
from verifiers import verify_batch

SPLITS = ("train", "validation", "test")
SUBJECTS = {
    *("Prealgebra", "Algebra", "Intermediate Algebra", "Precalculus"),
    *("Geometry", "Number Theory", "Counting & Probability"),
}


def generated(split: str = "train", **arguments):
    return envs.make("math500", split=split, source="generated", **arguments)


@pytest.mark.parametrize("level", LEVELS)
def test_every_answer_is_found_again_from_the_text_alone(level):
    env = generated(level=level)
    problems = [env.problem(i) for i in range(300)]
    solved = [answer(level, problem.metadata["problem"]) for problem in problems]
    golds = [problem.reference["answer"] for problem in problems]
    verdicts = verify_batch("math500", [f"<answer>{text}</answer>" for _, text in solved], answer=golds)
    rows = zip(problems, solved, golds, verdicts.correct, strict=True)
    assert [(p.prompt, found, gold) for p, found, gold, right in rows if not right] == []
    used, fair = Counter(place for place, _ in solved), 300 / len(ORACLE[level])
    assert len(used) == len(ORACLE[level]) == len(LEVELS[level])
    assert all(fair / 2 < count < fair * 2 for count in used.values())


def test_all_templates_together_cover_the_subjects_of_the_published_set():
    found = {
        level: {generated(level=level).problem(i).metadata["subject"] for i in range(200)} for level in LEVELS
    }
    assert sum(map(len, ORACLE.values())) >= 24
    assert set.union(*found.values()) == SUBJECTS and all(len(subjects) >= 5 for subjects in found.values())


def test_level_1_needs_no_arithmetic_and_little_room():
    for split in SPLITS:
        env = generated(split)
        for i in range(256):
            problem = env.problem(i)
            assert len(problem.prompt) <= 26 and problem.prompt.isascii()
            for work, value in (problem.metadata["right"], problem.metadata["slip"]):
                assert set(work + value) <= set(problem.prompt + "+-*/()=,x01")
                assert len(work) + len(value) + 3 <= 18  # with both tags and an end token


@pytest.mark.parametrize("level", LEVELS)
def test_no_two_splits_share_a_problem(level):
    texts = {}
    for split in SPLITS:
        env = generated(split, level=level)
        texts[split] = [env.problem(i).prompt for i in range(min(len(env), 1000))]
        assert {split_of(text) for text in texts[split]} == {split}
        assert len(env) == (1_000_000 if split == "train" else len(set(texts[split])) == 256 and 256)
    # The same problem with another unknown, or about other things, is the same problem.
    forms = {split: {re.sub("[A-Za-z]", "", text) for text in found} for split, found in texts.items()}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not forms[a] & forms[b]


@pytest.mark.parametrize("arguments", [{}, {"level": 2}, {"level": 3}, {"prompt_style": "paper"}])
def test_demonstrations_score_one_and_slips_nothing(arguments):
    for split, count in (("train", 200 if arguments else 1000), ("validation", 256), ("test", 256)):
        many = envs.make_vec("math500", count, split=split, source="generated", **arguments)
        problems = [many.env.problem(i) for i in range(count)]
        for name, solved in (("right", 1.0), ("slip", 0.0)):
            many.reset(options={"index": range(count)})
            texts = [
                many.env.demonstration(p) if name == "right" else many.env.habits(p)["slip"] for p in problems
            ]
            _, rewards, _, _, info = many.step(texts)
            assert rewards.tolist() == [solved] * count and info["rewards"]["format"].all()


def test_what_is_said_and_what_is_asked():
    env, paper, hard = generated("test"), generated("test", prompt_style="paper"), generated("test", level=2)
    problem = env.problem(0)
    work, value = problem.metadata["right"]
    assert env.demonstration(problem) == f"{work}<answer>{value}</answer>"
    assert paper.problem(0).prompt.endswith(f"\\boxed{{}}.\n\n{problem.prompt}")
    assert paper.demonstration(problem) == (
        f"<reasoning>\n{work}\n</reasoning>\n<answer>\n\\boxed{{{value}}}\n</answer>\n"
    )
    work, value = hard.problem(0).metadata["right"]
    assert hard.demonstration(hard.problem(0)) == f"{work}<answer>\\boxed{{{value}}}</answer>"


def test_numbers_are_written_as_the_published_set_writes_them():
    assert [frac(Fraction(n, 2)) for n in (-1, 0, 4)] == [r"-\frac{1}{2}", "0", "2"]
    assert [frac(n, r"\pi") for n in (-1, 0, 1, 3)] == [r"-\pi", "0", r"\pi", r"3\pi"]
    assert [root(n) for n in (0, 1, 5, 12, 49)] == ["0", "1", r"\sqrt{5}", r"2\sqrt{3}", "7"]
    assert [term(n, "x") for n in (-2, -1, 0, 1, 3)] == ["-2x", "-x", "", "+x", "+3x"] and term(1, "") == "+1"


def test_a_problem_is_the_same_in_another_process_and_for_ever():
    def text(env) -> str:
        return "\n".join(env.problem(i).prompt + env.demonstration(env.problem(i)) for i in range(200))

    code = (
        "import envs, hashlib\ne = envs.make('math500', source='generated', level=3)\n"
        "t = '\\n'.join(e.problem(i).prompt + e.demonstration(e.problem(i)) for i in range(200))\n"
        "import sys; sys.stdout.write(hashlib.sha256(t.encode()).hexdigest()[:16])"
    )
    found = {
        (level, split): hashlib.sha256(text(generated(split, level=level)).encode()).hexdigest()[:16]
        for level in LEVELS
        for split in SPLITS
    }
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other == found[3, "train"]
    assert found == PINNED


@pytest.mark.parametrize("arguments", [{}, {"level": 3, "prompt_style": "paper", "reward_preset": "paper"}])
def test_gymnasium_finds_nothing_to_say(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("envs:spg/MATH500-v0", source="generated", render_mode="ansi", **arguments)
        check_env(env.unwrapped)
    shown = ["generated", *(f"{k}={v}" for k, v in sorted(arguments.items()))]
    assert set(env.unwrapped.spec_name.removeprefix("math500[").removesuffix("]").split(",")) == set(shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tets"}, 'split="tets" is unknown. Did you mean "test"?'),
        ({"prompt_style": "papers"}, 'prompt_style="papers" is unknown. Did you mean "paper"?'),
        ({"level": 4}, 'level="4" is unknown. Known: 1, 2, 3'),
        ({"level": True}, 'level="True" is unknown'),
        ({"reward_preset": "papr"}, 'Did you mean "paper"?'),
        ({"revision": "v1"}, "revision=v1 is for source=hub, not for generated"),
        ({"test_revision": "v1"}, "test_revision=v1 is for source=hub, not for generated"),
        ({"source": "hub", "level": 2}, "level=2 is for source=generated; hub has no levels"),
    ],
)
def test_unknown_values_are_named(arguments, message):
    with pytest.raises(EnvError, match=re.escape(message)):
        envs.make("math500", **{"source": "generated", **arguments})
    with pytest.raises(EnvError, match="no problem 256"):
        generated("test").problem(256)


ACTIONS = st.one_of(
    st.text(),
    st.text(r"0123456789<answer>/\ {}^_,.-()x", max_size=60),
    st.text(r"0123456789\fracsqrt{}^+-", max_size=30).map(lambda t: f"<answer>\\boxed{{{t}}}</answer>"),
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.sampled_from(["default", "paper"]))
def test_any_string_is_an_action(action, preset):
    env = generated("test", level=3, reward_preset=preset, render_mode="ansi")
    env.reset(options={"index": 1})
    _, reward, _, _, info = env.step(action)
    assert 0 <= reward <= 2.75 and "traceback" not in info and info["reason"] != "error"
    assert isinstance(env.render(), str)


def test_lone_surrogates_and_long_texts_are_actions_too():
    env = generated(reward_preset="paper")
    for action in (
        "\ud800",
        "<answer>\ud800</answer>",
        "<answer>" * 20_000,
        "{" * 200_000,
        "\\boxed{" * 30_000,
    ):
        env.reset(options={"index": 1})
        info = env.step(action)[4]
        assert not info["correct"] and "traceback" not in info
        assert isinstance(env.render_text(env.problem(1), action), str)


def test_the_picture_shows_problem_answer_gold_and_verdict(monkeypatch):
    env = generated("test")
    problem = env.problem(0)
    gold = problem.reference["answer"]
    head = [f"subject   {problem.metadata['subject']}", f"problem   {problem.prompt}"]
    assert env.render_text(problem, None, color=False).splitlines() == [*head, f"gold      {gold}"]
    assert env.render_text(problem, "I say\x1b[2J\n<answer>997</answer>", color=False).splitlines() == [
        *head,
        "answer    I say\ufffd[2J",
        "          <answer>997</answer>",
        f"gold      {gold}",
        "verdict   wrong (wrong, typed)",
    ]
    assert env.render_text(problem, "none", color=False).endswith("verdict   wrong (no_answer, text)")
    monkeypatch.delenv("NO_COLOR", raising=False)
    right = env.render_text(problem, env.demonstration(problem))
    assert f"\x1b[32m{gold}\x1b[0m</answer>" in right and right.endswith("\x1b[32mright (ok, text)\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))


PINNED = {
    (1, "train"): "3776c4a5636a1cb9",
    (1, "validation"): "094a35de68735496",
    (1, "test"): "01a2ca9c86ae93af",
    (2, "train"): "afa204abc5086807",
    (2, "validation"): "1aed4ba9cd31b780",
    (2, "test"): "f10a6bed3e515a62",
    (3, "train"): "7ec335295ff2fb1f",
    (3, "validation"): "f64109b65871aeaf",
    (3, "test"): "bcd376b3f8ade082",
}
