"""The rewards of Countdown besides being right: for the format, for the numbers used, and by the papers' rule."""

import re
from collections import Counter
from collections.abc import Sequence

from envs.answer_block import only_answer, read_answer

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0, "numbers_used": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, "numbers_used": 0.0, "paper": 1.0},
}
"""The weights by `reward_preset`."""
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
_ALLOWED = frozenset("0123456789+-*/() ")
_ALLOWED_IN_PAPERS = frozenset("0123456789+-*/().")


def paper_reward(completion: str, correct: bool) -> float:
    """The reward of d1 and SPG: 0 without a closed <answer> block, 1.0 if its text is a right expression, else 0.1.

    correct: the verifier's verdict. As in the papers' code, a right expression has only digits, + - * / ( ) . and white
    space. Their code calls eval; the verifier computes exactly, and does not know // and **, so these earn 0.1.
    """
    answer = read_answer(completion)
    if answer is None:
        return 0.0
    return 1.0 if correct and _ALLOWED_IN_PAPERS.issuperset("".join(answer.split())) else 0.1


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one <answer> block, closed, of digits, + - * / ( ) and spaces.

    White space at both ends of the block's text is allowed. Whether the text is an expression, only the verifier says.
    """
    answer = only_answer(completion)
    return answer is not None and _ALLOWED.issuperset(answer)


def share_used(numbers: Sequence[int], answer: str) -> float:
    """The share of the given numbers that `answer` uses exactly once; 0 if it holds any other number.

    A value that is given m times may occur up to m times, and each of these counts; if it occurs more often, it does
    not count at all.
    """
    available, used = Counter(map(str, numbers)), Counter(read_numbers(answer))
    if not used.keys() <= available.keys():
        return 0.0
    return sum(count for number, count in used.items() if count <= available[number]) / len(numbers)


def read_numbers(text: str) -> list[str]:
    """The numbers written in a text, as texts without leading zeros; a decimal such as "3.5" is one number."""
    # They stay texts because Python refuses to make an int of a very long one.
    return [number.lstrip("0") or "0" for number in _NUMBER.findall(text)]
