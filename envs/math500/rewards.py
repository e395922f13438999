r"""Format check of MATH completions, and the rewards of d1 and SPG, by plain scans in linear time.

The papers compare answers as texts, after the normalisation of the MATH data set's own code (Hendrycks et al.,
arXiv:2103.03874): spacing commands, units and signs are dropped, `\frac12` and `1/2` become `\frac{1}{2}`.
"""

import re

from envs.answers import only_answer
from verifiers.d1 import braced_roots

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, "equivalent": 2.0, "tags": 1.0},
}
"""The weights by `reward_preset`; each component is documented at its function below."""

_QUOTIENT = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")
_DROPPED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


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
    answer = completion if box is None else box
    try:
        return normalized(answer) == normalized(gold)
    except ValueError:
        return answer == gold


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


def normalized(answer: str) -> str:
    """The text that answers are compared by; raises ValueError for one that the normalisation cannot take."""
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for word in _DROPPED:
        text = text.replace(word, "")
    if text.count("\\text{ ") > 1:
        raise ValueError("more than one unit")
    text = text.partition("\\text{ ")[0].replace("\\%", "").replace("%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = _arguments(braced_roots(text).replace(" ", ""))
    return "\\frac{1}{2}" if text == "0.5" else _quotient(text)


def _arguments(text: str) -> str:
    r"""\frac12, \frac1{2} -> \frac{1}{2}; the text as it is if a \frac has no two arguments."""
    first, *others = text.split("\\frac")
    written = [first]
    for part in others:
        if not part.startswith("{"):
            if len(part) < 2:
                return text
            below = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            part = f"{{{part[0]}}}{below}"
        written.append("\\frac" + part)
    return "".join(written)


def _quotient(text: str) -> str:
    r"""1/2 -> \frac{1}{2}, for whole numbers without leading zeros or a plus sign."""
    match = _QUOTIENT.fullmatch(text)
    return f"\\frac{{{match[1]}}}{{{match[2]}}}" if match else text
