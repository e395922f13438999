r"""The task `choice`: does the answer name the right option of a multiple choice, by its letter or by its text?

Reference: `answer`, a letter (`C`, `(C)`, `C.`) or an option's text. Optional: `choices`, the options, or `problem`,
the text that lists them. See docs/verifiers/choice.md. MATH judges its choices with `judge_choice`, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.text import find_known, gold_of, items_of, normal, without_cut_tag, without_layout
from verifiers.verdicts import HEDGE, MALFORMED, OK, TEXT, WRONG, Reason

PROBLEMS_REMEMBERED = 4096
LETTERS = "ABCDEFGHIJ"  # of options
_DASHES = (" - ", " – ", " — ")  # between a letter and the text of its option
_CHOOSING = frozenset("option choice answer the is".split())
"""Words before the letter of an answer: "Option C"."""
# What may stand before the letter of an option in a problem.
_LABELS = ("\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "$\\bullet$", "**", " ", "(")
# Spaces of LaTeX, dollars and points around the text of an option.
_GAPS = ("\\qquad", "\\quad", "\\ ", "\\,", "\\;", "\\:", *"\n ~$.,;:")


def label_of(answer: str, letters: str = LETTERS) -> tuple[str, str]:
    r"""(the letter that an answer begins with, the text behind it); ("", the answer) if it begins with none.

    `\textbf{(C)}\ 12` and `c) 12` -> ("C", "12"); `Option C` -> ("C", ""); `Cats` -> ("", "Cats").
    """
    text = without_layout(answer)
    for mark in ("\\text{", "\\textbf{", "\\mathrm{", "**"):
        text = text.replace(mark, "")
    words = text.split()
    others = (k for k, word in enumerate(words[:-1]) if word.lower().rstrip(":") not in _CHOOSING)
    text = " ".join(words[next(others, len(words) - 1) :])
    is_bracketed = text.startswith("(")
    letter, rest = text[is_bracketed : is_bracketed + 1], text[is_bracketed + 1 :]
    if is_bracketed:
        is_marked, rest = rest.startswith(")"), rest[1:]
    elif rest.startswith(_DASHES):
        is_marked, rest = True, rest[2:]
    elif rest.startswith(" (") and rest.endswith(")"):
        is_marked, rest = True, f" {rest[2:-1]}"
    else:
        is_marked, rest = rest[:1] in ("", *"}).:,"), rest[1:]
    rest = rest.lstrip("}")
    if not is_marked or (rest and not rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q"))):
        return "", answer
    if letter not in letters:
        letter = letter.upper()
    return (letter, trimmed(rest)) if letter and letter in letters else ("", answer)


def judge_choice(
    answer: str, right: str, options: Mapping[str, str], is_same: Callable[[str, str], bool]
) -> int | None:
    """OK, WRONG, or HEDGE if an answer names several options; None if it names none, neither by letter nor by text.

    A letter and another option's text are WRONG together.

    Args:
        right: the letters that are right: one, unless options have the same text.
        options: {letter: its text}; empty if they are not known.
        is_same: whether (an answer, the text of an option) say the same.
    """
    letters = "".join(options) or LETTERS
    letter, rest = label_of(answer, letters)
    if letter and not rest:
        return OK if letter in right else WRONG
    if said := [other for other, text in options.items() if is_same(answer, text)]:
        return OK if set(said) & set(right) else WRONG
    words = words_in(rest)
    if not letter:
        named = {word for word in words if word in letters}
        return HEDGE if len(named) > 1 and named.issuperset({*words} - {"and", "or"}) else None
    if options and is_same(rest, options[letter]):
        return OK if letter in right else WRONG
    if words[:1] == ["A"]:
        del words[0]  # an article: "B. A dog"
    if any(word in letters and word not in (letter, "I") for word in words):
        return HEDGE
    if any(is_same(rest, text) for text in options.values()):
        return WRONG
    return OK if letter in right else WRONG


def options_in(choices: object, row: int | None) -> dict[str, str]:
    """{letter: text} of the options that `choices` holds; raises for anything else.

    A list has the texts of A, B, C ...; {"A": text} and {"label": [...], "text": [...]} have letters of their own.
    """
    value = choices
    if isinstance(value, Mapping) and {"label", "text"} <= value.keys():
        value = dict(zip(value["label"], value["text"], strict=False))
    if isinstance(value, Mapping):
        named = {str(letter).strip().upper(): batch.as_reference(text) for letter, text in value.items()}
        if named and None not in named.values() and all(len(letter) == 1 for letter in named):
            return named  # type: ignore[return-value]
    items = items_of(value)
    if items is None or len(items) > len(LETTERS):
        why = f"is no list of up to {len(LETTERS)} options, such as ['Paris', 'Rome'] or 'Paris,Rome'"
        raise invalid_reference("choices", choices, why, row)
    return dict(zip(LETTERS, items, strict=False))


def right_letters(answer: object, options: Mapping[str, str], row: int | None) -> str:
    """The letters of the options that a reference names; raises if it names none."""
    gold = gold_of(answer, row)
    letter, rest = label_of(gold, "".join(options) or LETTERS)
    if letter and (not rest or not options or is_same_text(rest, options[letter])):
        return letter
    if same := [other for other, text in options.items() if is_same_text(gold, text)]:
        return "".join(same)
    known = (
        f"none of the options {', '.join(options)}, nor the text of one"
        if options
        else "no letter such as 'C'"
    )
    why = f"is {known}; the options are known from choices= or problem=, and other answers are for the task text"
    if gold.strip().isdecimal():
        why += ". A number may count from 0 or from 1: write the letter"
    raise invalid_reference("answer", answer, why, row)


def is_same_text(answer: str, option: str) -> bool:
    """Whether an answer is the text of an option, as the task `text` compares them."""
    return normal(answer) == normal(option)


def judge(
    text: str, lenient: bool, row: int | None, answer: object, choices: object, problem: object
) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference."""
    if problem is not None and batch.as_text(problem) is None:
        raise invalid_reference("problem", problem, "is no text", row)
    options = options_in(choices, row) if choices is not None else options_of(problem or "")
    right = right_letters(answer, options, row)

    def judged(said: str) -> int | None:
        return judge_choice(said, right, options, is_same_text)

    found = find_known(text, lenient, options.values(), lambda said: judged(said) is not None)
    span = found.start, found.end
    if found.reason != OK or (found.mark == "box" and not lenient):
        return (MALFORMED if found.reason == OK else found.reason), TEXT, 0.0, *span
    reason = judged(without_cut_tag(found.read(text), found.mark))
    return (MALFORMED if reason is None else reason), TEXT, float(reason == OK), *span


