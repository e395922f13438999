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

CHOICES = "ABCDEFGH"  # the letters of choices
YES_OR_NO = {
    **dict.fromkeys(("yes", "true"), frozenset("no not false never isn doesn don aren cannot t".split())),
    **dict.fromkeys(("no", "false"), frozenset("yes true".split())),
}
"""{word that is an answer by itself: words behind it that may take it back}: "yes, but never for x = 0".

Apostrophes divide words here, so that "isn't" is "isn" and "t".
"""
HEDGES = frozenset(
    "or but maybe perhaps however if unless only when except sometimes unsure although "
    "probably possibly likely assuming wait wrong incorrect".split()
)
"""Words behind yes or no that may take the answer back: "Yes, unless n is even"."""
SMALL_CHOICES = CHOICES.lower()
DASHES = (" - ", " – ", " — ")  # between the letter of a choice and its text
ALIGNED = tuple(  # how environments begin whose rows are values or steps
    f"\\begin{{{name}}}" for name in ("aligned", "align", "align*", "gathered", "split")
)
# What stands between the statements of a working: one of `_ROW_ENDS`, or a full stop before one of `_BEHIND_STOP`.
_ROW_ENDS = ("\\\\", "\\Rightarrow", "\\implies", "\\begin{aligned}", "\\end{aligned}")
_BEHIND_STOP = (" ", "\n", "\\ ", "\\,", "\\;", "\\:", "\\!", "\\quad", "\\qquad", "\\text")
_CHOOSING = frozenset("option choice answer the is".split())
"""Words before the letter of a choice: "The answer is C"."""
_TAGS = ("b", "strong", "i", "em", "u", "p")  # tags of HTML that are taken away
# What may stand before the letter of a choice in a problem.
_LABELS = ("\\textbf{", "\\text{", "\\mathrm{", "\\mathbf{", "$\\bullet$", " ", "(")
# Spaces of LaTeX, dollars and points around the text of a choice.
_GAPS = ("\\qquad", "\\quad", "\\ ", "\\,", "\\;", "\\:", *"\n ~$.,;:")
_WRAPPING = frozenset("*`<\"“'")  # only a text with one of these or with __ needs `unwrapped`
_QUOTES = {'"': '"', "“": "”", "'": "'"}  # {opening quotation mark: the closing one}


def unwrapped(text: str) -> str:
    """An answer without the marks of Markdown, tags of HTML and quotes around it or a part of it: 36 for **36**."""
    for mark in ("**", "__"):
        text = without_emphasis(text, mark)
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


def without_emphasis(text: str, mark: str) -> str:
    """36 for `**36**`; the text as it is if `mark`, which is `**` or `__`, is not always emphasis: 2**3**2."""
    parts = text.split(mark)  # before a pair, inside it, behind it, inside the next pair, ...
    if len(parts) % 2 == 0:
        return text  # a mark without its partner
    for place in range(1, len(parts), 2):
        if not is_emphasis(parts[place - 1], parts[place], parts[place + 1]):
            return text
    return "".join(parts)


def undoubled(text: str) -> str:
    r"""An answer with one backslash in place of two if all its commands have two, as in JSON: `\\frac{1}{2}`."""
    before, *pieces = text.split("\\\\")
    # The letters that each piece begins with.
    names = [piece[: len(piece) - len(piece.lstrip(ascii_letters))] for piece in pieces]
    are_all_doubled = "\\" not in "".join((before, *pieces))
    are_commands = any(names) and all(is_command(name) for name in names if name)
    return text.replace("\\\\", "\\") if are_all_doubled and are_commands else text


