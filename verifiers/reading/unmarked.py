"""Mode flexible: the value that a completion ends with, where nothing marks its answer.

It is a value of the last sentence that has one: what stands behind "=" or "is", else the last value that does not only
say what another one is for ("in 7 days"). A value that is denied, asked for or left open ("18 or 19") is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from verifiers.reading import words
from verifiers.reading.amounts import MAGNITUDES, NAMES
from verifiers.reading.locate import Found, find_answer, is_denied_behind, regions, turns
from verifiers.verdicts import NO_ANSWER, OK

_BEHIND = sorted(
    word for word in {*MAGNITUDES, *NAMES} if word.isalpha() and word not in ("pound", "pounds", "real")
)
_PIECE = re.compile(
    r"""[^\S\n]?+(?:(?P<formula>\$\$.{1,400}?\$\$|\\\[.{1,400}?\\\]|\\\(.{1,400}?\\\)
      |(?<![\\$\w])\$(?=[^\s$])[^$\n]{1,400}+\$(?!\d))
    |(?P<number>(?<![A-Za-z\d.])(?<!\d:)(?:(?<![\w)\]}.])[-−]|\b(?:minus|negative)\ )?+(?:\\?[$€£¥₹])?+
      (?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3}(?!\d))++|\d++)(?!:(?!00)\d)
      (?:\.\d++)?+(?:e[+-]?\d++)?+(?:\ \d++/\d++|/\d++)?+(?:\\?%)?+
      (?:\ ?(?:"""
    + "|".join(_BEHIND)
    + r""")\b|[kmb]\b|\ ?€)*+(?:\ (?:degrees?\ )?(?:celsius\ |fahrenheit\ |[cf]\ )?below\ zero)?+)
    |(?P<end>[.!?](?=\s|\*|\Z)|\n|。)|(?P<word>[^\W\d_]++(?:['’]t)?+)|(?P<sign>[^\s*\\_]))""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_EXPRESSION = re.compile(  # of MATH, outside of dollars: \frac{3}{4}, (3, -2), 6 - 5i
    r"""(?<![\w\\])(?=[^\n]{0,80}?[\d√π∞]|\\)[-−√]?+
    (?:\\(?:left|right|[dt]?frac|sqrt|pi|infty|cdot|times|cup|circ|begin\{\w{1,20}+\}|end\{\w{1,20}+\}|[,;!\ {}\\])
      |[\d{}()\[\]^_√π∞|!%]|(?!a\ [a-z])[A-Za-z](?![A-Za-z'’])|[.,:](?=\d)|,\ ?(?=[-−(\d\\])
      |\ ?[-−+*/=&]\ ?(?=[\w\\(√-])
      |(?:sqrt|pi|sin|cos|tan|log|ln)(?![a-z])
      |\ (?=\\)|(?<=cdot)\ |(?<=times)\ |(?<=cup)\ |(?<=[\[({])\ ){1,120}+""",
    re.VERBOSE,
)
_FUNCTIONS = ("sqrt", "pi", "sin", "cos", "tan", "log", "ln")
_LETTER = re.compile(
    r"[\s*]*+\(?(?P<alone>[A-J])(?:[).][^\d\n]{0,80}+)?+[\s*.]*+\Z"
    r"|[^\n]{0,200}?\b(?:correct|right)\s\w{1,20}+\sis\s[*(\\$]*+(?P<said>[A-J])[)*.\\$\s]*+\Z"
)
_NAME = re.compile(r"[$\\(\[\s]*+[A-Za-z]++(?:\([a-z]\))?+[$\\)\].\s]*+\Z")
_BEGINS = re.compile(r"(?:\A|[\n:=]|\b(?:is|are|equals|be)\s)\s?\Z")
_CONSTANTS = ("\\pi", "\\infty")
_MONEY = re.compile(r"[$€£]|dollar|euro|cent", re.IGNORECASE)
_CHECK = re.compile(
    r"[\s*#]*+(?:(?:let(?:'s|’s|\sus|\sme)\s)?+(?:double[\s-])?(?:check|verif)|to\s(?:check|verify)(?:\s(?:this|that|it))?,)",
    re.IGNORECASE,
)
_OF_GSM8K = re.compile(r"(?:(?<=\d)[kmb]|\srs|\s[a-z ]{0,30}below zero)\Z", re.IGNORECASE)
_COMPARING = re.compile(r"[^.,;\n]{0,40}?\b(?:than|as)\b")
_FIRST_CLAUSE = re.compile(  # of a named answer: the 72 of "72 clips (48 in April)", the 18 of "18. She sold 9."
    r"(?=[\s*$\\(]*+(?:about|exactly|roughly|approximately|around)?+\s?[-$\\€£(]*+\d)(?!1[.)]\s)(?P<value>[^\n]{1,200}?)"
    r"(?P<stop>[.!](?=\s|\*|\Z)|\**+\s?\((?!or\b)[^()\n]{0,200}+\)[\s*.]*+\Z|\s(?:for|after)\s(?=\d)|\**+,?\s(?:because|since|which)\b|\**+\s[—–]\s|\Z)"
)
_GOES_ON = re.compile(r"=|\b(?:so|thus|therefore|hence|but|however)\b", re.IGNORECASE)
_STOPS = re.compile(r"[.!?](?=\s|\Z)|\n")
_BEING = frozenset("= ≈ is are was were be equals became becomes".split())
_ASIDE = frozenset("in within during after over per every each all both these those reject discard".split())
_JOINING = frozenset("or ± + * · × ÷ / ^ x times to – -".split())
_PHRASES = frozenset(
    "over during before until for with from by at on after to if such satisfying of out".split()
)
_GOING_ON = frozenset(
    "so thus therefore hence , ; : ( ) and then which but or = find get left total end ends".split()
)
_SPANNING = frozenset("from after before over during".split())
_REASONS = frozenset("because since which".split())
_AUXILIARIES = frozenset(
    "is are was were be been do does did can could will would should may might must has have had".split()
)
_APART = frozenset("who whom whose which what if unless when while where since because".split())
_DENYING = frozenset("can't cannot never retract nearly almost unlikely".split())
_CLAUSES = frozenset(", ; : ( ) = but so and thus therefore hence then".split())


class _Value(NamedTuple):
    """A number or a formula of a sentence, text[low:high]."""

    low: int
    high: int
    rank: int
    """2 behind "=" or "is", 0 for what only says what another value is for, else 1."""
    is_clear: bool
    """False if it is denied, asked for or left open."""


def last_value(text: str, formulas: bool) -> tuple[int, int] | None:
    r"""(start, end) of the value that a completion without a mark ends with; None if it has none.

    A marked answer stays as it is, even if it cannot be read. Of an answer that a sentence names, the first clause
    counts if it begins with the value: "The answer is 18. She sold 9 of them."

    formulas: formulas are values, `$x + 1$`, as in MATH; else numbers alone are.
    """
    found, where = find_answer(text), regions(text)
    if formulas and found.reason == NO_ANSWER and (letter := _last_letter(text, where.cut)):
        return letter
    if found.reason == OK and found.named:
        clause = _first_clause(text, found)
        if clause:
            return clause
        sentences = _sentences(text, found.start, found.end, formulas)
        if (
            len(sentences) == 1
            and _FIRST_CLAUSE.match(text, found.start, found.end)
            and "=" not in text[found.start : found.end]
        ):
            return None  # 18 out of 24
    elif found.reason == NO_ANSWER and not found.named and where.unended < 0:
        sentences = _last_sentences(text, where.begin, where.cut, formulas)
    else:
        return None
    while len(sentences) > 1 and _CHECK.match(text, sentences[-1][0]):
        sentences.pop()
    if not sentences:
        return None
    begin, values = sentences[-1]
    if formulas and (listed := _bullets(text, sentences)):
        return listed
    value = max(reversed(values), key=lambda value: value.rank)
    if (
        not value.is_clear
        or _is_denied(("is " if found.named else "") + text[begin : value.low])
        or _is_taken_back(text, value.high, where.cut)
    ):
        return None
    return value.low, value.high


def _bullets(text: str, sentences: list[tuple[int, list[_Value]]]) -> tuple[int, int] | None:
    """(start, end) of the lines "- $x = 2$" and "- $x = 3$" with which a text ends; None for one line."""
    low = high = -1
    name = ""
    for begin, values in reversed(sentences):
        formula = text[values[0].low : values[0].high]
        is_step = any(sign in formula.partition("=")[2] for sign in (" - ", "+", "*", "/", "\\times"))
        if (
            is_step
            or len(values) > 1
            or text[begin : values[0].low] not in ("- ", "* ")
            or "=" not in formula
        ):
            break
        if name and formula.partition("=")[0] != name:
            break
        name, low, high = formula.partition("=")[0], begin, max(high, values[0].high)
    return (low, high) if "\n" in text[low:high] else None


def _last_letter(text: str, end: int) -> tuple[int, int] | None:
    """(start, end) of the letter of a choice that the last line names: "**B**", "Thus the correct graph is (B)."."""
    end = len(text[:end].rstrip())
    letter = _LETTER.match(text, text.rfind("\n", 0, end) + 1, end)
    if not letter:
        return None
    low, high = letter.span("alone" if letter["alone"] else "said")
    return None if _is_denied(text[letter.start() : low]) else (low, high)


def _first_clause(text: str, found: Found) -> tuple[int, int] | None:
    """The first clause of a named answer that begins with its value, unless the answer goes on to another one."""
    clause = _FIRST_CLAUSE.match(text, found.start, found.end)
    if (
        not clause
        or (clause.end() == found.end and not clause["stop"])
        or _GOES_ON.search(text, clause.end(), found.end)
    ):
        return None
    return None if " (" in clause["value"] else clause.span("value")


def _is_taken_back(text: str, start: int, end: int) -> bool:
    """True if what follows a value takes it back: "96 is wrong.", "It is 96. No, that's not it."."""
    for place, sentence in enumerate(_STOPS.split(text[start:end])):
        if is_denied_behind(sentence) if place == 0 else turns(sentence):
            return True
    return False


_TAIL = 200  # characters in which the sentence that counts stands in most texts
_LONGEST_FORMULA = 404  # characters


def _last_sentences(text: str, start: int, end: int, formulas: bool) -> list[tuple[int, list[_Value]]]:
    """`_sentences` of the end of text[start:end] if the value is among them; else of all of it.

    The end begins with a sentence outside of formulas, so that its sentences are read as they are in the whole.
    """
    until = max(end - _TAIL, start)
    at = text.rfind(". ", start, until)
    if "$" in text[text.rfind("\n", start, at) + 1 : max(at, 0)]:
        at = -1  # dollars that enclose a formula are in one line
    at = max(at, text.rfind(".\n", start, until))
    before = text[max(at - _LONGEST_FORMULA, start) : max(at, start)]
    is_open = "$$" in before or any(
        closing not in before[before.rfind(opening) + 3 :]
        for opening, closing in (("\\[", "\\]"), ("\\(", "\\)"))
        if opening in before
    )
    sentences = [] if at < 0 or is_open else _sentences(text, at + 1, end, formulas)
    if sentences:
        first = sentences[0][0]
        if not _CHECK.match(text, first) and not text.startswith(("- ", "* "), first):
            return sentences
    return _sentences(text, start, end, formulas)


def _sentences(text: str, start: int, end: int, formulas: bool) -> list[tuple[int, list[_Value]]]:
    """(where it begins, its values) for each sentence of text[start:end] that has a value."""
    found: list[tuple[int, list[_Value]]] = []
    begin, values, between = start, list[_Value](), list[str]()
    opened = 0  # how many values stand before the open bracket; 0 if none is open
    for kind, low, high in _pieces(text, start, end, formulas):
        said = text[low:high]
        if kind == "word":
            between.append(said.lower())
        elif kind == "formula" and _is_name(said, formulas):
            between.append("x")
        elif kind in ("number", "formula"):
            value = _value(text, values, low, high, between)
            if formulas and values and (joined := _joined(text, values[-1], value, between, end)):
                values[-1], between = joined, []
                continue
            if values and not value.is_clear and (not between or between[-1] in _JOINING):
                values[-1] = values[-1]._replace(is_clear=False)
            values.append(value)
            between = []
        elif kind == "end":
            if said == "?":
                values = [value._replace(is_clear=False) for value in values]
            if values:
                found.append((begin, values))
            if said != "\n" or values:
                between = []
            begin, values, opened = high, [], 0
        else:
            if said == "(":
                opened = len(values)
            elif (
                said == ")"
                and opened
                and len(values) > opened + 1
                and max(value.rank for value in values[opened:]) < 2
            ):
                values[opened:] = [
                    value._replace(rank=0) for value in values[opened:]
                ]  # 30 boxes (20 new, 10 old)
            between.append(said.lower())
    if values:
        found.append((begin, values))
    return found


_LONG = 100  # characters of what is no expression, in which none is looked for from each sign on


def _pieces(text: str, start: int, end: int, formulas: bool) -> Iterator[tuple[str, int, int]]:
    """(kind, start, end) of the formulas, numbers, words and signs of text[start:end]; for MATH also expressions."""
    at = read = start  # read: up to here, a long run of signs is known to be no expression
    while at < end:
        piece = _PIECE.search(text, at, end)
        if not piece:
            return
        kind = piece.lastgroup or ""
        low, high = piece.span(kind)
        # Not π, nor letters before it, which may begin an expression.
        is_word = (
            kind == "word" and high - low > 1 and text[low - 1] != "\\" and "π" not in text[low : high + 1]
        )
        if is_word and not text.startswith(_FUNCTIONS, low):
            pass  # no expression begins with it
        elif formulas and kind != "formula" and low >= read:
            begin = low - 1 if low > start and text[low - 1] == "\\" else low
            found = _EXPRESSION.match(text, begin, end)
            stop = begin + len(found[0].rstrip(",.;:=+ ")) if found else 0
            if stop > high and _is_expression(text, begin, stop, kind):
                kind, low, high = "formula", begin, stop
            elif found and found.end() - begin > _LONG:
                read = found.end()
        if formulas and kind == "number" and (suffix := _OF_GSM8K.search(text[low:high])):
            high = low + suffix.start()
        yield kind, low, high
        at = high


def _is_expression(text: str, low: int, high: int, kind: str) -> bool:
    """True if text[low:high] is a value as a whole: not a calculation, `9 + 9`, nor "Part b - 5" or `x = 5`."""
    inside = text[low:high]
    is_closed = sum(map(inside.count, "([{")) == sum(map(inside.count, ")]}"))
    has_more = (
        ",-" in inside
        or ", -" in inside
        or "\\" in inside
        or any(sign.isalpha() or sign in "√([{^:!" for sign in inside)
    )
    begins = kind != "word" or ("=" not in inside and _BEGINS.search(text[max(low - 8, 0) : low]) is not None)
    return is_closed and has_more and begins


def _joined(text: str, before: _Value, value: _Value, between: list[str], end: int) -> _Value | None:
    """Two values of one list as one: `$x = 2$ and $x = 3$`, or "-2 and 5" behind "are"; None if they are apart."""
    first, second = text[before.low : before.high], text[value.low : value.high]
    lead = text[max(before.low - 12, 0) : before.low]
    names = first.partition("=")[0], second.partition("=")[0]
    if between[-1:] == ["="] and len(between) > 2:  # x = 2 and x = 3
        names, between = (lead.rpartition(" ")[0][-3:], f"{between[-2]} ="), between[:-2]
        is_same = names[0] == names[1]
    else:
        is_same = "=" in first and names[0] == names[1]
    is_pair = "=" in first and "=" in second and before.rank == 2 and between == [","]
    is_last = _LAST.match(text, value.high, end) is not None
    both = first[0] in "$\\" and second[0] in "$\\" and "=" not in first + second
    begins = before.rank == 2 or (is_same and lead.lower().endswith(_CONCLUDING))
    if (
        between in ([","], ["and"], [",", "and"])
        and begins
        and is_last
        and (is_same or both or is_pair or lead.endswith(" are "))
    ):
        return _Value(before.low, value.high, 2, is_clear=before.is_clear)
    if between in (["or"], [",", "or"]) and is_same and begins and is_last:
        return _Value(before.low, value.high, 2, is_clear=before.is_clear)
    return None


_LAST = re.compile(r"(?:,?\s(?:and\s)?\$[A-Za-z]\s?=[^$\n]{1,80}\$){0,9}+[\W_]{0,400}+\Z")
_CONCLUDING = ("so ", "thus ", "hence ", "therefore ", "so, ", "thus, ", "hence, ", "therefore, ")


def _is_name(formula: str, formulas: bool) -> bool:
    """True for a formula without a value: `$x$`; for GSM8K, any without digits."""
    if not formulas:
        return not any(map(str.isdecimal, formula))
    return _NAME.match(formula) is not None and formula.strip("$\\[]() .") not in ("pi", "infty")


def _value(text: str, values: list[_Value], low: int, high: int, between: list[str]) -> _Value:
    """The value text[low:high] of a sentence. between: the words and signs between it and the one before."""
    last = between[-1] if between else ""
    if between[-2:] == ["total", "of"]:
        return _Value(low, high, 2, is_clear=True)
    if values and (between[-2:] in ([",", "not"], ["(", "not"], ["instead", "of"]) or last == "than"):
        return _Value(low, high, 0, is_clear=True)  # 18, not 19; and $15 less than 20
    is_dash = last in ("-", "–") and text[low - 1] == " "  # Week 2 - 20 hours
    is_again = between[-2:] == [",", "or"] or is_dash  # $5 a day, or $35 in 7 days
    is_instead = last == "but" and between[-2:-1] != ["anything"]  # not 17 but 18
    if last in ("not", "±") or (not is_instead and words.changes_number(between[-6:])):  # nowhere near 18
        return _Value(low, high, 1, is_clear=False)
    if (
        values
        and not is_again
        and (not between or last in _JOINING or (last == "and" and not values[-1].is_clear))
    ):
        return _Value(low, high, 1, is_clear=False)
    if last in _BEING:
        is_compared = "which" in between and _COMPARING.match(text, high) is not None
        return _Value(low, high, 0 if is_compared else 2, is_clear=True)
    is_phrase = False
    if values:
        ends = [place for place, word in enumerate(between) if word in _GOING_ON]
        phrase = between[ends[-1] + 1 :][:1] if ends else between
        is_formula = text[low] in "\\$" and text[high - 1] in ")]$"
        is_priced = (
            "for" in phrase and not is_formula and _MONEY.search(text, low, high) is not None
        )  # 9 eggs for $18
        is_rest = "left" in between and _SPANNING.isdisjoint(between)  # she is left with 18
        is_said = is_priced or is_rest or last == "by"
        is_phrase = not _REASONS.isdisjoint(between) or (not _PHRASES.isdisjoint(phrase) and not is_said)
        is_condition = last in ("as", "where") and between[-2] in (",", "(") if len(between) > 1 else False
        if is_condition or (values[-1].rank < 0 and between == [","]):
            return _Value(low, high, -1, is_clear=True)  # where $a = 1$, $b = 2$
    return _Value(low, high, 0 if last in _ASIDE or is_phrase else 1, is_clear=True)


def _is_denied(before: str) -> bool:
    """True if the clause before a value denies it: "The total isn't", not "Those who did not pay sent"."""
    denied = apart = False
    clause: list[str] = []
    for piece in _PIECE.finditer(before):
        word = piece[piece.lastgroup or 0].lower().replace("’", "'")
        last = clause[-1] if clause else ""
        if word == ":" and last in ("answer", "result", "value"):
            continue
        if word in _CLAUSES or piece.lastgroup == "end":
            denied, apart, clause = False, False, []
            continue
        is_verb = word.endswith("n't") or word in _DENYING
        if word in _APART or (word == "that" and last in ("probability", "chance")):
            apart = bool(clause)
        elif is_verb or (word == "not" and not _AUXILIARIES.isdisjoint(clause[-2:])):
            subject = clause[: None if is_verb else -1]
            denied |= not apart and not (
                subject[-1:] == ["that"] and len(subject) > 1
            )  # the eggs that were not sold
        elif word == "only" and last == "not":
            denied = False
        elif word in words.WRONG and last in _AUXILIARIES:
            denied |= not apart
        elif word in ("answer", "result", "value"):
            is_wrong = last in {*words.WRONG, "false"} and clause[:-1] in ([], ["the"], ["a"], ["an"])
            denied |= is_wrong or clause in (["not"], ["not", "the"], ["not", "my"])
        elif word == "would" and last in ("answer", "result"):  # if nobody came, the answer would be 18
            denied |= not words.CONDITIONS.isdisjoint(before.lower().split())
        clause.append(word)
    return denied
