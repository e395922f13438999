"""Which value of a completion without a mark is its answer.

If lenient mode found a marked or named answer that it cannot read, only that answer is searched, and its first value
counts: the 72 of "The answer is 72. She sold 48 in April and 24 in May." Otherwise, the value is in the last
sentence that has one. A number is no value if it is denied, asked, left open ("18 or 19", "±18") or not computed
(`2*9`), or if its sentence checks the value: "Let's verify: ...".
"""

from __future__ import annotations

from collections.abc import Callable

from verifiers.extract import read_tags
from verifiers.flexible.denial import is_denied, words_of
from verifiers.flexible.lists import last_list
from verifiers.flexible.sentences import Item, sentences
from verifiers.flexible.values import formula_end, is_closed, last_closings
from verifiers.flexible.words import ADDING, BEING, CHECKING, EXPLAINING, MOVING_ON, ROUNDING
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER

UNREAD = (NO_ANSWER, MALFORMED, HEDGE)
"""The reasons of lenient mode for which mode `flexible` looks for a value by itself."""
_CHOICES = "ABCDEFGHIJ"
"""The letters that choices may have."""
_NO_EXPRESSION = ("$", "=", "\\begin", "\\end", "\\[", "\\]", "\\(", "\\)", "\\square", "\\qed")
"""Marks by which a line is an equation, or a part of a formula that is read by its marks."""
_LINE_LIMIT = 160  # characters of a line that is an expression
_OPENING_LIMIT = 40  # characters of a sentence in which it may announce a check


def flexible_answer(
    data: bytes,
    reason: int,
    low: int,
    high: int,
    is_gsm8k: bool = False,
    letter_of: Callable[[str], str] | None = None,
) -> tuple[int, int]:
    """(start, end) of the value that a completion ends with; -1, -1 if there is none.

    reason, low, high: the reason of lenient mode, and where it read an answer (-1 = nowhere). The value is looked for
    in that answer, or else in the whole text; what a box holds is not read again. is_gsm8k: `5k`, `5 EUR` and `5
    degrees below zero` are values as a whole, which MATH does not read. letter_of: a function that returns the
    letter of the choice that a line names, or "" if it names none; None for a task without choices.
    """
    is_found = low >= 0
    is_boxed = low > 0 and data[low - 1 : low] == b"{"
    begin, end = searched(data, reason, low, high)
    if begin < 0 or is_boxed:
        return -1, -1
    text = data[begin:end].decode("utf-8", "surrogatepass")
    choice = last_choice(text, letter_of) if letter_of and not is_found else None
    find_value = first_value if is_found else last_value
    value = choice or find_value(text, is_gsm8k)
    if value is None:
        return -1, -1
    start = begin + len(text[: value.low].encode("utf-8", "surrogatepass"))
    return start, start + len(text[value.low : value.high].encode("utf-8", "surrogatepass"))


