r"""Multiple choice: the letter that an answer names, and the choices that a problem lists.

For texts such as `\textbf{(C)}\ 12` and "(A) 10 (B) 12".
"""

from __future__ import annotations

from functools import lru_cache

PROBLEMS_REMEMBERED = 4096
CHOICES = "ABCDEFGH"  # the letters of choices
_DASHES = (" - ", " – ", " — ")  # between the letter of a choice and its text
_CHOOSING = frozenset("option choice answer the is".split())
"""Words before the letter of a choice: "The answer is C"."""
# What may stand before the letter of a choice in a problem.
_LABELS = ("\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "$\\bullet$", " ", "(")
# Spaces of LaTeX, dollars and points around the text of a choice.
_GAPS = ("\\qquad", "\\quad", "\\ ", "\\,", "\\;", "\\:", *"\n ~$.,;:")


def leading_choice(answer: str) -> str:
    r"""The letter of the choice that an answer begins with; "" if there is none, or if the answer names another, too.

    `\textbf{(C)}\ 12`, `C. 12` and `\text{Option C}` -> C; `C or D` and `Cats` -> "".
    """
    for mark in ("\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "}", "$"):
        answer = answer.replace(mark, "")
    words = answer.split()
    others = (k for k, word in enumerate(words[:-1]) if word.lower().rstrip(":") not in _CHOOSING)
    text = " ".join(words[next(others, len(words) - 1) :])
    if text.startswith("("):
        letter, rest = text[1:2], text[3:]
        is_marked = text[2:3] == ")"
    else:
        letter, rest = text[:1], text[2:]
        is_marked = text[1:2] in ("", *".):,") or text[1:4] in _DASHES
    if not is_marked or not letter or letter not in CHOICES:
        return ""
    if rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q", "- ", "– ", "— ")):
        return ""
    behind = words_in(rest)
    if behind[:1] == ["A"]:
        del behind[0]  # an article: "B. A dog"
    return "" if any(word in CHOICES or word.lower() in ("or", "not") for word in behind) else letter


def words_in(text: str) -> list[str]:
    """The runs of letters and digits of a text."""
    return "".join(c if c.isalnum() else " " for c in text).split()


def with_large_letter(answer: str) -> str:
    """The answer with a capital for the small letter of its choice: B for b, B) Paris for b) Paris."""
    opening = "(" if answer.startswith("(") else ""
    letter, behind = answer[len(opening) : len(opening) + 1], answer[len(opening) + 1 :]
    if not letter.islower() or letter.upper() not in CHOICES:
        return answer
    has_one_bracket = behind.startswith(")") and ")" not in behind[1:]
    names_another = any(word in CHOICES[1:].lower() for word in words_in(behind))  # an "a" may be the article
    is_choice = not words_in(behind) or (has_one_bracket and not names_another)
    return f"{opening}{letter.upper()}{behind}" if is_choice else answer


def value_behind_choice(answer: str) -> str:
    r"""The value behind a letter that is marked as text and as a label; any other answer as it is.

    `\textbf{(C)}\ 12` and `\text{C. }12` -> 12; `\text{C}12`, whose letter is no label, stays.
    """
    command, brace, behind = answer.partition("}")
    label = command
    for prefix in ("\\text", "bf", "\\mathrm", "{"):
        label = label.removeprefix(prefix)
    letter = label.strip(" ().:")
    is_label = label != command and label.strip() != letter and len(letter) == 1 and letter in CHOICES
    value = behind.removeprefix("\\").lstrip(" ,;:~.")
    return value if brace and is_label and value else answer


def text_behind_letter(answer: str, letter: str) -> str:
    r"""The text behind the letter of a choice: 12 for `\textbf{(C)}\ 12` and C."""
    places = (
        place
        for place, c in enumerate(answer)
        if c == letter
        and not (answer[place - 1 : place].isalpha() or answer[place + 1 : place + 2].isalpha())
    )
    behind = answer[next(places, len(answer)) + 1 :]
    rest = trimmed(behind[3:] if behind.startswith(_DASHES) else behind.lstrip(" ).:,}"))
    return rest[:-1] if rest.count("}") > rest.count("{") else rest  # the last } of \text{C. 12}


def trimmed(text: str) -> str:
    """The text without spaces of TeX, dollars and points around it."""
    low, high = 0, len(text)
    while before := next((gap for gap in _GAPS if text.startswith(gap, low)), ""):
        low += len(before)
    while behind := next((gap for gap in (*_GAPS, "\\\\") if text.endswith(gap, low, high)), ""):
        high -= len(behind)
    return text[low:high]


@lru_cache(PROBLEMS_REMEMBERED)
def options_of(problem: str) -> dict[str, str]:
    r"""{capital letter: the choice that a problem lists under it}; empty if it lists none.

    The letters are sought in this order: `(A)` or `\textbf{(A)}` anywhere, and `A)`, `A.` or `A:` where lines begin;
    `A)`, `A.` or `A:` within a line; `(a)` or `a)`.
    """
    for letters, is_mark, least in (  # least: how many letters there must be
        (CHOICES, is_label, 2),
        (CHOICES, is_label_in_line, 3),
        (CHOICES.lower(), is_small_label, 3),  # (a) and (b) alone are often parts of a problem
    ):
        starts, place = [], -1  # where the letters of the choices stand, and where the last one does
        for letter in letters:
            place = next(
                (k for k in range(place + 1, len(problem)) if problem[k] == letter and is_mark(problem, k)),
                -1,
            )
            if place < 0:
                break
            starts.append(place)
        if len(starts) >= least:
            ends = [*starts[1:], len(problem)]
            return {
                problem[start].upper(): option_at(problem, start, end)
                for start, end in zip(starts, ends, strict=True)
            }
    return {}


def option_at(problem: str, start: int, end: int) -> str:
    """The text of a choice, at most one line: from its letter, at `start`, to the next letter, at `end`."""
    return trimmed(without_label(problem[start + 1 : end].lstrip(" ).:}")).strip().partition("\n")[0])


def is_label(problem: str, place: int) -> bool:
    """True if the letter at a place is a label: `(A)`, or `A)`, `A.` or `A:` where a line begins."""
    behind = problem[place + 1 : place + 4].lstrip(" ")[:1]
    is_bracketed = problem[max(place - 20, 0) : place].rstrip(" ").endswith("(") and behind == ")"
    return is_bracketed or (
        behind in (*").:",) and without_label(problem[max(place - 20, 0) : place]).endswith("\n")
    )


def is_label_in_line(problem: str, place: int) -> bool:
    """True if the letter at a place is a label between spaces: `A)`, `A.` or `A:`."""
    is_apart = problem[place - 1 : place].isspace() and problem[place + 2 : place + 3].isspace()
    return problem[place + 1 : place + 2] in (*").:",) and is_apart


def is_small_label(problem: str, place: int) -> bool:
    """True if the letter at a place is a small label: `(a)` or `a)`."""
    start = place - 1 if problem[place - 1 : place] == "(" else place
    return problem[place + 1 : place + 2] == ")" and problem[start - 1 : start].isspace()


def without_label(text: str) -> str:
    r"""The text without what stands at its end before the letter of a choice: the `\textbf{(` of `\textbf{(B)}`."""
    end = len(text)
    while label := next((label for label in _LABELS if text.endswith(label, 0, end)), ""):
        end -= len(label)
    return text[:end]
