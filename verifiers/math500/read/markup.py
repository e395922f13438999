r"""Prepares the text of an answer for the lexer: without Markdown, HTML and quotes. Finds the letter of a choice.

For texts such as `**36**` and `\textbf{(C)}\ 12`. The choices that a problem lists are found here, too.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from string import ascii_letters

from verifiers.math500.read.lexer import is_command
from verifiers.math500.read.words import APPROXIMATING

PROBLEMS_REMEMBERED = 4096

CHOICES = "ABCDEFGH"  # letters of choices
YES_OR_NO = {
    **dict.fromkeys(("yes", "true"), frozenset("no not false never isn doesn don aren cannot t".split())),
    **dict.fromkeys(("no", "false"), frozenset("yes true".split())),
}
"""{word that is an answer by itself: words behind it that may take it back}: "yes, but never for x = 0"."""
HEDGES = frozenset(
    "or but maybe perhaps however if unless only when except sometimes unsure although "
    "probably possibly likely assuming wait wrong incorrect".split()
)
"""Words behind yes or no that may take the answer back: "Yes, unless n is even"."""
SMALL_CHOICES = CHOICES.lower()
ALIGNED = tuple(  # begins of environments whose rows are values or steps
    f"\\begin{{{name}}}" for name in ("aligned", "align", "align*", "gathered", "split")
)
_CHOOSING = frozenset("option choice answer the is".split())
"""Words before the letter of a choice: "The answer is C"."""
_TAGS = ("b", "strong", "i", "em", "u", "p")  # tags of HTML that are taken away
# What may stand before the letter of a choice in a problem.
_LABELS = ("\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "$\\bullet$", " ", "(")
# Spaces of LaTeX, dollars and points around the text of a choice.
_GAPS = ("\\qquad", "\\quad", "\\ ", "\\,", "\\;", "\\:", *"\n ~$.,;:")
_WRAPPING = frozenset("*`<\"“'")  # without these and without __ a text is as `unwrapped` leaves it
_QUOTES = {'"': '"', "“": "”", "'": "'"}


def unwrapped(text: str) -> str:
    """An answer without the marks of Markdown, tags of HTML and quotes around it or a part of it: 36 for **36**."""
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
    is_starred = text[:1] == text[-1:] == "*" and text.count("*") == 2
    if len(text) > 2 and (is_starred or _QUOTES.get(text[0]) == text[-1]):
        text = text[1:-1].strip()
    return text


def undoubled(text: str) -> str:
    r"""An answer with one backslash for two if all its commands have two, as in JSON: `\\frac{1}{2}`."""
    first, *pieces = text.split("\\\\")
    names = [piece[: len(piece) - len(piece.lstrip(ascii_letters))] for piece in pieces]
    doubled = "\\" not in "".join((first, *pieces)) and all(is_command(name) for name in names if name)
    return text.replace("\\\\", "\\") if doubled and any(names) else text


def ungrouped(text: str) -> str:
    """A list with a space behind each comma before three digits, so that no comma groups digits: 1, 200 for 1,200."""
    parts = text.split(",")
    result = parts[0]
    for before, part in pairwise(parts):
        groups = before[-1:].isdigit() and part[:3].isdigit() and len(part) > 2 and not part[3:4].isdigit()
        result += (", " if groups else ",") + part
    return result


def plain(text: str) -> str:
    """Does what `unwrapped` does, and is quick for the many texts that have no marks."""
    return text.strip() if _WRAPPING.isdisjoint(text) and "__" not in text else unwrapped(text)


def is_emphasis(before: str, inside: str, behind: str) -> bool:
    """True if the `**` around `inside` make it bold, judged by the text before and behind: not in 2**3**2."""
    apart = not before[-1:].isalnum() and not behind[:1].isalnum()
    return apart and bool(inside) and not (inside[0].isspace() or inside[-1].isspace())


def leading_choice(answer: str) -> str:
    r"""The letter of the choice that an answer begins with: C for `\textbf{(C)}\ 12`, `C. 12` and `\text{Option C}`.

    "" if there is none, or if the answer names another choice, too.
    """
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
    return letter if letter in (*CHOICES,) and not others else ""


def with_large_letter(answer: str) -> str:
    """The answer with a capital for the small letter of its choice: B for b, B) Paris for b) Paris."""
    place = answer.startswith("(")
    letter, behind = answer[place : place + 1], answer[place + 1 :]
    if not letter.islower() or letter.upper() not in CHOICES:
        return answer
    words = "".join(c if c.isalnum() else " " for c in behind).split()
    is_label = (
        behind[:1] == ")" and ")" not in behind[1:] and not any(word in SMALL_CHOICES[1:] for word in words)
    )
    return f"{answer[:place]}{letter.upper()}{behind}" if is_label or not words else answer


def labelled_choice(answer: str) -> tuple[str, str]:
    """("B", "Paris") for `B) Paris`; two empty texts for any other answer."""
    letter, bracket, value = answer[:1], answer[1:2], answer[2:].strip()
    return (letter, value) if letter in (*CHOICES,) and bracket == ")" and value else ("", "")


def yes_or_no(answer: str) -> str:
    """The first word of "Yes, it is." or "No, because 4 is even."; the whole answer if its rest may take that back."""
    text = answer.removeprefix("\\text{").removesuffix("}") if answer.startswith("\\text{") else answer
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    word, *rest = words or ("",)
    behind = text.strip()[len(word) :]
    goes_on = behind.startswith((*",.;:!\n", " - ", " – ", " — ", "—")) or rest[:1] in (
        ["because"],
        ["since"],
    )
    goes_on = goes_on and rest[:1] != ["of"]  # No. of solutions
    is_plain = word in YES_OR_NO and text.strip().lower().startswith(word) and bool(rest) and goes_on
    return word if is_plain and HEDGES.isdisjoint(rest) and YES_OR_NO[word].isdisjoint(rest) else answer


def behind_choice(answer: str) -> str:
    r"""The value behind a letter that is marked as text: 12 for `\textbf{(C)}\ 12`; any other answer as it is."""
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
    r"""An answer without `\approx` or a word such as "about" before it."""
    answer = answer.removeprefix("\\approx").removeprefix("≈")
    inside = answer.removeprefix("\\text{")
    word, _, rest = inside.partition("}" if inside != answer else " ")
    return rest if word.strip().lower() in APPROXIMATING else answer


def in_one_line(answer: str) -> str:
    r"""The rows of an `aligned` environment with commas between them; any other answer as it is."""
    inside = answer.partition("}")[2].rpartition("\\end{")[0]
    if not (answer.startswith(ALIGNED) and inside and "\\begin" not in inside):
        return answer
    lines = [row.strip() for row in inside.replace("&", " ").split("\\\\") if row.strip()]
    return ", ".join(lines).replace(", =", " =")


def behind_letter(answer: str, letter: str) -> str:
    r"""The text behind the letter of a choice: 12 for `\textbf{(C)}\ 12` and C."""
    places = (place for place, c in enumerate(answer) if c == letter and is_label(answer, place))
    rest = trimmed(answer[next(places, len(answer)) + 1 :].lstrip(" ).:}"))
    return rest[:-1] if rest.count("}") > rest.count("{") else rest


def bare_label(text: str) -> str:
    """The letter of a choice if nothing else stands in the text: `c`, `(c)`, `c)`, `C.`; else ""."""
    letter = text.strip().rstrip(" .:").removeprefix("(").removesuffix(")")
    return letter if len(letter) == 1 and letter.upper() in CHOICES else ""


def has_small_label(problem: str, letter: str) -> bool:
    """True if a problem lists the small `letter` as a choice: `(c)` or `c)`."""
    return any(c == letter and is_small_label(problem, place) for place, c in enumerate(problem))


def is_label(text: str, place: int) -> bool:
    """True if the letter at a place is not part of a word."""
    return not (text[place - 1 : place].isalpha() or text[place + 1 : place + 2].isalpha())


def trimmed(text: str) -> str:
    """The text without spaces of TeX, dollars and points around it."""
    while gap := next((gap for gap in _GAPS if text.startswith(gap)), ""):
        text = text[len(gap) :]
    while gap := next((gap for gap in (*_GAPS, "\\\\") if text.endswith(gap)), ""):
        text = text[: -len(gap)]
    return text


@lru_cache(PROBLEMS_REMEMBERED)
def options_of(problem: str) -> dict[str, str]:
    r"""{capital letter: the choice that a problem lists under it}; empty if it lists none.

    They are sought in this order: `(A)` or `\textbf{(A)}` anywhere and `A)`, `A.` or `A:` at the begin of lines; `A)`,
    `A.` or `A:` within a line; `(a)` or `a)`.
    """
    for letters, is_mark in (
        (CHOICES, is_label_of_choice),
        (CHOICES, is_label_in_line),
        (SMALL_CHOICES, is_small_label),
    ):
        marks, place = [], -1
        for letter in letters:
            places = (k for k in range(place + 1, len(problem)) if problem[k] == letter)
            place = next((k for k in places if is_mark(problem, k)), -1)
            if place < 0:
                break
            marks.append(place)
        # Letters within a line or small ones must be three: (a) and (b) alone are often parts of a problem.
        if len(marks) > (1 if is_mark is is_label_of_choice else 2):
            ends = [*marks[1:], len(problem)]
            return {
                problem[k].upper(): option_between(problem, k, end)
                for k, end in zip(marks, ends, strict=True)
            }
    return {}


def option_between(problem: str, start: int, end: int) -> str:
    """The text of a choice: from behind its letter, at `start`, to the next letter, at `end`, in one line."""
    line = without_label(problem[start + 1 : end].lstrip(" ).:}")).strip().partition("\n")[0]
    return trimmed(line)


def is_label_of_choice(problem: str, place: int) -> bool:
    """True if the letter at a place is that of `(A)`, or of `A)`, `A.` or `A:` at the begin of a line."""
    behind = problem[place + 1 : place + 4].lstrip(" ")[:1]
    before = without_label(problem[max(place - 20, 0) : place], "(")
    bracketed = problem[:place].rstrip(" ").endswith("(") and behind == ")"
    return bracketed or (behind in (*").:",) and before.rpartition("\n")[2] == "" and "\n" in before)


def is_label_in_line(problem: str, place: int) -> bool:
    """True if the letter at a place is that of `A)`, `A.` or `A:` between spaces."""
    return problem[place + 1 : place + 2] in (*").:",) and is_apart(problem, place)


def is_small_label(problem: str, place: int) -> bool:
    """True if the letter at a place is that of `(a)` or of `a)`."""
    before = place - (problem[place - 1 : place] == "(")
    return problem[place + 1 : place + 2] == ")" and problem[before - 1 : before].isspace()


def is_apart(problem: str, place: int) -> bool:
    """True if white space stands before the letter at a place and behind the sign that follows it."""
    return problem[place - 1 : place].isspace() and problem[place + 2 : place + 3].isspace()


def without_label(text: str, *more: str) -> str:
    """The text without the brackets, spaces and commands at its end that belong to the letter of the next choice."""
    while label := next((label for label in (*_LABELS, *more) if text.endswith(label)), ""):
        text = text[: -len(label)]
    return text
