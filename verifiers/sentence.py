r"""The answer that a sentence or a heading names: `Thus, the answer is $18$.`, `### Answer`, `\fbox{18}`, `Ответ: 18`.

Lenient mode of GSM8K and MATH reads it where it stands behind whatever else is marked, and inside an `<answer>` block:
`<answer>The final answer is: 16</answer>`. One rule for ten languages, whose words are in `answer_words`: "answer" or
"result", perhaps an aside, a verb of being or a colon, and the value, on the same line or below it; or the value, "is",
"the answer". Plain Python over UTF-8 bytes that numba also compiles as it stands, like `verifiers.extract`.
"""

from verifiers import characters as ch
from verifiers.answer_words import (
    ANSWER,
    ANSWER_NAMES,
    ASIDE,
    BEFORE,
    BEING,
    CONDITION,
    DENIAL,
    ENDING_BYTES,
    ENDING_SIZES,
    MODAL,
    SO,
    word_at,
)
from verifiers.characters import is_one_of, says_one_of
from verifiers.extract import (
    FOUND,
    FRAMED_BOX,
    NO_ANSWER,
    Bytes,
    find_byte,
    is_not_text,
    is_space,
    last_box,
    locate_mark,
    matches,
    read_word,
    strip,
    word_key,
    word_keys,
)

