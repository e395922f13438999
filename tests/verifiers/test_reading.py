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


REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)


def parts(kind, argument) -> list:
    """The patterns inside of an element of a parsed pattern."""
    if kind in REPEATS:
        return [argument[2]]
    if kind is kinds.BRANCH:
        return argument[1]
    place = {kinds.SUBPATTERN: 3, kinds.ASSERT: 1, kinds.ASSERT_NOT: 1}.get(kind)
    return [argument[place]] if place else [argument] if kind is kinds.ATOMIC_GROUP else []


def ways(tree) -> float:
    """In how many ways a pattern may at most be tried from one place; infinity for a repeat without a bound."""
    count = 1.0
    for kind, argument in tree:
        inside = [ways(part) for part in parts(kind, argument)]
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            least, most, _ = argument
            is_bounded = most != kinds.MAXREPEAT and (inside[0] == 1 or most == 1)
            count *= (most - least) + inside[0] if is_bounded else float("inf")
        elif kind in (kinds.POSSESSIVE_REPEAT, kinds.ATOMIC_GROUP):
            count *= 1 if inside[0] < float("inf") else float("inf")
        elif kind in (kinds.GROUPREF, kinds.GROUPREF_EXISTS):
            return float("inf")
        else:
            count *= 1 + sum(number - 1 for number in inside)
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
    for kind, argument in tree:
        repeats = kind in REPEATS and (argument[1] > 1 or kind is kinds.POSSESSIVE_REPEAT)
        if in_repeat and kind is kinds.SUBPATTERN and argument[0] is not None:
            return True
        if any(groups_in_repeats(part, in_repeat or repeats) for part in parts(kind, argument)):
            return True
    return False


def test_no_pattern_of_reading_has_a_capturing_group_inside_a_repeat() -> None:
    assert groups_in_repeats(_parser.parse("(?:a|(b))*+"))
    assert not groups_in_repeats(_parser.parse("(?:a*+)(b)?"))
    parsed = [(name, _parser.parse(pattern.pattern, pattern.flags)) for name, pattern in patterns()]
    assert not [name for name, tree in parsed if groups_in_repeats(tree)]


PIECES = (
    *("<answer>", "<think>", "</think>", "<", "\\boxed{", "\\boxed", "\\boxed{1} or ", "not \\boxed{1} ", "{"),
    *("#### ", "####\n", "answer ", "the answer is ", "Answer: 5. ", "answer to ", "answer (", "答案是", "**", "$"),
    *("\\[", "\\begin", "A:", "\nA: 5", "1", "1.", "is 5. ", "No, 5. ", "wait ", "the final ", "is correct "),
    *("let me redo 5 = so ", ", not 5", "18 is the answer.", "(B) is ", '"answer": "', "<|end|>", "\\", "\n", " "),
)  # fmt: skip
"""Texts of one of these pieces, again and again, behind nothing, a mark and a name, take most work."""


