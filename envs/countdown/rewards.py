"""What a Countdown completion earns beside right and wrong: its format, the numbers it uses, the papers' reward."""

import re
from collections import Counter
from collections.abc import Sequence

from envs.answers import only_answer, read_answer

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0, "numbers_used": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, "numbers_used": 0.0, "paper": 1.0},
}
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_ALLOWED = frozenset("0123456789+-*/() ")
_ALLOWED_IN_PAPERS = frozenset("0123456789+-*/().")


def paper_reward(completion: str, correct: bool) -> float:
    """The reward of d1 and SPG: 0 without a closed <answer> block, 1.0 if its text is a right expression, else 0.1.

    correct: the verifier's verdict. As in the papers' code the text may hold digits, + - * / ( ) . and white space
    only; what it is worth is the verifier's exact arithmetic, where they call eval, and so // and ** earn 0.1.
    """
    answer = read_answer(completion)
    if answer is None:
        return 0.0
    return 1.0 if correct and _ALLOWED_IN_PAPERS.issuperset("".join(answer.split())) else 0.1


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one <answer> block, closed, of digits, + - * / ( ) and spaces.

    White space around the expression is allowed. Whether it reads as an expression is the verifier's to say.
    """
    answer = only_answer(completion)
    return answer is not None and _ALLOWED.issuperset(answer)


def share_used(numbers: Sequence[int], answer: str) -> float:
    """The share of the given numbers that `answer` uses exactly once; 0 if it holds any other number.

    A value given m times may occur up to m times, each counting one; if it occurs more often, none of them counts.
    """
    available, used = Counter(map(str, numbers)), Counter(read_numbers(answer))
    if not used.keys() <= available.keys():
        return 0.0
    return sum(count for number, count in used.items() if count <= available[number]) / len(numbers)


def read_numbers(text: str) -> list[str]:
    """The numbers written in a text, without leading zeros, as text: a decimal stays one and is no given number."""
    # As text, because Python refuses to make an int of a very long one.
    return [number.lstrip("0") or "0" for number in _NUMBER.findall(text)]
