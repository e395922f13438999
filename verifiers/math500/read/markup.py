r"""An answer's text before it is tokens: without Markdown, HTML and quotes, and the letter of a choice in it.

For texts such as `**36**` and `\textbf{(C)}\ 12`, and for the choices of a problem.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from string import ascii_letters

from verifiers.math500.read.lexer import is_command
from verifiers.math500.read.words import APPROXIMATING

PROBLEMS_REMEMBERED = 4096

CHOICES = "ABCDEFGH"
ALIGNED = tuple(f"\\begin{{{name}}}" for name in ("aligned", "align", "align*", "gathered", "split"))
_CHOOSING = frozenset("option choice answer the is".split())
_TAGS = ("b", "strong", "i", "em", "u", "p")
# What may stand before the letter of a choice.
_LABELS = ("\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "$\\bullet$", " ", "(")
_GAPS = ("\\qquad", "\\quad", "\\ ", "\\,", "\\;", "\\:", *"\n ~$.,;:")
_WRAPPING = frozenset("*`<\"“'")  # one of these, or two underscores, `unwrapped` takes away
_QUOTES = {'"': '"', "“": "”", "'": "'"}


def unwrapped(text: str) -> str:
    """An answer without what Markdown, HTML or quotes put around it or around a part of it."""
    for mark in ("**", "__"):
        parts = text.split(mark) if mark in text else ()
        if len(parts) % 2 and all(map(is_emphasis, parts[:-2:2], parts[1::2], parts[2::2])):
            text = "".join(parts)
    text = text.replace("`", "")
    if "</" in text:
        for tag in _TAGS:
            if text.count(f"<{tag}>") == text.count(f"</{tag}>"):
                text = text.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    text = text.strip()
    starred = text[:1] == text[-1:] == "*" and text.count("*") == 2
    if len(text) > 2 and (starred or _QUOTES.get(text[0]) == text[-1]):
        text = text[1:-1].strip()
    return text


def undoubled(text: str) -> str:
    r"""An answer whose commands all have two backslashes, as in JSON, with one: `\\\\frac{1}{2}`."""
    first, *pieces = text.split("\\\\")
    names = [piece[: len(piece) - len(piece.lstrip(ascii_letters))] for piece in pieces]
    doubled = "\\" not in "".join((first, *pieces)) and all(is_command(name) for name in names if name)
    return text.replace("\\\\", "\\") if doubled and any(names) else text


def ungrouped(text: str) -> str:
    """A list with a space behind each comma before three digits, so that none groups them."""
    parts = text.split(",")
    result = parts[0]
    for before, part in pairwise(parts):
        groups = before[-1:].isdigit() and part[:3].isdigit() and len(part) > 2 and not part[3:4].isdigit()
        result += (", " if groups else ",") + part
    return result


def plain(text: str) -> str:
    """An answer without Markdown, HTML and quotes; most have none."""
    return text.strip() if _WRAPPING.isdisjoint(text) and "__" not in text else unwrapped(text)


def is_emphasis(before: str, inside: str, behind: str) -> bool:
    """True if `**` around `inside` is bold type, by what stands before and behind: 2**3**2 is none."""
    apart = not before[-1:].isalnum() and not behind[:1].isalnum()
    return apart and bool(inside) and not (inside[0].isspace() or inside[-1].isspace())


def leading_choice(answer: str) -> str:
    r"""The letter of an answer such as `\textbf{(C)}\ 12`, `C. 12` or `\text{Option C}`; "" if it names another."""
    for mark in ("\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "}", "$"):
        answer = answer.replace(mark, "")
    words = answer.split()
    while len(words) > 1 and words[0].lower().rstrip(":") in _CHOOSING:
        del words[0]
    text = " ".join(words)
    letter, rest = text[:1], text[1:]
    if letter == "(":
        letter, rest = rest[:1], rest[2:] if rest[1:2] == ")" else "?"
    elif rest:
        rest = rest[1:] if rest[0] in ".):" else "?"
    if rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q")):
        return ""
    words = "".join(c if c.isalnum() else " " for c in rest).split()
    others = any(word in CHOICES or word.lower() in ("or", "not") for word in words[words[:1] == ["A"] :])
    return "" if others else letter


def is_small_choice(answer: str) -> bool:
    """True for the letter of a choice in lower case and alone, perhaps in brackets: b, (b), b)."""
    letter = answer.strip("() .")
    return len(letter) == 1 and letter.islower() and letter.upper() in CHOICES


def behind_choice(answer: str) -> str:
    r"""The value behind a letter marked as text, `\textbf{(C)}\ 12`; without one the answer itself."""
    mark, brace, rest = answer.partition("}")
    label = mark.removeprefix("\\text").removeprefix("bf").removeprefix("\\mathrm").removeprefix("{")
    marked = (
        brace
        and len(label) < len(mark)
        and label.strip(" ().:") in (*CHOICES,)
        and label.strip() not in CHOICES
    )
    value = rest.removeprefix("\\").lstrip(" ,;:~.")
    return value if marked and value else answer


def without_approximation(answer: str) -> str:
    r"""An answer without the `\approx` or the word before it that says that it is rounded."""
    answer = answer.removeprefix("\\approx").removeprefix("≈")
    inside = answer.removeprefix("\\text{")
    word, _, rest = inside.partition("}" if inside != answer else " ")
    return rest if word.strip().lower() in APPROXIMATING else answer


def in_one_line(answer: str) -> str:
    r"""The rows of an `aligned` that is the whole answer, with commas between them; others as they are."""
    inside = answer.partition("}")[2].rpartition("\\end{")[0]
    if not (answer.startswith(ALIGNED) and inside and "\\begin" not in inside):
        return answer
    lines = [row.strip() for row in inside.replace("&", " ").split("\\\\") if row.strip()]
    return ", ".join(lines).replace(", =", " =")


def behind_letter(answer: str, letter: str) -> str:
    r"""What an answer says behind the letter of its choice: 12 of `\textbf{(C)}\ 12`."""
    places = (place for place, c in enumerate(answer) if c == letter and is_label(answer, place))
    rest = trimmed(answer[next(places, len(answer)) + 1 :].lstrip(" ).:}"))
    return rest[:-1] if rest.count("}") > rest.count("{") else rest


def is_label(text: str, place: int) -> bool:
    """True if the letter at a place stands in no word."""
    return not (text[place - 1 : place].isalpha() or text[place + 1 : place + 2].isalpha())


def trimmed(text: str) -> str:
    """The text without spaces of TeX, dollars and stops around it."""
    while gap := next((gap for gap in _GAPS if text.startswith(gap)), ""):
        text = text[len(gap) :]
    while gap := next((gap for gap in (*_GAPS, "\\\\") if text.endswith(gap)), ""):
        text = text[: -len(gap)]
    return text


@lru_cache(PROBLEMS_REMEMBERED)
def options_of(problem: str) -> dict[str, str]:
    r"""The choices of a problem by their letters, which stand as `(A)`, `\textbf{(A)}`, `A)` or `A.`."""
    marks, place = [], -1
    for letter in CHOICES:
        places = (k for k in range(place + 1, len(problem)) if problem[k] == letter)
        place = next((k for k in places if is_mark(problem, k)), -1)
        if place < 0:
            break
        marks.append(place)
    options = {}
    for start, end in zip(marks, [*marks[1:], len(problem)], strict=False):
        line = without_label(problem[start + 1 : end].lstrip(" ).}")).strip().partition("\n")[0]
        options[problem[start]] = trimmed(line)
    return options if len(options) > 1 else {}


def is_mark(problem: str, place: int) -> bool:
    """True for the letter of `(A)`, and for that of `A)` or `A.` at the begin of a line."""
    behind = problem[place + 1 : place + 4].lstrip(" ")[:1]
    before = without_label(problem[max(place - 20, 0) : place], "(")
    bracketed = problem[:place].rstrip(" ").endswith("(") and behind == ")"
    return bracketed or (behind in (")", ".") and before.rpartition("\n")[2] == "" and "\n" in before)


def without_label(text: str, *more: str) -> str:
    """The text without what stands before the letter of the next choice."""
    while label := next((label for label in (*_LABELS, *more) if text.endswith(label)), ""):
        text = text[: -len(label)]
    return text
