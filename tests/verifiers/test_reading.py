"""Where an answer stands in a text, and patterns that cannot backtrack."""

import re
from importlib import import_module
from pkgutil import iter_modules
from re import _constants as kinds
from re import _parser
from time import process_time

import pytest

import verifiers.reading
from verifiers import verify, verify_batch
from verifiers.choice import label_of, trimmed, without_label
from verifiers.reading.answer import find_answer
from verifiers.reading.expressions import expression_in
from verifiers.reading.grids import cells_in
from verifiers.reading.numbers import calculation_end
from verifiers.reading.tokens import NUMBER, SIGN
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

WAYS = 4000
"""In so many ways, a pattern may at most match from one place: those of its repeats that are not possessive."""


def ways(tree) -> float:
    """In how many ways a pattern may at most be tried from one place; infinity for a repeat without a bound."""
    count = 1.0
    for kind, argument in tree:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            least, most, body = argument
            inside = ways(body)
            is_bounded = most != kinds.MAXREPEAT and (inside == 1 or most == 1)
            count *= (most - least) + inside if is_bounded else float("inf")
        elif kind is kinds.BRANCH:
            count *= 1 + sum(ways(part) - 1 for part in argument[1])
        elif kind is kinds.SUBPATTERN:
            count *= ways(argument[3])
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            count *= ways(argument[1])
        elif kind is kinds.POSSESSIVE_REPEAT:
            count *= 1 if ways(argument[2]) < float("inf") else float("inf")
        elif kind is kinds.ATOMIC_GROUP:
            count *= 1 if ways(argument) < float("inf") else float("inf")
        elif kind in (kinds.GROUPREF, kinds.GROUPREF_EXISTS):
            return float("inf")
    return count


def patterns() -> list:
    """(module and name, pattern) for every compiled pattern of verifiers.reading."""
    names = [module.name for module in iter_modules(verifiers.reading.__path__, "verifiers.reading.")]
    found = []
    for name in names:
        for key, value in vars(import_module(name)).items():
            value = [*value.values()] if isinstance(value, dict) else value
            values = value if isinstance(value, tuple | list) else (value,)
            found += [(f"{name}.{key}", part) for part in values if isinstance(part, re.Pattern)]
    return found


def test_no_pattern_of_reading_can_backtrack() -> None:
    counts = {name: ways(_parser.parse(pattern.pattern, pattern.flags)) for name, pattern in patterns()}
    assert len(counts) > 20
    assert not {name: count for name, count in counts.items() if count > WAYS}


@pytest.mark.parametrize(
    "pattern", [r"a*b", r"(?:a+,)*+b", r"(a|b)+", r"(?:a{1,9}b){1,9}", r"(a)\1", r"x{0,5000}y"]
)
def test_patterns_that_backtrack_are_found(pattern: str) -> None:
    assert ways(_parser.parse(pattern)) > WAYS


def groups_in_repeats(tree, in_repeat: bool = False) -> bool:
    """Whether a capturing group stands inside a repeat; inside a possessive one it made `re` raise SystemError."""
    found = False
    for kind, argument in tree:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
            found |= groups_in_repeats(
                argument[2], in_repeat or argument[1] > 1 or kind is kinds.POSSESSIVE_REPEAT
            )
        elif kind is kinds.BRANCH:
            found |= any(groups_in_repeats(part, in_repeat) for part in argument[1])
        elif kind is kinds.SUBPATTERN:
            found |= (in_repeat and argument[0] is not None) or groups_in_repeats(argument[3], in_repeat)
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            found |= groups_in_repeats(argument[1], in_repeat)
        elif kind is kinds.ATOMIC_GROUP:
            found |= groups_in_repeats(argument, in_repeat)
    return found


def test_no_pattern_of_reading_has_a_capturing_group_inside_a_repeat() -> None:
    assert groups_in_repeats(_parser.parse(r"(?:a|(b))*+")) and not groups_in_repeats(
        _parser.parse(r"(?:a*+)(b)?")
    )
    found = [
        name
        for name, pattern in patterns()
        if groups_in_repeats(_parser.parse(pattern.pattern, pattern.flags))
    ]
    assert not found


PIECES = (
    *("<answer>", "<think>", "</think>", "<", "\\boxed{", "\\boxed", "\\boxed{1} or ", "not \\boxed{1} ", "{"),
    *("#### ", "####\n", "answer ", "the answer is ", "Answer: 5. ", "answer to ", "answer (", "答案是", "**", "$"),
    *("\\[", "\\begin", "A:", "\nA: 5", "1", "1.", "is 5. ", "No, 5. ", "wait ", "the final ", "is correct "),
    *("let me redo 5 = so ", ", not 5", "18 is the answer.", "(B) is ", '"answer": "', "<|end|>", "\\", "\n", " "),
)  # fmt: skip
"""Texts of one of these pieces, again and again, behind nothing, a mark and a name, take most work."""


