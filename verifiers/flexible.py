r"""The value that a completion ends with where it marks no answer: "So, the ladders cost 96 dollars.", `= 18 eggs`.

Mode `flexible`, which is for files of other people's models, judges this value: the last number or closed formula
(`$...$`, `\(...\)`, `\[...\]`) of the last sentence that has one. If that sentence has several, a number behind "=" or
"is" is preferred. A number behind a word such as "every" or "in" is taken only if there is no other, because it says
what the value is about: "in 7 days". So is what a preposition joins to the value, "$460 for working 45 hours", and so
are several numbers in brackets behind a value, "30 boxes (20 new and 10 old ones)". What is denied, asked, left open
("18 or 19", "±18") or not computed (`2*9`) is no value, nor is what a sentence that checks the value says: "Let's
verify: ...". In MATH, an expression outside of dollars is read whole, `\frac{14}{3}`, and the values at the end of the
text may be one list: "The roots are $x = 2$ and $x = 3$."

Where lenient mode found a marked or named answer that it cannot read, the value is looked for in that alone, and what
is named first counts: the 72 of "The answer is 72. She sold 48 in April and 24 in May." Nothing is compiled; every scan
is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from verifiers.amounts import CODES, MAGNITUDES, MONEY_MAGNITUDES, NAMES, SIGNS
from verifiers.denial import is_denied, words_of
from verifiers.extract import read_tags
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER

UNREAD = (NO_ANSWER, MALFORMED, HEDGE)
"""The reasons of lenient mode for which mode `flexible` looks for a value by itself."""
_OPENINGS = (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"))
"""(opening, closing) marks of formulas; those in single dollars are read apart."""
_BOUNDING = frozenset("than least most almost nearly".split())
"""Words behind which a number is a bound, and no value: "more than 18", "at least 18"."""
_SIDE_WORDS = frozenset("in within during after over per every each all both these those".split()) | _BOUNDING
"""Words behind which a number counts something beside the value: the 7 of "96 dollars in 7 days"."""
_BEING = frozenset("= is are was were be equals".split())
"""Words and signs behind which the value stands: the 96 of "3 ladders cost 32 each, which is 96"."""
_JOINING = frozenset("or ± + * × · ÷ / ^ x times to".split())
"""Words and signs between two numbers of which neither is the value: "18 or 19", "2 * 9"."""
_DENYING = frozenset("not between ±".split()) | _BOUNDING
"""Words and signs behind which a number is no value: "not 18"."""
_ROUNDING = frozenset("about approximately around roughly exactly".split())
"""Words that may stand before a value that an answer begins with."""
_EXPLAINING = frozenset("because since which".split())
"""Words that begin a clause about the value before them: "25 dollars because each of the 5 boys paid 5"."""
_CONDITIONS = frozenset("where as".split())
_REASONS = _CONDITIONS | {"because", "since"}
"""Words right behind which a bound or a variable is a condition, where and as behind a comma or a bracket: "$k = 4$,
where $k > 0$"."""
_CONCLUDING = frozenset("so thus therefore hence".split())
"""Words right behind which several values of one variable may stand: "So $x = 2$ or $x = 3$"."""
_REJECTING = frozenset("reject rejecting discard discarding exclude excluding ignore ignoring".split())
"""Words behind which a value is one that does not count: "$x = 5$ (we reject $x = -3$)"."""
_ADDING = frozenset("and maybe perhaps possibly probably not then plus minus times to".split())
"""Words that join a value to the one before them: "18, maybe 19"."""
_MOVING_ON = frozenset(
    "so thus therefore hence but however wait actually no sorry oops correction corrected mistake".split()
)
"""Words that conclude or correct, so that the value may stand behind them: "9 eggs, so she makes 18 dollars"."""
_AMOUNTS = frozenset([*MAGNITUDES, *NAMES]) - {"pound", "pounds"}
"""Words that belong to the number before them: both of "5 million dollars"."""
_BOUNDS = ("<", ">", "\\le ", "\\leq", "\\ge", "\\ne", "\\in ")
_BULLETS = ("- ", "* ")
_PREPOSITIONS = frozenset("for with by from at to if such satisfy satisfies satisfying".split())
"""Words between a value and a number that say what the value is for: "$460 for working 45 hours"."""
_BOUNDARIES = frozenset(", ; : ( ) . so and then therefore thus hence which but or = find get obtain".split())
"""Words and signs behind which such a phrase has ended: "multiply 4 by 2 to get 8"."""
_RESULTING = frozenset(
    "left leave leaves leaving end ends ended finish finishes come comes amount amounts total last lasts need needs "
    "has have had each".split()
)
"""Words between two numbers behind which the second is the answer: "The 4 friends end up with 18"."""
_UNIT_LIMIT = 8  # characters behind a number in which "dollars" may stand
_CHECKING = frozenset("check checking verify verifying verification".split())
"""Words among the first of a sentence that checks the value before it: "Let's verify: 8 + 4 = 12"."""
_FUNCTIONS = frozenset("sqrt pi sin cos tan log ln".split())
_GLUE = frozenset("\\([{)]}√π^_/,:=+*xyz")
"""Signs and letters right beside a number that make it a part of an expression: all but the number of `(3, -2)`."""
_EXPRESSION_LIMIT = 80  # characters before and behind a number that may belong to its expression
_LEAD_LIMIT = 40  # the most characters between two values of a list, or read before a value
_BELOW_ZERO = "below zero"
_BELOW_LIMIT = 40  # the most characters between a number and the end of these words
_DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
"""Words that may stand between a number and "below zero": "5 degrees Celsius below zero"."""
_FORMULA_LIMIT = 1024  # characters of one formula; a longer one is no answer


