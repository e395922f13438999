"""An answer's text before it is tokens: without Markdown, HTML and quotes, and the letter of a choice in it."""

from __future__ import annotations

from verifiers.math500.words import APPROXIMATING, NEGATING

CHOICES = "ABCDEFGH"
ALIGNED = tuple(f"\\begin{{{name}}}" for name in ("aligned", "align", "align*", "gathered", "split"))
_CHOOSING = frozenset("option choice answer the is".split())
_TAGS = ("b", "strong", "i", "em", "u", "p")
_WRAPPERS = frozenset("\"“'*_`<#")
_QUOTES = {'"': '"', "“": "”", "'": "'"}


def unwrapped(text: str) -> str:
    """An answer without what Markdown, HTML or quotes put around it or around a part of it."""
    if text[:1] not in _WRAPPERS and "**" not in text and "`" not in text and "</" not in text:
        return text
    for mark in ("**", "__"):
        parts = text.split(mark) if mark in text else ()
        if len(parts) % 2 and all(map(is_emphasis, parts[:-2:2], parts[1::2], parts[2::2])):
            text = "".join(parts)
    text = text.replace("`", "")
    if "</" in text:
        for tag in _TAGS:
            if text.count(f"<{tag}>") == text.count(f"</{tag}>"):
                text = text.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    if text[:1] == "#" and (rest := text.lstrip("#"))[:1] == " ":  # a heading
        text = rest
    text = text.strip()
    starred = text[:1] == text[-1:] == "*" and text.count("*") == 2
    if len(text) > 2 and (starred or _QUOTES.get(text[0]) == text[-1]):
        text = text[1:-1].strip()
    return text


def is_emphasis(before: str, inside: str, behind: str) -> bool:
    """True if `**` around `inside` is bold type, by what stands before and behind: 2**3**2 is none."""
    apart = not before[-1:].isalnum() and not behind[:1].isalnum()
    return apart and bool(inside) and not (inside[0].isspace() or inside[-1].isspace())


def is_subject(name: str, answer: str, problem: str) -> bool:
    """True for "Ann is the tallest", which names Ann and denies nothing, for "Ann ran the farthest" where it is asked
    who "ran the farthest", and for "No, such an n does not exist".
    """
    answer = " ".join(answer.replace("\\text{", " ").replace("}", " ").split()).lower()
    if name in ("yes", "no"):
        rest = {*answer[len(name) :].replace(",", " ").split()}
        return answer.startswith(f"{name}, ") and rest.isdisjoint(NEGATING - {"not"} | {"yes", "but"})
    rest = answer.removeprefix(f"{name} ")
    said = rest.startswith("is ") or problem.lower().rstrip().endswith(f"who {rest.rstrip('.')}?")
    return len(rest) < len(answer) and said and NEGATING.isdisjoint(answer.split())


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
    rows = [row.strip() for row in inside.replace("&", " ").split("\\\\") if row.strip()]
    return ", ".join(rows).replace(", =", " =")


def option_of(problem: str, letter: str) -> str:
    r"""What stands behind (C) among the choices of a problem, without the marks of text around the letters; else ""."""
    for mark in (
        "\\textbf",
        "\\mathrm",
        "\\text",
        "\\mathbf",
        "\\qquad",
        "\\quad",
        "\\ ",
        "~",
        "$",
        "{",
        "}",
    ):
        problem = problem.replace(mark, " ")
    _, found, rest = problem.partition(f"({letter})")
    if not found:
        _, found, rest = problem.partition(f"({letter} )")
    following = rest.partition(f"({chr(ord(letter) + 1)}")[0]
    return following.partition("\n")[0].strip(" .,;\\") if found else ""