def last_result(answer: str) -> str:
    r"""The 8 with which a working in a box ends, `\text{Its side is }2. \\ \text{Volume }=2^3=8.`; "" for no working.

    A working has words and ends with a full stop, or it has rows.
    """
    is_working = "\\end{aligned}" in answer or ("\\text{" in answer and answer.rstrip(" }$").endswith("."))
    if not is_working:
        return ""
    boundary = "\0"
    for mark in _ROW_ENDS:
        answer = answer.replace(mark, boundary)
    for behind in _BEHIND_STOP:
        answer = answer.replace("." + behind, boundary + behind)
    statements = [statement for statement in answer.split(boundary) if statement.strip(" .&\n")]
    last = statements[-1] if statements else ""
    _, equals, result = last.rpartition("=")
    # One chain, A = B = C, is judged as a whole: its sides must all be equal.
    is_chain = len(statements) == 1 and "," not in last
    has_several = any(sign in last for sign in ("\\pm", "\\mp", " or", "\\lor"))
    return "" if not equals or is_chain or has_several else result.strip(" .&\n")


def with_natural_logs(text: str) -> str:
    r"""`\ln 2` for `\log 2`, as calculus writes it; a logarithm with a base stays, `\log_2 3`."""
    result, *pieces = text.split("\\log")
    for piece in pieces:
        stays = piece[:1] == "_" or piece[:1].isalpha()  # a base, or another command: \logical
        result += ("\\log" if stays else "\\ln") + piece
    return result


def ungrouped(text: str) -> str:
    """The list 1, 200 for 1,200: a space behind each comma that could group digits."""
    parts = text.split(",")
    result = parts[0]
    for before, part in pairwise(parts):
        has_three_digits = len(part) > 2 and part[:3].isdigit() and not part[3:4].isdigit()
        may_group = before[-1:].isdigit() and has_three_digits
        result += (", " if may_group else ",") + part
    return result


def plain(text: str) -> str:
    """The answer as `unwrapped` gives it; quick for the many texts that have no marks."""
    return text.strip() if _WRAPPING.isdisjoint(text) and "__" not in text else unwrapped(text)


def is_emphasis(before: str, inside: str, behind: str) -> bool:
    """True if the two `**` around `inside` make it bold; not in 2**3**2, where they touch letters or digits outside."""
    stands_apart = not before[-1:].isalnum() and not behind[:1].isalnum()
    return stands_apart and bool(inside) and not (inside[0].isspace() or inside[-1].isspace())


def is_choice_letter(text: str) -> bool:
    """True for one capital letter of a choice: C."""
    return len(text) == 1 and text in CHOICES


def leading_choice(answer: str) -> str:
    r"""The letter of the choice that an answer begins with; "" if there is none, or if the answer names another, too.

    `\textbf{(C)}\ 12`, `C. 12` and `\text{Option C}` -> C; `C or D` and `Cats` -> "".
    """
    for mark in ("\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "}", "$"):
        answer = answer.replace(mark, "")
    words = answer.split()
    while len(words) > 1 and words[0].lower().rstrip(":") in _CHOOSING:
        del words[0]
    text = " ".join(words)
    if text.startswith("("):
        letter, closing, rest = text[1:2], text[2:3], text[3:]
        is_marked = closing == ")"
    else:
        letter, closing, rest = text[:1], text[1:2], text[2:]
        is_marked = not closing or closing in ".):," or text[1:4] in DASHES
    if not is_marked or not is_choice_letter(letter):
        return ""
    begins_apart = rest.startswith((" ", ".", ":", "~", "\\ ", "\\,", "\\;", "\\q", "- ", "– ", "— "))
    if rest and not begins_apart:
        return ""
    words_behind = "".join(c if c.isalnum() else " " for c in rest).split()
    if words_behind[:1] == ["A"]:
        del words_behind[0]  # an article: "B. A dog"
    names_another = any(word in CHOICES or word.lower() in ("or", "not") for word in words_behind)
    return "" if names_another else letter


def with_large_letter(answer: str) -> str:
    """The answer with a capital for the small letter of its choice: B for b, B) Paris for b) Paris."""
    first_word, _, rest = answer.partition(" ")
    if rest and first_word.lower() in _CHOOSING:  # "option (b)"
        return f"{first_word} {with_large_letter(rest)}"
    opening = "(" if answer.startswith("(") else ""
    letter, behind = answer[len(opening) : len(opening) + 1], answer[len(opening) + 1 :]
    if not letter.islower() or letter.upper() not in CHOICES:
        return answer
    words = "".join(c if c.isalnum() else " " for c in behind).split()
    choices_but_a = SMALL_CHOICES[1:]  # an "a" may be the article
    names_another = any(word in choices_but_a for word in words)
    has_one_bracket = behind.startswith(")") and ")" not in behind[1:]
    is_choice = not words or (has_one_bracket and not names_another)
    return f"{opening}{letter.upper()}{behind}" if is_choice else answer


