"""For authors: the answer block of a completion, and the score of a task that is right or wrong."""

from collections.abc import Callable

from envs.records import Score

_OPEN, _CLOSE = "<answer>", "</answer>"
_ENDS = ("<|eot_id|>", "<|endoftext|>")
_LIMIT = 65_536


def until_end(completion: str) -> str:
    """The completion up to its first end-of-text token; what follows was never meant to be read."""
    for mark in _ENDS:
        completion = completion.partition(mark)[0]
    return completion


def read_answer(completion: str) -> str | None:
    """The text of the last closed <answer> block, without space around it; None if there is no such block.

    Time is linear in the length of the completion, whatever it holds.
    """
    text = until_end(completion)
    before = text.rpartition(_CLOSE)
    start = before[0].rfind(_OPEN) if before[1] else -1
    if start < 0:
        return None
    return text[start + len(_OPEN) : text.find(_CLOSE, start)].strip()


def judge(completion: str, is_right: Callable[[str], bool]) -> Score:
    """The score of a task whose answer is right or wrong: components "correct" and "format", each 0 or 1.

    is_right: says whether the text inside the answer block is right; it sees any text of up to 65,536 characters.
    format is 1 if there is exactly one <answer> block and it is closed. Reasons: "ok", "wrong", "no_answer",
    "malformed" (a longer answer).
    """
    text = until_end(completion)
    answer = read_answer(text)
    whole = answer is not None and text.count(_OPEN) == 1 and text.count(_CLOSE) == 1
    if answer is None or len(answer) > _LIMIT:
        reason = "no_answer" if answer is None else "malformed"
        return Score({"correct": 0.0, "format": float(whole)}, reason)
    right = bool(is_right(answer))
    return Score({"correct": float(right), "format": float(whole)}, "ok" if right else "wrong", answer)
