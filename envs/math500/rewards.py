r"""Format check of MATH completions, and the rewards of d1 and SPG, by plain scans in linear time.

The papers compare answers as texts, after the normalisation of the MATH data set's own code: `verifiers.d1.same_text`.
"""

from envs.answers import only_answer
from verifiers.d1 import same_text

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, "equivalent": 2.0, "tags": 1.0},
}
"""The weights by `reward_preset`; each component is documented at its function below."""


def has_format(completion: str, *, boxed: bool) -> bool:
    r"""Whether there is one closed <answer> block before the first end token, with something in it.

    boxed: it must also hold a closed \boxed{...} that is not empty.
    """
    answer = only_answer(completion)
    return bool(answer and (not boxed or (last_box(answer) or "").strip()))


def is_plain(answer: str, gold: str) -> bool:
    r"""Whether an answer that the verifier accepts is written as the generated problems ask.

    It has the gold answer's text, or is accepted in strict mode as well: multiplied out, a number as one number.
    """
    from verifiers import verify

    if answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    return verify("math500", f"<answer>\\boxed{{{answer}}}</answer>", mode="strict", answer=gold).correct


def equivalent(completion: str, gold: str) -> bool:
    r"""Whether the last \boxed{...} of the whole completion is the gold answer as a normalised text.

    So far the reward of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541), which pays 2 for it. Without a closed
    box the whole completion is compared.
    """
    box = last_box(completion)
    return same_text(completion if box is None else box, gold)


def tag_reward(completion: str) -> float:
    r"""0.75 if the completion holds the tag <answer>, closed or not, else 0.25.

    What the code of d1 and SPG pays: half of 1 for the tag and 0.5. A further 0.5 for \boxed, which would give
    the 1.00, 0.75, 0.50 and 0.25 of the paper, is never paid: the code looks for a backspace and "oxed".
    """
    return 0.75 if "<answer>" in completion else 0.25


def last_box(text: str) -> str | None:
    r"""What the last \boxed{...} or \fbox{...} holds, or the word behind a last `\boxed `; None if not closed."""
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    command = "\\boxed" if "\\boxed" in text else "\\fbox"
    start = text.rfind(command)
    if start < 0 or not text.startswith("{", start + len(command)):
        return None
    depth, first = 0, start + len(command)
    for place in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[first + 1 : place]
    return None
