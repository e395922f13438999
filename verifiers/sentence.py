r"""The answer that a sentence or a heading names: `Thus, the answer is $18$.`, `### Answer`, `\fbox{18}`, `Ответ: 18`.

Lenient mode of GSM8K and MATH looks for such an answer in two places: behind everything else that marks one, and inside
an `<answer>` block, `<answer>The final answer is: 16</answer>`. One rule serves ten languages, whose words are in
`answer_words`. A sentence says "answer" or "result", perhaps an aside, and a verb of being or a colon; the value
follows on the same line or below it. Or the value comes first: "16 is the answer". All functions are plain Python over
UTF-8 bytes, and numba also compiles them as they stand, like those of `verifiers.extract`.
"""

from verifiers import characters as ch
from verifiers.answer_words import (
    ANSWER,
    ANSWER_NAMES,
    ARE,
    ASIDE,
    BEFORE,
    BEING,
    CONDITION,
    DENIAL,
    MODAL,
    OTHER,
    SO,
    word_at,
)
from verifiers.characters import is_one_of, says_one_of
from verifiers.extract import (
    ANY_CASE,
    FOUND,
    FRAMED_BOX,
    NO_ANSWER,
    Bytes,
    find_byte,
    is_ascii_letter,
    is_not_text,
    is_space,
    last_box,
    line_start,
    locate_mark,
    matches,
    read_word,
    strip,
    word_keys,
)
from verifiers.last_line import bold_answer, correct_choice
from verifiers.named_value import (
    DOUBTS,
    VALUE_LIMIT,
    behind_spaces,
    behind_tag,
    count_values,
    is_colon,
    is_stop,
    says_nothing,
    trimmed,
    value_at,
)

