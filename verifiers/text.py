r"""The task `text`: is the answer this text? For labels, names and codes; mathematics is not read into them.

Reference: `answer`, a text. Optional: `choices`, all known answers; `case`, "exact" to keep capitals apart. See
docs/verifiers/text.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from unicodedata import normalize

from verifiers import batch
from verifiers.errors import invalid_reference
from verifiers.reading.answer import BLOCK, BOLD, NAMED, Found, find_answer
from verifiers.reading.tokens import TEXTS
from verifiers.verdicts import MALFORMED, NO_ANSWER, OK, TEXT, WRONG, Reason

_NESTED = 8  # marks of layout around an answer that are taken off, one inside the other
_AROUND = (
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("$", "$"),
    *((f"\\{command}{{", "}") for command in sorted(TEXTS)),
)
"""What may stand around an answer without being part of it."""
_SENTENCES_READ = 8  # from the last one; those before them name no known answer


def normal(text: str, keep_case: bool = False) -> str:
    r"""A text as answers are compared: NFKC, white space as one space, cases folded unless `keep_case`.

    Without spaces, layout (`**`, `` ` ``, `$`, `\text{}`) and one full stop around it, unless nothing else is there.
    """
    plain = " ".join(normalize("NFKC", text).split())
    bare = without_layout(plain).removesuffix(".").rstrip() or plain
    return bare if keep_case else normalize("NFKC", bare.casefold())


def without_layout(text: str) -> str:
    r"""The text without the marks of layout that stand around all of it: B for `$\textbf{B}$`."""
    bare = text.strip()
    for _ in range(_NESTED):
        pair = next((pair for pair in _AROUND if bare.startswith(pair[0]) and bare.endswith(pair[1])), None)
        inside = (
            bare[len(pair[0]) : -len(pair[1])].strip() if pair and len(bare) > sum(map(len, pair)) else ""
        )
        is_one = inside.count("{") == inside.count("}") and inside.find("}") >= inside.find("{")
        if not is_one or not set(inside) - set(
            pair[0] if pair else ""
        ):  # ***** is five stars, and not one in bold
            break
        bare = inside
    return bare


def items_of(value: object) -> list[str] | None:
    """The items of a list of texts or numbers, or of a text: a JSON list, lines, or items between commas; else None."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value
        except ValueError:
            return None
        if isinstance(value, str):
            value = value.split("\n" if "\n" in value.strip() else ",")
    if getattr(value, "shape", ()) != ():  # an array of numpy
        value = value.tolist()  # type: ignore[attr-defined]
    if not isinstance(value, list | tuple):
        return None
    items = [batch.as_reference(item) for item in value]
    stripped = [item.strip() for item in items if item is not None and item.strip()]
    return stripped if stripped and None not in items else None


def keeps_case(case: object, row: int | None) -> bool:
    """Whether `case` is "exact"; raises for anything but "exact", "fold" and None."""
    if case not in (None, "fold", "exact"):
        raise invalid_reference("case", case, 'is neither "exact" nor "fold" (the default)', row)
    return case == "exact"


def gold_of(answer: object, row: int | None) -> str:
    """The reference as text; raises for an empty one and for what is neither text nor number."""
    text = str(answer).lower() if isinstance(answer, bool) else batch.as_reference(answer)
    if text is None or not text.strip():
        raise invalid_reference(
            "answer", answer, "is no text, or an empty one; give the right answer, 'spam'", row
        )
    return text


def known_of(choices: object, gold: str, keep_case: bool, row: int | None) -> dict[str, str]:
    """{normal text: the known answer} of `choices`; raises if two are the same, or if the reference is none of them."""
    items = items_of(choices)
    if items is None:
        raise invalid_reference(
            "choices", choices, "is no list of answers, such as ['spam', 'ham'] or 'spam,ham'", row
        )
    known: dict[str, str] = {}
    for item in items:
        same = known.setdefault(normal(item, keep_case), item)
        if same != item:
            why = f'has {same!r} and {item!r}, which count as one answer; case="exact" keeps capitals apart'
            raise invalid_reference("choices", choices, why, row)
    if normal(gold, keep_case) not in known:
        raise invalid_reference("answer", gold, f"is none of the choices: {', '.join(items):.200}", row)
    return known


def find_known(
    text: str,
    lenient: bool,
    names: Iterable[str],
    is_known: Callable[[str], bool],
    *,
    all_known: bool = False,
    with_comment: bool = False,
) -> Found:
    """Where the answer stands, as `find_answer` says. Where nothing marks it, a known answer is read whole.

    So "The answer is St. Louis." does not end at the point of a known St. Louis, and "The answer is not spam." names a
    known "not spam".

    Args:
        names: known answers. is_known: whether what a sentence names is one of them.
        all_known: whether these are all that an answer may be. Then a sentence such as "The answer is based on the
            tone.", in which none of them stands, names no answer, and what stands before it is read.
        with_comment: as in `find_answer`.
    """
    first = found = find_answer(text, lenient, with_comment=with_comment)
    if not lenient or found.mark not in (NAMED, BOLD, None) or found.reason not in (OK, NO_ANSWER):
        return found
    low, masked = text.lower(), list(text)
    if len(low) != len(text):  # a letter whose small form is longer
        return found
    has_names = False
    for name in sorted({name.lower() for name in names}, key=len, reverse=True):
        at = low.find(name)
        while at >= 0:
            end = at + len(name)
            if not (low[at - 1 : at].isalnum() or low[end : end + 1].isalnum()):
                masked[at:end], has_names = "x" * len(name), True
            at = low.find(name, end)
    if not has_names:
        return found
    whole, end = "".join(masked), len(text)
    for _ in range(_SENTENCES_READ):
        other = find_answer(whole[:end], with_comment=with_comment)
        may_be = [here for here in (found, other) if here.reason == OK and here.start >= found.start]
        known = [here for here in may_be if is_known(here.read(text))]
        if known:
            return max(known, key=lambda here: here.start)
        if not all_known or found.reason != OK:
            break
        said = text[found.start : found.end]
        if found.mark not in (NAMED, BOLD) or whole[found.start : found.end] != said:
            break  # it names a known answer among other words
        end = found.start
        found = find_answer(text[:end], with_comment=with_comment)
    return first


def without_cut_tag(answer: str, mark: str | None) -> str:
    """An answer without the beginning of `</answer>` with which a completion was cut: B for `<answer>B</ans`."""
    start = answer.rfind("<")
    return (
        answer[:start] if mark == BLOCK and start > 0 and "</answer>".startswith(answer[start:]) else answer
    )


def judge(
    text: str, lenient: bool, row: int | None, answer: object, choices: object, case: object
) -> batch.Judged:
    """The verdict on one completion; raises for an invalid reference."""
    keep_case = keeps_case(case, row)
    gold = gold_of(answer, row)
    known = None if choices is None else known_of(choices, gold, keep_case, row)
    found = find_known(
        text,
        lenient,
        known.values() if known else [gold],
        lambda said: normal(said, keep_case) in (known or {normal(gold, keep_case)}),
        all_known=known is not None,
        with_comment=True,
    )
    span = found.start, found.end
    if found.reason != OK or (found.mark == "box" and not lenient):
        return (MALFORMED if found.reason == OK else found.reason), TEXT, 0.0, *span
    shown = without_cut_tag(found.read(text), found.mark)
    if found.mark != "block" and (shown.startswith("**") or text.endswith("**", 0, found.start)):
        shown = shown.removeprefix("**").partition("**")[0]  # a bold answer, and words behind it
    said = normal(shown, keep_case)
    if said == normal(gold, keep_case):
        return OK, TEXT, 1.0, *span
    return (WRONG if known is None or said in known else MALFORMED), TEXT, 0.0, *span


def explain(
    extracted: str | None, reason: str, answer: object, choices: object = None, case: object = None
) -> str:
    """Which answers are known, of an answer that is none of them; else ""."""
    items = items_of(choices) if reason == Reason.MALFORMED and extracted else None
    return f"{extracted!r:.60} is none of the known answers: {', '.join(items):.200}." if items else ""


TASK = batch.text_task(
    "text", ("answer",), judge, optional=("choices", "case"), settings=("choices", "case"), explain=explain
)