_DOUBTS = word_keys("if unless suppose assuming nobody no not never doubt wrong incorrect or")
_DENIALS = word_keys(
    "no not never cannot isn wasn doesn t wrong incorrect wait actually or"
)  # in what follows a value: it is taken back
# What begins no value: "The answer is found by adding."
_NO_VALUE = word_keys(
    "unknown known found obtained given got calculated computed determined derived expressed rounded asked correct "
    "final by in what"
)
_IN_WORDS = word_keys(
    "be zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)  # what may say a value all the same: "found to be six"
_BEGIN, _END, _LEFT = word_key("begin"), word_key("end"), word_key("left")
_STOPS = tuple(b".!?")
_QUESTION, _RIGHT_PAREN = tuple(b"?)")
_WIDE_COLON, _WIDE_COMMA = "：".encode(), "，".encode()
_WIDE_STOP = "。".encode()
_BESIDE_DIGITS = tuple(b'([<*`"$\\')
VALUE_LIMIT = 4096  # bytes of a named answer


def find_answer(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool]:
    """`extract.locate`, and in lenient mode what a sentence names behind that, or inside a block."""
    status, low, high, boxed, behind, cut = locate_mark(data, start, end, lenient)
    may_be_named = behind >= 0 and (status == NO_ANSWER if low < 0 else has_word(data, behind, cut))
    if lenient and (may_be_named or (status == FOUND and not boxed)):
        return named_or_marked(data, status, low, high, boxed, behind, cut)
    return status, low, high, boxed


def has_word(data: Bytes, start: int, end: int) -> bool:
    """True if a letter stands in data[start:end], in no tag; behind most answers none does."""
    while start < end and data[start] < ch.BEYOND_ASCII and not ch.is_ascii_letter(data[start] + 0):
        start = max(behind_tag(data, start, end), start + 1) if data[start] == ch.LESS else start + 1
    return start < end


def named_or_marked(
    data: Bytes, status: int, low: int, high: int, boxed: bool, behind: int, cut: int
) -> tuple[int, int, int, bool]:
    """`find_answer` where a sentence in the marked answer data[low:high], or in data[behind:cut], may name one."""
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
        later = (
            0 <= first < last
            and count_values(data, first, last) == 1
            and not says_one_of(data, first, last, _DOUBTS)
        )
        return (FOUND, first, last, False) if later else (status, low, high, boxed)
    if first < 0:
        _, first, last = last_box(data, behind, cut, FRAMED_BOX)
    if first < 0:
        first, last = bold_answer(data, behind, cut)
    if first >= last or is_not_text(data, first, last):
        return status, low, high, boxed
    return FOUND, first, last, False


def find_row(
    data: Bytes, start: int, end: int, lenient: bool, references: tuple, row: int, scratch: tuple
) -> tuple[int, int, float, int, int]:
    """`find_answer` in the form of `batch.RowLoop`, with 1 for a box as the tier."""
    status, low, high, boxed = find_answer(data, start, end, lenient)
    return status, int(boxed), 0.0, low, high


def bold_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    r"""(start, end) of a number or an equation that is the one bold text of the last line, `**\$18**`, or -1s.

    -1s also behind a word that casts doubt on it.
    """
    start, end = strip(data, start, end)
    line = end
    while line > start and data[line - 1] != ch.NEWLINE:
        line -= 1
    low = behind_stars(data, line, end)
    high = behind_stars(data, low, end) - 2
    if low == 0 or high < low or behind_stars(data, high + 2, end) > 0:
        return -1, -1
    first = low + 1 if data[low] == ch.BACKSLASH or data[low] == ch.MINUS else low
    number = ch.is_ascii_digit(data[first]) or data[first] == ch.DOLLAR
    value = number or find_byte(data, ch.EQUALS, low, high) < high
    if not value or says_one_of(data, line, low, _DOUBTS):
        return -1, -1
    return low, high


def behind_stars(data: Bytes, start: int, end: int) -> int:
    """Position behind the first `**` of data[start:end], or 0."""
    i = find_byte(data, ch.STAR, start, end)
    while i + 1 < end and data[i + 1] != ch.STAR:
        i = find_byte(data, ch.STAR, i + 1, end)
    return i + 2 if i + 1 < end else 0


def begins_with_stray_digits(data: Bytes, start: int, end: int) -> bool:
    """Whether data[start:end] begins with digits at which a bracket, a quote, a tag or a sign of a formula stands."""
    i = start
    while i < end and (is_space(data[i]) or data[i] == ch.BACKSLASH):
        i += 1
    digits = i
    while i < end and ch.is_ascii_digit(data[i]):
        i += 1
    return digits < i < end and data[i] in _BESIDE_DIGITS


def named_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the answer that is named last in data[start:end], or -1s.

    A sentence that says no value names one only where no other does.
    """
    start, line_end = strip(data, start, end)
    end = line_end
    without_value = -1
    while line_end > start:
        line = line_end
        while line > start and data[line - 1] != ch.NEWLINE:
            line -= 1
        low, high = name_on_line(data, line, line_end) if may_name(data, line, line_end) else (-1, -1)
        if low >= 0:
            return trimmed(data, low, high) if high >= 0 else value_at(data, low, end)
        if without_value < 0:
            without_value = high
        _, line_end = strip(data, start, line)
    return value_at(data, without_value, end) if without_value >= 0 else (-1, -1)


def may_name(data: Bytes, start: int, end: int) -> bool:
    """Whether a word for an answer may stand in data[start:end]; most lines of a working hold none."""
    line = data[start:end].lower()
    for name in ANSWER_NAMES:
        if name in line:
            return True
    return False


def may_name_in_array(data, start, end):  # type: ignore[no-untyped-def]
    """`may_name` where compiled: to read the words of the line is as quick."""
    return True


# ---- the sentence ----


def name_on_line(data: Bytes, line: int, end: int) -> tuple[int, int]:
    """(start, end) of the value that a line names last; the end is -1 where the value is what follows.

    Of a line that ends in "Final Answer" the value begins at its end. The start is -1 on a line that names none; the
    end is then -1, or behind the verb of a sentence that says no value.
    """
    low = high = without_value = -1
    plain, named, aside, supposed = True, False, False, False  # of the sentence so far
    clause, being = line, -1  # where its last clause begins, and the verb in it
    i = line
    while i < end:
        if data[i] == ch.SPACE:
            i += 1
            continue
        role, after = word_at(data, i, end)
        if after > i:
            if named and role == BEING:
                if says_no_value(data, after, end):
                    without_value = after
                else:
                    low, high = after, -1
                plain = named = aside = False
            elif role == CONDITION:
                supposed, plain, named, aside = True, False, False, False
            elif role == ANSWER and plain and not named:
                named = True
            elif role == ANSWER and being >= 0 and not supposed and ends_sentence(data, after, end):
                if count_values(data, clause, being) == 1 and not says_one_of(data, clause, being, _DOUBTS):
                    low, high = clause, being  # "7 is the answer."
            elif named and (role == MODAL or role == BEFORE or (aside and role != DENIAL)):
                pass
            elif named and role == ASIDE:
                aside = True
            elif role == SO:
                plain, named, aside = not supposed, False, False
            else:
                plain, named, aside = plain and not named and role == BEFORE, False, False
            if role == BEING:
                being = i
            elif role != BEFORE:
                being = -1
            i = after
            continue
        sign = data[i] + 0
        after = i + (1 if sign < 0x80 else 2 if sign < 0xE0 else 3 if sign < 0xF0 else 4)
        if named and is_colon(data, i, end):
            low, high = after, -1
            plain, named, aside = True, False, False  # "Final Answer: The final answer is 5"
        elif ch.is_ascii_digit(sign) and is_glued(data, line, i, end):
            plain = named = aside = False  # "The answer3 is": a word that has a digit is another
        elif sign == ch.LEFT_PAREN and named:
            after = min(find_byte(data, _RIGHT_PAREN, i, end) + 1, end)
        elif sign == ch.LESS:
            after = max(behind_tag(data, i, end), after)
            if after > i + 1:
                plain, clause = not supposed, after
        elif sign == ch.COMMA or matches(data, i, end, _WIDE_COMMA):
            if named:
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
            after = i + 2
        i = after
    if low < 0:
        return (end, -1) if named else (-1, without_value)
    return low, high


def says_no_value(data: Bytes, start: int, end: int) -> bool:
    """True for a sentence that goes on at `start` with what is no value: "unknown.", "found by adding." """
    key, stop = read_word(data, behind_spaces(data, start, end), end, True)
    if not is_one_of(key, _NO_VALUE):
        return False
    while stop < end and not is_stop(data, stop, end):
        stop += 1
    return says_nothing(data, start, stop) and not says_one_of(data, start, stop, _IN_WORDS)


def behind_spaces(data: Bytes, i: int, end: int) -> int:
    while i < end and (is_space(data[i]) or data[i] == ch.STAR):
        i += 1
    return i


def is_glued(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether a letter stands at the character i of data[start:end]."""
    before = i > start and ch.is_ascii_letter(data[i - 1] + 0)
    return before or (i + 1 < end and ch.is_ascii_letter(data[i + 1] + 0))


def is_colon(data: Bytes, i: int, end: int) -> bool:
    return data[i] == ch.COLON or data[i] == ch.EQUALS or matches(data, i, end, _WIDE_COLON)


def is_stop(data: Bytes, i: int, end: int) -> bool:
    """True for a sign that ends a sentence."""
    if data[i] not in _STOPS:
        return matches(data, i, end, _WIDE_STOP)
    following = data[i + 1] + 0 if i + 1 < end else ch.SPACE
    glued = data[i] == ch.POINT and ch.UPPER_A <= following <= ch.UPPER_Z  # correct.The answer is
    return is_space(following) or following == ch.STAR or glued


def ends_sentence(data: Bytes, i: int, end: int) -> bool:
    """True if nothing but a full stop, an exclamation mark and asterisks stands between i and the sentence's end."""
    while i < end and data[i] == ch.STAR:
        i += 1
    return i >= end or (data[i] != _QUESTION and is_stop(data, i, end))


def closes_formula(data: Bytes, i: int, end: int) -> bool:
    r"""True at `\]` and `$$`: what follows on the line may be a sentence of its own."""
    if i + 1 >= end:
        return False
    return (data[i] == ch.BACKSLASH and data[i + 1] == ch.RIGHT_BRACKET) or data[i] == data[
        i + 1
    ] == ch.DOLLAR


def behind_tag(data: Bytes, i: int, end: int) -> int:
    """Position behind the tag whose `<` stands at i, such as `<b>` and `</think>`; i where there is none."""
    closing = i + 1 < end and data[i + 1] == ch.SLASH
    key, after = read_word(data, i + 2 if closing else i + 1, end, True)
    return after + 1 if key and after < end and data[after] == ch.GREATER else i


# ---- the value ----


def value_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(start, end) of the value behind a name that ends at i: the rest of the line or the sentence, or what is below.

    A formula that begins on the line is read to its end. -1, -1 where there is no value.
    """
    quoted = i > 1 and data[i - 2] == ch.QUOTE  # {"answer": "18"}
    low = i
    while low < end and (is_space(data[low]) or data[low] == ch.COLON or data[low] == ch.STAR):
        low += 1
    while low < end and data[low] == ch.LESS and behind_tag(data, low, end) > low:
        low = behind_tag(data, low, end)
    while low < end and matches(data, low, end, _WIDE_COLON):
        low += 3
    below = find_byte(data, ch.NEWLINE, i, low) < low
    while below and low + 1 < end and is_bullet(data, low):
        low += 2
    low = behind_spaces(data, low, end)
    if low >= end:
        return -1, -1
    if quoted:
        return json_value(data, low, end)
    return trimmed(data, low, value_end(data, low, end))


def is_bullet(data: Bytes, i: int) -> bool:
    """True for `- `, `* ` or `> ` at the begin of a line."""
    return (data[i] == ch.MINUS or data[i] == ch.STAR or data[i] == ch.GREATER) and is_space(data[i + 1])


def json_value(data: Bytes, low: int, end: int) -> tuple[int, int]:
    """(start, end) of a text in quotes, or of what stands before the next comma, brace or line."""
    high = low + 1
    if data[low] == ch.QUOTE:
        while high < end and data[high] != ch.QUOTE:
            high += 2 if data[high] == ch.BACKSLASH else 1
        return low + 1, min(high, end)
    while high < end and data[high] != ch.COMMA and data[high] != ch.RIGHT_BRACE and data[high] != ch.NEWLINE:
        high += 1
    return strip(data, low, high)


def value_end(data: Bytes, low: int, end: int) -> int:
    """Where the value that begins at `low` ends: with its line, or before another sentence that says nothing of it.

    Not more than VALUE_LIMIT bytes are looked at, and one more: such a value is too long.
    """
    end = min(end, low + VALUE_LIMIT + 1)
    depth = 0
    display = goes_on = False
    i = low
    while i < end:
        byte = data[i] + 0
        if byte == ch.BACKSLASH:
            key, after = read_word(data, i + 1, end)
            if key == _BEGIN:
                depth += 1
            elif key == _END:
                depth -= 1
            elif not key and i + 1 < end:
                opens = data[i + 1] == ch.LEFT_BRACKET or data[i + 1] == ch.LEFT_PAREN
                closes = data[i + 1] == ch.RIGHT_BRACKET or data[i + 1] == _RIGHT_PAREN
                depth += int(opens) - int(closes)
                after = i + 2
            i = max(after, i + 1)
            continue
        if byte == ch.DOLLAR and i + 1 < end and data[i + 1] == ch.DOLLAR:
            display = not display
            i += 2
            continue
        if byte == ch.DOLLAR and not display:
            i = behind_formula(data, i, end)
            continue
        if byte == ch.LEFT_BRACE:
            depth += 1
        elif byte == ch.RIGHT_BRACE:
            depth -= 1
        elif depth <= 0 and not display:
            if byte == ch.NEWLINE:
                return i
            after = i + 3 if byte >= 0x80 else i + 1
            if (
                not goes_on
                and is_stop(data, i, end)
                and data[i - 1] != ch.POINT
                and begins_sentence(data, after, end)
            ):
                if says_nothing(data, after, find_byte(data, ch.NEWLINE, after, end)):
                    return i
                goes_on = True
        i += 1
    return end


def behind_formula(data: Bytes, i: int, end: int) -> int:
    """Position behind the formula on one line whose dollar stands at i, or behind that sign of a currency."""
    closing = find_byte(data, ch.DOLLAR, i + 1, find_byte(data, ch.NEWLINE, i + 1, end))
    is_formula = closing < end and data[closing] == ch.DOLLAR and not is_space(data[closing - 1])
    return closing + 1 if is_formula else i + 1


def begins_sentence(data: Bytes, start: int, end: int) -> bool:
    """True unless a small letter follows: "7 sq. ft." is one sentence."""
    start = behind_spaces(data, start, end)
    return start >= end or not ch.LOWER_A <= data[start] <= ch.LOWER_Z


def says_nothing(data: Bytes, start: int, end: int) -> bool:
    """True for a text without numbers, formulas and denials."""
    return count_values(data, start, end) == 0 and not says_one_of(data, start, end, _DENIALS)


def count_values(data: Bytes, start: int, end: int) -> int:
    """How many numbers and formulas stand in a text."""
    count = 0
    i = start
    while i < end:
        byte = data[i] + 0
        if (
            byte == ch.BACKSLASH
            and i + 1 < end
            and (data[i + 1] == ch.LEFT_PAREN or data[i + 1] == ch.LEFT_BRACKET)
        ):
            closing = i + 2
            while closing < end and not (
                data[closing - 1] == ch.BACKSLASH
                and (data[closing] == _RIGHT_PAREN or data[closing] == ch.RIGHT_BRACKET)
            ):
                closing += 1
            count += 1
            i = closing + 1
        elif (
            byte == ch.DOLLAR
            and i + 1 < end
            and data[i + 1] != ch.DOLLAR
            and behind_formula(data, i, end) > i + 1
        ):
            count += 1
            i = behind_formula(data, i, end)
        elif ch.is_ascii_digit(byte):
            count += 1
            while i < end and (
                ch.is_ascii_digit(data[i])
                or data[i] == ch.COMMA
                or data[i] == ch.POINT
                or data[i] == ch.SLASH
            ):
                i += 1
        else:
            i += 1
    return count


def trimmed(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """data[start:end] without spaces and asterisks around it, its full stop and a verb of being behind it."""
    start = behind_spaces(data, start, end)
    end = before_stars(data, start, end)
    if end - start > 1 and data[end - 1] == ch.POINT and data[end - 2] != ch.POINT:  # no ellipsis
        end = before_stars(data, start, end - 1)
    size = being_behind(data, start, end)
    return start, end - size


def being_behind(data: Bytes, start: int, end: int) -> int:
    """How many bytes of a verb of being stand behind a value, as in Japanese and Korean."""
    begin = 0
    for k in range(len(ENDING_SIZES)):
        size = ENDING_SIZES[k] + 0
        offset = 0
        while offset < size < end - start and data[end - size + offset] == ENDING_BYTES[begin + offset]:
            offset += 1
        if offset == size:
            return size
        begin += size
    return 0


def before_stars(data: Bytes, start: int, end: int) -> int:
    """Where data[start:end] ends without spaces and asterisks behind it."""
    while end > start and (is_space(data[end - 1]) or data[end - 1] == ch.STAR):
        end -= 1
    return end
