r"""Where the answer of a completion stands: one rule for every text task.

`find_answer(text, lenient)` returns a span of the text. Strict mode takes the one closed `<answer>` block. Lenient mode
takes the last closed block; else what stands last of these: a `\boxed{}`, the text behind an unclosed `<answer>`, the
line of a `####`; and a sentence or heading that names an answer behind it, "The answer is 18.". What follows an end
token is another turn; what stands in a block of thinking is no answer.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from verifiers.reading import words
from verifiers.reading.units import UNITS
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

ANSWER_LIMIT = 65_536  # characters; a longer answer is refused unread
_VALUE_LIMIT = 4096  # characters of an answer that a sentence names
_TRIED = 64  # of boxes and of words for an answer, so many are looked at, from the last one
_TURNS = 3  # of lines that may begin another turn, so many are looked at, from the first one
_GAP_LIMIT = 256  # characters between two boxes of one list: \boxed{3} or \boxed{5}
_CLAUSE_LIMIT = 160  # characters before a word for an answer in which its sentence begins


class Found(NamedTuple):
    """What `find_answer` found: the answer is text[start:end], without spaces around it."""

    reason: int
    """OK; NO_ANSWER; MALFORMED if it is too long or holds what is no text; HEDGE for two boxes joined by "or"."""
    start: int = -1
    """-1 if there is no answer, or none that may be read."""
    end: int = -1
    boxed: bool = False
    r"""Whether it is the content of a `\boxed{}`."""
    alone: bool = False
    """Whether this box is all that the `<answer>` block holds; only told in strict mode."""
    named: bool = False
    """Whether no mark shows it, but a sentence or heading; without an answer: whether such a one is taken back."""


class Regions(NamedTuple):
    """Where an answer may stand in a text. A place that does not exist is -1."""

    cut: int
    """The end of the text: before its first end token."""
    begin: int
    """Behind the last closed block of thinking, unless nothing follows it; else 0."""
    block: tuple[int, int]
    """(start, end) of the content of the last closed `<answer>` block."""
    unclosed: tuple[int, int]
    """(start, end) of the text behind an `<answer>` that is not closed."""
    single: bool
    """Whether there is one `<answer>` and one `</answer>`, both in this spelling."""
    unended: int
    """Where thinking begins that never ends."""


_NOWHERE = (-1, -1)
_TAG = re.compile(
    r"<(?:(/)?((?:final[ _-]?)?answer|think(?:ing)?|reasoning|scratchpad)>"
    r"|\|channel\|>(analysis|final)<\|message\|>"
    r"|(?-i:/s>|\|(?:eot_id|endoftext|im_end|role_end|return|eot|end_of_text)\|>|\|end\|>|end_of_turn>)(?!<\|start\|>assistant))",
    re.IGNORECASE,
)
"""Tags of answers and of thinking, the channels of gpt-oss, and the end tokens of the model families."""


def regions(text: str) -> Regions:
    """Where an answer may stand in a text; see `Regions`."""
    if "◁" in text:  # ◁think▷ of Kimi
        text = text.replace("◁", "<").replace("▷", ">")
    found = _regions(text, reasoning_counts=False)
    if found.begin and found.block == _NOWHERE and _is_blank(text, found.begin, found.cut):
        found = _regions(text, reasoning_counts=True)
    return found


def _regions(text: str, *, reasoning_counts: bool) -> Regions:
    """reasoning_counts: an answer may stand in closed thinking, since nothing follows it."""
    cut = len(text)
    begin = opened = closed = 0
    block = unclosed = outer = _NOWHERE
    opening = thinking = -1
    for tag in _TAG.finditer(text):
        slash, name, channel = tag.groups()
        if name == "answer" or (name and name[-6:].lower() == "answer"):
            count = 1 if name == "answer" else 2  # an unusual spelling is never the single one
            if slash:
                closed += count
                if opening >= 0:
                    block, opening = (opening, tag.start()), -1
            else:
                opened += count
                if opening >= 0 and not _is_blank(text, opening, tag.start()):
                    unclosed = opening, tag.start()
                opening = tag.end()
        elif not (name or channel):
            cut = tag.start()
            break
        elif slash or (channel and channel.lower() == "final"):
            if not reasoning_counts:
                begin, block, unclosed, opening = tag.end(), outer, _NOWHERE, -1
            thinking, outer = -1, _NOWHERE
        elif thinking < 0:
            thinking, outer = (-1 if name and name.lower() == "reasoning" else tag.start()), block
    if opening >= 0 and (unclosed == _NOWHERE or not _is_blank(text, opening, cut)):
        unclosed = opening, cut
    return Regions(cut, begin, block, unclosed, opened == closed == 1, thinking)


def _is_blank(text: str, start: int, end: int) -> bool:
    """True if text[start:end] holds nothing but white space."""
    return start >= end or text[start:end].isspace()


_BOX = re.compile(r"\\(?:boxed|fbox)\s*+\{")
_OPEN_BOX = re.compile(r"\\boxed(?:\s*+\{([^\n]*+)|\s++(-?\d[^\s$]*+)|(?=\d)([^\s$]++))")
_BRACE = re.compile(r"[{}]|\\.", re.DOTALL)
_REJECTING = re.compile(
    r"(?:\b(?:(?:can)?not|rather\sthan|instead\sof)|n['’]t)(?:\sbe)?+[ \t\\($*{}]*+(?:[a-z]\s?=\s?)?+\Z"
    r"|\b(?:wrong|incorrect)\s(?:answer|result|value)(?:\s(?:is|was))?+[\s:\\($*{]*+\Z",
    re.IGNORECASE,
)
_MAY_REJECT = re.compile("not|than|instead|n['’]t|wrong|incorrect")  # before a slower search
_LINE_ENDS = re.compile(r"[\\)$\]}*.!\t ]*+(?:\n|\Z)")
_JOINT = re.compile(
    r"(?:[\s\\$(){}\[\];~]|(,)|\b(?:(and)|(or)|text|textbf|mathrm|mbox|q?quad)\b)*+\Z", re.IGNORECASE
)
_NAME = re.compile(r"(?:^|[\s$,:(])([a-z](?:_\d)?)\s*+=\s*+\Z")
NOT_TEXT = re.compile(r"[\0\ud800-\udfff]")
"""What an answer may not hold: NUL and halves of characters."""


def last_box(text: str, start: int, end: int, command: str = "\\boxed") -> tuple[int, int, int] | None:
    r"""(box start, content start, content end) of the last closed `\boxed{}` with something in it, or None.

    The second box of `\boxed{2}, not \boxed{3}` does not count.
    """
    at = limit = end
    for _ in range(_TRIED):
        at = text.rfind(command, start, at)
        if at < 0:
            return None
        opening = _BOX.match(text, at, end)
        if not opening:
            continue
        low, high = opening.end(), _closing_brace(text, opening.end(), limit)
        if high >= 0 and not _is_blank(text, low, high) and not _is_rejected(text, start, at, high + 1, end):
            return at, low, high
        limit = at  # each text is read once: a box around this one does not count either
    return None


def _closing_brace(text: str, start: int, end: int) -> int:
    """Position of the brace that closes the one before `start`; -1 if none does."""
    depth = 1
    for brace in _BRACE.finditer(text, start, end):
        sign = brace[0]
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if not depth:
                return brace.start()
    return -1


def _is_rejected(text: str, start: int, box: int, box_end: int, end: int) -> bool:
    r"""True for the second box of `\boxed{2}, not \boxed{3}`, and for "The wrong answer: \boxed{3}": it ends its line,
    and what stands right before it denies it."""
    before = text[max(start, box - 40) : box].lower()
    if not _MAY_REJECT.search(before):
        return False
    return _REJECTING.search(before) is not None and _LINE_ENDS.match(text, box_end, end) is not None


def _open_box(text: str, start: int, end: int) -> tuple[int, int, int] | None:
    r"""`last_box` for one that nothing closes: `\boxed{7`, with the rest of its line, or `\boxed 7`."""
    at = text.rfind("\\boxed", start, end)
    opened = _OPEN_BOX.match(text, at, end) if at >= 0 else None
    if not opened or _is_rejected(text, start, at, end, end):
        return None
    low, high = opened.span(opened.lastindex)  # type: ignore[arg-type]
    high = low + len(text[low:high].rstrip(" \t\r\n$."))
    return (at, low, high) if high > low and text[low] != "}" else None


def _list_of_boxes(text: str, start: int, box: int, low: int, high: int) -> tuple[int, bool]:
    """(start of the list whose last box is at `box`, whether "or" joins a box of another value to it).

    `\\boxed{3}, \\boxed{5} and \\boxed{7}` is one list, and so is `x=\\boxed{3}$, $x=\\boxed{5}`. A single box
    and boxes of the same content are no list; then the start is `box`.
    """
    first, differs = box, False
    for _ in range(_TRIED):
        other = last_box(text, max(start, first - _GAP_LIMIT), first)
        if not other:
            break
        gap_end = first
        name = _NAME.search(text[max(other[2], first - 20) : first])
        if name and (other_name := _NAME.search(text[max(start, other[0] - 20) : other[0]])):
            gap_end = first - len(name[0]) if name[1] == other_name[1] else first
        joint = _JOINT.match(text, other[2] + 1, gap_end)
        if not joint or not joint.lastindex:
            break
        differs |= text[other[1] : other[2]].strip() != text[low:high].strip()
        if joint[3]:
            return box, differs
        first = other[0]
    return (first if differs else box), False


_HASHES = re.compile(r"#{4,}+([^#\n]*+)")
_ONE_LINE = re.compile(r"\s*+([^\n]++)\Z")
_WORD = re.compile(r"[\s*]*+[A-Za-z]{2}")
_LABEL = re.compile(r"(?<=\d)[A-Za-z]{2,40}+:")


def last_hashes(text: str, start: int, end: int) -> tuple[int, int] | None:
    """(start, end) of what the last `####` marks: the rest of its line, or the only line below; None if nothing.

    A line such as `#### Step 2` with a text below is a heading, and marks nothing.
    """
    if text.find("#", start, end) < 0:  # much sooner found than all four
        return None
    end = start + len(text[start:end].rstrip())
    for mark in reversed(list(_HASHES.finditer(text, start, end))):
        low, high = mark.span(1)
        if _is_blank(text, low, high):
            below = _ONE_LINE.match(text, high, end) if text.startswith("\n", high) else None
            if below and not _WORD.match(below[1]):
                return below.span(1)
        elif high == end or not _WORD.match(text, low, high):
            stop = _value_end(text, low, high)
            high = stop if text.startswith(".", stop) else high  # 18! is a factorial
            if text.endswith("**", 0, mark.start()):  # **#### 18**
                high = low + len(text[low:high].rstrip(" *"))
            label = _LABEL.search(text, low, high)  # 80question: There are
            return low, label.start() if label else high
    return None


_NAMES = re.compile(
    rf"(?<![^\W_])(?:{'|'.join(words.ANSWER.split())})\b|{'|'.join(words.ANSWER_CJK.split())}|(?:(?<=\n)|(?<=\n\*\*)|\A)A(?=:)",
    re.IGNORECASE,
)
_STEMS = {"ans": 0, "sult": 2, "puesta": 3, "sposta": 2, "antwort": 0, "ergebnis": 0, "\na:": -1, "*a:": -1}
"""{a part of a word that `_NAMES` matches, in lower case: how far behind its beginning it stands}. Each such word of an
ASCII text has one of them, and few other words do."""
_DIALOGUE = re.compile(r"(?:^|\n)(?:Q|B):")
"""Lines by which `A:` is a choice, or the answer to another question."""
_VERB = re.compile(
    r"""(?P<quote>")?+[*_]*+(?:\s(?:final|finale|correct|correcta|correcte|corretta|correta)\b)?+
    (?:[ ]?\([^()\n]{0,80}+\))?+[*_]*+
    (?:,[^,.:\n]{1,60}+,|[ ](?:to|of|for|in|we|you|that|which)\b[^.!?:\n=]{0,120}?)?
    (?:\s?(?:should|would|must|will|may|can)\sbe\b|\s*+(?:(?:"""
    + "|".join(words.BEING.split())
    + r""")\b|"""
    + "|".join(words.BEING_CJK.split())
    + r"""|(?P<are>are\b)|[:：=])|(?P<heading>[ \t#*_]*+(?=\n)))""",
    re.IGNORECASE | re.VERBOSE,
)
"""What stands between a word for an answer and its value: perhaps an aside, then a verb, a colon or the line's end."""
_PARTS = re.compile(r"[^\W\d_]++|\n|\S")
_ASSERTING = words.LEADING | words.ASSERTING
_DESCRIBING = re.compile(r"[\s*]*+(?:an?\s|[a-z]{2})")
_DECORATION = frozenset("*_#\"'`-–—•\\(")
_LEAD = re.compile(r"(?:[\s:：*_}]|</?[a-z]{1,12}+>|```[a-z]*+\n)*+", re.IGNORECASE)
_ITEM = re.compile(r"\s*+(?:(?P<bullet>[-*])\s|\(?[a-z\d][.)]\s|(?P<joint>(?:or|and)\b))\s*+")
_LEAD_IN = re.compile(
    r"(?!(?:first|given|step|to)\b|[^\n]{0,100}?\b(?:is|are|was)\b[ $\\*]*+\d)"
    r"[^\W\d_]{2}[^\n:]{0,100}+:[\s*]*+(?=[^\n]++\Z)",
    re.IGNORECASE,
)
_STOP = re.compile(r"(?:[.!?](?=[\s*]|\Z|[A-Z])(?<!\.\.)(?!\s?[a-z])|。)")
_VALUE = re.compile(r"\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]|\$[^$\n]{1,400}\$|\d[\d,./]*+", re.DOTALL)
_WORDS = re.compile(r"[^\W\d_]++(?:['’]t\b)?+")
_ENDING = re.compile(r"(?:です|입니다|이다|(?:, which)? is (?:correct|right))\Z")
_OTHER = re.compile(r"\s?[,(]\s?not\b|\s(?:rather\s?than|instead\s?of)\b", re.IGNORECASE)
_OTHER_VALUE = re.compile(r"[\s$\\(*-]*+(?:\d|[dt]?frac|sqrt|[A-Z]\b)[^,;:+\n]{0,80}\Z")
_IS_ANSWER = re.compile(r"\b(?:is|equals)[\s*]++(?:the|my|our)?+[\s*]*+(?:final|correct|right)?+[\s*]*+\Z")
_CLAUSE_START = re.compile(r"[.!?,:;\n](?!\d)")
_SENTENCE_END = re.compile(r"\**+(?:[.!]|\n|\Z)")
_BOLD = re.compile(r"\*\*([^*]++)\*\*")
_CHOICE = re.compile(
    r"(?:correct|right)\s(?:option|choice)[\s*]*+(?:is|:)[\s*:]*+(?P<named>[^\n]++)"
    r"|(?:option|choice|\A|\b(?:so|thus|hence|therefore),?)[\s*(]*+(?P<letter>[A-J])[)\s*.]*+is[\s*]*+(?:the\s)?+(?:correct|right)"
    r"(?:\s(?:answer|option|choice))?+[\s*.!]*+\Z",
    re.IGNORECASE,
)


def _words_in(text: str) -> list[str]:
    """The words of a text in lower case; "isn't" is one of them."""
    return _WORDS.findall(text.lower().replace("’", "'"))


def _names(text: str, start: int, end: int) -> list[re.Match[str]]:
    """The words for an answer in text[start:end]; of ASCII, in a tenth of the time that `finditer` takes."""
    if not text.isascii():
        return list(_NAMES.finditer(text, start, end))
    lowered = text[start:end].lower()
    places = {start} if lowered.startswith("a:") else set()
    for stem, offset in _STEMS.items():
        at = lowered.find(stem)
        while at >= 0:
            places.add(start + at - offset)
            at = lowered.find(stem, at + 1)
    return [name for at in sorted(places) if at >= start and (name := _NAMES.match(text, at, end))]


def _named_answer(text: str, start: int, end: int) -> tuple[int, int] | None:
    """(start, end) of the answer that text[start:end] names last, in a sentence or by a heading, or None."""
    for name in reversed(_names(text, start, end)[-_TRIED:]):
        verb = _VERB.match(text, name.end(), end)
        if len(name[0]) == 1 and _DIALOGUE.search(text, start, end):
            continue
        if not verb:
            span = _value_before(text, start, name.start(), name.end(), end)
        elif _begins_clause(text, start, name.start(), words.LEADING):
            span = _value_behind(text, verb, end)
        elif name[0].lower() == "answer" and _begins_clause(text, start, name.start(), _ASSERTING):
            span = _value_behind(text, verb, end) if verb[0][-1:].isalpha() else None
            value = text[slice(*span)].rpartition("=")[2] if span else ""
            if span and (_DESCRIBING.match(text, *span) or len(_VALUE.findall(value)) > 1):
                continue  # "We see that the answer is even."
        else:
            continue
        if span and span[0] < span[1]:
            return span
    return None


def _begins_clause(text: str, start: int, at: int, leading: frozenset[str]) -> bool:
    """True if only the words `leading` stand before `at` in its clause, and the sentence supposes nothing.

    In Chinese, Japanese and Korean, any words may stand before it.
    """
    parts = _PARTS.findall(text, max(start, at - _CLAUSE_LIMIT), at)
    if parts and parts[-1].lower() in ("this", "that"):  # "This answer is reasonable."
        return False
    while parts and (parts[-1] in _DECORATION or parts[-1].lower() in leading):
        parts.pop()
    if parts and parts[-1].isalpha() and text[at] < "\u3000":
        return False
    return not _supposes(parts)


def _supposes(parts: list[str]) -> bool:
    """True if the last sentence of these words and signs is a supposition: "If so, the"."""
    for part in reversed(parts):
        if part in ".!?\n。":
            return False
        if part.lower() in words.CONDITIONS or part.startswith(words.CONDITIONS_CJK):
            return True
    return False


def _value_behind(text: str, verb: re.Match[str], end: int) -> tuple[int, int] | None:
    """(start, end) of the value behind "The answer is", on its line or below; None if the sentence says none."""
    begin = verb.end()
    low = _LEAD.match(text, begin, end).end()  # type: ignore[union-attr]
    is_below = "\n" in text[begin:low]
    first = low
    if is_below and (lead_in := _LEAD_IN.match(text, low, end)):
        first = low = lead_in.end()
    elif is_below and text.startswith(("- ", "> "), low):
        low += 2
    if low == end:
        return None
    if verb["quote"]:  # {"answer": "18"}
        quoted = text[low] == '"'
        high = min(
            (at for sign in ('"' if quoted else ",}\n") if (at := text.find(sign, low + 1, end)) > 0),
            default=end,
        )
        return _trimmed(text, low + quoted, high)
    high = _value_end(text, low, end)
    stop = _STOP.search(text, low, high)
    if not is_below and not _VALUE.search(text, low, stop.start() if stop else high):
        said = _words_in(text[low:high])
        if verb["are"] or (said and said[0] in words.NO_VALUE and words.NUMERALS.keys().isdisjoint(said)):
            return None  # "The answer is found by adding."
    if text.startswith("?", high) or text.startswith("?", high - 1):
        return None
    last = _list_end(text, first, high, end)
    return _trimmed(text, first if last > high and is_below else low, last)


def _list_end(text: str, first: int, line_end: int, end: int) -> int:
    """Where a list of values ends whose first line is text[first:line_end].

    Each further line has a value, and begins with the same kind of mark, "- " or "(b) ", or with "or" or "and".
    """
    mark = _ITEM.match(text, first, line_end)
    while text.startswith("\n", line_end):
        item = _ITEM.match(text, line_end, end)
        next_end = _line_end(text, item.end(), end) if item else line_end
        if not item or not _VALUE.search(text, item.end(), next_end):
            break
        is_step = (
            mark
            and text[mark.end() : mark.end() + 1].isalpha() != text[item.end() : item.end() + 1].isalpha()
        )
        if not (
            item["joint"] or (mark and not is_step and mark["bullet"] == item["bullet"] and not mark["joint"])
        ):
            break
        line_end = next_end
    return line_end


def _value_end(text: str, low: int, end: int) -> int:
    """Where the value at `low` ends: with its sentence if the rest of the line says nothing, else with its line."""
    end = min(end, low + _VALUE_LIMIT)
    line_end = _line_end(text, low, end)
    for opening, closing in (("\\begin", "\\end"), ("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$")):
        at = text.rfind(opening, low, line_end)
        is_open = at >= 0 and text.find(closing, at + 2, line_end) < 0
        if is_open and (closing != "$$" or text.count("$$", low, line_end) % 2):
            behind = text.find(closing, line_end, end)
            line_end = _line_end(text, behind, end) if behind >= 0 else line_end
    for stop in _STOP.finditer(text, low, line_end):
        before = text[low : stop.start()]
        if (before.count("$") - before.count("\\$")) % 2 or before.count("{") > before.count("}"):
            continue
        rest = text[stop.end() : line_end]
        again = _AGAIN.match(rest)
        is_over = _says_nothing(rest) or turns(rest) or (again and not again["but"])
        # Fewer words are no sentence: "18. Maybe 20."; and 1. may number the steps of a list.
        says_more = again or len(_words_in(rest)) < 3 or "?" in rest or before.strip() == "1"
        if not is_over and not says_more and _is_sure(text, low, stop.start()) and not _OR.match(rest):
            stated = list(_STATED.finditer(rest))
            value = _VALUE.match(rest, stated[-1].end()) if stated else None
            is_over = not stated or (value and _plain(value[0]) == _plain(_VALUE.search(before)[0]))
        return stop.start() if is_over else line_end
    return line_end


def _line_end(text: str, at: int, end: int) -> int:
    """Where the line ends that `at` is on."""
    found = text.find("\n", at, end)
    return end if found < 0 else found


_OR = re.compile(r"[\s(]*+or\b", re.IGNORECASE)
_COURTESY = re.compile(r"\bif\s(?:you|anything)\b[^.,!?\n\d]*+", re.IGNORECASE)


def _says_nothing(text: str) -> bool:
    """True if a text has no value and takes none back: "I hope this helps!", "She does not need more."."""
    text = _COURTESY.sub("", text)
    said = _words_in(text)
    if _VALUE.search(text) or (said and said[0] in words.DOUBTS):
        return False
    said = _words_in(_UNREAL.sub("", text))
    doubts = [place for place, word in enumerate(said) if word in words.DOUBTS]
    return all(said[place] in words.DENIALS and words.POINTING.isdisjoint(said[:place]) for place in doubts)


def _trimmed(text: str, low: int, high: int) -> tuple[int, int]:
    """text[low:high] without spaces and stars around it, a full stop, and what only comments on the value."""
    first, last = low, (high := _without_comment(text, low, high))
    low += len(text[low:high]) - len(text[low:high].lstrip(" \t\r\n*"))
    high = low + len(text[low:high].rstrip(" \t\r\n*_"))
    if text[high - 1 : high] == "." and text[high - 2 : high - 1] != ".":
        high = low + len(text[low : high - 1].rstrip(" \t\r\n*"))
    ending = _ENDING.search(text, low, high)
    if ending:
        return low, ending.start()
    stars = text.count("**", low, high)  # bold text that begins or ends the value keeps both its marks
    opens, closes = text.endswith("**", max(first - 2, 0), low), text.startswith("**", high, last)
    if closes and (stars % 2 or (opens and stars)):
        high += 2
        opens &= stars % 2 == 0
    if opens and stars and (stars % 2 or closes):
        low -= 2
    return low, high


def _without_comment(text: str, low: int, high: int, in_brackets: bool = True) -> int:
    """Where the value text[low:high] ends before a value that is denied, "20, not 21", or before a clause that has no
    value and denies nothing: ", which is not too many", "because it is even".

    in_brackets: the denied value may stand in brackets, too: "20 (not 21)".
    """
    if not _MAY_COMMENT.search(text, low, high):
        return high
    for other in _OTHER.finditer(text, low, high):
        if _OTHER_VALUE.match(text, other.end(), high) and (in_brackets or "(" not in other[0]):
            return other.start()
    clause = _CLAUSE_BEHIND.search(text, low, high)
    if clause and _VALUE.search(text, low, clause.start()):
        rest = text[clause.end() : high]
        number = _NUMBER_ALONE.match(text, low, clause.start())
        if "which" not in clause[0] and number:
            _, equals, result = rest.rpartition("=")  # 18 eggs, since 20 - 2 = 18
            again = _NUMBER_ALONE.match(result.rstrip(" ."))
            is_other = equals and (not again or _plain(again[1]) != _plain(number[1]))
            says_more = is_other or _GOES_ON.search(rest)
        else:
            says_more = _VALUE.search(rest) or not UNITS.keys().isdisjoint(_words_in(rest))
        if not says_more and not is_denied_behind(rest):
            return clause.start()
    return high


# Without one of them, slower searches find nothing.
_MAY_COMMENT = re.compile("not|than|instead|which|because|since|rounded", re.IGNORECASE)
_BEGINS_WITH_NUMBER = re.compile(r"[\s:*$\\(-]*+\d")
_NUMBER_ALONE = re.compile(r"([\s:*$\\(-]*+\d[\d,./]*+)[\s*$\\)]*+(?:[a-z]++[\s*]*+){0,3}\Z")  # with its unit
_GOES_ON = re.compile(r"\b(?:so|thus|therefore|hence|but|however|wrong|incorrect)\b", re.IGNORECASE)
_CLAUSE_BEHIND = re.compile(
    r",\s?which\b|,?+\s(?:because|since)\b"
    r"|,?+\s\(?rounded\sto\s(?=(?:the\snearest\s[a-z]++(?:\s[a-z]++)?|(?:[a-z]++|\d)\s(?:decimal|significant)\s[a-z]++)[).\s*]*+\Z)"
)
_REASON = re.compile(_CLAUSE_BEHIND.pattern + r"|,\sas\b(?!\s(?:well|is|are)\b)")

_OTHER_CHOICE = re.compile(r"\b(?:so|thus|therefore|hence|but)\b[\s(*]*+[A-J]\b")


def without_reason(answer: str) -> str:
    """The choice that an answer names, before a clause that gives a reason for it: the C of "C, since 3 * 4 = 12"."""
    clause = _REASON.search(answer)
    rest = answer[clause.end() :] if clause else ""
    is_more = "which" in (clause[0] if clause else "") and (_VALUE.search(rest) or is_denied_behind(rest))
    if not clause or is_more or _OTHER_CHOICE.search(rest):
        return answer
    return answer[: clause.start()].strip(" *")


def _value_before(text: str, start: int, name: int, name_end: int, end: int) -> tuple[int, int] | None:
    """(start, end) of the value of "18 is the answer.", in which text[name:name_end] is "answer"; else None."""
    verb = _IS_ANSWER.search(text, max(start, name - 40), name)
    if not verb or not _SENTENCE_END.match(text, name_end, end):
        return None
    if _supposes(_PARTS.findall(text, max(start, name - _CLAUSE_LIMIT), name)):
        return None
    begin = max(start, name - _CLAUSE_LIMIT)
    begin = max((mark.end() for mark in _CLAUSE_START.finditer(text, begin, verb.start())), default=begin)
    return _trimmed(text, begin, verb.start()) if _is_sure(text, begin, verb.start()) else None


def _is_sure(text: str, low: int, high: int) -> bool:
    """True if text[low:high] says one value, without a doubt."""
    values = _VALUE.finditer(text, low, high)
    return len(list(values)) == 1 and words.DOUBTS.isdisjoint(_words_in(text[low:high]))


def _last_line(text: str, start: int, end: int) -> tuple[int, int] | None:
    r"""(start, end) of what the last line shows without naming it: `**\$18**` alone in bold, "Option B is correct."."""
    end = start + len(text[start:end].rstrip())
    line = text.rfind("\n", start, end) + 1 or start
    bold = _BOLD.search(text, line, end) if text.count("**", line, end) == 2 else None
    if bold:
        low, high = bold.span(1)
        label, colon, _ = text[low:high].partition(": ")
        if colon and label.replace(" ", "").isalpha():  # Total: 18
            low += len(label + colon)
        value = text[low:high]
        is_value = "=" in value or value.lstrip("\\-$€£¥₹ ")[:1].isdecimal()
        behind = text[bold.end() : end].lstrip()
        is_operand = behind[:1] in tuple("+-/") and "=" in behind and not _words_in(behind.partition("=")[0])
        if is_value and not is_operand and words.DOUBTS.isdisjoint(_words_in(text[line:low])):
            return low, high
    said = text[line:end].lower()  # without one of the words, it is a slow search for nothing
    choice = _CHOICE.search(text, line, end) if "correct" in said or "right" in said else None
    if choice and words.DOUBTS.isdisjoint(_words_in(text[line:end])):
        kind = "named" if choice["named"] else "letter"
        return _trimmed(text, *choice.span(kind))
    return None


_TURN = re.compile(
    r"[\s*\"(—-]*+(?:(?:oh|but|and|ah|hmm)\b[\s,.]*+)?+(?:on\ssecond\sthought|(?:no\b,?\s)?+wait\b"
    r"|sorry\b(?!\s(?:if|(?:for|about)(?![^.!?\n]{0,60}\b(?:mistake|error|wrong|incorrect)))\b(?![^.!?\n\d]*+\d))"
    r"|(?:oops|correction|actually|never\s?mind(?=\s?[,.;:!—-]|\Z)|(?:scratch|strike|disregard|ignore)\s(?:that|this|it|the)|hold\son|my\smistake)\b"
    r"|(?:so\s)?(?:it|that|this|the\stotal)(?:['’]s|\sis)\sactually(?=[\s*$\\(]*+\d[\d,./]*+[\s*$\\)]*+\Z)"
    r"|(?:edit|update)(?=\s?:)|no(?=\s?(?:[,.!;:—-]|\Z)))",
    re.IGNORECASE,
)


def turns(sentence: str) -> bool:
    """True if a sentence takes back what stands before it: "Wait, ...", "I made a mistake.", "That isn't right."."""
    if _TURN.match(sentence):
        return True
    said = _words_in(_UNREAL.sub("", sentence))
    if (
        0 < len(said) < 4
        and said[-1] in _GRADES
        and not (_DENYING.search(sentence) or _VALUE.search(sentence))
    ):
        return True  # Grade: wrong
    for place, pointing in enumerate(said):
        if pointing not in _SPEAKING:
            continue
        is_person = pointing in words.PERSONS
        is_being = is_denied = False
        for word in said[place + 1 : place + _REACH]:
            is_negated = word in words.DENIALS or word.endswith("'t")
            if word in words.CONTRADICTING:
                return True
            if is_being and word in (words.RIGHT if is_denied else words.WRONG):
                return True
            if is_person:
                if word not in words.FORMS_OF_BEING:
                    break  # He is wrong
                is_being = True
                continue
            is_slip = word.startswith("mis") and not word.startswith("miss")  # miscounted
            if (word in words.MISTAKES or is_slip) and pointing in ("i", "we", "there"):
                return True
            is_being |= word in words.FORMS_OF_BEING or is_negated
            is_denied |= is_negated
        if not is_person and said[place + 1 : place + 3] in (["should", "be"], ["should", "have"]):
            return True
    return False


_UNREAL = re.compile(
    r"\b(?:if|whether|unless|hope)\s(?:(?:that|there|i|we|you|it|this|any|anything|something|the|my|an?|answer|solution"
    r"|result|a[mr]e?|is|was|were|be|i['’]m|it['’]s|have(?:n['’]t)?|has|made|make|find|not|no)\s){0,7}+"
    r"(?:mistakes?|errors?|wrong|incorrect)\b"
    r"|\b(?:(?:no|any|without)\s(?:\w++\s)?|for\s)(?:mistakes?|errors?)\b"
    r"|\bdo(?:es)?n['’]t\s(?:think|believe|see)\b[^,;:]{0,40}?\b(?:mistake|error|wrong|incorrect)\b",
    re.IGNORECASE,
)
"""A fault that is supposed, hoped against, or denied: "Let me know if I made a mistake.", "There is no mistake."."""
_DENYING = re.compile(r"\b(?:not|never)\b|n['’]t\b", re.IGNORECASE)
_GRADES = words.WRONG - {"false"}
_SPEAKING = words.POINTING | words.PERSONS
_REACH = 7  # words behind "that" in which it is called wrong
_STATED = re.compile(
    r"(?:\b(?:(?:it|that)['’]s|(?:is|are|be|becomes|comes\sto|equals|total|totals|makes|gives|giving|leaves|leaving|get|gets|find|obtain))\b(?:\s(?:actually|really|indeed|then|now))?"
    r"|=|:|(?i:\b(?:so|thus|hence|therefore)\b),?)"
    r"[\s*:]*+(?=[$\\(-]{0,3}+\d)"
)
_AGAIN = re.compile(
    r"[\s*\"(—-]*+(?:(?:(?:" + "|".join(words.BEFORE_AGAIN.split()) + r")\b[\s,.…—-]*+){0,9}+"
    r"(?:(?P<check>(?:double|re)?+[\s-]?(?:check|verif)|re-?count|(?:closer|further)\s(?:look|inspection))|reflection|apolog|sorry"
    r"|(?P<mend>(?:correct|fix)(?:ing)?\s(?:this|that|it|my))|re-?(?:consider|do\b|doing|comput|calculat|think|examin|evaluat|vis|view|read))|hmm|(?P<but>however|but)\b)",
    re.IGNORECASE,
)
"""How a sentence begins that goes over an answer once more. A check alone mostly has the answer as it was."""
_NUMBER = re.compile(r"\d[\d,]*+(?:\.\d++)?+")
_CONFIRMING = re.compile(
    r"[✓✔✅]|\b(?:yes|match(?:es)?|holds?|works?|confirm\w*+|satisf\w++|(?:is|are) (?:correct|right))\b"
    r"|\bcorrect\W*+\Z",
    re.IGNORECASE,
)
_RESTATING = re.compile(
    r"\b(?:(?:correct|right|actual|final)\s\w{1,20}+|total|answer)\s(?:is|should\sbe|must\sbe)\b[^.!?\n]{0,20}+\Z",
    re.IGNORECASE,
)
_CONCLUDING = re.compile(r"\b(?:so|thus|hence|therefore|total|correct)\b", re.IGNORECASE)


def is_denied_behind(rest: str) -> bool:
    """True if what follows an answer in its sentence takes it back: " is wrong", ", which contradicts the problem"."""
    clause = _CLAUSE.match(rest).end()  # type: ignore[union-attr]
    return turns("it " + rest[:clause]) or turns(rest[clause:].lstrip(" ,;:"))


_CLAUSE = re.compile(r"[^,;:(=\d]*+")


_CHOICE_ALONE = re.compile(r"(?:\\text(?:bf)?\{)?[\s(*]*+([A-J])[\s).*}]*+")
_WRONG_CHOICE = re.compile(
    r"(?:\b(?:answer|option|choice)\s\(?|\n[\s(*-]*+)([A-J])[).:*\s]*+(?:is\s(?:also\s)?)?(?:wrong|incorrect)\b",
    re.IGNORECASE,
)
"""What denies a choice: "Option B is incorrect.", "B. Incorrect.". The answer may be another one."""


def _corrected(text: str, start: int, end: int, answer: str) -> tuple[int, int] | None:
    """What text[start:end], the rest of its sentence and later ones, says of the answer before it: (-1, -1) if it takes
    it back, (start, end) of the value that it says instead, or None if it says nothing of it, or the same again."""
    if _SILENT.match(text, start, end):
        return None
    at = start
    again, begin, is_change = None, start, False
    choice = _CHOICE_ALONE.fullmatch(answer)
    for stop in _SENTENCES.finditer(text, start, end):
        sentence = text[at : stop.end()]
        denied = _WRONG_CHOICE.search(text, max(start, at - 8), stop.end()) if choice else None
        if choice and denied and denied[1] != choice[1] and not _TURN.match(sentence):
            at = stop.end()
            continue
        begun = _AGAIN.match(sentence)
        if begun and begun["but"] and (_VALUE.search(text, start, at) or "\n" in text[start:at].strip()):
            begun = None  # a step of an explanation
        if begun and not turns(sentence[begun.end() :] if begun["check"] else sentence):
            if not again or again["but"]:
                again, begin, is_change = begun, at, bool(begun["mend"]) or turns(sentence)
        elif turns(sentence) or (at == start and is_denied_behind(sentence)):
            return _instead(text, at, end, answer)
        at = stop.end()
    stated = list(_STATED.finditer(text, begin, end))
    if not again or not (stated or (is_change and _VALUE.search(text, begin, end))):
        return None
    if again["check"] or again["but"]:
        said, number = text[begin:end], _NUMBER.search(answer)
        restated = stated and _RESTATING.search(text, begin, stated[-1].end())
        is_said = (
            number
            and not _WORDS.search(answer, 0, number.start())
            and _plain(number[0]) in map(_plain, _NUMBER.findall(said))
            and not restated
        )
        is_supposed = again["but"] and not words.CONDITIONS.isdisjoint(_words_in(said))
        is_change = is_change or (restated if again["but"] else _CONCLUDING.search(said))
        if is_said or is_supposed or _CONFIRMING.search(said) or not is_change:
            return None
    return _instead(text, begin, end, answer)


def _instead(text: str, at: int, end: int, answer: str) -> tuple[int, int] | None:
    """(start, end) of the value that text[at:end] states last; None if it is the answer, (-1, -1) if none is sure."""
    stated = list(_STATED.finditer(text, at, end))
    if not stated and not _is_sure(
        text[at:end].lower().replace("no,", "").replace("no wait", ""), 0, end - at
    ):
        return _NOWHERE
    low = stated[-1].end() if stated else _VALUE.search(text, at, end).start()  # type: ignore[union-attr]
    span = _trimmed(text, low, _value_end(text, low, end))
    value = re.split(r"[.!]\s", text[slice(*span)])[0]
    number, _, unit = value.partition(" ")
    return None if _plain(answer) == _plain(number if unit.isalpha() else value) else span


def _plain(value: str) -> str:
    """A value without commas, and without the signs around it that do not change it."""
    return value.strip("\\$()*. ").replace(",", "")


_SILENT = re.compile(r"(?:[^\w<]|</?+(?:answer|reasoning)?+>)*+\Z")
"""Signs and tags alone, which name no answer and take none back: what mostly stands behind a mark."""
_SENTENCES = re.compile(r"[.!?](?=\s|\Z)|\n|\Z")
_TAG_END = re.compile(r"[^>▷]*+[>▷]")
_FIRSTS = "".join(sorted({word[0] for word in words.NEXT_TURN.split()}))
_HEADING = rf"(?:next )?+(?P<name>{'|'.join(words.NEXT_TURN.split())})"
_NEXT_TURN = re.compile(
    rf"\n(?=[ \t#*]*+[<n{_FIRSTS}[])(?!<[^|])[ \t]*+"  # most lines end here
    rf"(?:\[INST\]|<\|user\|>|(?:user|human)[ *]*+$"
    rf"|[#*]*+ ?+{_HEADING}(?:[ *]*+:| ?#?(?P<number>\d{{1,9}}+)(?:[ *]*+(?::|$)|[.)](?=\s)))"
    rf"|[#*]++ ?+{_HEADING.replace('?P<name>', '?:')}[ *]*+$)",
    re.IGNORECASE | re.MULTILINE,
)
_LETTER = re.compile(r"[^\W_]")  # or digit
_MARKS = ("####", "\\boxed", "</answer>")
"""Behind one of them or a named answer, a line that begins with "Question:" is another text: the completion went on
with its prompt's examples, or with another turn."""
_LAST = re.compile(r"(?:[^\w<]|</?+\w{1,20}+>)*+\Z")


def find_answer(text: str, lenient: bool = True, marks_only: bool = False) -> Found:
    r"""Where the answer of a completion stands; see the head of this file.

    Args:
        text: the completion.
        lenient: False for strict mode: the text has exactly one `<answer>` and one `</answer>`, and the answer stands
            between them.
        marks_only: no sentence or heading names an answer, as for Countdown and Sudoku.
    """
    if usual := _usual(text, lenient, lenient and not marks_only):
        return usual
    found = regions(text)
    if lenient and found.unended < 0:
        at = found.begin
        for turn in islice(_NEXT_TURN.finditer(text, at, found.cut), _TURNS):
            until = turn.start()
            is_marked = any(text.find(mark, at, until) >= 0 for mark in _MARKS)
            if is_marked or (not marks_only and _names(text, at, until)):
                before = _find_in(text[:until], regions(text[:until]), lenient, marks_only)
                said = text[before.start : before.end]
                is_heading = _WORD.match(said) and text.startswith("####", before.start - 5)  # #### Step 2
                is_named = before.named and said  # as one value, or as the letter of a choice
                is_open = is_named and not _is_sure(said, 0, len(said)) and len(said.strip("*() ")) > 1
                is_blank = before.reason == OK and not _LETTER.search(said)  # \boxed{...} of the prompt
                is_part = before.named and _is_next_part(text, turn)
                if (before.reason != NO_ANSWER or before.named) and not (
                    is_heading or is_open or is_blank or is_part
                ):
                    return before
            at = until
    return _find_in(text, found, lenient, marks_only)


def _is_next_part(text: str, turn: re.Match[str]) -> bool:
    """True for "Question 2:" behind "Question 1:", with which an answer in parts goes on."""
    if not turn["number"] or turn["number"] == "1":
        return False
    one_less = int(turn["number"]) - 1
    heading = rf"(?:\A|\n)[ \t#*]*+{turn['name']} ?#?{one_less}\b"
    return re.compile(heading, re.IGNORECASE).search(text, 0, turn.start()) is not None


def _find_in(text: str, found: Regions, lenient: bool, marks_only: bool) -> Found:
    """`find_answer` for a text that goes on with no other one."""
    if not lenient and found.block != _NOWHERE and not found.single:
        return Found(MALFORMED)
    if not lenient and found.block == _NOWHERE:
        return Found(NO_ANSWER)
    reason, low, high, boxed, alone, behind = _marked(text, found, lenient)
    named = False
    if reason not in (OK, NO_ANSWER):
        return Found(reason, boxed=boxed)
    if found.unended >= 0 and low > found.unended and not _LAST.match(text, behind, found.cut):
        return Found(NO_ANSWER)  # thinking that never ends: only a mark that stands last is its answer
    if lenient and not marks_only:
        stop = found.unended if found.unended >= 0 else found.cut
        if reason == OK and not boxed and (span := _named_answer(text, low, high)):
            block, value = text[low:high], text[slice(*span)]
            is_group = block.count("{") == block.count("}") and value.count("{") < value.count("}")
            is_formula = block.startswith("$") and value.endswith("$")
            # \text{The answer is: 18} and $Answer: 18$, but "The answer is 18$."
            low, high = span[0], span[1] - (is_formula or (is_group and value.endswith("}")))
        if reason == OK and high - low < _VALUE_LIMIT:
            high = _without_comment(text, low, high, in_brackets=False)
        if found.block == _NOWHERE and found.begin <= behind < stop:
            reason, low, high, boxed, named = _named_behind(text, reason, low, high, boxed, behind, stop)
        elif reason == OK and found.block != _NOWHERE:
            behind = _TAG_END.match(text, found.block[1]).end()  # type: ignore[union-attr]
            if _corrected(text, behind, stop, text[low:high]):
                return Found(NO_ANSWER, named=True)
    if reason != OK:
        return Found(reason, named=named)
    if NOT_TEXT.search(text, low, high):
        return Found(MALFORMED, boxed=boxed)
    return Found(OK, low, high, boxed, alone, named)


_USUAL = re.compile(
    r"""(?:</reasoning>)?+\s*+(?P<block><answer>)?+\s*+
    \\boxed\{((?:[^{}\\\n<\#\0\ud800-\udfff]++|\\[^b\\\n<\0\ud800-\udfff]
                |\{(?:[^{}\\\n<\#\0\ud800-\udfff]++|\\[^b\\\n<\0\ud800-\udfff])*+\})++)\}
    \s*+(?P<end></answer>)?+\s*+(?:<\|(?:eot_id|endoftext)\|>(?!<\|start\|>assistant)|\Z)""",
    re.VERBOSE,
)


def _usual(text: str, lenient: bool, comments: bool) -> Found | None:
    """The answer where only reasoning stands before the one block, and one box in it, or before a box without a block.

    Such are most texts, which takes a tenth of the time. None for any other text. comments: what only comments on the
    value is left out.
    """
    at = text.find("<")
    if text.startswith("<reasoning>", at):
        at = text.find("<", at + 1)
    box = _USUAL.match(text, at) if at >= 0 else None
    if not box or (box["block"] is None) != (box["end"] is None):
        return None
    inside = box[2].strip()
    if not 0 < len(inside) < _VALUE_LIMIT or "◁" in text or not (box["block"] or lenient):
        return None
    if lenient and not text.startswith("</reasoning>", at) and _NEXT_TURN.search(text, 0, at):
        return None
    low = box.start(2) + box[2].index(inside)
    high = low + len(inside)
    if comments:
        high = _without_comment(text, low, high, in_brackets=False)
    return Found(OK, low, high, True, box["block"] is not None)


def _marked(text: str, found: Regions, lenient: bool) -> tuple[int, int, int, bool, bool, int]:
    """(reason, start, end, boxed, alone, where the text behind the mark begins) of the answer that a mark shows."""
    is_block = found.block != _NOWHERE
    scope, low, high = found.block[0], *found.block
    scope_end = high
    if is_block:
        box = last_box(text, low, high)
        hashes = last_hashes(text, low, high) if lenient and not box else None
        low, high = hashes or (low, high)
    else:
        scope, scope_end = found.begin, found.cut
        low, high = found.unclosed
        if low >= 0 and _is_blank(text, low, high):
            low = -1
        box = last_box(text, max(scope, low), scope_end)
        hashes = last_hashes(text, scope, scope_end)
        if hashes and hashes[0] > max(box[0] if box else -1, low):
            box, (low, high) = None, hashes
    if lenient:  # a box that nothing closes counts if it stands behind what was found so far
        rest = max(box[2] if box else low, scope)
        box = _open_box(text, rest, scope_end) or box
    alone = hedged = False
    behind = high
    if box:
        at, low, high = box
        behind = high + 1
        alone = not lenient and not text[scope:at].strip() and not text[high + 1 : scope_end].strip()
        if at - scope > len("\\boxed"):
            first, hedged = _list_of_boxes(text, scope, at, low, high)
            if lenient and first < at:
                low, high = first, high + 1
    if low < 0:
        return NO_ANSWER, -1, -1, False, False, scope
    if high - low > ANSWER_LIMIT:
        return MALFORMED, -1, -1, box is not None, False, scope_end
    inside = text[low:high]
    low += len(inside) - len(inside.lstrip())
    high = low + len(inside.strip())
    reason = HEDGE if hedged else OK if low < high else NO_ANSWER
    return reason, low, high, box is not None, alone, min(behind, scope_end)


def _named_behind(
    text: str, reason: int, low: int, high: int, boxed: bool, behind: int, end: int
) -> tuple[int, int, int, bool, bool]:
    """(reason, start, end, boxed, named) with what is named behind a mark, or in the whole text if nothing is marked.

    What a completion names last is its answer, and what it takes back is none.
    """
    if _SILENT.match(text, behind, end):
        return reason, low, high, boxed, False
    marked = reason == OK
    span = _named_answer(text, behind, end)
    if marked and span:
        explains = " means " in text[behind : span[0]]  # "This means the answer is 7 dozen." behind 84
        if explains or span[1] - span[0] > _VALUE_LIMIT or not _is_sure(text, *span):
            span = None
    if not span and not marked:
        box = last_box(text, behind, end, "\\fbox")
        span = box[1:] if box else _last_line(text, behind, end)
    if span:
        value = _VALUE.search(text, *span)
        reason, (low, high), boxed, behind = OK, span, False, value.end() if value else span[1]
    if reason == OK:
        corrected = _corrected(text, behind, end, text[low:high])
        if corrected == _NOWHERE:
            return NO_ANSWER, -1, -1, False, True
        if corrected:
            return OK, *corrected, False, True
    return reason, low, high, boxed, span is not None