_NO_VALUE = word_keys(
    "unknown known found obtained given got calculated computed determined derived expressed rounded asked correct "
    "final by in what"
)
"""Words that begin no value behind "is": "The answer is found by adding."."""
_IN_WORDS = word_keys(
    "be zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
"""Words that say a value behind one of `_NO_VALUE` all the same: "The answer is found to be six."."""
_WIDE_COMMA = "，".encode()
_BESIDE_DIGITS = tuple(b'([<*`"$\\')
"""Signs that may follow stray digits directly: the `<` of `7<b>The answer is 18</b>`.

Stray digits stand at the start of a block and are no part of its sentence. A block with them holds two values, so it
counts as a whole, and no sentence in it names an answer.
"""
SENTENCE_LIMIT = 1000  # bytes; a longer sentence is not searched for a value, and counts as having one


def find_answer(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool]:
    """What `extract.locate` finds, or, in lenient mode, an answer that a sentence names behind that or inside a block.

    Returns (FOUND or the reason why there is none, start, end, whether the answer is from a box).
    """
    # data[behind:cut] is the text in which a sentence may name a later answer; `behind` is -1 if there is none.
    status, low, high, boxed, behind, cut = locate_mark(data, start, end, lenient)
    may_stand_inside = status == FOUND and not boxed
    may_stand_behind = False
    if behind >= 0 and low >= 0:
        may_stand_behind = has_word(data, behind, cut)
    elif behind >= 0:
        may_stand_behind = status == NO_ANSWER  # not behind a mark that is refused (MALFORMED)
    if lenient and (may_stand_inside or may_stand_behind):
        return named_or_marked(data, status, low, high, boxed, behind, cut)
    return status, low, high, boxed


def has_word(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] has a letter, or a character beyond ASCII, outside of tags: ". So", not ".</b>".

    Behind most answers, no such character stands.
    """
    while start < end and data[start] < ch.BEYOND_ASCII and not is_ascii_letter(data[start] + 0):
        start = max(behind_tag(data, start, end), start + 1) if data[start] == ch.LESS else start + 1
    return start < end


def named_or_marked(
    data: Bytes, status: int, low: int, high: int, boxed: bool, behind: int, cut: int
) -> tuple[int, int, int, bool]:
    """`find_answer` for a completion in which a sentence may name an answer.

    The sentence may stand in the marked answer data[low:high], or behind it, in data[behind:cut]. The other arguments
    are what `locate_mark` returned.
    """
    if status == FOUND and not boxed and not begins_with_stray_digits(data, low, high):
        first, last = named_answer(data, low, high)
        if 0 <= first < last:
            low, high = first, last
    if behind < 0:
        return status, low, high, boxed
    first, last = named_answer(data, behind, cut)
    if last - first > VALUE_LIMIT:
        first = last = -1
    if low >= 0:
        names_later = (
            0 <= first < last
            and count_values(data, first, last) == 1
            and not says_one_of(data, first, last, DOUBTS)
        )
        return (FOUND, first, last, False) if names_later else (status, low, high, boxed)
    if first < 0:
        _, first, last = last_box(data, behind, cut, FRAMED_BOX)
    if first < 0:
        first, last = bold_answer(data, behind, cut)
    if first < 0:
        first, last = correct_choice(data, behind, cut)
    if first >= last or is_not_text(data, first, last):
        return status, low, high, boxed
    return FOUND, first, last, False


def find_row(
    data: Bytes, start: int, end: int, lenient: bool, references: tuple, row: int, scratch: tuple
) -> tuple[int, int, float, int, int]:
    """`find_answer` in the form that `batch.RowLoop` asks of a function: as (reason, tier, score, start, end).

    The status takes the place of the reason. The place of the tier has 1 if the answer is from a box, else 0. Nobody
    reads the score, so it is always 0.0.
    """
    status, low, high, boxed = find_answer(data, start, end, lenient)
    return status, int(boxed), 0.0, low, high


def begins_with_stray_digits(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] begins with digits right before a bracket, a quote, a tag or a formula: `7<b>`."""
    i = start
    while i < end and (is_space(data[i]) or data[i] == ch.BACKSLASH):
        i += 1
    digits = i
    while i < end and ch.is_ascii_digit(data[i]):
        i += 1
    return digits < i < end and data[i] in _BESIDE_DIGITS


def named_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the answer that is named last in data[start:end], or -1s.

    A sentence without a value, "The answer is found by adding.", counts only if no other sentence names an answer.
    """
    start, line_end = strip(data, start, end)
    end = line_end
    without_value = -1
    while line_end > start:
        line = line_start(data, start, line_end)
        low, high = name_on_line(data, line, line_end) if may_name(data, line, line_end) else (-1, -1)
        if low >= 0 and high >= 0:  # "18 is the answer"
            return trimmed(data, low, high)
        if low >= 0:  # "The answer is 18"
            return value_at(data, low, end)
        if without_value < 0:
            without_value = high  # "The answer is found by adding"; -1 if the line names nothing
        _, line_end = strip(data, start, line)
    return value_at(data, without_value, end) if without_value >= 0 else (-1, -1)


def may_name(data: Bytes, start: int, end: int) -> bool:
    """True if the line data[start:end] may name an answer by its words; most lines of a calculation do not."""
    line = data[start:end].lower()
    for name in ANSWER_NAMES:
        if name in line:
            return True
    return False


def may_name_in_array(data, start, end):  # type: ignore[no-untyped-def]
    """What `verifiers.batch` puts in the place of `may_name` in compiled code: always True.

    Compiled, the words of a line are read as quickly as this question is answered.
    """
    return True


def name_on_line(data: Bytes, line: int, end: int) -> tuple[int, int]:
    """(start, end) of the value that a line names last. There are four cases.

    (start, end): the value stands before its name, "18 is the answer".
    (start, -1): the value is what follows `start`: behind "The answer is", or below the heading "Final Answer".
    (-1, end): a sentence names no value, "The answer is found by adding."; its verb ends at `end`.
    (-1, -1): the line names nothing.
    """
    low = high = without_value = -1
    # Of the sentence so far. plain: only words that may stand before "answer" have come. named: "answer" has come, but
    # no verb yet. aside: then words such as "to this" have come. supposed: "if" or the like has come.
    plain, named, aside, supposed = True, False, False, False
    clause, being = line, -1  # where the sentence's last clause begins, and where its verb of being stands
    i = line
    while i < end:
        if data[i] == ch.SPACE:
            i += 1
            continue
        role, after = word_at(data, i, end)
        if after > i:
            is_plural = role == ARE
            if is_plural:  # no verb of the answer in an aside: "the answer for the boxes that are left is 18"
                role = BEING if named and not aside else OTHER
            if named and role == BEING:
                # Behind "is", a word may be the value; behind "are", only numbers and formulas are.
                if says_no_value(data, after, end) or (is_plural and count_values(data, after, end) == 0):
                    without_value = after
                else:
                    low, high = after, -1
                plain = named = aside = False
            elif role == CONDITION:
                supposed, plain, named, aside = True, False, False, False
            elif role == ANSWER and plain and not named:
                named = True
            elif role == ANSWER and being >= 0 and not supposed and ends_sentence(data, after, end):
                if count_values(data, clause, being) == 1 and not says_one_of(data, clause, being, DOUBTS):
                    low, high = clause, being  # "7 is the answer."
            elif named and (role == MODAL or role == BEFORE or (aside and role != DENIAL)):
                pass  # "the answer to this question must": nothing changes, the verb may still come
            elif named and role == ASIDE:
                aside = True
            elif role == SO:
                plain, named, aside = not supposed, False, False
            else:
                plain = plain and not named and role == BEFORE
                named = aside = False
            if role == BEING:
                being = i
            elif role != BEFORE:  # a word such as "the" may stand behind the verb: "7 is the answer"
                being = -1
            i = after
            continue
        sign = data[i] + 0
        # The first byte of a character says how many bytes of UTF-8 it has.
        after = i + (1 if sign < 0x80 else 2 if sign < 0xE0 else 3 if sign < 0xF0 else 4)
        if named and is_colon(data, i, end):
            low, high = after, -1
            plain, named, aside = True, False, False  # "Final Answer: The final answer is 5"
        elif ch.is_ascii_digit(sign) and is_glued(data, line, i, end):
            plain = named = aside = False  # "The answer3 is": with a digit it is no word for an answer
        elif sign == ch.LEFT_PAREN and named:
            after = min(find_byte(data, ch.RIGHT_PAREN, i, end) + 1, end)
        elif sign == ch.LESS:
            after = max(behind_tag(data, i, end), after)
            if after > i + 1:
                plain, clause = not supposed, after
        elif sign == ch.COMMA or matches(data, i, end, _WIDE_COMMA):
            if named:
                # One comma begins an aside, and the next ends it: "the answer, to be exact, is 18".
                aside = not aside
            else:
                plain, clause, being = not supposed, after, -1
        elif is_stop(data, i, end):
            plain, named, aside, supposed = True, False, False, False
            clause, being = after, -1
        elif closes_formula(data, i, end):
            plain, named, aside = not supposed, False, False
            after = i + 2
        elif sign == ch.BACKSLASH and i + 1 < end:
            after = i + 2  # the sign behind a backslash is no sign of the sentence
        i = after
    if low < 0:
        # A line that ends with a name, "Final Answer", is a heading of the value below.
        return (end, -1) if named else (-1, without_value)
    return low, high


def says_no_value(data: Bytes, start: int, end: int) -> bool:
    """True if the rest of a sentence, from `start` on, says no value: "unknown." or "found by adding"."""
    key, stop = read_word(data, behind_spaces(data, start, end), end, ANY_CASE)
    if not is_one_of(key, _NO_VALUE):
        return False
    end = min(end, start + SENTENCE_LIMIT)
    while stop < end and not is_stop(data, stop, end):
        stop += 1
    if stop >= start + SENTENCE_LIMIT:
        return False
    return says_nothing(data, start, stop) and not says_one_of(data, start, stop, _IN_WORDS)


def is_glued(data: Bytes, start: int, i: int, end: int) -> bool:
    """True if a letter stands right before or right behind the character at i: beside the 3 of "answer3 is"."""
    before = i > start and is_ascii_letter(data[i - 1] + 0)
    return before or (i + 1 < end and is_ascii_letter(data[i + 1] + 0))


def ends_sentence(data: Bytes, i: int, end: int) -> bool:
    """True if a sentence ends at i, apart from asterisks, without a question mark: at the `**.` of "the answer**."."""
    while i < end and data[i] == ch.STAR:
        i += 1
    return i >= end or (data[i] != ch.QUESTION and is_stop(data, i, end))


def closes_formula(data: Bytes, i: int, end: int) -> bool:
    r"""True if `\]` or `$$` stands at i, behind which a new sentence may begin: `$$9 + 9 = 18$$ The answer is 18`."""
    if i + 1 >= end:
        return False
    sign, following = data[i], data[i + 1]
    is_bracket = sign == ch.BACKSLASH and following == ch.RIGHT_BRACKET
    is_double_dollar = sign == ch.DOLLAR and following == ch.DOLLAR
    return is_bracket or is_double_dollar