@pytest.mark.parametrize("size", [20_000, pytest.param(500_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("before", ["", "\\boxed{5} ", "The answer is "])
def test_time_grows_with_the_text_alone(before: str, size: int) -> None:
    def seconds(piece: str, characters: int) -> float:
        text = before + (piece * (characters // len(piece) + 1))[:characters]
        began = process_time()
        find_answer(text)
        return process_time() - began

    for piece in PIECES:
        # Further tries are for a machine whose clock is slow for a moment.
        tries = ((seconds(piece, size), seconds(piece, 2 * size)) for _ in range(3))
        assert any(twice < max(2.5 * once, 0.1) for once, twice in tries), piece


@pytest.mark.parametrize(
    ("read", "frame", "piece", "size"),
    [
        *(
            (lambda text: cells_in(text, 4), "\\text{{{}}}", piece, 20_000)
            for piece in ("*", "* ", ". ", "r 1: ")
        ),
        *((expression_in, "{0}3*5+7{0}", quote, 20_000) for quote in ('"', "`", "$")),
        (
            lambda text: calculation_end([(NUMBER, "5", False), (SIGN, "*", False)] * len(text), 0, 18),
            "{}",
            "5*",
            40_000,
        ),
        (trimmed, "{0}5{0}", "\\qquad", 200_000),
        (without_label, "{}", "\\textbf{", 300_000),
        (label_of, "{}", "the answer is ", 250_000),
    ],
)
def test_time_of_other_readers_grows_with_the_text_alone(read, frame: str, piece: str, size: int) -> None:
    def seconds(characters: int) -> float:
        text = frame.format(piece * (characters // len(piece)))
        began = process_time()
        read(text)
        return process_time() - began

    tries = ((seconds(size), seconds(2 * size)) for _ in range(3))
    assert any(twice < max(2.5 * once, 0.03) for once, twice in tries)


FOUND = [
    # The page's rule, line by line: the end, thinking, blocks.
    ("<answer>7</answer><|return|><answer>8</answer>", "7"),
    ("<think>The answer is 17.</think>The answer is 18.", "18"),
    ("<think>\\boxed{18}</think>", "18"),
    ("<think>9 * 2 is \\boxed{18}, and then", None),
    ("<think>9 * 2 is \\boxed{18}.", "18"),
    (
        "<|channel|>analysis<|message|>17<|end|><|start|>assistant<|channel|>final<|message|>Answer: 18<|return|>",
        "18",
    ),
    ("<answer>17</answer><answer>so \\boxed{18} #### 19</answer>", "18"),
    ("<answer>9 + 9\n#### 18</answer>", "18"),
    ("<answer>The final answer is: 18</answer>", "18"),
    ("<answer>18 eggs</answer> The answer is 17.", "18 eggs"),
    ("\\boxed{18} <answer></answer>", None),
    # Marks outside of a block; whichever stands last.
    ("\\boxed{17} so\n#### 18", "18"),
    ("#### 17\n\\boxed{18}", "18"),
    ("\\boxed{17}. So <answer>18", "18"),
    ("so \\boxed{7\nand more", "7"),
    ("so \\boxed 7.", "7"),
    ("The result is \\boxed{18} because \\boxed{3 and then \\boxed{", "18"),
    ("\\fbox{7}", "7"),
    ("The prompt says \\boxed{...}, and it is \\boxed{7}. Use \\boxed{}.", "7"),
    ("#### Step 2\n18 eggs\n#### 19", "19"),
    ("**#### 18**", "18"),
    ("\\boxed{17}. So the answer is 18.", "18"),
    ("\\boxed{18}. So the answer is 9 dozens of 2.", "18"),
    ("\\boxed{18} ... wait, that is wrong", "18"),
    ("The answer is 18. No, 17.", "18"),
    # What a sentence, a heading or a field names, and where it ends.
    ("Therefore, the answer (in dollars) is $18. She has $2 left.", "$18"),
    ("**Final Answer:** 18", "18"),
    ("## Answer\n\nThere were **720** candies in the bag before the first day.", "720"),
    ("**Final Answer:**\n\n- 18 eggs", "18 eggs"),
    ("The answer is:\n\\[\n18\n\\]", "\\[\n18\n\\]"),
    ("The answers are **2** and **-3**.", "**2** and **-3**"),
    ("The answer is `18`.", "18"),
    ('{"answer": 18}', "18"),
    ('{"final_answer": "18", "unit": "eggs"}', "18"),
    ('{"answer": "34"}\nThe final answer is provided in the `answer` field.', "34"),
    ('{"answer": "9 + 9, so the answer is 18."}', "18"),
    ('e.g. {"answer": "___"}. The answer is 18.', "18"),
    ('{"answer": "18", "steps": "___"} {"answer": "___"}', "18"),
    ("Is 18 the answer?", None),
    ("If the answer is 18, she wins.", None),
    ("Is the answer 18? The answer is 20.", "20"),
    ("The answer is not 18.", None),
    ("The answer is 18, not 19.", "18"),
    ("The answer is 35%, as there are 7 spotted puppies.", "35%"),
    ("The answer is (B), because 3 is odd.", "(B)"),
    ("\\boxed{18, because 9 * 2 = 18}", "18"),
    # The last line.
    ("We add.\nSo she makes **18 dollars** in all.", "18 dollars"),
    ("It is **17** or **18**.", None),
    ("9 * 2 = 18\nA: 18", "18"),
    ("18 eggs", None),
    # Lists and hedges of boxes.
    ("\\boxed{3}, and \\boxed{5}", "\\boxed{3}, and \\boxed{5}"),
    ("x = \\boxed{3}$, $x = \\boxed{5}", "\\boxed{3}$, $x = \\boxed{5}"),
    ("\\[\\boxed{3}\\] or \\(\\boxed{5}\\)", "HEDGE"),
    ("\\boxed{3} \\text{ or } \\boxed{5}", "HEDGE"),
    ("\\boxed{5} or \\boxed{5}", "5"),
    ("\\boxed{3} apples and \\boxed{5}", "5"),
]


@pytest.mark.parametrize(("text", "said"), FOUND)
def test_an_answer_stands_where_the_page_says(text: str, said: str | None) -> None:
    found = find_answer(text)
    if said in (None, "HEDGE"):
        assert found.reason == (HEDGE if said else NO_ANSWER)
    else:
        assert found.reason == OK and found.read(text) == said


@pytest.mark.parametrize(
    ("task", "text", "answer", "right"),
    [
        # Each from the answers of some forty models to GSM8K, GSM-Plus and MATH, or a reward that a policy could learn.
        ("gsm8k", "#### x + 5", "5", False),
        ("gsm8k", "\\boxed{x + 1}", "1", False),
        ("gsm8k", "<answer>total - 18</answer>", "-18", False),
        ("gsm8k", '{"answer": "x + 1"}', "1", False),
        ("gsm8k", '{"answer": "sqrt(25)"}', "25", False),
        ("math500", '{"answer": "\\\\frac{1}{3}"}', "3", False),
        ("math500", '{"answer": "\\\\frac{1}{3}"}', "\\frac13", True),
        ("math500", '{"answer": "\\frac{1}{3}"}', "\\frac13", True),
        ("math500", '{"answer": "20\\\\%"}', "20\\%", True),
        ("math500", '{"answer": "\\\\$30"}', "30", True),
        ("math500", '{"answer": "11,\\\\!880"}', "11880", True),
        ("gsm8k", '{"answer": "\\"310\\""}', "310", True),
        ("gsm8k", "#### 92 after 36 months", "92", True),
        ("gsm8k", "#### 25 flowers in his garden after 15 days", "25", True),
        ("gsm8k", "#### 2 hours 30 minutes", "2", False),
        ("gsm8k", "#### 4 out of 5", "4", False),
        ("gsm8k", "#### 40% of 60", "40", False),
        ("gsm8k", "#### 3 + 4 = 7", "7", True),
        ("gsm8k", '{"answer": "2:00 pm"}', "2", True),
        ("gsm8k", "<answer>3:00</answer>", "3", False),
    ],
)
@pytest.mark.parametrize("mode", ["lenient", "flexible"])
def test_what_other_models_write(task: str, text: str, answer: str, right: bool, mode: str) -> None:
    assert verify(task, text, mode=mode, answer=answer).correct is right
    assert verify_batch(task, [text], mode=mode, answer=[answer]).correct.tolist() == [right]


@pytest.mark.parametrize("mode", ["lenient", "flexible"])
def test_boxes_joined_by_a_comma_and_a_word_have_a_verdict_in_every_task(mode: str) -> None:
    text = r"\boxed{3}, and \boxed{5}"
    assert verify("math500", text, mode=mode, answer="3,5").correct
    assert verify("gsm8k", text, mode=mode, answer="3").reason == "malformed"
    assert not verify("countdown", text, mode=mode, numbers=[3, 5], target=8).correct
    assert not verify("sudoku", text, mode=mode, puzzle="4320004330100004").correct


def test_strict_mode_takes_one_closed_block_alone() -> None:
    assert find_answer("<answer> \\boxed{18} </answer>", lenient=False)[3:5] == ("box", True)
    assert find_answer("<answer>so \\boxed{18} </answer>", lenient=False)[3:5] == ("box", False)
    assert find_answer("<answer>17</answer><answer>18</answer>", lenient=False).reason == MALFORMED
    assert find_answer("<Answer>18</Answer>", lenient=False).reason == MALFORMED
    assert find_answer("\\boxed{18}", lenient=False).reason == NO_ANSWER
    assert find_answer("<answer>\\boxed{17} or \\boxed{18}</answer>").reason == HEDGE
    assert find_answer("<answer>18\0</answer>").reason == MALFORMED
    assert find_answer("The answer is 18.", marks_only=True).reason == NO_ANSWER