def takes_time_by_its_length(read, frame: str, piece: str, size: int, moment: float) -> bool:
    def seconds(characters: int) -> float:
        text = frame.format(piece * (characters // len(piece)))
        began = process_time()
        read(text)
        return process_time() - began

    # Further tries are for a machine whose clock is slow for a moment.
    tries = ((seconds(size), seconds(2 * size)) for _ in range(3))
    return any(twice < max(2.5 * once, moment) for once, twice in tries)


@pytest.mark.parametrize("size", [20_000, pytest.param(500_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("frame", ["{}", "\\boxed{{5}} {}", "The answer is {}"])
def test_time_grows_with_the_text_alone(frame: str, size: int) -> None:
    for piece in PIECES:
        assert takes_time_by_its_length(find_answer, frame, piece, size, 0.1), piece


def cells(text: str) -> object:
    return cells_in(text, 4)


def calculation(text: str) -> object:
    return calculation_end([(NUMBER, "5", False), (SIGN, "*", False)] * len(text), 0, 18)


@pytest.mark.parametrize(
    ("read", "frame", "piece", "size"),
    [
        *((cells, "\\text{{{}}}", piece, 20_000) for piece in ("*", "* ", ". ", "r 1: ")),
        *((expression_in, "{0}3*5+7{0}", quote, 20_000) for quote in ('"', "`", "$")),
        (calculation, "{}", "5*", 40_000), (trimmed, "{0}5{0}", "\\qquad", 200_000),
        (without_label, "{}", "\\textbf{", 300_000), (label_of, "{}", "the answer is ", 250_000),
    ],
)  # fmt: skip
def test_time_of_other_readers_grows_with_the_text_alone(read, frame: str, piece: str, size: int) -> None:
    assert takes_time_by_its_length(read, frame, piece, size, 0.03)


FOUND = [
    # The page's rule, line by line: the end, thinking, blocks.
    ("<answer>7</answer><|return|><answer>8</answer>", "7"),
    ("<think>The answer is 17.</think>The answer is 18.", "18"), ("<think>\\boxed{18}</think>", "18"),
    ("<think>9 * 2 is \\boxed{18}, and then", None), ("<think>9 * 2 is \\boxed{18}.", "18"),
    ("<|channel|>analysis<|message|>17<|end|><|start|>assistant<|channel|>final<|message|>Answer: 18<|return|>", "18"),
    ("<answer>17</answer><answer>so \\boxed{18} #### 19</answer>", "18"),
    ("<answer>9 + 9\n#### 18</answer>", "18"), ("<answer>The final answer is: 18</answer>", "18"),
    ("<answer>18 eggs</answer> The answer is 17.", "18 eggs"), ("\\boxed{18} <answer></answer>", None),
    ("<answer>1</answer><answer>2", "1"), ("<answer>1<answer>2</answer>3</answer>", "2"),
    ("</answer><answer>1</answer>", "1"), (r"<answer>\boxed{1 \boxed{2}} 3</answer>", "2"),
    (r"<answer>1 \boxed{2} \boxed{} \boxed{3</answer>", "3"), (r"<answer>\boxed {1\}{2}} 3</answer>", r"1\}{2}"),
    # Marks outside of a block; whichever stands last.
    (r"\boxed{1} <answer> 2 #### 3", "3"), ("#### 3 <answer> 2", "2"), ("#### 1\n##### 3 \n4", "3"),
    (r"#### \boxed{1}", "1"), ("<answer>1\n#### ", "1\n####"), (r"<answer> 1 \boxed{2}", "2"),
    ("\\boxed{17} so\n#### 18", "18"), ("#### 17\n\\boxed{18}", "18"), ("\\boxed{17}. So <answer>18", "18"),
    ("so \\boxed{7\nand more", "7"), ("so \\boxed 7.", "7"),
    ("The result is \\boxed{18} because \\boxed{3 and then \\boxed{", "18"), ("\\fbox{7}", "7"),
    ("The prompt says \\boxed{...}, and it is \\boxed{7}. Use \\boxed{}.", "7"),
    ("#### Step 2\n18 eggs\n#### 19", "19"), ("**#### 18**", "18"),
    ("\\boxed{17}. So the answer is 18.", "18"), ("\\boxed{18}. So the answer is 9 dozens of 2.", "18"),
    ("\\boxed{18} ... wait, that is wrong", "18"), ("The answer is 18. No, 17.", "18"),
    # What a sentence, a heading or a field names, and where it ends.
    ("Therefore, the answer (in dollars) is $18. She has $2 left.", "$18"), ("**Final Answer:** 18", "18"),
    ("## Answer\n\nThere were **720** candies in the bag before the first day.", "720"),
    ("**Final Answer:**\n\n- 18 eggs", "18 eggs"), ("The answer is:\n\\[\n18\n\\]", "\\[\n18\n\\]"),
    ("The answers are **2** and **-3**.", "**2** and **-3**"), ("The answer is `18`.", "18"),
    ('{"answer": 18}', "18"), ('{"final_answer": "18", "unit": "eggs"}', "18"),
    ('{"answer": "34"}\nThe final answer is provided in the `answer` field.', "34"),
    ('{"answer": "9 + 9, so the answer is 18."}', "18"), ('e.g. {"answer": "___"}. The answer is 18.', "18"),
    ('{"answer": "18", "steps": "___"} {"answer": "___"}', "18"), ("Is 18 the answer?", None),
    ("If the answer is 18, she wins.", None), ("Is the answer 18? The answer is 20.", "20"),
    ("The answer is not 18.", None), ("The answer is 18, not 19.", "18"),
    ("The answer is 35%, as there are 7 spotted puppies.", "35%"),
    ("The answer is (B), because 3 is odd.", "(B)"), ("\\boxed{18, because 9 * 2 = 18}", "18"),
    # The last line.
    ("We add.\nSo she makes **18 dollars** in all.", "18 dollars"), ("It is **17** or **18**.", None),
    ("9 * 2 = 18\nA: 18", "18"), ("18 eggs", None),
    # Lists and hedges of boxes.
    ("\\boxed{3}, and \\boxed{5}", "\\boxed{3}, and \\boxed{5}"),
    ("x = \\boxed{3}$, $x = \\boxed{5}", "\\boxed{3}$, $x = \\boxed{5}"),
    ("\\[\\boxed{3}\\] or \\(\\boxed{5}\\)", "HEDGE"), ("\\boxed{3} \\text{ or } \\boxed{5}", "HEDGE"),
    ("\\boxed{5} or \\boxed{5}", "5"), ("\\boxed{3} apples and \\boxed{5}", "5"),
]  # fmt: skip


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
        ("gsm8k", "#### x + 5", "5", False), ("gsm8k", "\\boxed{x + 1}", "1", False),
        ("gsm8k", "<answer>total - 18</answer>", "-18", False), ("gsm8k", '{"answer": "x + 1"}', "1", False),
        ("gsm8k", '{"answer": "sqrt(25)"}', "25", False),
        ("math500", '{"answer": "\\\\frac{1}{3}"}', "3", False),
        ("math500", '{"answer": "\\\\frac{1}{3}"}', "\\frac13", True),
        ("math500", '{"answer": "\\frac{1}{3}"}', "\\frac13", True),
        ("math500", '{"answer": "20\\\\%"}', "20\\%", True), ("math500", '{"answer": "\\\\$30"}', "30", True),
        ("math500", '{"answer": "11,\\\\!880"}', "11880", True),
        ("gsm8k", '{"answer": "\\"310\\""}', "310", True), ("gsm8k", "#### 92 after 36 months", "92", True),
        ("gsm8k", "#### 25 flowers in his garden after 15 days", "25", True),
        ("gsm8k", "#### 2 hours 30 minutes", "2", False), ("gsm8k", "#### 4 out of 5", "4", False),
        ("gsm8k", "#### 40% of 60", "40", False), ("gsm8k", "#### 3 + 4 = 7", "7", True),
        ("gsm8k", '{"answer": "2:00 pm"}', "2", True), ("gsm8k", "<answer>3:00</answer>", "3", False),
    ],
)  # fmt: skip
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
