"""MATH500's generated problems: exact answers, templates, demonstrations."""

from collections import Counter
from fractions import Fraction

import pytest

import envs
from envs.math500.generator import LEVELS
from envs.math500.templates import TEMPLATES, frac, root, term
from tests.common.env_cases import SPLITS
from tests.common.math500_oracle import ORACLE, answer
from verifiers import verify_batch

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
