r"""What `math_oracle` forgives, taken out of an answer before it is read.

It is what a careful reader would not hold against an answer, and nothing else: spacing, `\left` and `\right` without
a partner, dollar signs and `\[` around mathematics, a lost backslash before `frac`, `dfrac`, `tfrac`, `sqrt`, `pi`,
`infty`, `cup`, `in`, `left` and `right`, a comment sign at the end, leading zeros, a final point, a letter run into
"and" or "or", and one slip in "The answer is".
"""

import re

_CHARACTERS = {
    "−": "-", "π": r"\pi ", "°": r"^\circ ", "∞": r"\infty ", "≤": r"\le ", "∪": r"\cup ", "±": r"\pm ",
    "√": r"\sqrt ", "==": "=", "²": "^{2}",
}  # fmt: skip
BARE = frozenset("frac dfrac tfrac sqrt pi infty cup".split())
_BRACKET = r"(?=\s*(?:\\[{}.]|[()\[\].]))"
_NOTHING = re.compile(
    rf"\\\\|(?<![A-Za-z\\])(?:left|right){_BRACKET}|\\(?:left|right)(?![A-Za-z])\.?|\\[()\[\]!]"
)
_SPACE = re.compile(r"\\\\|\\[;:> ]|~|\\quad|(?<!\\)\$")
ALIASES = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\leq": r"\le", r"\cdot": "*", r"\times": "*"}
TEXT = r"\\(?:text|mbox|mathrm|textbf)(?:\s*\{[^{}]*\}|\s+[A-Za-z]+)"
TOKEN = re.compile(
    rf"{TEXT}|\\(?:begin|end)\{{\s*\w+\s*\}}|\\[A-Za-z]+|\\.|[A-Za-z]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+|\S",
    re.DOTALL,
)
_GROUPS = re.compile(r"(?<![\d.])([1-9]\d{0,2})(,|\{,\}|,\\!|\\,)(\d{3}(?:\2\d{3})*)(?!\d)")


def cleaned(text: str) -> str:
    """The text without what changes nothing."""
    for old, new in _CHARACTERS.items():
        text = text.replace(old, new)
    text = re.sub(r"(?<!\\)%\s*$", "", re.sub(r"=\s*=", "=", text))
    text = re.sub(r"\{= (?=units)", "{", re.sub(r",\\! +(?=\d{3})", r",\\!", text))
    text = re.sub(r"\^\}(?=\d)", "}^", re.sub(r"\\(and|or)\b", r"\1", text))
    text = re.sub(r"(?<=[a-z])\s*'(?=\s*[<\\])", "", text)
    text = re.sub(r"\\text\{([^{}]*\b(?:and|or)(?![a-z])[^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\s[a-z] (?=(and|or)\b)", " ", text)
    text = re.sub(r"\\(text|mbox)\s*(?=%|\^|$)", "", text.replace("\\_", "_").replace("{%", "{"))
    text = re.sub(r"\\&", " and ", re.sub(r"=\s*in\b", r"\\in ", text))
    text = re.sub(r"^[a-z](?=\\text\{The)", "", text)
    for pattern, new in ((_NOTHING, ""), (_SPACE, " ")):
        text = pattern.sub(lambda match, new=new: match[0] if match[0] == "\\\\" else new, text)
    text = re.sub(r"(?<=\d) ,(?=\d{3}(?!\d))", ",", text)
    grouped = not re.search(r"[(\[]|\\\{|\\begin", text)  # in brackets a comma parts elements
    text = _GROUPS.sub(
        lambda m: m[0] if m[2] == "," and not grouped else m[1] + re.sub(r"\D", "", m[3]), text
    )
    text = re.sub(r"(?<=sqrt)\s+(\d+)", r"{\1}", text)
    return text.replace("\\,", " ").strip().removesuffix(".")


def is_near(word: str, right: str) -> bool:
    """True if the words are one slip apart: a letter more, less, another, or two that changed places."""
    word = word.lower()
    if word == right or len(right) < 4:
        return word == right
    pairs = zip(word, right, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(word), len(right)))
    a, b = word[start:], right[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[:2][::-1] and a[2:] == b[2:])
