"""What of a Countdown completion can be measured beside right and wrong: its format, and the numbers it uses."""

import re
from collections import Counter
from collections.abc import Sequence

_END = re.compile(r"<\|eot_id\|>|<\|endoftext\|>")
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_ALLOWED = frozenset("0123456789+-*/() ")


def has_block(completion: str) -> bool:
    """Whether there is a closed <answer> block before the first end token."""
    text = _END.split(completion, maxsplit=1)[0]
    start = text.find("<answer>")
    return start >= 0 and text.find("</answer>", start) >= 0


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one <answer> block, closed, of digits, + - * / ( ) and spaces.

    White space around the expression is allowed. Whether it reads as an expression is the verifier's to say.
    """
    text = _END.split(completion, maxsplit=1)[0]
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
