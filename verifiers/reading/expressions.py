r"""Arithmetic in an answer: words and wrappers are taken off, and the rest is cut into numbers, signs and brackets.

`expression_in(answer)` finds the expression, `tokens_of(expression, lenient)` cuts it, and `last_expression` finds the
last one of a text that marks no answer. Nothing is skipped because it was not understood.
"""

from __future__ import annotations

import re

from verifiers.reading import words
from verifiers.reading.signs import in_ascii

_PLAIN = re.compile(r"[\d+*/()=\s-]++", re.ASCII)
_LENIENT = re.compile(r"(?:[\d.+*/()={}\s-]|\\[dtc]?frac(?![A-Za-z]))++", re.ASCII)
_TOKENS = re.compile(r"\d[\d.]*+|[.+*/()={}-]|\\[a-z]++", re.ASCII)
_STRICT = re.compile(r"[\d+*/() \t-]++", re.ASCII)
_LOOSE_MINUS = re.compile(r"(?:\A|[(+*/-])[ \t]*+-(?!\d)", re.ASCII)
"""A minus sign before an operand that is no digit; strict mode has none."""
_TEX = re.compile(
    r"\\(?:(times|cdot|ast)(?![A-Za-z])|(div)(?![A-Za-z])|(?:quad|qquad|thinspace)(?![A-Za-z])|[,;:! \n]|(\*)"
    r"|(?:left\s*+(?=\()|right\s*+(?=\))))"
)
"""Commands that are a sign or a blank; a fraction is left as it is."""
_LEAD = re.compile(
    r"(?:[A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\u024f\s:,.!]|(?<=[A-Za-z])['’]"
    r"|\*(?=[A-Za-z])|\*(?=\*[A-Za-z])|\*(?=\*\*[A-Za-z])|(?<=[A-Za-z:])\*|(?<=[A-Za-z:]\*)\*|(?<=[A-Za-z:]\*\*)\*)++"
)
"""Words with signs beside them, and the stars of bold words, at the beginning of an answer."""
_WORD = re.compile(r"[^\W\d_]++(?:['’][^\W\d_]++)?+")
_LETTERS = re.compile(r"[A-Za-z\xc0-\u024f'’]++")
_DENIALS = frozenset(
    "not no never neither nor cannot isn't doesn't can't won't wrong incorrect impossible".split()
)
_CHANGING = (words.SPOILING | words.CHANGING_BEFORE | {"minus", "negative"}) - {"wait"}
"""Words that change an expression right behind them; "Wait, 3*5+7" takes back what stands before."""
_FRAMES = (
    *(("`", "`"), ("$", "$"), ('"', '"'), ("'", "'"), ("{", "}"), ("\\(", "\\)"), ("\\[", "\\]")),
    *(("***", "***"), ("**", "**"), ("*", "*"), ("\\text{", "}")),
)
_LAYERS = 100  # pairs around an answer, and points behind it


def spoils(text: str) -> bool:
    """True if the words of a text deny what follows, or its last ones change it: "It is not 3*5+7", "half of 3*5+7"."""
    found = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    if not _DENIALS.isdisjoint(found):
        return True
    # "As shown above: 3*5+7" ends a clause; "half of: 3*5+7" does not.
    is_apart = text.rstrip(" \n\t*$`\"'([\\")[-1:] in tuple(":,.;：") and found[-1:] != ["of"]
    if is_apart or (found[-1:] == ["but"] and found[-2:-1] != ["anything"]):
        return False
    if words.changes_number(found):
        return True
    beside = [word for word in found[-3:] if word != "of" and word not in words.DETERMINERS]
    return beside[-1:] != [] and beside[-1] in _CHANGING


def expression_in(answer: str) -> str:
    """The expression in an answer, in ASCII, without wrappers, TeX and words that lead to it.

    "" if the words do not lead to it: "It is not 3*5+7", "half of 3*5+7". Words with numbers among them lead to it by a
    colon alone: "Using 9, 6 and 3: (9+6)*3".
    """
    answer = in_ascii(answer)
    if _PLAIN.fullmatch(answer) and answer[0] != "*":
        return answer
    answer = _unwrapped(answer)
    lead = _LEAD.match(answer)
    if lead and any(map(str.isalpha, lead[0])):
        rest = answer[lead.end() :]
        *_, word = _LETTERS.finditer(lead[0])
        gap = lead[0][word.end() :]
        leads = gap and (":" in gap or len(word[0]) > 1) and lead[0].count("*") % 2 == 0
        said = lead[0]
        before, colon, behind = rest.rpartition(":")
        if colon and rest[:1].isdigit() and answer[:1].isalpha():
            said, rest = said + before + colon, behind
        if not leads or spoils(said):
            return ""
        answer = _unwrapped(rest)
    return _TEX.sub(_sign, answer) if "\\" in answer else answer


