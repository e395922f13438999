"""GSM8K's generated problems: exact answers, templates, demonstrations."""

import re
from collections import Counter
from fractions import Fraction

import pytest

import envs
from envs.gsm8k.generator import LEVELS
from envs.gsm8k.templates import TEMPLATES
from tests.common.env_cases import SPLITS


def generated(split: str = "train", **arguments):
    return envs.make("gsm8k", split=split, source="generated", **arguments)


def holds(step: str) -> bool:
    """Whether "12-5=7" is true, by fractions."""
    a, sign, b, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
    a, b = Fraction(a), Fraction(b)
    return Fraction(value) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("level", LEVELS)
def test_every_step_is_exact_and_the_last_is_the_answer(level, split):
    env = generated(split, level=level)
    for problem in map(env.problem, range(40)):
        for name in ("right", "hasty"):
            steps, answer = problem.metadata[name]
            assert all(holds(step) for step in steps) and steps[-1].endswith(f"={answer}")
        assert problem.reference == {"answer": problem.metadata["right"][1]}
        assert len(problem.metadata["right"][0]) in {1: (2,), 2: (2, 3), 3: (4,)}[level]
        numbers = map(int, re.findall(r"\d+", problem.metadata["question"]))
        assert problem.metadata["hasty"][1] == str(sum(numbers))  # the fixed wrong rule


def pattern(template) -> re.Pattern:
    """Of the questions that a template makes."""
    if hasattr(template, "text"):
        return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(template.text)))
    verb = f"(?:{'|'.join(template.more.split() + template.less.split())})"
    opening, units = template.opening.replace("{name}", r"\w{3}"), template.units.replace(" ", "|")
    return re.compile(rf"{opening} \d\d ({units}), {verb} \d, {verb} \d\. (?i:\1)\?")


@pytest.mark.parametrize("level", LEVELS)
def test_every_template_is_used_about_equally_often(level):
    env, patterns = generated(level=level), [pattern(template) for template in TEMPLATES[level]]
    assert sum(map(len, TEMPLATES.values())) >= 24
    prompts = [env.problem(index).prompt for index in range(500)]
    used = Counter(next(i for i, p in enumerate(patterns) if p.fullmatch(prompt)) for prompt in prompts)
    fair = 500 / len(patterns)
    assert all(fair / 2.5 < used[i] < fair * 2.5 for i in range(len(patterns)))


def test_level_1_prompts_are_short_with_numbers_in_fixed_places():
    env = generated()
    for prompt in (env.problem(i).prompt for i in range(500)):
        assert len(prompt) <= 40 and prompt.isascii()
        assert [m.start() - len(prompt) for m in re.finditer(r"\d+", prompt)] == [-32, -17, -8]
    units, more, less = (
        {word for template in TEMPLATES[1] for word in getattr(template, field).split()}
        for field in ("units", "more", "less")
    )
    assert {len(unit) for unit in units} == {4} and {len(verb) for verb in more | less} == {5}
    assert not more & less


def test_demonstrations_are_written_as_the_prompt_asks():
    env, paper = generated("test"), generated("test", prompt_style="paper")
    problem = env.problem(0)
    a, b, c = re.findall(r"\d+", problem.prompt)
    steps, answer = problem.metadata["right"]
    hasty = env.habits(problem)["hasty"]
    assert env.demonstration(problem) == f"{steps[0]} {steps[1]}<answer>{answer}</answer>"
    assert hasty.startswith(f"{a}+{b}=") and f"+{c}=" in hasty
    assert paper.problem(0).prompt.endswith(f"</answer>\n\n\n{problem.prompt}")
    assert paper.demonstration(problem) == (
        f"<reasoning>\n{steps[0]}\n{steps[1]}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
    )
