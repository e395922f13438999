"""MATH500: generated problems, the format, what counts as finished, and the rewards of the papers."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.math500.problems import LEVELS
from envs.math500.rewards import boxed_text, equivalent, has_format, is_plain
from envs.math500.templates import TEMPLATES
from tests.common.math500_oracle import ORACLE, answer
from verifiers import verify_batch
from verifiers.d1 import same_text


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


def test_the_format_is_one_closed_block_that_holds_something():
    boxed = [r"so <answer>\boxed{4}</answer> done", r"<answer>\boxed{\frac{1}{2}}</answer>"]
    bare = ["2+2=4<answer>4</answer>", r"<answer>\boxed{4</answer>}", r"<answer>\boxed{ }</answer>"]
    bare += [r"\boxed{4}<answer>4</answer>", "<answer>4</answer><|eot_id|><answer>5</answer>"]
    neither = [r"\boxed{4}", "<answer> </answer>", "<answer>4", "</answer>4<answer>"]
    neither += ["<answer>4</answer><answer>5</answer>", r"<|endoftext|><answer>\boxed{4}</answer>"]
    for texts, met in ((boxed, (True, True)), (bare, (True, False)), (neither, (False, False))):
        for text in texts:
            assert (has_format(text, boxed=False), has_format(text, boxed=True)) == met, text


@pytest.mark.parametrize("level", [1, 2, 3])
def test_copying_the_task_does_not_solve_it(level):
    env = envs.make("math500", source="generated", level=level)
    problems = [env.problem(i) for i in range(200)]
    formulas = [re.findall(r"\$([^$]*)\$", p.prompt) for p in problems]
    for chosen in (0, -1):
        copies = [found[chosen] if found else "" for found in formulas]
        # A number may be right by chance.
        skipped = re.compile(r"-?\d+(\\%)?|\((-?\d),\2\)")
        rows = [i for i in range(200) if not skipped.fullmatch(copies[i])]
        for shape in ("{}", "\\boxed{{{}}}", "\\boxed{{({}) }}"):
            texts = [f"<answer>{shape.format(copies[i])}</answer>" for i in rows]
            correct = env.score_batch([problems[i] for i in rows], texts).rewards["correct"]
            assert [text for text, right in zip(texts, correct, strict=True) if right] == []


@pytest.mark.parametrize(
    ("answer", "gold", "plain"),
    [
        *(("7", "7", True), ("7.0", "7", True), ("x=7", "7", True), ("9-2", "7", False), ("14/2", "7", True)),
        *(("1/2", r"\frac{1}{2}", True), ("8(c+t)", "8t+8c", False), ("8c+8t", "8t+8c", True)),
    ],
)
def test_an_answer_is_in_plain_form(answer, gold, plain):
    assert is_plain(answer, gold) is plain


@pytest.mark.parametrize(
    ("text", "box"),
    [
        *((r"\boxed{1} and \boxed{2}", "2"), (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"), (r"\fbox{7}", "7")),
        *((r"so $x = \boxed 3$ it is", "3"), (r"\boxed{1} then \boxed{2", None), (r"\boxed{}", "")),
        *((r"\boxed", None), ("4", None)),
    ],
)
def test_the_last_box(text, box):
    assert boxed_text(text) == box


def test_texts_that_the_papers_take_for_equal():
    half, root = r"\frac{1}{2}", r"2\sqrt{3}"
    for gold, texts in (
        (half, (r"\dfrac12", r"\tfrac{1}{2}", "1/2", "0.5", ".5")),
        (root, (r"2\sqrt3", r"2 \sqrt{3}")),
        (r"\frac{1}{72}", (r"\frac1{72}",)),
        (r"\frac{-3}{4}", ("-3/4",)),
        (r"(3,\frac{\pi}{2})", (r"\left( 3, \frac{\pi}{2} \right)",)),
        ("90", (r"90^\circ", r"90\%", r"\$90", r"90\text{ cm}", "x = 90", "9\n0", r"9\!0")),
        ("{0.5}", ("{.5}",)),
    ):
        assert [text for text in texts if not same_text(text, gold)] == []


def test_texts_that_the_papers_take_for_different():
    for one, other in (
        *(
            ("2.0", "2"),
            ("10,080", "10080"),
            ("90%", "90"),
            ("(1,2)", "(2,1)"),
            ("xyz=5", "5"),
            ("a=b=5", "5"),
        ),
        *((text, r"\frac{1}{2}") for text in ("1/02", r"\frac{2}{4}", "+1/2", "1/2/3")),
        *((r"\frac1", r"\frac{1}"), ("-0/2", r"\frac{-0}{2}"), ("\u0661/2", "\\frac{\u0661}{2}")),
    ):
        assert not same_text(one, other)


def test_equivalence_looks_at_the_last_box_of_the_whole_text():
    assert equivalent(r"\boxed{3}<answer>\boxed{1/2}</answer>", r"\frac{1}{2}")
    assert equivalent(r"<answer>4</answer> \boxed{5}", "5")
    assert not equivalent(r"<answer>4</answer>", "4") and equivalent("4", "4")
    assert not equivalent(r"\boxed{4} \boxed{5}", "4")
    # Two units, or a root of nothing, cannot be normalised: then the texts themselves are compared.
    assert equivalent(r"\boxed{1\text{ a}2\text{ b}}", r"1\text{ a}2\text{ b}")
    assert not equivalent(r"\boxed{\sqrt}", "4") and equivalent(r"\boxed{\sqrt}", r"\sqrt")


def test_the_preset_pays_what_the_papers_code_pays():
    env = envs.make("math500", source="generated", prompt_style="instruct", reward_preset="paper")
    gold = env.problem(0).reference["answer"]
    for text, paid in (
        (f"<answer>\\boxed{{{gold}}}</answer>", 2.75),
        (f"\\boxed{{{gold}}}", 2.25),
        (f"<answer>{gold}</answer>", 0.75),
        ("<answer>", 0.75),
        ("", 0.25),
    ):
        env.reset(options={"index": 0})
        _, reward, _, _, info = env.step(text)
        assert (reward, info["rewards"]["tags"]) == (paid, 0.75 if "<answer>" in text else 0.25)


@settings(max_examples=200, deadline=None)
@given(st.text(r"\fracsqtbox{} /=.0123456789%$-", max_size=40))
def test_no_text_breaks_the_comparison_and_each_equals_itself(text):
    completion = f"\\boxed{{{text}}}"
    box = boxed_text(completion)
    assert equivalent(completion, completion if box is None else box)
    assert not has_format(text, boxed=True)
