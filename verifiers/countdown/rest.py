r"""Whether an expression that no mark names stands apart in its line, or is only the rest of a longer one.

The readers of marked answers refuse `9 ^ 3*5+7` and `nine * 3*5+7` as a whole. Without a mark, the `3*5+7` in these
must not count. So what stands right beside an expression must be known to end it: nothing, a separating sign such as a
colon, or a word that does not calculate. Bold type, quotes, code and the marks of formulas are passed over. Every scan
is linear.
"""

from __future__ import annotations

import unicodedata

from verifiers import characters as ch
from verifiers.countdown.expression import DIVIDE, PLUS, token_at

# The last character makes a picture of the sign before it.
_ZERO_WIDTH = "".join(map(chr, ch.ZERO_WIDTH)) + "\ufe0f"
_MARKS = "$`\"'_|“”‘’& \t" + _ZERO_WIDTH
"""Characters that are passed over beside an expression."""
_TEX_MARKS = ("\\(", "\\)", "\\[", "\\]")
_TEX_BLANKS = ("\\\\", "\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad", "~")
_BOLD = "**"
_BULLETS = tuple("-–−*•")
_SEPARATORS = ".,:;!?"
"""Signs that end what stands before them and have a blank behind them, unlike those of `9 : 3` and `3,5`."""
_WIDE_SEPARATORS = "。，；：、！？"
_ARROWS = ("->", "=>", "→", "⇒", "≈", "⟹", "⟶")
_DASHES = "-–—−"
"""Signs that join two sentences where blanks stand around them and a word on the other side: "3*5+7 – done"."""
_TEX = frozenset(
    "\\text \\textbf \\textit \\mathrm \\mathbf \\boldsymbol \\begin \\end \\therefore \\implies \\to \\rightarrow "
    "\\Rightarrow \\approx \\checkmark \\square".split()
)
"""TeX commands that do not calculate. Any other one makes what stands beside it a part of a longer expression."""
_CALCULATING = frozenset(
    "x times plus minus over mod modulo xor divided multiplied squared cubed half twice log ln sqrt sin cos tan".split()
)
_PREPOSITIONS = frozenset("by of".split())
_PARTS = frozenset("divided multiplied half third quarter root square power".split())
"""Words behind which a preposition calculates: "divided by 3*5+7", not "given by 3*5+7"."""


def goes_on_before(text: str) -> bool:
    """True if the text of a line before an expression may calculate with it."""
    text = _plain(text.removesuffix("\\left")).lstrip(" \t>#")
    head = text.rstrip(_MARKS)
    gap = text[len(head) :]  # the marks between the head and the expression
    if head.endswith(_BOLD):
        # The `**` that opens bold type has a blank or nothing before it, and none behind it: `is **3*5+7`. The one
        # that closes it has a blank only behind it: `**Answer** 3*5+7`. Any other one is an operation: `9 ** 3*5+7`.
        before_bold = head.removesuffix(_BOLD)
        has_blank_before = before_bold == "" or before_bold[-1] in _MARKS
        has_blank_behind = gap[:1].isspace()
        if has_blank_before == has_blank_behind:
            return True
        head, gap = before_bold.rstrip(_MARKS), " "
    is_apart = gap[:1].isspace()
    if head in ("", "+") or (head in _BULLETS and is_apart) or head.endswith(_ARROWS):
        return False
    sign, before = head[-1], head[-2:-1]
    if sign in _SEPARATORS:
        separates = is_apart or (sign == ":" and not before.isdecimal())
        return before.isspace() or not separates  # `9 : 3*5+7`, `9,3*5+7`
    if sign in "{}":  # `\text{`, or the closed `\text{Answer: }`
        return _word_at_end(head.rpartition("{")[0]) not in _TEX
    if sign == "=":
        side = head[:-1].rstrip(_MARKS + "*:})")
        return side != "" and not side[-1].isalpha()
    if sign in _DASHES and is_apart and before.isspace():
        return not _is_word(_word_at_end(head[:-1].rstrip(_MARKS + "*:")))
    ends_in_tag = sign == ">" and head[head.rfind("<") + 1 : -1].isalpha()  # <b>3*5+7</b>
    if ends_in_tag or _is_wide_or_picture(sign):
        return False
    word = _word_at_end(head)
    if word.lower() in _PREPOSITIONS:
        previous_word = _word_at_end(head[: -len(word)].rstrip()).lower()
        if previous_word == "" or previous_word in _PARTS:  # `9 by 3*5+7`, "half of 3*5+7"
            return True
    return not _is_word(word, is_apart)


