"""MATH500's generated problems: exact answers, separate splits, templates, the slip, rendering."""

import re
from collections import Counter
from fractions import Fraction

import pytest

import envs
from envs.math500.generator import LEVELS, split_of
from envs.math500.templates import TEMPLATES, frac, root, term
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
    assert len(used) == len(ORACLE[level]) == len(TEMPLATES[level])
    assert all(fair / 2 < count < fair * 2 for count in used.values())


def test_the_templates_cover_the_subjects_of_the_published_set():
    subjects = [
        {generated(level=level).problem(i).metadata["subject"] for i in range(200)} for level in LEVELS
    ]
    assert sum(map(len, TEMPLATES.values())) >= 24
    assert set.union(*subjects) == SUBJECTS and all(len(found) >= 5 for found in subjects)


@pytest.mark.parametrize("split", SPLITS)
def test_level_1_needs_no_arithmetic_and_little_room(split):
    for problem in map(generated(split).problem, range(256)):
        assert len(problem.prompt) <= 26 and problem.prompt.isascii()
        for work, value in (problem.metadata["right"], problem.metadata["slip"]):
            assert set(work + value) <= set(problem.prompt + "+-*/()=,x01")
            assert len(work) + len(value) + 3 <= 18  # with both tags and an end token


@pytest.mark.parametrize("level", LEVELS)
def test_no_two_splits_share_a_problem(level):
    forms = {}
    for split in SPLITS:
        env = generated(split, level=level)
        texts = [env.problem(i).prompt for i in range(min(len(env), 1000))]
        assert {split_of(text) for text in texts} == {split}
        assert len(env) == (1_000_000 if split == "train" else len(set(texts)) == 256 and 256)
        # The same problem with another unknown, or about other things, is the same problem.
        forms[split] = {re.sub("[A-Za-z]", "", text) for text in texts}
    assert len(set.union(*forms.values())) == sum(map(len, forms.values()))


@pytest.mark.parametrize("arguments", [{}, {"level": 2}, {"level": 3}, {"prompt_style": "paper"}])
def test_demonstrations_score_one_and_slips_nothing(arguments):
    for split, count in (("train", 200 if arguments else 1000), ("validation", 256), ("test", 256)):
        env = generated(split, **arguments)
        problems = [env.problem(i) for i in range(count)]
        right = env.score_batch(problems, [env.demonstration(p) for p in problems])
        assert right.rewards["correct"].all() and right.rewards["format"].all()
        slips = env.score_batch(problems, [env.habits(p)["slip"] for p in problems])
        assert not slips.rewards["correct"].any() and slips.rewards["format"].all()


def test_demonstrations_are_written_as_the_prompt_asks():
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


def test_numbers_are_written_as_in_the_published_set():
    assert [frac(Fraction(n, 2)) for n in (-1, 0, 4)] == [r"-\frac{1}{2}", "0", "2"]
    assert [frac(n, r"\pi") for n in (-1, 0, 1, 3)] == [r"-\pi", "0", r"\pi", r"3\pi"]
    assert [root(n) for n in (0, 1, 5, 12, 49)] == ["0", "1", r"\sqrt{5}", r"2\sqrt{3}", "7"]
    assert [term(n, "x") for n in (-2, -1, 0, 1, 3)] == ["-2x", "-x", "", "+x", "+3x"] and term(1, "") == "+1"


def test_rendering_shows_problem_answer_gold_and_verdict(monkeypatch):
    env = generated("test")
    problem = env.problem(0)
    head = [f"subject   {problem.metadata['subject']}", f"problem   {problem.prompt}"]
    gold = f"gold      {problem.reference['answer']}"
    assert env.render_text(problem, None, color=False).splitlines() == [*head, gold]
    assert env.render_text(problem, "I say\x1b[2J\n<answer>997</answer>", color=False).splitlines() == [
        *head,
        "answer    I say\ufffd[2J",
        "          <answer>997</answer>",
        gold,
        "verdict   wrong (wrong, typed)",
    ]
    assert env.render_text(problem, "none", color=False).endswith("verdict   wrong (no_answer, text)")
    monkeypatch.delenv("NO_COLOR", raising=False)
    right = env.render_text(problem, env.demonstration(problem))
    assert f"\x1b[32m{problem.reference['answer']}\x1b[0m</answer>" in right
    assert right.endswith("\x1b[32mright (ok, text)\x1b[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in env.render_text(problem, env.demonstration(problem))
