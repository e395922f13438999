"""Whether the line around an expression goes on with what calculates, so that the expression is only a part of it.

The readers of marked answers refuse `9 ^ 3*5+7` and `nine * 3*5+7` as a whole. Without a mark, `3*5+7` must not be
paid there. A function looks only at the first word or sign beside the expression, behind brackets, quotes and stars of
bold type, so each is linear.
"""

from __future__ import annotations

import unicodedata

from verifiers import characters as ch
from verifiers.countdown.expression import DIVIDE, MINUS, PLUS, token_at

_OPENERS, _CLOSERS = "([{", ")]}"
_QUOTES = "$`\"'_|“”‘’~&" + "".join(map(chr, ch.ZERO_WIDTH))
_MARKS = _QUOTES + " \t*\\()"
r"""What may stand between the sides of an equation: of bold type, code or formulas, `\(3*5+7\) = \(22\)`."""
_TEX_BLANKS = ("\\left", "\\right", "\\quad", "\\qquad", "\\thinspace", "\\,", "\\;", "\\:", "\\!", "\\ ")
_NEUTRAL_TEX = frozenset(
    "text textbf textit textrm mathrm mathbf mathit boldsymbol bm mbox boxed fbox begin end item displaystyle "
    "tag label therefore because implies iff to rightarrow Rightarrow longrightarrow Longrightarrow leftarrow "
    "checkmark square blacksquare Box qed approx dots ldots cdots hline".split()
)
"""TeX commands that do not calculate. Any other one makes what stands beside it a part of a longer expression."""
_NEUTRAL_SIGNS = frozenset("<>≈∴∵")
_CALCULATING = frozenset(
    "x times plus minus over mod modulo xor divided multiplied squared cubed half twice log ln sqrt sin cos tan".split()
)
_CALCULATING_PAIRS = {
    "by": ("divided", "multiplied"),
    "of": ("root", "half", "third", "power", "square", "%"),
}
"""{a word: the words before it with which it calculates}: "divided by 3*5+7", not "given by 3*5+7"."""
_ONE_LETTER_WORDS = frozenset("aAI")
_BULLETS = "+-•·–−"
_DASHES = "—―•"
"""Signs that the readers do not know, and that calculate only between two numbers, as a colon may do."""


def goes_on_before(text: str, behind: str) -> bool:
    """True if the text of a line before an expression ends in what calculates with it. behind: the text behind it."""
    begin = len(text) - len(text.lstrip(" \t>"))
    end = len(text)
    while end > begin:
        blank = next((blank for blank in _TEX_BLANKS if text.endswith(blank, begin, end)), "")
        sign = text[end - 1]
        if blank:
            end -= len(blank)
        elif sign.isspace() or sign in _QUOTES or sign in _OPENERS or sign == "\\":
            end -= 1
        elif sign == "*":
            stars = end
            while stars > begin and text[stars - 1] == "*":
                stars -= 1
            if not (stars == begin or _opens_or_closes(text, stars, end, behind)):
                return True
            end = stars
        else:
            break
    if end <= begin:
        return False
    gap, head = text[end:], text[: end - 1]
    is_spaced = gap[:1].isspace()
    has_bracket = any(bracket in gap.replace("\\(", "").replace("\\[", "") for bracket in _OPENERS)
    is_glued = not gap or (has_bracket and not is_spaced)
    last = head.rstrip(" \t*$`_" + _CLOSERS)[-1:]
    if sign in _BULLETS and end - 1 == begin:
        return not (is_spaced or sign == "+")
    if _operation(sign):
        is_dash = _operation(sign) == MINUS and is_spaced and head[-1:].isspace()
        return not (is_dash and _is_word(head.rstrip(" \t*:`_")))
    if sign == "=":
        return last.isdecimal() or last == "!"
    if sign.isalpha():
        return _word_before_goes_on(text[:end], is_glued)
    if sign == "}":
        command, is_tex = _last_word(text[: max(text.rfind("{", 0, end), 0)])
        return not (is_tex and command in _NEUTRAL_TEX)
    if sign == ":":
        is_label = is_spaced and head[-1:].isdecimal()  # "Target 22: 3*5+7", but not `66 : 3` or `66:3`
        return last.isdecimal() and not is_label
    if sign in _DASHES:
        return last.isdecimal()
    if sign in ",.":
        return not gap and (head[-1:].isdecimal() or (sign == "." and head[-1:] != "."))
    if sign.isdecimal() or sign in ")]":
        return is_glued or has_bracket
    return _is_unknown(sign)


