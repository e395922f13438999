"""MATH answers one edit away from right ones, judged by a slow grader that knows nothing of the verifier.

Whatever that grader calls wrong must be refused. Both may agree that an edit changes
nothing: a space, a lost backslash.
"""

import random

import pytest

from tests.common.math_cases import CASES
from tests.common.math_oracle import is_right
from verifiers import verify_batch

ALPHABET = (
    *"01234567890123456789+-*/^_=<>.,;:!|&%$~'()[]{}\\\\ xyabineCdfrst−π°∞²",
    *("\\pi", "\\sqrt", "\\frac", "\\le", "\\pm", "\\cdot"),
)


def boxed(answer: str) -> str:
    return f"so\n</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer><|eot_id|>"


def edited(rng: random.Random, text: str) -> str:
    """Another text, one piece put in, taken out, replaced, or swapped with its neighbour."""
    while True:
        kind, place = rng.randrange(4), rng.randrange(len(text))
        head, tail = text[:place], text[place:]
        if kind == 0:
            found = head + rng.choice(ALPHABET) + tail
        elif kind == 1:
            found = head + tail[1:]
        elif kind == 2:
            found = head + rng.choice(ALPHABET) + tail[1:]
        else:
            found = head + tail[:2][::-1] + tail[2:]
        if found != text and found.strip():
            return found


def edits(count: int, seed: int) -> tuple[int, list[tuple]]:
    """(edits that the grader calls wrong, those that we accept) over every notation of `CASES`."""
    rng = random.Random(seed)
    rows = []
    for row in range(count):
        gold, right, wrong = list(CASES.values())[row % len(CASES)](rng)
        assert is_right(right, gold), (right, gold)
        assert not is_right(other := rng.choice(wrong), gold), (other, gold)
        rows.append((edited(rng, right), right, gold))
    verdicts = verify_batch("math500", [boxed(row[0]) for row in rows], answer=[row[2] for row in rows])
    wrong, accepted = 0, []
    for (text, right, gold), verdict in zip(rows, verdicts, strict=True):
        # an edit may close the box early: what is judged is what is in the box
        if verdict.extracted is not None and is_right(verdict.extracted, gold):
            continue
        wrong += 1
        if verdict.correct:
            accepted.append((text, right, gold))
    return wrong, accepted


def test_one_edit_away() -> None:
    wrong, accepted = edits(1500, 5)
    assert not accepted
    assert wrong > 1200, "the grader must call most edits wrong"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_that_are_one_edit_away() -> None:
    wrong, accepted = edits(11_800, 6)
    assert not accepted
    assert wrong >= 10_000


def digit_changed(rng: random.Random, text: str) -> str:
    """The text with one digit changed into another."""
    places = [place for place, character in enumerate(text) if "0" <= character <= "9"]
    if not places:
        return text
    place = rng.choice(places)
    digit = rng.choice([digit for digit in "123456789" if digit != text[place]])
    return text[:place] + digit + text[place + 1 :]


def against_math_verify(count: int, seed: int) -> None:
    """What we accept one digit away must be right to an independent grader as well."""
    math_verify = pytest.importorskip("math_verify")
    config = [math_verify.LatexExtractionConfig()]
    rng = random.Random(seed)
    plain = [name for name in CASES if name not in ("words", "line", "named", "base", "with_unit", "money")]
    pairs = []
    for row in range(count):
        gold, right, _ = CASES[plain[row % len(plain)]](rng)
        pairs.append((digit_changed(rng, right), gold, right))
    verdicts = verify_batch("math500", [boxed(pair[0]) for pair in pairs], answer=[pair[1] for pair in pairs])
    for (answer, gold, right), verdict in zip(pairs, verdicts, strict=True):
        if verdict.correct and answer != right:
            parsed = [math_verify.parse(f"${text}$", config, parsing_timeout=None) for text in (gold, answer)]
            assert math_verify.verify(*parsed, timeout_seconds=None), (answer, gold)


def test_one_digit_away() -> None:
    against_math_verify(600, 3)


@pytest.mark.slow
def test_ten_thousand_one_digit_away() -> None:
    against_math_verify(10_000, 4)