class Item(NamedTuple):
    """A number or a formula of a sentence: text[low:high]."""

    low: int
    high: int
    rank: int
    """How much it counts by the word before it; see `rank_behind`."""
    is_value: bool
    """False if the words around it deny it, ask for it or leave it open."""


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
    degrees below zero` are values as a whole, which MATH does not read. letter_of: the letter of the choice that a line
    names, or ""; None for a task without choices.
    """
    # A brace before the answer is that of a box.
    if reason not in UNREAD or (low > 0 and data[low - 1 : low] == b"{"):
        return -1, -1
    is_found = low >= 0
    if not is_found:
        end_of_text, end_of_reasoning, *_ = read_tags(data, 0, len(data))
        low, high = end_of_reasoning, end_of_text
    text = data[low:high].decode("utf-8", "surrogatepass")
    choice = last_choice(text, letter_of) if letter_of and not is_found else None
    value = choice or (first_value if is_found else last_value)(text, is_gsm8k)
    if value is None:
        return -1, -1
    start = low + len(text[: value.low].encode("utf-8", "surrogatepass"))
    return start, start + len(text[value.low : value.high].encode("utf-8", "surrogatepass"))


def last_choice(text: str, letter_of: Callable[[str], str]) -> Item | None:
    """The last line if it begins with the letter of a choice and has no number: `**B**`, "(B) Paris"."""
    end = len(text.rstrip(" *\n"))
    begin = text.rfind("\n", 0, end) + 1
    line = text[begin:end].lstrip(" *")
    is_choice = letter_of(line) and not any(map(str.isdecimal, line))
    return Item(end - len(line), end, 1, True) if is_choice else None


def first_value(text: str, is_gsm8k: bool) -> Item | None:
    """The first clause of an answer that begins with a value, or else its `last_value`.

    It is the last value too if the clause is a statement or a calculation, or if later words conclude, correct or deny.
    None if the clause has several values, "1 out of 6", or another one follows at once, "18, or 19", unless the last
    value stands behind "=" or "is": "2 hours and 30 minutes, which is 150 minutes".
    """
    items = [item for _, sentence in sentences(text, is_gsm8k) for item in sentence]
    if not (items and items[0].is_value and begins_answer(text, items[0].low)):
        return last_value(text, is_gsm8k)
    begin = items[0].high
    end = clause_end(text, begin)
    others = [item for item in items[1:] if item.low < end]
    left, equals, _ = text[:begin].partition("=")
    is_calculation = equals and any(map(str.isdecimal, left))  # $2 * 9 = 18$, not $x = 18$
    says = words_of(text[begin : others[0].low if others else end])
    is_statement = not _BEING.isdisjoint(says) or any(item.rank == 2 for item in others)
    moves_on = not _MOVING_ON.isdisjoint(words_of(text[begin:]))
    if is_calculation or is_statement or moves_on or is_denied("", text[begin:]):
        return last_value(text, is_gsm8k)
    if is_left_open(text, end, items) and "=" not in text:
        return None
    if another_follows(text, end, items) or any(item.rank for item in others):
        value = last_value(text, is_gsm8k)
        return value if value and ("=" in text or value.rank == 2) else None
    if not any(map(str.isalnum, text[end:])):
        return last_value(text, is_gsm8k)
    bold = text.find("**", begin, end)  # of "72** clips (48 in April)", where the bold text ends
    return Item(0, len(text[: bold if bold > 0 else end].rstrip()), 1, True)


def begins_answer(text: str, i: int) -> bool:
    """True if text[:i] has only signs, apart from words such as "about", and the 1 behind it numbers no step."""
    return not text.startswith("1. ", i) and all(
        word in _ROUNDING or not word.isalnum() for word in words_of(text[:i])
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
            if text[start:i].lower() in _EXPLAINING:
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
    if text[end : end + 1] == "(":
        end = text.find(")", end)
    following = next((item.low for item in items if item.low >= end), -1)
    between = words_of(text[end:following])
    return 0 <= end <= following and all(word in _ADDING or not word.isalnum() for word in between)


def last_value(text: str, is_gsm8k: bool) -> Item | None:
    """The value of the last sentence with a number or formula: the last of those with the highest rank; else None."""
    found_in = [(0, list[Item]()), *sentences(text, is_gsm8k)]
    if not is_gsm8k and (values := last_list(text, [item for _, items in found_in for item in items])):
        return values
    while len(found_in) > 2 and is_check(text, found_in[-1][0]):
        found_in.pop()
    begin, last = found_in[-1]
    found = max(reversed(last), key=lambda item: item.rank, default=None)
    if found is None or not found.is_value or is_denied(text[begin : found.low], text[found.high :]):
        return None
    return found


def sentences(text: str, is_gsm8k: bool) -> Iterator[tuple[int, list[Item]]]:
    """(where it begins, its numbers and formulas) of each sentence that has one."""
    sentence: list[Item] = []
    begin = 0
    defines = False  # whether its last clause begins with "where", as in "6, where $a = 1$, $b = 2$"
    opened = 0  # how many items of the sentence stand before the bracket that is open; 0 also if none is

    def add(low: int, high: int) -> None:
        """Adds text[low:high] to the sentence; the loop below has set `word`, which stands before it."""
        before = sentence[-1] if sentence else None
        joins = before is not None and (word in _JOINING or (word == "and" and not before.is_value))
        if joins:
            sentence[-1] = before._replace(is_value=False)
        is_reason = not is_gsm8k and (word in _REASONS or defines) and is_condition(text, low, high)
        is_aside = before is not None and in_phrase(text, before.high, low, high)
        rank = 0 if is_reason or (is_aside and word not in _BEING) else rank_behind(word)
        sentence.append(Item(low, high, rank, not (joins or word in _DENYING)))

    closings = last_closings(text)
    i, word = 0, ""
    while i < len(text):
        c = text[i]
        formula = formula_end(text, i, closings) if c in "\\$" else -1
        if formula > 0:
            if has_value(text[i:formula]):
                add(i, formula)
            i, word = formula, ""
        elif c.isdecimal():
            start, i = number_at(text, i)
            i = amount_end(text, start, i, is_gsm8k)
            low, high = (start, i) if is_gsm8k else expression_around(text, start, i)
            if low < start and (words_before := list(words_of(text[max(low - _LEAD_LIMIT, begin) : low]))):
                word = words_before[-1]  # the "is" of "is \frac{3}{4}"
            add(low, high)
            i, word = high, ""
        elif c.isalpha():
            start = i
            is_command = text[start - 1 : start] == "\\"  # \frac34, but "Q2"
            while i < len(text) and (
                text[i].isalpha() or (text[i].isdecimal() and text[i].isascii() and not is_command)
            ):
                i += 1
            word = text[start:i].lower()
            is_behind_comma = "," in text[max(start - 2, 0) : start]
            says_twice = word == "or" and is_behind_comma  # $5 a day, or $35 in 7 days
            names_place = word in _CONDITIONS and not (is_behind_comma or text[start - 1 : start] == "(")
            if says_twice or names_place:
                word = ""
            defines = word == "where" or (defines and word not in _MOVING_ON)
        else:
            if c == "(":
                opened = len(sentence)
            elif c == ")" and opened:
                parts = sentence[opened:]  # 30 boxes (20 new and 10 old ones)
                if len(parts) > 1 and all(item.rank < 2 for item in parts):
                    sentence[opened:] = [item._replace(rank=0) for item in parts]
                opened = 0
            if text.startswith("**", i):
                i += 1  # bold, no product
            elif not (c.isspace() or c in "\\$-"):
                word = c
            if c in "\n。" or (c in ".!?" and not text[i + 1 : i + 2].strip()):
                if c == "?":
                    sentence = [item._replace(is_value=False) for item in sentence]
                if sentence:
                    yield begin, sentence
                    sentence = []
                opened, defines, begin = 0, False, i + 1
            i += 1
    if sentence:
        yield begin, sentence


def is_check(text: str, begin: int) -> bool:
    """True if the sentence that begins there announces a check: "Check: 8 + 4 = 12", "Let's verify by adding: ..."."""
    opening = text[begin : begin + _LEAD_LIMIT]
    words = [word for word in words_of(opening.partition(":")[0]) if word.isalpha()]
    checks = words[:1] if words[:1] != ["let"] else words[:3]
    return ":" in opening and not _CHECKING.isdisjoint(checks)


def in_phrase(text: str, begin: int, low: int, high: int) -> bool:
    """True if the item text[low:high] says what the value before it is for: "$460 for working 45 hours".

    begin: where that value ends. An amount of money is the price itself: "9 eggs for $18".
    """
    words = list(words_of(text[max(begin, low - _LEAD_LIMIT) : low]))
    left, equals, _ = text[low:high].partition("=")
    is_calculation = equals and any(map(str.isdecimal, left))
    if (
        is_calculation
        or words[-1:] in (["of"], ["by"])
        or ("from" not in words and not _RESULTING.isdisjoint(words))
    ):
        return False  # "for a total of 18", "divide 64 by 8", "is left with 18"
    boundary = max((place for place, word in enumerate(words) if word in _BOUNDARIES), default=-1)
    phrase = words[boundary + 1 :]
    if boundary >= 0:
        phrase = phrase[:1]  # "12 candies, with 2 left over", but not "$30, so he paid for 6 tickets"
    words_behind = words_of(text[low : high + _UNIT_LIMIT])
    is_money = not is_formula(text, low, high) and not NAMES.keys().isdisjoint(words_behind)
    return not _PREPOSITIONS.isdisjoint(phrase) and not (is_money and "for" in phrase)


def last_list(text: str, items: list[Item]) -> Item | None:
    """The list of values that ends a text, if a verb or a concluding word stands before it; else None.

    "The roots are $x = 2$ and $x = 3$.", "So $x = 2$ or $x = 3$." Nothing is a list that goes on: "... do not work".
    """
    behind = text[items[-1].high :] if items else "?"
    if "?" in behind or any(map(str.isalnum, behind)):
        return None
    first = len(items) - 1
    while first and joins_values(text, items[first - 1], items[first], is_last=first == len(items) - 1):
        first -= 1
    if first == len(items) - 1:
        return None
    variables = {variable_of(text, item) for item in items[first:]}
    low = name_start(text, items[first])
    lead = list(words_of(text[max(low - _LEAD_LIMIT, 0) : low].rstrip(" ,:-*\n")))
    leads = _BEING if len(variables) > 1 or "" in variables else _BEING | _CONCLUDING
    if not lead or lead[-1] not in leads:
        return None
    bullet = items[first].low - 2
    has_bullet = text.startswith(_BULLETS, bullet) and "\n" in text[items[first].high : items[-1].low]
    return Item(bullet if has_bullet else items[first].low, items[-1].high, 2, True)


def joins_values(text: str, before: Item, item: Item, is_last: bool) -> bool:
    """True if two neighbours are values of one list: `$2$ and $3$`, `x = 2 or x = 3`, or lines with bullets.

    Numbers outside of formulas are one list only if they are values of one variable. So is what "or" joins, or a new
    line with a bullet. "and" stands before the last value only.
    """
    between = text[before.high : item.low]
    if len(between) > _LEAD_LIMIT or not (is_single(text, before) and is_single(text, item)):
        return False
    words = between.replace(",", " ").replace("=", " = ").split()
    variable = variable_of(text, item)
    has_one_variable = variable != "" and variable_of(text, before) == variable
    if not is_formula(text, item.low, item.high):
        if not has_one_variable:
            return False
        words = words[:-2]  # without the variable and its equals sign
    if words == []:
        return "," in between
    if words == ["and"]:
        return is_last
    return has_one_variable and (words == ["or"] or (words in (["-"], ["*"]) and "\n" in between))


def is_single(text: str, item: Item) -> bool:
    """True for a value or the value of a variable: `$3$`, `$x = 3$`; false for `$9 + 9 = 18$` and `$x > 3$`."""
    formula = text[item.low : item.high]
    return not any(sign in formula for sign in _BOUNDS) and (
        "=" not in formula or variable_of(text, item) != ""
    )


def is_condition(text: str, low: int, high: int) -> bool:
    """True for a bound or the value of a variable in a formula: `$n > 0$`, `$a = 1$`."""
    formula = text[low:high]
    return any(sign in formula for sign in _BOUNDS) or variable_of(text, Item(low, high, 1, True)) != ""


def is_formula(text: str, low: int, high: int) -> bool:
    """True if an item is a formula and not a number such as `\\$3`."""
    return text.startswith(("\\(", "\\["), low) or (text[low] == text[high - 1] == "$")


def variable_of(text: str, item: Item) -> str:
    """The letter of the variable whose value an item is: x of `$x = 2$`, `$x_1 = 2$` and the 2 in `x = 2`; else ""."""
    low, high, *_ = item
    if is_formula(text, low, high):
        left, equals, _ = text[low:high].strip("$\\[]() ").partition("=")
        letter = left.strip().partition("_")[0]
        return letter if equals and len(letter) == 1 and letter.isalpha() else ""
    start = name_start(text, item)
    return text[start] if start < low else ""


def name_start(text: str, item: Item) -> int:
    """Where the variable begins whose value a number is: at the x of `x = 2`. Else where the item begins."""
    left, equals, between = text[max(item.low - _LEAD_LIMIT, 0) : item.low].rpartition("=")
    name = left.rstrip().rpartition(" ")[2] if equals and not between.strip() else ""
    if len(name.partition("_")[0]) != 1 or not name[0].isalpha():
        return item.low
    return item.low - len(between) - len(equals) - (len(left) - len(left.rstrip())) - len(name)


def last_closings(text: str) -> dict[str, int]:
    """{opening mark of formulas: the place of its last closing mark}."""
    return {opening: text.rfind(closing) for opening, closing in _OPENINGS}


def rank_behind(word: str) -> int:
    """How much a number counts behind a word or sign: 2 behind "=" or "is", 0 behind "every" or "in", else 1."""
    if word in _BEING:
        return 2
    return 0 if word in _SIDE_WORDS or word in _REJECTING else 1


def formula_end(text: str, i: int, closings: dict[str, int]) -> int:
    """Where the formula that begins at i ends, or -1. closings: {opening mark: place of the last closing mark}."""
    for opening, closing in _OPENINGS:
        if text.startswith(opening, i):
            begin = i + len(opening)
            end = text.find(closing, begin, begin + _FORMULA_LIMIT) if closings[opening] >= begin else -1
            return end + len(closing) if end > 0 else -1
    if text[i] != "$" or text[i - 1 : i] == "\\" or not text[i + 1 : i + 2].strip():
        return -1
    end = text.find("$", i + 1, i + _FORMULA_LIMIT)
    while end > 0 and text[end - 1] == "\\":  # the currency in $\$5$
        end = text.find("$", end + 1, i + _FORMULA_LIMIT)
    inside = text[i + 1 : end]  # where `end` is -1, the result is -1 whatever stands here
    is_currency = text[end + 1 : end + 2].isdecimal() or inside[-1:].isspace() or "\n" in inside
    return -1 if end < 0 or is_currency else end + 1


def has_value(formula: str) -> bool:
    """True if a formula says more than a name: `$x = 3$`, not `$x$` or `$ABC$`."""
    inside = formula.strip("$\\[]() .\n")
    return not (inside.isalpha() and inside.isascii())


def number_at(text: str, i: int) -> tuple[int, int]:
    """(start, end) of the number whose first digit stands at i, with sign, currency and fraction: all of `-$2 1/2`."""
    start = end = i
    while end < len(text):
        c, after = text[end], text[end + 1 : end + 2]
        if c.isdecimal() or (c in ",./" and after.isdecimal()):
            end += 1
        elif c == " " and "/" not in text[i:end] and is_fraction(text, end + 1):
            end += 1
        else:
            break
    if text[end : end + 1] == "%":
        end += 1
    if text[start - 1 : start] == "." and not text[start - 2 : start - 1].isalnum():
        start -= 1
    if start and text[start - 1] in SIGNS:
        is_escaped = text[start - 2 : start - 1] == "\\"
        start -= 2 if is_escaped else 1
    if text[start - 1 : start] in ("-", "−") and not is_operand(text[start - 2 : start - 1]):
        start -= 1
    return max(start, 0), end


def expression_around(text: str, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the expression outside of dollars with the number text[start:end]: `\\frac{3}{4}`, `(3, -2)`.

    It has no spaces but those in its brackets, and no words but functions such as sqrt. Else it is the number alone.
    """
    before, behind = text[start - 1 : start], text[end : end + 1]
    is_glued = behind in _GLUE and (behind not in ".,:" or not text[end + 1 : end + 2].isspace())
    if not (before in _GLUE or before.isalpha() or is_glued):
        return start, end
    left, right = text[max(start - _EXPRESSION_LIMIT, 0) : start], text[end : end + _EXPRESSION_LIMIT]
    low = start - len(left.rsplit(None, 1)[-1]) if left.strip() and not left[-1].isspace() else start
    high = end + len(right.split(None, 1)[0]) if right.strip() and not right[0].isspace() else end
    if max(start - low, high - end) == _EXPRESSION_LIMIT:
        return start, end
    if count_open(text[low:high]) > 0:  # (3, -2)
        closings = [text.find(sign, high, high + _EXPRESSION_LIMIT) + 1 for sign in ")]}"]
        high = max(high, *closings)
    while high > end and text[high - 1] in ".,;:!?*`_":
        high -= 1
    while low < start and text[low] in "*`_":
        low += 1
    expression = text[low:high]
    words = [word for word in words_of(expression) if word.isalpha() and len(word) > 1]
    has_words = any(word not in _FUNCTIONS and "\\" + word not in expression for word in words)
    return (start, end) if has_words or count_open(expression) else (low, high)


