"""The format check of GSM8K completions, and the five rewards of the papers d1 and SPG. `correct` is in env.py.

The papers' code uses regular expressions that can backtrack; here each text is scanned in linear time.
"""

import re

from envs.answer_block import only_answer

_PAPER_WEIGHTS = {"exact": 2.0, "integer": 0.5, "strict_format": 0.5, "soft_format": 0.5, "xml_count": 1.0}
REWARD_PRESETS = {
    "default": {"correct": 1.0, "format": 0.0},
    "paper": {"correct": 0.0, "format": 0.0, **_PAPER_WEIGHTS},
}
"""The weights by `reward_preset`; the components are documented at `paper_rewards` and the functions below it."""
_PAIR = re.compile(r"</reasoning>\s*<answer>")
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def has_format(completion: str) -> bool:
    """Whether the text before the first end token holds one closed <answer> block with one plain number in it.

    A plain number has ASCII digits, maybe a minus before and a fraction behind a point: -12.5.
    """
    return _PLAIN_NUMBER.fullmatch(only_answer(completion) or "") is not None


def paper_rewards(completion: str, gold: str) -> dict[str, float]:
    """The five components of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541), as their code computes them.

    gold: the answer as the data set writes it, commas included. Returns exact (the answer is `gold`), integer (it has
    digits only), strict_format and soft_format, each 0 or 1, and xml_count, at most 0.5 and without a lower bound.
    """
    answer = completion.rpartition("<answer>")[2].partition("</answer>")[0].strip()
    return {
        "exact": float(answer == gold),
        "integer": float(answer.isdigit()),
        "strict_format": float(strict_format(completion)),
        "soft_format": float(soft_format(completion)),
        "xml_count": xml_count(completion),
    }


def strict_format(text: str) -> bool:
    r"""Whether `^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$` matches, where . is no line end.

    That is one line of reasoning, one line of answer, and a line end behind the last tag.
    """
    lines = text.split("\n", 8)  # 7 or 8 lines match; 9 pieces are enough to see that a text is longer
    # Lines 1 and 4, counted from 0, are left out: they hold the reasoning and the answer.
    all_but_contents = [*lines[:1], *lines[2:4], *lines[5:]]
    wanted = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", ""]
    return all_but_contents in (wanted, [*wanted, ""])  # $ also matches before one more line end


def soft_format(text: str) -> bool:
    r"""Whether the text begins with `<reasoning>.*?</reasoning>\s*<answer>.*?</answer>`, where . is no line end."""
    first_line = text.partition("\n")[0]
    if not first_line.startswith("<reasoning>"):
        return False
    pairs = [match for match in _PAIR.finditer(text, len("<reasoning>")) if match.start() < len(first_line)]
    # </answer> must follow a pair of tags on the line where the pair ends. Only the first and the last pair are looked
    # at: what follows another pair on the first line also follows the first pair, and only the last can end on a later
    # line.
    return any("</answer>" in text[match.end() :].partition("\n")[0] for match in (*pairs[:1], *pairs[-1:]))


def xml_count(text: str) -> float:
    """An eighth for each of the four tags that occurs exactly once with its line ends, less a price for what follows.

    The price is 0.001 for each of these characters:
    - those behind <answer>, if it earns its eighth. The answer itself is among them, as in SPG's code; d1 counts from
      the line of </answer>.
    - those behind </answer>, if it earns its eighth; the first of them, the line end, is free.
    """
    reward = 0.0
    if text.count("<reasoning>\n") == 1:
        reward += 0.125
    if text.count("\n</reasoning>\n") == 1:
        reward += 0.125
    if text.count("\n<answer>\n") == 1:
        reward += 0.125 - 0.001 * len(text.split("\n<answer>\n")[-1])
    if text.count("\n</answer>") == 1:
        reward += 0.125 - 0.001 * (len(text.split("\n</answer>")[-1]) - 1)
    return reward