def labelled_choice(answer: str) -> tuple[str, str]:
    """("B", "Paris") for `B) Paris`; two empty texts for any other answer."""
    letter, bracket, value = answer[:1], answer[1:2], answer[2:].strip()
    return (letter, value) if is_choice_letter(letter) and bracket == ")" and value else ("", "")


def yes_or_no(answer: str) -> str:
    """The first word of "Yes, it is." or "No, because 4 is even.", unless its rest may take that back.

    Any other answer is returned as it is.
    """
    text = answer.removeprefix("\\text{").removesuffix("}") if answer.startswith("\\text{") else answer
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    if len(words) < 2:
        return answer
    word, *rest = words
    if word not in YES_OR_NO or not text.strip().lower().startswith(word):
        return answer
    behind = text.strip()[len(word) :]
    is_separate = behind.startswith((*",.;:!\n", " - ", " – ", " — ", "—"))
    if rest[0] == "of" or not (is_separate or rest[0] in ("because", "since")):
        return answer  # "No. of solutions", "No real number"
    return word if HEDGES.isdisjoint(rest) and YES_OR_NO[word].isdisjoint(rest) else answer


def value_behind_choice(answer: str) -> str:
    r"""The value behind a letter that is marked as text and as a label; any other answer as it is.

    `\textbf{(C)}\ 12` and `\text{C. }12` -> 12; `\text{C}12`, whose letter is no label, stays.
    """
    command, brace, behind = answer.partition("}")
    label = command
    for prefix in ("\\text", "bf", "\\mathrm", "{"):
        label = label.removeprefix(prefix)
    letter = label.strip(" ().:")
    is_marked_as_text, is_marked_as_label = label != command, label.strip() != letter
    has_choice = is_marked_as_text and is_marked_as_label and is_choice_letter(letter)
    value = behind.removeprefix("\\").lstrip(" ,;:~.")
    return value if brace and has_choice and value else answer


def without_approximation(answer: str) -> str:
    r"""An answer without `\approx` or a word such as "about" before it."""
    answer = answer.removeprefix("\\approx").removeprefix("≈")
    text = answer.removeprefix("\\text{")
    is_in_command = text != answer  # \text{about} 5
    end_of_word = "}" if is_in_command else " "
    word, _, rest = text.partition(end_of_word)
    return rest if word.strip().lower() in APPROXIMATING else answer


def in_one_line(answer: str) -> str:
    r"""The rows of an `aligned` environment with commas between them; any other answer as it is."""
    _, _, behind_begin = answer.partition("}")
    inside, _, _ = behind_begin.rpartition("\\end{")
    if not (answer.startswith(ALIGNED) and inside and "\\begin" not in inside):
        return answer
    lines = [row.strip() for row in inside.replace("&", " ").split("\\\\") if row.strip()]
    return ", ".join(lines).replace(", =", " =")  # a row that begins with = goes on the row before


def text_behind_letter(answer: str, letter: str) -> str:
    r"""The text behind the letter of a choice: 12 for `\textbf{(C)}\ 12` and C."""
    places = (place for place, c in enumerate(answer) if c == letter and is_label(answer, place))
    place = next(places, len(answer))
    behind = answer[place + 1 :]
    has_dash = behind.startswith(DASHES)
    rest = trimmed(behind[len(DASHES[0]) :] if has_dash else behind.lstrip(" ).:,}"))
    ends_command = rest.count("}") > rest.count("{")  # the last } of \text{C. 12}
    return rest[:-1] if ends_command else rest


