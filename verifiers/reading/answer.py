r"""Where the answer of a completion stands: the one rule of every task, which docs/verifiers/README.md states in full.

The completion ends at its first end token and begins behind its thinking. Its answer stands in the last closed
`<answer>` block; without one, whichever stands last of a `\boxed{}`, the rest of a `####` line, the text behind an
unclosed `<answer>`, and a sentence, heading or JSON field that names it; without any of these, in the one bold value of
the last line. Strict mode takes exactly one closed block.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from verifiers.reading.decimals import swapped
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
    json: str = ""
    """"string" if it stands in a JSON string, "number" for a number of JSON, whose decimals always follow a point."""

    def read(self, text: str, comma: bool = False) -> str:
        r"""The answer as it is judged: text[start:end], of a JSON string with `\\` and `\"` for what they stand for.

        Other backslashes stay, because `\frac` and `\text` are escapes of JSON, too. comma: answers have a decimal
        comma, so that a number of JSON is given one.
        """
        answer = text[self.start : self.end]
        if comma and self.json == "number":
            return swapped(answer)
        return answer.replace("\\\\", "\\").replace('\\"', '"') if self.json == "string" else answer


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
    """Whether there is one `<answer>` and one `</answer>`, both in this spelling."""
    unended: int
    """Where thinking begins that never ends."""


_ANSWER = "(?:(?:[Ff]inal|FINAL)[ _-]?)?(?:[Aa]nswer|ANSWER)>"
_TAG = re.compile(
    rf"<(?:(?P<open>{_ANSWER})|(?P<close>/{_ANSWER})"
    r"|(?P<thinking>(?:[Tt]hink(?:ing)?|THINK|scratchpad)>|\|channel\|>analysis<\|message\|>)"
    r"|(?P<thought>/(?:[Tt]hink(?:ing)?|THINK|scratchpad|reasoning)>|\|channel\|>final<\|message\|>)"
    r"|(?P<end>/s>|end_of_turn>|\|(?:eot_id|endoftext|im_end|role_end|return|eot|end_of_text)\|>"
    r"|\|end\|>(?!<\|start\|>assistant)))",
)
"""Tags of answers and of thinking, the channels of gpt-oss, and the end tokens of the model families."""


def regions(text: str) -> Regions:
    """Where an answer may stand in a text; see `Regions`."""
    cut, thought, unended = len(text), 0, -1
    block, opened, spellings = _NOWHERE, -1, []
    for tag in _TAG.finditer(text):
        kind = tag.lastgroup
        if kind == "end":
            cut = tag.start()
            break
        if kind in ("open", "close"):
            spellings.append(tag[0])
        if kind == "open":
            opened = tag.end()
        elif kind == "close" and opened > block[1]:
            block = opened, tag.start()
        elif kind == "thought":
            thought, unended = tag.end(), -1
        elif kind == "thinking" and unended < 0:
            unended = tag.start()
    begin = thought if text[thought:cut].strip() else 0
    block = block if block[0] >= begin else _NOWHERE
    is_open = block == _NOWHERE and opened >= begin and text[opened:cut].strip()
    unclosed = (opened, cut) if is_open else _NOWHERE
    return Regions(cut, begin, block, unclosed, spellings == ["<answer>", "</answer>"], unended)


_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*+(\{)|\s?(?=\d))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_DIGITS = re.compile(r"\d(?:[.,/]?\d)*+")
_SIGNS = r"(?:[\s\\$(){}\[\]~;]|\b(?:text(?:bf)?|mathrm|mbox|q?quad)\b)*+"
_JOINT = re.compile(rf"{_SIGNS}(?:(?:,{_SIGNS})?(?:and\b|(or)\b)|,){_SIGNS}(?:[a-z]\s*+=\s*+)?\Z")
"""What stands between two boxes of one list; the group is that of an "or"."""


def last_box(text: str, start: int, end: int) -> tuple[int, int, int] | None:
    r"""(box start, content start, content end) of the last `\boxed{}` or `\fbox{}` with something in it, or None.

    One that nothing closes ends with its line, `\boxed 18` with its number.
    """
    limit = end
    for box in reversed(list(_BOX.finditer(text, start, end))):
        low, depth = box.end(), 1
        if not box[1]:
            return box.start(), low, _DIGITS.match(text, low, end).end()  # type: ignore[union-attr]
        for brace in _BRACE.finditer(text, low, limit):
            depth += (brace[0] == "{") - (brace[0] == "}")
            if not depth:
                high = brace.start()
                break
        else:
            if limit < end:
                limit = box.start()
                continue
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
        said = mark[1].strip("* ")  # **#### 18**
        if said and not (said[:2].isalpha() and mark.end() < end):
            low = text.index(said, mark.start(1))
            return low, low + len(said)
    return None


_WORDS = [re.compile(word) for word in ("ans", "result", "option", "choice")]
_NAME = re.compile(
    r"""(?:(?<=")|(?<="final_))(?:answer|result)"\s*+:\s*+(?="(?P<string>(?:[^"\\\n]|\\.)*+)"|(?P<number>-?\d[\d.]*+))
    |\b(?<!incorrect\s)(?<!wrong\s)(?<!other\s)
     (?:answers?|result|ans|(?:(?<=correct\s)|(?<=right\s))(?:option|choice))\b[*_" ]*+
     (?:(?:to|of|for|in|that|we|\(|,)[^.!?\n:=]{0,120}?)?
     (?:\b(?:is|are|equals|(?:sh|w)ould\sbe)\b|[:=]|(?=[*\# \t]*+\n))
     [\s*:"'`_}]*+(?:</?[a-z]{1,12}>\s*+)*+(?:(?<=\n)[->•]\s)?+(?!(?:not|found|known|unknown|obtained|given|provided|(?:in)?correct|right|wrong)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
"""What names an answer: a JSON field, or a word for it with an aside and a verb, a colon or the end of its line."""
_DOUBT = re.compile(r"\b(?:if|unless|whether|suppose)\b[^.!?\n]*+\Z", re.IGNORECASE)
_SENTENCE = re.compile(
    r"""(?:\\\[.{0,400}?\\\]|\\\(.{0,400}?\\\)|\$\$.{0,400}?\$\$|\\begin\{.{0,400}?\\end\{|\$\d[\d,]*+(?:\.\d++)?+(?![^\s.,!?*)])
    |\$[^$\n]{1,400}+\$|[.!?](?![\s*"'`]|\Z)|\.\.++|[^.!?\n])*+""",
    re.DOTALL | re.VERBOSE,
)
"""A sentence from some place on, up to its end or that of its line; formulas are whole."""
_VALUES = re.compile(
    r"\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]|\$[^$\n]{1,400}\$|\d[\d,./]*+|\\[a-z]++", re.DOTALL
)
_SHOWN = re.compile(r"\*\*(?:[A-Za-z ]++:\s)?((?=[^*\d\n]*+\d|\(?[A-J]\b)[^*\n]++)\*\*")
_HAS_VALUE = re.compile(r"[\d\\$]|\b(?:[B-J]|A(?!\s[a-z]))\b")
_BEHIND = re.compile(r",\s?not\b|,?\s\(?(?:rather\sthan|instead\sof|because|since|which|as)\b")
_LETTER = re.compile(r"[^\W_]")
_ANY_TAG = re.compile(r"</?\w{1,20}>")
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
                return Found(OK, *name.span(kind), NAMED, json=kind)
            continue
        low = name.end()
        high = _SENTENCE.match(text, low, min(end, low + _VALUE_LIMIT)).end()  # type: ignore[union-attr]
        is_doubted = _DOUBT.search(text, max(start, name.start() - _CLAUSE_LIMIT), name.start())
        if is_doubted or text.startswith("?", high) or not _LETTER.search(text, low, high):
            continue
        if one_value and len(_VALUES.findall(text, low, high)) != 1:
            continue
        bold_low = low - 2 * text.startswith("**", low - 2)
        shown = list(_SHOWN.finditer(text, bold_low, high))
        if shown:
            low, high = shown[0].span(1) if len(shown) == 1 else (bold_low, high)
        high = low + len(text[low:high].rstrip(" \t\r_.\"'`" if shown else " \t\r_.\"'`*"))
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
    marks = [Found(OK, *box[1:], BOX)] if box else []
    if not (is_block and box) and (hashes := last_hashes(text, low, high)):
        marks.append(Found(OK, *hashes, HASHES))
    if place.unclosed != _NOWHERE:
        marks.append(Found(OK, *place.unclosed, BLOCK))
    last = max(marks, default=None)
    if sentences and not (is_block and last):
        is_marked = last is not None and last.mark != BLOCK
        behind = low if last is None else last.end if is_marked else last.start
        last = named_answer(text, behind, high, is_marked) or last
    if is_block:
        return last or Found(OK, low, high, BLOCK)
    return last or (_last_line(text, low, high) if sentences else None)


def _with_list(text: str, start: int, box: Found) -> Found:
    r"""A box with those before it that `,` or "and" joins to it: `\boxed{3}, \boxed{5}`; HEDGE for "or"."""
    content = text[box.start : box.end].strip()
    low, first = box.start, text.rfind("\\", start, box.start)
    while other := last_box(text, max(start, first - _GAP_LIMIT), first):
        joint = _JOINT.match(text, other[2] + 1, first)
        if not joint:
            break
        first = other[0]
        if text[other[1] : other[2]].strip() != content:
            if joint[1]:
                return Found(HEDGE, mark=BOX)
            low = first
    return box if low == box.start else box._replace(start=low, end=box.end + 1)


_USUAL = re.compile(
    r"""(?:</reasoning>)?+\s*+(?P<block><answer>)?\s*+\\boxed\{(?![.\s]*+\})\s*+(
        (?:[^{}\\\n<\#\0\ud800-\udfff]++|\\[^b\\\n<\0\ud800-\udfff]
           |\{(?:[^{}\\\n<\#\0\ud800-\udfff]++|\\[^b\\\n<\0\ud800-\udfff])*+\})++)\}
    \s*+(?P<end></answer>)?\s*+(?:<\|(?:eot_id|endoftext)\|>(?!<\|start\|>assistant)|\Z)""",
    re.VERBOSE,
)


def _usual(text: str, lenient: bool, with_comment: bool) -> Found | None:
    """The answer of most texts, in a third of the time: one box in the one block, or one behind `</reasoning>`, with
    no other tag before it; None for any other text."""
    at = text.find("<")
    if text.startswith("<reasoning>", at):
        at = text.find("<", at + 1)
    box = _USUAL.match(text, at) if 0 <= at and len(text) < ANSWER_LIMIT else None
    if not box or bool(box["block"]) != bool(box["end"]) or (not with_comment and _BEHIND.search(box[2])):
        return None
    is_block = box["block"] is not None
    if not is_block and not (lenient and text.startswith("</r", at)):
        return None
    low, high = box.start(2), box.start(2) + len(box[2].rstrip())
    return Found(OK, low, high, BOX, is_block)


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
    if found := _usual(text, lenient, with_comment=marks_only or with_comment or not lenient):
        return found
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
    if 0 <= place.unended < found.start and _LETTER.search(_ANY_TAG.sub("", text[found.end : place.cut])):
        return Found(NO_ANSWER)
    start, end = found.start, found.end
    if lenient and not (marks_only or with_comment or found.json == "string"):
        comment = _BEHIND.search(text, start, end)
        if comment and _HAS_VALUE.search(text, start, comment.start()):
            end = comment.start()
    if end - start > ANSWER_LIMIT or NOT_TEXT.search(text, start, end):
        return Found(MALFORMED, mark=found.mark)
    inside = text[start:end].strip()
    start = text.index(inside, start)
    return found._replace(start=start, end=start + len(inside)) if inside else Found(NO_ANSWER)
