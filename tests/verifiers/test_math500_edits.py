"""MATH answers one edit away from right ones: what graders that know nothing of the verifier call wrong is refused.

Both may agree that an edit changes nothing: a space, a lost backslash.
"""

import random

import pytest

from tests.common.math500_cases import CASES
from tests.common.math500_grader import is_right
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
        place, piece = rng.randrange(len(text)), rng.choice(ALPHABET)
        head, tail = text[:place], text[place:]
        other = head + rng.choice((piece + tail, tail[1:], piece + tail[1:], tail[:2][::-1] + tail[2:]))
        if other != text and other.strip():
            return other


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


LONG = (pytest.mark.slow, pytest.mark.timeout(1800))


@pytest.mark.parametrize(
    ("count", "seed", "least"), [(1500, 5, 1200), pytest.param(11_800, 6, 10_000, marks=LONG)]
)
def test_one_edit_away(count: int, seed: int, least: int) -> None:
    wrong, accepted = edits(count, seed)
    assert not accepted
    assert wrong >= least, "the grader must call most edits wrong"