def goes_on_behind(text: str) -> bool:
    """True if the text of a line behind an expression may calculate with it."""
    text = _plain(text)
    tail = text.lstrip(_MARKS + "})")
    gap = text[: len(text) - len(tail)]  # the marks between the expression and the tail
    if tail.startswith(_BOLD):
        if gap[-1:].isspace():
            return True  # `3*5+7 ** 2`
        behind_bold = tail.removeprefix(_BOLD)
        tail = behind_bold.lstrip(_MARKS)
        gap = behind_bold[: len(behind_bold) - len(tail)]
    if not tail or tail.startswith(("</", *_ARROWS)):
        return False
    sign, behind = tail[0], tail[1:2]
    is_apart = gap[-1:].isspace()
    if sign in _SEPARATORS:
        rest = tail.lstrip(_SEPARATORS)
        ends = rest[:1] in _MARKS + ")<" or rest.startswith(_BOLD)
        following = rest.lstrip(_MARKS + "*")
        if (is_apart and following) or not ends or following.startswith("="):
            return True  # `3*5+7 : 2`, `3*5+7:2`, `3*5+7! = 22`
        if sign == ":":
            return following[:1].isdecimal()  # 3*5+7: 2
        return sign == "!" and following[:1].islower()  # a factorial: "3*5+7! times"
    rest = tail[1:].lstrip(_MARKS + "*")
    if sign == "=":
        return not (rest in ("", "?") or rest[0].isalpha())
    if is_apart and (sign == "(" or (sign in _DASHES and behind.isspace())):
        return not (_is_word(_word_at_start(rest)) or (sign == "(" and _is_wide_or_picture(rest[:1])))
    inner = _word_at_start(tail.partition("{")[2].lstrip()) if tail.startswith("\\text") else ""
    if inner and not _is_word(inner):
        return True  # \text{times} 2
    return not (_is_wide_or_picture(sign) or _is_word(_word_at_start(tail), is_apart))


def goes_on_in_next_line(line: str) -> bool:
    """True if a line ends in an arithmetic sign behind a number or bracket: `9 ×`, but not `---` or `**Answer:**`."""
    line = line.rstrip()
    before = line[:-1].rstrip()[-1:]
    return _is_operation(line[-1:]) and (before.isdecimal() or before in (")", "]", "}"))


def stated_result(text: str) -> tuple[str, str]:
    """(the number, the text behind it) if the text behind an expression begins with "= **22**"; else ("", text)."""
    marks = _MARKS + "*\\()"
    side = text.lstrip(marks)
    number = side[1:].lstrip(marks)
    rest = number.lstrip("0123456789.")
    result = number[: len(number) - len(rest)].rstrip(".")
    return (result, number[len(result) :]) if side.startswith("=") and result else ("", text)


def _plain(text: str) -> str:
    """A text with a blank for each blank of TeX, and with a dollar for each bracket of a formula."""
    for mark in _TEX_BLANKS:
        text = text.replace(mark, " ")
    for mark in _TEX_MARKS:
        text = text.replace(mark, "$")
    return text


def _is_wide_or_picture(sign: str) -> bool:
    """True for punctuation of Chinese, and for pictures such as a check mark; not for a heavy multiplication sign."""
    if sign == "":
        return False
    if sign in _WIDE_SEPARATORS:
        return True
    name = unicodedata.name(sign, "")
    is_operation = any(word in name for word in ("MULTIPLICATION", "DIVISION", "PLUS", "MINUS"))
    return unicodedata.category(sign) == "So" and not is_operation


def _is_operation(sign: str) -> bool:
    """True for an arithmetic sign that the reader knows."""
    if not sign:
        return False
    data = sign.encode("utf-8", "surrogatepass")
    kind, _ = token_at(data, 0, len(data), lenient=True)
    return PLUS <= kind <= DIVIDE


def _is_word(word: str, is_apart: bool = True) -> bool:
    """True for a word of two or more letters that does not calculate; a single letter may be a name in a formula.

    is_apart: whether a blank stands between the word and the expression. A word in another script than Latin needs
    neither the blank nor a second letter, as in Chinese.
    """
    if word.startswith("\\"):
        return word in _TEX
    is_latin = word[:1] < "\u0250"
    return not is_latin or (is_apart and len(word) > 1 and word.lower() not in _CALCULATING)


def _word_at_end(text: str) -> str:
    """The letters that end a text, with the backslash of a TeX command; "" if there are none."""
    start = len(text)
    while start and text[start - 1].isalpha():
        start -= 1
    return text[start - 1 :] if start and text[start - 1] == "\\" else text[start:]


def _word_at_start(text: str) -> str:
    """The letters that begin a text, with the backslash of a TeX command; "" if there are none."""
    begin = 1 if text.startswith("\\") else 0
    end = begin
    while end < len(text) and text[end].isalpha():
        end += 1
    return text[:end] if end > begin else ""
