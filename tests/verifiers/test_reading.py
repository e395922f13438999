"""Where an answer stands in a text, and patterns that cannot backtrack."""

import re
from importlib import import_module
from pkgutil import iter_modules
from re import _constants as kinds
from re import _parser
from time import process_time

import pytest

import verifiers.reading
from verifiers.choice import label_of, trimmed, without_label
from verifiers.reading.answer import find_answer
from verifiers.reading.expressions import expression_in
from verifiers.reading.grids import cells_in
from verifiers.reading.numbers import calculation_end
from verifiers.reading.tokens import NUMBER, SIGN
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER

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
    *("<answer>", "<think>", "</think>", "<", "◁", "\\boxed{", "\\boxed", "\\boxed{1} or ", "not \\boxed{1} ", "{"),
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


def test_strict_mode_takes_one_closed_block_alone() -> None:
    assert find_answer("<answer> \\boxed{18} </answer>", lenient=False)[3:5] == ("box", True)
    assert find_answer("<answer>so \\boxed{18} </answer>", lenient=False)[3:5] == ("box", False)
    assert find_answer("<answer>17</answer><answer>18</answer>", lenient=False).reason == MALFORMED
    assert find_answer("<Answer>18</Answer>", lenient=False).reason == MALFORMED
    assert find_answer("\\boxed{18}", lenient=False).reason == NO_ANSWER
    assert find_answer("<answer>\\boxed{17} or \\boxed{18}</answer>").reason == HEDGE
    assert find_answer("<answer>18\0</answer>").reason == MALFORMED
    assert find_answer("The answer is 18.", marks_only=True).reason == NO_ANSWER
