"""What of a Countdown completion can be measured beside right and wrong: its format, and the numbers it uses."""

import re
from collections import Counter
from collections.abc import Sequence

from envs.answers import read_answer, until_end

_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_ALLOWED = frozenset("0123456789+-*/() ")
_PAPER = frozenset("0123456789+-*/().")


def paper(completions: Sequence[str], correct: Sequence[float]) -> list[float]:
    """The reward of d1 and SPG: 0 without a closed <answer> block, 1.0 if its text is a right expression, else 0.1.

    correct: the verifier's verdicts. As in the papers' code the text may hold digits, + - * / ( ) . and white space
    only; what it is worth is the verifier's exact arithmetic, where they call eval, and so // and ** earn 0.1.
    """
    return [_paper(read_answer(text), right == 1.0) for text, right in zip(completions, correct, strict=True)]


def _paper(answer: str | None, right: bool) -> float:
    if answer is None:
        return 0.0
    return 1.0 if right and all(c in _PAPER or c.isspace() for c in answer) else 0.1


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one <answer> block, closed, of digits, + - * / ( ) and spaces.

    White space around the expression is allowed. Whether it reads as an expression is the verifier's to say.
    """
    text = until_end(completion)
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return False
    answer, closed, _ = text.partition("<answer>")[2].partition("</answer>")
    return closed != "" and _ALLOWED.issuperset(answer.strip())


def share_used(numbers: Sequence[int], answer: str) -> float:
    """The share of the given numbers that `answer` uses exactly once; 0 if it holds any other number.

    A value given m times may occur up to m times, each counting one; if it occurs more often, none of them counts.
    """
    given, written = Counter(map(str, numbers)), Counter(read_numbers(answer))
    if not written.keys() <= given.keys():
        return 0.0
    return sum(count for number, count in written.items() if count <= given[number]) / len(numbers)


def read_numbers(text: str) -> list[str]:
    """The numbers written in a text, without leading zeros, as text: a decimal stays one and is no given number."""
    # As text, because Python refuses to make an int of a very long one.
    return [number.lstrip("0") or "0" for number in _NUMBER.findall(text)]