def searched(data: bytes, reason: int, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the text in which an answer is looked for; -1, -1 if lenient mode read one.

    reason: the reason of lenient mode. low, high: where the part that lenient mode judged begins and ends; -1 = it
    judged none, so all text behind a block of reasoning is searched, up to the first end token.
    """
    if reason not in UNREAD:
        return -1, -1
    if low >= 0:
        return low, high
    end_of_text, end_of_reasoning, *_ = read_tags(data, 0, len(data))
    return end_of_reasoning, end_of_text


def last_choice(text: str, letter_of: Callable[[str], str]) -> Item | None:
    """The choice that the last line names, or None.

    Either the line begins with the letter of the choice and has no number, `**B**`, "(B) Paris". Or the line calls the
    letter correct: "Therefore, the correct graph is (B)."
    """
    end = len(text.rstrip(" *\n"))
    begin = text.rfind("\n", 0, end) + 1
    line = text[begin:end].lstrip(" *")
    if letter_of(line) and not any(map(str.isdecimal, line)):
        return Item(end - len(line), end, rank=1, is_value=True)
    while end > begin and not (text[end - 1].isalnum() or text[end - 1] == "?"):
        end -= 1
    words = [word for word in words_of(text[begin:end]) if word.isalnum()]
    # The last four words may be: correct, graph, is, b.
    calls_correct = len(words) > 3 and words[-4] in ("correct", "right") and words[-2] == "is"
    is_letter = text[end - 1 : end] in _CHOICES and not text[end - 2 : end - 1].isalnum()
    if not (calls_correct and is_letter) or is_denied(text[begin : end - 1], behind=""):
        return None
    return Item(end - 1, end, rank=2, is_value=True)  # rank 2: behind "is"


def first_value(text: str, is_gsm8k: bool) -> Item | None:
    """The first clause of an answer that begins with a value; for any other answer, its `last_value`.

    The last value is also taken if the clause is a statement or a calculation, if later words conclude, correct or
    deny, or if nothing follows the clause. "18, or 19" is left open, so None is returned unless the answer has a "=".
    If the clause has several values, "1 out of 6", or another value follows at once, "18, maybe 19", the last value
    counts only with a "=" in the answer or an "is" before that value: "2 hours and 30 minutes, which is 150 minutes".
    """
    items = [item for _, sentence in sentences(text, is_gsm8k) for item in sentence]
    if not (items and items[0].is_value and begins_answer(text, items[0].low)):
        return last_value(text, is_gsm8k)
    first_end = items[0].high
    end = clause_end(text, first_end)
    others = [item for item in items[1:] if item.low < end]
    left, equals, _ = text[:first_end].partition("=")
    is_calculation = equals and any(map(str.isdecimal, left))  # $2 * 9 = 18$, not $x = 18$
    says = list(words_of(text[first_end : others[0].low if others else end]))
    is_statement = not BEING.isdisjoint(says) or any(item.rank == 2 for item in others)  # rank 2: behind "is"
    moves_on = not MOVING_ON.isdisjoint(words_of(text[first_end:]))
    if is_calculation or is_statement or moves_on or is_denied(before="", behind=text[first_end:]):
        return last_value(text, is_gsm8k)
    if is_left_open(text, end, items) and "=" not in text:
        return None
    is_share = says[:1] == ["of"] or says[:2] == ["out", "of"]  # "18 out of 24" may be a fraction
    if another_follows(text, end, items) or any(item.rank for item in others) or (others and is_share):
        value = last_value(text, is_gsm8k)
        return value if value and ("=" in text or value.rank == 2) else None
    if not any(map(str.isalnum, text[end:])):
        return last_value(text, is_gsm8k)
    bold_end = text.find("**", first_end, end)  # "72** clips (48 in April)"; -1 without bold text
    value_end = bold_end if bold_end > 0 else end
    return Item(0, len(text[:value_end].rstrip()), rank=1, is_value=True)


def begins_answer(text: str, i: int) -> bool:
    """True if text[:i] has only signs and words such as "about", and no numbered step, "1. ", begins at i."""
    return not text.startswith("1. ", i) and all(
        word in ROUNDING or not word.isalnum() for word in words_of(text[:i])
    )


def clause_end(text: str, i: int) -> int:
    """Where the clause ends that goes on at i: before a bracket, a stop or a word such as "because"."""
    closings = last_closings(text)
    while i < len(text):
        c, start = text[i], i
        formula = formula_end(text, i, closings) if c in "\\$" else -1
        if formula > 0:
            i = formula
        elif c.isalpha():
            while text[i : i + 1].isalpha():
                i += 1
            if text[start:i].lower() in EXPLAINING:
                return start
        else:
            is_stop = c in ",.:!?" and not text[i + 1 : i + 2].isalnum()
            if is_stop or c in "\n;—。，；：" or (c == "(" and text[i - 1] == " "):
                return i
            i += 1
    return i


def is_left_open(text: str, end: int, items: list[Item]) -> bool:
    """True if text[end:] begins with "or" and has a value: ", or it is 19", "(or 19)"."""
    first_word = next(filter(str.isalnum, words_of(text[end:])), "")
    return first_word == "or" and items[-1].low >= end


def another_follows(text: str, end: int, items: list[Item]) -> bool:
    """True if text[end:] goes on with another value, "18, maybe 19", perhaps behind a bracket: "4 (for Ann), 5"."""
    begin = text.find(")", end) if text[end : end + 1] == "(" else end  # -1 if the bracket is not closed
    following = next((item.low for item in items if item.low >= begin), -1)  # -1 if no value follows
    between = words_of(text[begin:following])
    return 0 <= begin <= following and all(word in ADDING or not word.isalnum() for word in between)


def last_value(text: str, is_gsm8k: bool) -> Item | None:
    """The last value of the highest rank in the last sentence with values that is no check; else None.

    In MATH, an expression that is the last line, or a list of values that ends the text, comes first. None also if the
    value is denied, asked for or left open.
    """
    if not is_gsm8k and (expression := last_expression(text)):
        return expression
    no_sentence = (0, list[Item]())  # the only one if the text has no values
    with_values = [no_sentence, *sentences(text, is_gsm8k)]
    if not is_gsm8k and (values := last_list(text, [item for _, items in with_values for item in items])):
        return values
    while len(with_values) > 2:  # the first sentence with values stays, even if it checks
        begin, _ = with_values[-1]
        if not is_check(text, begin):
            break
        with_values.pop()
    begin, last_items = with_values[-1]
    found = max(reversed(last_items), key=lambda item: item.rank, default=None)  # of equal ranks, the last
    if found is None or not found.is_value or is_denied(text[begin : found.low], text[found.high :]):
        return None
    return found


def last_expression(text: str) -> Item | None:
    r"""The last line if it is an expression without dollars and more than a number: `5 \cdot 2^{32}`, `2k + 2`.

    None for a calculation with numbers alone, for an equation, and for a line with words.
    """
    end = len(text.rstrip(" *.\n"))
    begin = text.rfind("\n", 0, end) + 1
    line = text[begin:end].lstrip(" *")
    is_more_than_number = any(map(str.isdecimal, line)) and ("\\" in line or any(map(str.isalpha, line)))
    is_other = is_text(line) or any(mark in line for mark in _NO_EXPRESSION)
    if not is_more_than_number or is_other or len(line) > _LINE_LIMIT or not is_closed(line):
        return None
    return Item(end - len(line), end, rank=1, is_value=True)


def is_text(line: str) -> bool:
    """True for a line that is no expression, although it has few words: "A 5", "- 5", "(a) 5", "5 a.m", "n: 5"."""
    if line.startswith(("a ", "A ", "I ", "- ")) or (line.startswith("(") and line[2:4] == ") "):
        return True
    return any(c in ".:" and not line[i + 1 : i + 2].isdecimal() for i, c in enumerate(line))


def is_check(text: str, begin: int) -> bool:
    """True if the sentence at `begin` announces a check: "Check: 8 + 4 = 12", "Let's verify by adding: ..."."""
    opening = text[begin : begin + _OPENING_LIMIT]
    words = [word for word in words_of(opening.partition(":")[0]) if word.isalpha()]
    first_words = words[:3] if words[:1] == ["let"] else words[:1]  # "Let's verify" is let, s, verify
    return ":" in opening and not CHECKING.isdisjoint(first_words)
