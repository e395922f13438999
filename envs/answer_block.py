"""For authors: the answer block of a completion, and the score of a task whose answers are right or wrong.

The words by which prompts ask for this block are `ANSWER_FORMAT` in bases/published.py. Four tasks have words of their
own, in countdown/env.py, sudoku/env.py, code/env.py and adapters/reasoning_gym/env.py.
"""

from collections.abc import Callable

from envs.problem import Score
from verifiers.reading.answer import ANSWER_LIMIT, regions

OPEN, CLOSE = "<answer>", "</answer>"


def until_end(completion: str) -> str:
    """The completion up to its first end token, of any model family; text behind it was never meant to be read."""
    return completion[: regions(completion).cut]


def read_answer(completion: str) -> str | None:
    """The text of the last closed `<answer>` block, without space around it; None if there is no such block.

    It is the block that the verifiers read: before the first end token, and behind a closed block of thinking. The time
    is linear in the length of any completion.
    """
    start, end = regions(completion).block
    return None if start < 0 else completion[start:end].strip()


def only_answer(completion: str) -> str | None:
    """The text of the <answer> block, without space around it; None unless there is exactly one and it is closed.

    This is the format check of every task; each task checks the content of the block itself.
    """
    found = regions(completion)
    return completion[slice(*found.block)].strip() if found.single and found.block[0] >= 0 else None


def tagged_completion(work: str, answer: str) -> str:
    """The completion that instruct prompts ask for: the working, then the answer, each between its tags."""
    return f"<reasoning>\n{work}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def judge(completion: str, is_right: Callable[[str], bool]) -> Score:
    """The score of a task whose answer is right or wrong: components "correct" and "format", each 0 or 1.

    is_right: whether the text inside the answer block is right; it may get any text of up to 65,536 characters. format
    is 1 if there is exactly one `<answer>` block and it is closed. Reasons: "ok", "wrong", "no_answer", "malformed"
    (an answer of more than 65,536 characters).
    """
    answer = only_answer(completion)
    rewards = {"correct": 0.0, "format": float(answer is not None)}
    if answer is None:
        answer = read_answer(completion)  # the format is wrong, but there may still be an answer
    if answer is None:
        return Score(rewards, "no_answer")
    if len(answer) > ANSWER_LIMIT:
        return Score(rewards, "malformed")
    right = bool(is_right(answer))
    return Score({**rewards, "correct": float(right)}, "ok" if right else "wrong", answer)