def bare_label(text: str) -> str:
    """The letter of a choice if nothing else stands in the text: `c`, `(c)`, `c)`, `C.`; else ""."""
    letter = text.strip().rstrip(" .:").removeprefix("(").removesuffix(")")
    return letter if len(letter) == 1 and letter.upper() in CHOICES else ""


def has_small_label(problem: str, letter: str) -> bool:
    """True if a problem lists the small `letter` as a choice: `(c)` or `c)`."""
    return any(c == letter and is_small_label(problem, place) for place, c in enumerate(problem))


def is_label(text: str, place: int) -> bool:
    """True if the letter at a place is not part of a word."""
    return not (text_before(text, place).isalpha() or text[place + 1 : place + 2].isalpha())


def text_before(text: str, place: int) -> str:
    """The character before a place; "" at the start of the text."""
    return text[place - 1] if place > 0 else ""


def trimmed(text: str) -> str:
    """The text without spaces of TeX, dollars and points around it."""
    while before := next((gap for gap in _GAPS if text.startswith(gap)), ""):
        text = text.removeprefix(before)
    while behind := next((gap for gap in (*_GAPS, "\\\\") if text.endswith(gap)), ""):
        text = text.removesuffix(behind)
    return text


@lru_cache(PROBLEMS_REMEMBERED)
def options_of(problem: str) -> dict[str, str]:
    r"""{capital letter: the choice that a problem lists under it}; empty if it lists none.

    The letters are sought in this order: `(A)` or `\textbf{(A)}` anywhere, and `A)`, `A.` or `A:` where lines begin;
    `A)`, `A.` or `A:` within a line; `(a)` or `a)`.
    """
    for letters, is_mark, least in (  # least: how many letters there must be
        (CHOICES, is_label_of_choice, 2),
        (CHOICES, is_label_in_line, 3),
        (SMALL_CHOICES, is_small_label, 3),  # (a) and (b) alone are often parts of a problem
    ):
        starts, place = [], -1  # where the letters of the choices stand, and where the last one does
        for letter in letters:
            places = (k for k in range(place + 1, len(problem)) if problem[k] == letter)
            place = next((k for k in places if is_mark(problem, k)), -1)
            if place < 0:
                break
            starts.append(place)
        if len(starts) >= least:
            ends = [*starts[1:], len(problem)]
            return {
                problem[start].upper(): option_between(problem, start, end)
                for start, end in zip(starts, ends, strict=True)
            }
    return {}


def option_between(problem: str, start: int, end: int) -> str:
    """The text of a choice, at most one line: from its letter, at `start`, to the next letter, at `end`."""
    line = without_label(problem[start + 1 : end].lstrip(" ).:}")).strip().partition("\n")[0]
    return trimmed(line)


def is_label_of_choice(problem: str, place: int) -> bool:
    """True if the letter at a place is a label: `(A)`, or `A)`, `A.` or `A:` where a line begins."""
    behind = problem[place + 1 : place + 4].lstrip(" ")[:1]
    before = without_label(problem[max(place - 20, 0) : place])
    is_bracketed = problem[:place].rstrip(" ").endswith("(") and behind == ")"
    return is_bracketed or (behind in (*").:",) and before.endswith("\n"))


def is_label_in_line(problem: str, place: int) -> bool:
    """True if the letter at a place is a label between spaces: `A)`, `A.` or `A:`."""
    return problem[place + 1 : place + 2] in (*").:",) and is_apart(problem, place)


def is_small_label(problem: str, place: int) -> bool:
    """True if the letter at a place is a small label: `(a)` or `a)`."""
    start = place - 1 if text_before(problem, place) == "(" else place
    return problem[place + 1 : place + 2] == ")" and text_before(problem, start).isspace()


def is_apart(problem: str, place: int) -> bool:
    """True if white space stands before the letter at a place and behind the sign that follows it."""
    return text_before(problem, place).isspace() and problem[place + 2 : place + 3].isspace()


def without_label(text: str) -> str:
    r"""The text without what stands at its end before the letter of a choice: the `\textbf{(` of `\textbf{(B)}`."""
    while label := next((label for label in _LABELS if text.endswith(label)), ""):
        text = text[: -len(label)]
    return text
