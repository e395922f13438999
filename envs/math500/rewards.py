r"""Format check of MATH completions, and the rewards of the papers d1 and SPG, by plain scans in linear time.

The papers compare answers as texts, normalised as in the MATH data set's own code (`verifiers.d1.same_text`).
"""

from envs.answer_block import only_answer
from verifiers.d1 import last_box, same_text

REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, "equivalent": 2.0, "tags": 1.0},
}
"""The weights by `reward_preset`; each component is documented at its function below."""


def has_format(completion: str, *, boxed: bool) -> bool:
    r"""Whether there is one closed <answer> block before the first end token, and it is not empty.

    boxed: the block must also have a closed \boxed{...} that is not empty.
    """
    answer = only_answer(completion)
    if not answer:
        return False
    if not boxed:
        return True
    return bool((boxed_text(answer) or "").strip())


def is_plain(answer: str, gold: str) -> bool:
    r"""Whether an answer that the verifier accepts in lenient mode is written as the generated problems ask.

    It is plain if its text is the gold answer's, or if strict mode accepts it, too. Strict mode wants products
    multiplied out, and a number written as one number.
    """
    from verifiers import verify

    if answer.replace(" ", "") == gold.replace(" ", ""):
        return True
    return verify("math500", f"<answer>\\boxed{{{answer}}}</answer>", mode="strict", answer=gold).correct


def equivalent(completion: str, gold: str) -> bool:
    r"""Whether the last \boxed{...} of the whole completion is the gold answer as a normalised text.

    Without a closed box the whole completion is compared. d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541) pay 2 for an
    equivalent answer; here 2 is the weight of this component in REWARD_PRESETS.
    """
    box = boxed_text(completion)
    return same_text(completion if box is None else box, gold)


def tag_reward(completion: str) -> float:
    r"""0.75 if the completion holds the tag <answer>, closed or not, else 0.25.

    This is what the code of d1 and SPG pays. Their papers have four values, 1.00, 0.75, 0.50 and 0.25, because \boxed
    should earn a part, too. But that part is never paid, since the code looks for a backspace and "oxed" instead of
    \boxed.
    """
    return 0.75 if "<answer>" in completion else 0.25


def boxed_text(text: str) -> str | None:
    r"""The content of the last \boxed{...}, or else of the last \fbox{...}; None if there is none or it is not closed.

    As in the papers' code, a text with "\boxed " (with a space) has as its content what follows the last "\boxed ", up
    to a $.
    """
    box = last_box(text) or ""
    if not box.startswith(("\\boxed{", "\\fbox{")):
        return None
    _, _, content_and_brace = box.partition("{")
    return content_and_brace[:-1]