def _sign(command: re.Match[str]) -> str:
    return "*" if command[1] or command[3] else "/" if command[2] else " "


def _unwrapped(answer: str) -> str:
    """An answer without the pairs of quotes, stars, ... around it, and without a final point or check mark."""
    for _ in range(_LAYERS):
        answer = answer.strip().rstrip("✓✔✅\ufe0f \n")
        if len(answer) > 1 and answer.endswith(".") and not answer.endswith(".."):
            answer = answer[:-1]
            continue
        for opening, closing in _FRAMES:
            size = len(opening) + len(closing)
            if answer.startswith(opening) and answer.endswith(closing) and len(answer) >= size:
                inside = answer[len(opening) : len(answer) - len(closing)]
                if opening[0] != "*" or (inside and inside[0] != "*" and inside[-1] != "*"):
                    answer = inside
                    break
        else:
            break
    return answer


def tokens_of(expression: str, lenient: bool) -> list[str]:
    r"""The numbers, signs, brackets and `\frac` of an expression; [] if it has anything else."""
    is_known = _LENIENT.fullmatch(expression) if lenient else _is_strict(expression)
    return _TOKENS.findall(expression) if is_known else []


def _is_strict(expression: str) -> bool:
    return _STRICT.fullmatch(expression) is not None and not _LOOSE_MINUS.search(expression)


_RUN = re.compile(
    r"(?:[\d.+/)=\xd7\xf7\xb7\u2212\u2013\u2217\u22c5 \t-]|(?<!\\)\(|(?<!\*)\*(?!\*)|\\\*"
    r"|\\(?:times|cdot|ast|div|left|right|quad)(?![A-Za-z])|\\[,;:! ])++"
)
"""What an expression in one line may be made of."""
_OPERATION = re.compile(
    r"[\d)][\s.]*+(?:[+*/\xd7\xf7\xb7\u2212\u2013\u2217\u22c5-]|\\(?:times|cdot|ast|div|[*,;: !]))"
)
_BEFORE = re.compile(
    r"(?:\A|(?<![\d\s])[:>]|(?<![A-Za-z\\])[A-Za-z]{2,40}[.,:)]?\s|(?<=\d)[.,]\s|[\u2192\u21d2\u3000-\u9fff])[\s*$`\"'(\\\[|•]*+\Z"
)
"""What may stand in its line before an expression: nothing, a word, a colon, "1. ", with marks behind it."""
_BEHIND = re.compile(
    r"[\s*$`\"')\\\]|]*+(?:\Z|[.,;?](?:[\s*$`\"')]|\Z)|(?<=[\s*$`\"')])[(–—-]?\s?[A-Za-z]{2}|[\u2192\u21d2\u2705\u2713\u2714\u3000-\u9fff])"
)
_CALCULATING_BEFORE = re.compile(
    r"(?:\b(?:times|plus|minus|over|mod|modulo|by|of|root|log|sqrt)\W*+|[+\xd7\xf7/]\s*+)\Z", re.I
)
_CALCULATING_BEHIND = re.compile(
    r"\W*+(?:times|plus|minus|over|mod|modulo|divided|multiplied|squared|or)\b", re.I
)
_WORD_BEHIND = re.compile(r"[\s*$`\"')\\\]|(]*+([A-Za-z]++)")
_CHANGING_BEHIND = words.SPOILING | words.CHANGING_BEHIND

_NEAR = 40  # characters before an expression in which a word or sign that calculates is looked for


def last_expression(text: str, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the last expression in text[start:end], if it stands apart in its line; else -1, -1."""
    found = None
    for run in _RUN.finditer(text, start, end):
        if _OPERATION.search(run[0]):
            found = run
    if found is None:
        return -1, -1
    low, high = (
        found.start() + len(found[0]) - len(found[0].lstrip(" \t.=")),
        found.start() + len(found[0].rstrip(" \t.=")),
    )
    line, line_end = max(text.rfind("\n", 0, low) + 1, start), text.find("\n", high, end)
    if text[low : low + 2] in ("- ", "* ") and not text[line:low].strip():  # an item of a list
        line = low = low + 2
    before, behind = text[line:low], text[high : line_end if line_end >= 0 else end]
    is_apart = text[low] in "0123456789(-" and text[high - 1] in "0123456789)"
    is_apart = is_apart and _BEFORE.search(before) and _BEHIND.match(behind)
    word = _WORD_BEHIND.match(behind)
    if (
        not is_apart
        or (word and word[1].lower() in _CHANGING_BEHIND)
        or _CALCULATING_BEFORE.search(text[max(start, low - _NEAR) : low])
        or _CALCULATING_BEHIND.match(behind)
        or spoils(before)
    ):
        return -1, -1
    return low, high