def goes_on_behind(text: str, before: str) -> bool:
    """True if the text of a line behind an expression begins with what calculates with it. before: the text before."""
    i = 0
    while i < len(text):
        blank = next((blank for blank in _TEX_BLANKS if text.startswith(blank, i)), "")
        sign = text[i]
        if blank or text.startswith(("\\)", "\\]", "\\}"), i):
            i += len(blank) or 2
        elif sign == "." and not text[i + 1 : i + 2].strip():
            return False
        elif sign.isspace() or sign in _QUOTES or sign in _CLOSERS or sign in ".!?":
            i += 1
        elif sign == "*":
            stars = i
            while i < len(text) and text[i] == "*":
                i += 1
            is_closing = stars == 0 or not text[stars - 1].isspace()
            following = text[i : i + 1]
            closes_bold = i - stars > 1 and not (following.isalnum() or following in ("(", "\\"))
            closes_italic = i - stars == 1 and before.count("*") % 2 == 1
            if not (is_closing and (closes_bold or closes_italic)):
                return True
        else:
            break
    if i >= len(text):
        return False
    tail = text[i + 1 :]
    following = tail.lstrip(" \t*$`_" + _OPENERS)[:1]
    if sign in "-=" and tail[:1] == ">":
        return False
    if _operation(sign):
        is_dash = _operation(sign) == MINUS and i > 0 and tail[:1].isspace()
        return not (is_dash and _is_word(tail.lstrip()[:2]))
    if sign == "=":
        return following.isdecimal() or following == "=" or bool(_operation(following))
    if sign == "\\":
        return _first_word(tail) not in _NEUTRAL_TEX and tail[:1] != "\\"
    if sign.isalpha():
        word = _first_word(text[i:])
        is_name = len(word) == 1 and _is_latin(word) and word not in _ONE_LETTER_WORDS
        return (i == 0 and _is_latin(sign)) or is_name or word.lower() in _CALCULATING
    if sign == ":":
        return following.isdecimal() and not (i == 0 and tail[:1].isspace())
    if sign in _DASHES:
        return following.isdecimal()
    if sign == ",":
        return i == 0 and tail[:1].isdecimal()
    return (sign in _OPENERS and i == 0) or _is_unknown(sign)


def goes_on_in_next_line(line: str) -> bool:
    """True if a line ends in an arithmetic sign behind a number or bracket: `9 ×`, but not `---` or `**Answer:**`."""
    line = line.rstrip()
    before = line[:-1].rstrip()[-1:]
    return bool(_operation(line[-1:])) and (before.isdecimal() or before in (")", "]", "}"))


def stated_result(text: str) -> tuple[str, str]:
    """(the number, the text behind it) if the text behind an expression begins with "= **22**"; else ("", text)."""
    side = text.lstrip(_MARKS)
    number = side[1:].lstrip(_MARKS)
    rest = number.lstrip("0123456789.")
    result = number[: len(number) - len(rest)].rstrip(".")
    return (result, number[len(result) :]) if side.startswith("=") and result else ("", text)


def _opens_or_closes(text: str, start: int, end: int, behind: str) -> bool:
    """True if the stars text[start:end] before an expression open or close bold or italic type."""
    is_behind_blank = text[start - 1].isspace()
    is_before_blank = text[end : end + 1].isspace()
    if is_behind_blank:
        return not is_before_blank and (end - start > 1 or behind.startswith("*"))
    return is_before_blank and (end - start > 1 or text[start - 1] in ":.")


def _operation(sign: str) -> int:
    """The kind of an arithmetic sign that the reader knows; 0 for any other character and for "" """
    data = sign.encode("utf-8", "surrogatepass")
    kind = token_at(data, 0, len(data), True)[0] if data else 0
    return kind if PLUS <= kind <= DIVIDE else 0


def _word_before_goes_on(text: str, is_glued: bool) -> bool:
    """True if the word that ends a text calculates with what stands behind it, or is glued to it."""
    word, is_tex = _last_word(text)
    if is_tex:
        return word not in _NEUTRAL_TEX
    is_name = len(word) == 1 and word not in _ONE_LETTER_WORDS
    if _is_latin(word[-1]) and (is_glued or is_name):
        return True
    first = text[: -len(word)].rstrip()
    pair = (_last_word(first)[0] or first[-1:]).lower()
    return word.lower() in _CALCULATING or pair in _CALCULATING_PAIRS.get(word.lower(), ())


def _last_word(text: str) -> tuple[str, bool]:
    """(the letters that end a text, whether they are a TeX command)."""
    start = len(text)
    while start and text[start - 1].isalpha():
        start -= 1
    return text[start:], text[start - 1 : start] == "\\"


def _first_word(text: str) -> str:
    """The letters that begin a text."""
    end = 0
    while end < len(text) and text[end].isalpha():
        end += 1
    return text[:end]


def _is_word(text: str) -> bool:
    """True if the last two characters are letters; a single letter may be a name in a formula."""
    return len(text) > 1 and text[-2:].isalpha()


def _is_latin(letter: str) -> bool:
    """True for a letter of a script with spaces between words, in which a letter beside a digit is a name."""
    return letter < "\u0250"


def _is_unknown(sign: str) -> bool:
    """True for a sign of arithmetic that the reader does not know: `^`, `%`, `±`, `²`; not for arrows."""
    is_arrow = 0x2190 <= ord(sign) <= 0x21FF or 0x27F0 <= ord(sign) <= 0x27FF
    is_math = unicodedata.category(sign) == "Sm" and not is_arrow and sign not in _NEUTRAL_SIGNS
    return sign in "^%⌊⌋⌈⌉" or is_math or unicodedata.decomposition(sign).startswith("<super>")