def count_open(text: str) -> int:
    """How many brackets are open at the end of a text; below 0 if more are closed than opened."""
    return sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))


def amount_end(text: str, start: int, end: int, is_gsm8k: bool) -> int:
    """Where the amount with the number text[start:end] ends: behind `5 million dollars`, `$5M`.

    In GSM8K also behind `5M`, `5 EUR`, `5 degrees below zero`. The first letter of a name is no part: `$5 T-shirts`.
    """
    has_sign = is_price(text[start:end])
    if is_gsm8k and not has_sign:
        words, below, _ = text[end : end + _BELOW_LIMIT].partition(_BELOW_ZERO)
        if below and _DEGREES.issuperset(words.lower().replace("°", " ").split()):
            return end + len(words) + len(below)
    while True:
        low = end + (text[end : end + 1] == " ")
        high = low
        while text[high : high + 1].isalpha():
            high += 1
        if text[low : low + 1] in SIGNS and text[low] != "$":
            high = low + 1
        word = text[low:high].lower()
        if word in MONEY_MAGNITUDES:
            begins_name = low > end and text.startswith(("-", "&", "\\&"), high)  # "$5 T-shirts"
            is_amount = (has_sign or (is_gsm8k and low == end)) and not begins_name
        else:
            is_amount = word in _AMOUNTS and (has_sign or is_gsm8k or word not in CODES)
        if not is_amount:
            return end
        end = high


def is_price(amount: str) -> bool:
    """True if an amount has the sign of a currency: `$5`."""
    return not SIGNS.keys().isdisjoint(amount)


def is_operand(before: str) -> bool:
    """True if a minus right behind this character is no sign of a number, but subtracts or joins: `5-3`, `x-3`."""
    return before.isalnum() or before in (")", "]", "}", "-")


def is_fraction(text: str, i: int) -> bool:
    """True if digits, a slash and a digit stand at i: the `1/2` of `2 1/2`."""
    end = i
    while end < i + 18 and text[end : end + 1].isdecimal():
        end += 1
    return end > i and text[end : end + 1] == "/" and text[end + 1 : end + 2].isdecimal()
