r"""Where the answer of a completion stands: the one rule of every task, which docs/verifiers/README.md states in full.

The completion ends at its first end token and begins behind its thinking. Its answer stands in the last closed
`<answer>` block; without one, whichever stands last of a `\boxed{}`, the rest of a `####` line, the text behind an
unclosed `<answer>`, and a sentence, heading or JSON field that names it; without any of these, in the one bold value of
the last line. Strict mode takes exactly one closed block.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

ANSWER_LIMIT = 65_536  # characters; a longer answer is refused unread
NOT_TEXT = re.compile(r"[\0\ud800-\udfff]")
"""What an answer may not hold: NUL and halves of characters."""
BLOCK, BOX, HASHES, NAMED, BOLD = "block", "box", "hashes", "named", "bold"
_NOWHERE = (-1, -1)
_TRIED = 64  # of the names of an answer, so many are looked at, from the last one
_VALUE_LIMIT = 4_096  # characters of an answer that a sentence names
_CLAUSE_LIMIT = 160  # characters before a name in which its sentence begins
_GAP_LIMIT = 256  # characters between the beginnings of two boxes of one list


class Found(NamedTuple):
    """What `find_answer` found: the answer is text[start:end], without spaces around it."""

    reason: int
    """OK; NO_ANSWER; MALFORMED if it is too long or holds what is no text; HEDGE for two boxes joined by "or"."""
    start: int = -1
    """-1 if there is no answer, or none that may be read."""
    end: int = -1
    mark: str | None = None
    """What shows it: "block", "box", "hashes", "named" for a sentence, heading or JSON field, or "bold"."""
    alone: bool = False
    """Whether this box is all that the `<answer>` block holds; only told in strict mode."""
    quoted: bool = False
    """Whether it stands in a JSON string."""

    def read(self, text: str) -> str:
        r"""The answer as it is judged: text[start:end], of a JSON string with `\\` and `\"` for what they stand for.

        Other backslashes stay, because `\frac` and `\text` are escapes of JSON, too.
        """
        answer = text[self.start : self.end]
        return answer.replace("\\\\", "\\").replace('\\"', '"') if self.quoted else answer


class Regions(NamedTuple):
    """Where an answer may stand in a text. A place that does not exist is -1."""

    cut: int
    """The end of the text: before its first end token."""
    begin: int
    """Behind the last closed block of thinking, unless nothing follows it; else 0."""
    block: tuple[int, int]
    """(start, end) of the content of the last closed `<answer>` block."""
    unclosed: tuple[int, int]
    """(start, end) of the text behind an `<answer>`, if no block is closed."""
    single: bool
    """Whether there is one `<answer>` and one `</answer>`."""
    unended: int
    """Where thinking begins that never ends."""


_TAG = re.compile(
    r"<(?:(?P<open>answer>)|(?P<close>/answer>)|(?P<thinking>think>)|(?P<thought>/(?:think|reasoning)>)"
    r"|(?P<end>/s>|end_of_turn>|\|(?:eot_id|endoftext|im_end|role_end|return|eot|end_of_text|end)\|>))"
)
"""Tags of answers and of thinking, and the end tokens of the model families."""


def regions(text: str) -> Regions:
    """Where an answer may stand in a text; see `Regions`."""
    cut, thought, unended = len(text), 0, -1
    block, opened, num_opened, num_closed = _NOWHERE, -1, 0, 0
    for tag in _TAG.finditer(text):
        kind = tag.lastgroup
        if kind == "end":
            cut = tag.start()
            break
        if kind == "open":
            opened = tag.end()
            num_opened += 1
        elif kind == "close":
            if opened > block[1]:
                block = opened, tag.start()
            num_closed += 1
        elif kind == "thought":
            thought, unended = tag.end(), -1
        else:
            unended = tag.start()
    begin = thought if text[thought:cut].strip() else 0
    block = block if block[0] >= begin else _NOWHERE
    is_open = block == _NOWHERE and opened >= begin and text[opened:cut].strip()
    unclosed = (opened, cut) if is_open else _NOWHERE
    return Regions(cut, begin, block, unclosed, num_opened == num_closed == 1, unended)


_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SIGNS = r"(?:[\s\\$(){}\[\]]|\btext\b)*+"
_JOINT = re.compile(rf"{_SIGNS}(?:(?:,{_SIGNS})?(?:and\b|(or)\b)|,){_SIGNS}(?:[a-z]\s*+=\s*+)?\Z")
"""What stands between two boxes of one list; the group is that of an "or"."""


def last_box(text: str, start: int, end: int) -> tuple[int, int, int] | None:
    r"""(box start, content start, content end) of the last `\boxed{}` or `\fbox{}` with something in it, or None.

    One that nothing closes ends with its line.
    """
    limit = end
    for box in reversed(list(_BOX.finditer(text, start, end))):
        low, depth = box.end(), 1
        for brace in _BRACE.finditer(text, low, limit):
            depth += (brace[0] == "{") - (brace[0] == "}")
            if not depth:
                high = brace.start()
                break
        else:
            line_end = text.find("\n", low, end)
            high = low + len(text[low : line_end if line_end >= 0 else end].rstrip(" \t\r$."))
            limit = box.start()  # each text is read once
        if text[low:high].strip(" .\n"):  # not the \boxed{...} of a prompt
            return box.start(), low, high
    return None


_HASHES = re.compile(r"#{4,}+\s*+([^#\n]*+)")


def last_hashes(text: str, start: int, end: int) -> tuple[int, int] | None:
    """(start, end) of what the last `####` marks: the rest of its line, or the line below; None if nothing.

    A line such as `#### Step 2` with a text below is a heading, and marks nothing.
    """
    if text.find("####", start, end) < 0:
        return None
    end = start + len(text[start:end].rstrip())
    for mark in reversed(list(_HASHES.finditer(text, start, end))):
        said = mark[1].strip("* ")
        if said and not (said[:2].isalpha() and mark.end() < end):
            return mark.span(1)
    return None


_WORDS = re.compile("answer"), re.compile("result")
_NAME = re.compile(
    r"""(?:(?<=")|(?<="final_))(?:answer|result)"\s*+:\s*+(?="(?P<string>(?:[^"\\\n]|\\.)*+)"|(?P<number>-?\d[\d.]*+))
    |\b(?<!incorrect\s)(?<!wrong\s)(?<!other\s)(?:answers?|result)\b[*_" ]*+
     (?:(?:to|of|for|in|that|we|\(|,)[^.!?\n:=]{0,120}?)?(?:\b(?:is|are)\b|[:=]|(?=[* \t]*+\n))
     [\s*:"'`_]*+(?:(?<=\n)-\s)?+(?!(?:not|correct)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
"""What names an answer: a JSON field, or a word for it with an aside and a verb, a colon or the end of its line."""
_DOUBT = re.compile(r"\b(?:if|unless|whether|suppose)\b[^.!?\n]*+\Z", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:\\\[.{0,400}?\\\]|\$\$.{0,400}?\$\$|[.!?](?![\s*\"'`]|\Z)|[^.!?\n])*+", re.DOTALL)
_VALUES = re.compile(r"\\\(.{1,400}?\\\)|\$[^$\n]{1,400}\$|\d[\d,./]*+")
_SHOWN = re.compile(r"\*\*((?=[^*\d\n]*+\d|\(?[A-J]\b)[^*\n]++)\*\*")
_HAS_VALUE = re.compile(r"[\d\\$]|\b[A-J]\b")
_BEHIND = re.compile(r",\s?not\b|,?\s(?:because|since|which|as)\b")
_LETTER = re.compile(r"[^\W_]")
_A = re.compile(r"[\s*]*+A:[\s*]*+([^\n]++)")


def named_answer(text: str, start: int, end: int, one_value: bool) -> Found | None:
    """What the last sentence, heading or JSON field names that names an answer in text[start:end].

    one_value: only with exactly one value, as behind a box.
    """
    without_value = None
    lowered = text[start:end].replace("İ", "I").lower()  # the one letter whose small form is longer
    places = sorted(word.start() for words in _WORDS for word in words.finditer(lowered))
    for at in reversed(places[-_TRIED:]):
        name = _NAME.match(text, start + at, end)
        if not name:
            continue
        if kind := name.lastgroup:  # a JSON field
            if _LETTER.search(name[kind]):  # not the "___" of a prompt
                return Found(OK, *name.span(kind), NAMED, quoted=kind == "string")
            continue
        low = name.end()
        high = _SENTENCE.match(text, low, min(end, low + _VALUE_LIMIT)).end()  # type: ignore[union-attr]
        is_doubted = _DOUBT.search(text, max(start, name.start() - _CLAUSE_LIMIT), name.start())
        if is_doubted or text.startswith("?", high) or not _LETTER.search(text, low, high):
            continue
        if one_value and len(_VALUES.findall(text, low, high)) != 1:
            continue
        shown = list(_SHOWN.finditer(text, low - 2 * text.startswith("**", low - 2), high))
        if len(shown) == 1:
            low, high = shown[0].span(1)
        else:
            high = low + len(text[low:high].rstrip(" \t\r*_.\"'`"))
        found = Found(OK, low, high, NAMED)
        if _HAS_VALUE.search(text, low, high):
            return found
        without_value = without_value or found
    return without_value


def _last_line(text: str, start: int, end: int) -> Found | None:
    """What the last line of text[start:end] shows without naming it: its one bold value, or `A: 18`."""
    end = start + len(text[start:end].rstrip())
    line = text.rfind("\n", start, end) + 1 or start
    shown = list(_SHOWN.finditer(text, line, end))
    if len(shown) == 1:
        return Found(OK, *shown[0].span(1), BOLD)
    said = _A.match(text, line, end)
    return Found(OK, *said.span(1), NAMED) if said else None


def _marked(text: str, low: int, high: int, place: Regions, sentences: bool) -> Found | None:
    """What stands last in text[low:high] of the marks and, if `sentences`, of what names an answer."""
    is_block = place.block != _NOWHERE
    box = last_box(text, low, high)
    last = Found(OK, box[1], box[2], BOX) if box else None
    hashes = None if is_block and box else last_hashes(text, low, high)
    if hashes and hashes[0] > (last.start if last else -1):
        last = Found(OK, *hashes, HASHES)
    if place.unclosed[0] > (last.start if last else -1):
        last = Found(OK, *place.unclosed, BLOCK)
    if sentences and not (is_block and last):
        is_marked = last is not None and last.mark != BLOCK
        behind = low if last is None else last.end if is_marked else last.start
        last = named_answer(text, behind, high, is_marked) or last
    if is_block:
        return last or Found(OK, low, high, BLOCK)
    return last or (_last_line(text, low, high) if sentences else None)


def _with_list(text: str, start: int, box: Found) -> Found:
    r"""A box with those before it that `,` or "and" joins to it: `\boxed{3}, \boxed{5}`; HEDGE for "or"."""
    here = first = text.rfind("\\", start, box.start)
    while other := last_box(text, max(start, first - _GAP_LIMIT), first):
        joint = _JOINT.match(text, other[2] + 1, first)
        if not joint:
            break
        if joint[1]:
            return Found(HEDGE, mark=BOX)
        first = other[0]
    return box if first == here else box._replace(start=first, end=box.end + 1)


def find_answer(
    text: str, lenient: bool = True, marks_only: bool = False, with_comment: bool = False
) -> Found:
    r"""Where the answer of a completion stands; see the head of this file.

    Args:
        text: the completion.
        lenient: False for strict mode: the text has exactly one `<answer>` and one `</answer>`, and the answer stands
            between them, perhaps in a `\boxed{}`.
        marks_only: no sentence, heading or JSON field names an answer, as for Countdown and Sudoku.
        with_comment: what follows a value in the answer, ", because ...", stays, as it may be a part of a text.
    """
    place = regions(text)
    is_block = place.block != _NOWHERE
    if not lenient and not (is_block and place.single):
        return Found(MALFORMED if is_block else NO_ANSWER)
    low, high = place.block if is_block else (place.begin, place.cut)
    if lenient:
        found = _marked(text, low, high, place, not marks_only)
    else:
        box = last_box(text, low, high)
        alone = box and not text[low : box[0]].strip() and not text[box[2] + 1 : high].strip()
        found = Found(OK, *box[1:], BOX, bool(alone)) if box else Found(OK, low, high, BLOCK)
    if not found:
        return Found(NO_ANSWER)
    if found.mark == BOX:
        found = _with_list(text, low, found)
    if found.reason != OK:
        return found
    if 0 <= place.unended < found.start and _LETTER.search(text, found.end, place.cut):
        return Found(NO_ANSWER)
    start, end = found.start, found.end
    if lenient and not (marks_only or with_comment or found.quoted):
        comment = _BEHIND.search(text, start, end)
        if comment and _HAS_VALUE.search(text, start, comment.start()):
            end = comment.start()
    if end - start > ANSWER_LIMIT or NOT_TEXT.search(text, start, end):
        return Found(MALFORMED, mark=found.mark)
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    end = start + len(inside.strip())
    if start >= end:
        return Found(NO_ANSWER)
    return found if (start, end) == (found.start, found.end) else found._replace(start=start, end=end)