def explain(
    extracted: str | None, reason: str, answer: object, choices: object = None, problem: object = None
) -> str:
    """What an answer that names no option may be; else ""."""
    if reason != Reason.MALFORMED or not extracted:
        return ""
    options = options_in(choices, None) if choices is not None else options_of(problem or "")
    known = (
        f"the letter or the text of an option ({', '.join(options)})"
        if options
        else "a letter, such as C or (C)"
    )
    return f"{extracted!r:.60} names no option; an answer is {known}."


def words_in(text: str) -> list[str]:
    """The runs of letters and digits of a text."""
    return "".join(c if c.isalnum() else " " for c in text).split()


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
    r"""{capital letter: the option that a problem lists under it}; empty if it lists none.

    The letters are sought in this order: `(A)` or `\textbf{(A)}` anywhere, and `A)`, `A.` or `A:` where lines begin;
    `A)`, `A.` or `A:` within a line; `(a)` or `a)`.
    """
    problem = f"\n{problem}"  # a label may be its first sign
    for letters, is_mark, least in (  # least: how many letters there must be
        (LETTERS, is_label, 2),
        (LETTERS, is_label_in_line, 3),
        (LETTERS.lower(), is_small_label, 3),  # (a) and (b) alone are often parts of a problem
    ):
        starts, place = [], -1  # where the letters of the options stand, and where the last one does
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
    """The text of an option, at most one line: from its letter, at `start`, to the next letter, at `end`."""
    return trimmed(without_label(problem[start + 1 : end].lstrip(" ).:}*")).strip().partition("\n")[0])


def is_label(problem: str, place: int) -> bool:
    """True if the letter at a place is a label: `(A)`, or `A)`, `A.` or `A:` where a line begins."""
    behind = problem[place + 1 : place + 4].lstrip(" ")[:1]
    is_bracketed = problem[max(place - 20, 0) : place].rstrip(" ").endswith("(") and behind == ")"
    begins_line = without_label(problem[max(place - 20, 0) : place]).endswith("\n")
    return is_bracketed or (behind in (*").:*",) and begins_line)


def is_label_in_line(problem: str, place: int) -> bool:
    """True if the letter at a place is a label between spaces: `A)`, `A.` or `A:`."""
    is_apart = problem[place - 1 : place].isspace() and problem[place + 2 : place + 3].isspace()
    return problem[place + 1 : place + 2] in (*").:",) and is_apart


def is_small_label(problem: str, place: int) -> bool:
    """True if the letter at a place is a small label: `(a)` or `a)`."""
    start = place - 1 if problem[place - 1 : place] == "(" else place
    return problem[place + 1 : place + 2] == ")" and problem[start - 1 : start].isspace()


def without_label(text: str) -> str:
    r"""The text without what stands at its end before the letter of an option: the `\textbf{(` of `\textbf{(B)}`."""
    end = len(text)
    while label := next((label for label in _LABELS if text.endswith(label, 0, end)), ""):
        end -= len(label)
    return text[:end]


TASK = batch.text_task(
    "choice", ("answer",), judge, optional=("choices", "problem"), settings=("choices",), explain=explain
)
