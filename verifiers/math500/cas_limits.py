"""What a computer algebra system is not asked: texts that could keep it busy for ever, and what it would misread."""

from __future__ import annotations

LENGTH_LIMIT = 1000  # characters
DEPTH_LIMIT = 24
EXPONENT_DIGITS = 4
FACTORIAL_DIGITS = 3
BASE_DIGITS = 2
_DOTS = ("\\ldots", "\\dots", "\\cdots", "\\vdots", "\\ddots", "...", "…", "\\approx", "~=", "\\sim", "≈")


def refusal(text: str) -> str:
    """Why `text` is not given to a computer algebra system, or "" if it may be."""
    if len(text) > LENGTH_LIMIT:
        return f"{len(text)} characters, at most {LENGTH_LIMIT} are read"
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in text):
        return "a lone surrogate or NUL"
    if any(mark in text for mark in _DOTS):
        return "dots or an approximation"
    return _depth(text) or _exponents(text) or _factorials(text)


def _depth(text: str) -> str:
    depth = deepest = 0
    for c in text:
        depth += (c in "({[") - (c in ")}]")
        deepest = max(deepest, depth)
    return f"nested {deepest} deep, at most {DEPTH_LIMIT}" if deepest > DEPTH_LIMIT else ""


def _exponents(text: str) -> str:
    """Towers, and exponents of too many digits."""
    i = text.find("^")
    while i >= 0:
        start, end = _argument(text, i + 1)
        inside = text[start:end]
        if _longest_number(inside) > EXPONENT_DIGITS:
            return f"an exponent of more than {EXPONENT_DIGITS} digits"
        nested = "^" in inside and (inside.count("^") > 1 or not _is_small_power(inside))
        if nested or text[end:].lstrip().startswith("^"):
            return "a tower of powers"
        i = text.find("^", i + 1)
    for i, c in enumerate(text[1:], 1):
        if c in "eE" and text[i - 1].isdigit():  # 1e99999
            exponent = text[i + 1 :].lstrip("+-")
            if len(exponent) - len(exponent.lstrip("0123456789")) > EXPONENT_DIGITS:
                return f"an exponent of more than {EXPONENT_DIGITS} digits"
    return ""


def _is_small_power(text: str) -> bool:
    """`x^2` and `-x^{2}` inside an exponent, as in a bell curve; no number to a power."""
    i = text.index("^")
    start, end = _argument(text, i + 1)
    return text[:i].rstrip()[-1:].isalpha() and text[start:end].strip("{} ").isdecimal() and end - start <= 4


def _factorials(text: str) -> str:
    i = text.find("!")
    while i >= 0:
        before = text[:i].rstrip()
        if before.endswith("!"):
            return "a factorial of a factorial"
        if before.endswith((")", "}", "]")):
            inside = before[_opening(before) :]
            if "^" in inside or "!" in inside:
                return "the factorial of a power"
        else:
            inside = before[len(before.rstrip("0123456789,")) :]
        if _longest_number(inside.replace(",", "")) > FACTORIAL_DIGITS:
            return f"a factorial of a number of more than {FACTORIAL_DIGITS} digits"
        i = text.find("!", i + 1)
    return ""


def _argument(text: str, start: int) -> tuple[int, int]:
    """Where what follows `^` begins and ends: a group in braces or parentheses, a number, or one character."""
    while text.startswith((" ", "+", "-"), start):
        start += 1
    end = start + 1
    if text.startswith(("{", "("), start):
        depth = 1
        while depth and end < len(text):
            depth += (text[end] in "{(") - (text[end] in "})")
            end += 1
    else:
        while end < len(text) and text[start:end].isdecimal() and text[end].isdecimal():
            end += 1
    return start, min(end, len(text))


def _opening(text: str) -> int:
    """Where the bracket that closes at the end of `text` opens, or 0."""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        depth += (text[i] in ")}]") - (text[i] in "({[")
        if depth == 0:
            return i
    return 0


def _longest_number(text: str) -> int:
    longest = run = 0
    for c in text:
        run = run + 1 if c.isdigit() else 0
        longest = max(longest, run)
    return longest


def without_bases(text: str) -> tuple[str, tuple[str, ...]]:
    """`2516_8` or `(2516)_{8}` without the base, and the bases in order."""
    bases = []
    i = text.find("_")
    while i >= 0:
        before = text[:i].rstrip()
        digits, command = before[-1:], False
        if before.endswith((")", "}")):
            opening = _opening(before)
            group = before[opening + 1 : -1].strip()
            if group.isalnum():
                digits, command = group, before[:opening].rstrip()[-1:].isalpha()
        start, end = _argument(text, i + 1)
        base = text[start:end].strip("{} ")
        if digits.isdecimal() and base.isdecimal() and len(base) <= BASE_DIGITS and not command:
            bases.append(base.lstrip("0"))
            text = before + text[end:]
            i = len(before) - 1
        i = text.find("_", i + 1)
    return text, tuple(bases)


def is_word(text: str) -> bool:
    """True for four letters or more and nothing else: reading it as a product would make anagrams equal."""
    letters = text.strip().strip("$. ")
    return len(letters) > 3 and letters.replace(" ", "").isalpha()
