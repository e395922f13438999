r"""The value behind a name such as "The answer is": where it begins and ends, on one line or as a list over several.

The functions are plain Python over UTF-8 bytes, and numba also compiles them as they stand.
"""

from verifiers import characters as ch
from verifiers.answer_words import ENDING_BYTES, ENDING_SIZES
from verifiers.characters import is_one_of, says_one_of
from verifiers.extract import (
    ANY_CASE,
    Bytes,
    before_spaces,
    find_byte,
    is_ascii_letter,
    is_blank,
    is_other_than,
    is_space,
    line_start,
    matches,
    read_word,
    strip,
    word_key,
    word_keys,
)

DOUBTS = word_keys("if unless suppose assuming nobody no not never doubt wrong incorrect or")
"""Words that cast doubt on a value beside them, which then is no answer: "unless it is 18", "18 or 19"."""
_DENIALS = word_keys("no not never wrong incorrect wait actually or")
"""Words behind a value that take it back: "18. Actually, that is wrong."."""
_NEGATIONS, _RIGHT = word_keys("cannot isn wasn doesn t"), word_keys("right correct true seem work")
"""Two words, one of each list, take a value back: "18. That can't be right.", not "18. You can't buy half a box."."""
_NOT = word_key("not")
_OPENS_VALUE = tuple(b"$\\(-*")
"""Signs that a value may begin with, apart from digits: "18, not **19**"."""
_GOING_ON = tuple(b",;:+")
"""Signs with which a sentence goes on behind a value that it denies: "18 (not 19) + 5 = 23"."""
_JOINING = word_keys("or and")
"""Words with which a further line of a value begins: the second line of `x = 2` and `or x = -3`."""
_BEGIN, _END = word_key("begin"), word_key("end")
_STOPS = tuple(b".!?")
"""Signs that end a sentence if a space follows: the last point of "It is 1.8. Good."."""
_WIDE_COLON, _WIDE_STOP = "：".encode(), "。".encode()
_BOLD = b"**"
_BEGINNING = word_keys("given first next then step steps note let we")
"""Words that begin a calculation rather than announce its result: "First:"."""
_HAS_VALUE = word_keys("is are was")
"""Verbs with which a line that has a number says the value itself: "The total is 18, as computed:"."""
VALUE_LIMIT = 4096  # bytes; a longer named answer does not count


def value_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(start, end) of the value behind the name that ends at i, such as "The answer is"; -1, -1 if there is no value.

    The value is the rest of the sentence or of the line, or, if nothing stands there, the next line with a text. A
    formula is read to its end, also over several lines.
    """
    quoted = i > 1 and data[i - 2] == ch.QUOTE  # {"answer": "18"}, in which i is the place behind the colon
    low = i
    while low < end and (is_space(data[low]) or data[low] == ch.COLON or data[low] == ch.STAR):
        low += 1
    while low < end and data[low] == ch.LESS and behind_tag(data, low, end) > low:
        low = behind_tag(data, low, end)
    while low < end and matches(data, low, end, _WIDE_COLON):
        low += 3  # the bytes of a wide colon
    is_below = find_byte(data, ch.NEWLINE, i, low) < low
    if is_below:
        low = behind_lead_in(data, low, end)
    # Where the first line of the value begins, with its bullet.
    first = line_start(data, i, low) if is_below else low
    first, _ = strip(data, first, end)
    while is_below and low + 1 < end and is_bullet(data, low):
        low += 2
    low = behind_spaces(data, low, end)
    if low >= end:
        return -1, -1
    if quoted:
        return json_value(data, low, end)
    line_end = value_end(data, low, end)
    high = end_of_list(data, first if is_below else -1, line_end, end)
    value_stop = before_other(data, low, high)
    if is_below and high > line_end and behind_mark(data, first, end) > first:
        _, high = trimmed(data, first, value_stop)
        return first, high  # a list, with the mark of its first item
    return trimmed(data, low, value_stop)


def behind_lead_in(data: Bytes, start: int, end: int) -> int:
    """Where the value begins below a heading: at `start`, or below a line that only announces it, "The total is:".

    Such a line begins with a word of two or more letters, and says no value itself. The line below it must be the last
    one, because a list of steps may begin in the same way.
    """
    line_end = find_byte(data, ch.NEWLINE, start, end)
    stop = line_end
    while stop > start and (is_space(data[stop - 1]) or data[stop - 1] == ch.STAR):
        stop -= 1
    first_word, after = read_word(data, start, stop, ANY_CASE)
    if stop == start or data[stop - 1] != ch.COLON or after < start + 2 or is_one_of(first_word, _BEGINNING):
        return start
    for i in range(start, stop):
        if ch.is_ascii_digit(data[i] + 0) and says_one_of(data, start, stop, _HAS_VALUE):
            return start  # "The total is 18, as computed:"
    low, high = strip(data, line_end, end)
    return low if low < high and find_byte(data, ch.NEWLINE, low, high) == high else start


def before_other(data: Bytes, start: int, end: int) -> int:
    """Where the value data[start:end] ends: at `end`, or before another value that is denied behind it.

    That is before `, not C` of "B, not C", `(not 3)` of "B (not 3)", and `rather than C` of "B rather than C".
    """
    last, begin = 0, start  # the key of the last word, and where it begins
    i = start
    while i < end:
        key, after = read_word(data, i, end, ANY_CASE)
        sign = before_spaces(data, start, i) if key == _NOT else start
        opens_denial = sign > start and (data[sign] == ch.COMMA or data[sign] == ch.LEFT_PAREN)
        if opens_denial and is_last_value(data, after, end):
            return sign
        if is_other_than(last, key) and begin > start and is_last_value(data, after, end):
            return begin
        if key:
            last, begin = key, i
        i = max(after, i + 1)
    return end


def is_last_value(data: Bytes, i: int, end: int) -> bool:
    """True if a number, a formula or the letter of a choice stands at i, behind spaces, and ends the text.

    Words of the same clause may stand behind it, such as its unit; another clause or sentence may not.
    """
    i = behind_spaces(data, i, end)
    for k in range(i + 1, end):
        is_clause = is_one_of(data[k] + 0, _GOING_ON)
        is_sentence = data[k] == ch.NEWLINE or (data[k - 1] == ch.POINT and is_space(data[k]))
        if is_clause or is_sentence:
            return False
    if i >= end:
        return False
    _, after = read_word(data, i, end, ANY_CASE)
    is_choice = after == i + 1 and ch.UPPER_A <= data[i] <= ch.UPPER_Z
    return is_choice or ch.is_ascii_digit(data[i] + 0) or is_one_of(data[i] + 0, _OPENS_VALUE)


def json_value(data: Bytes, low: int, end: int) -> tuple[int, int]:
    """(start, end) of the JSON value at `low`: a text without quotes, or all before a comma, a `}` or a line's end."""
    high = low + 1
    if data[low] == ch.QUOTE:
        while high < end and data[high] != ch.QUOTE:
            high += 2 if data[high] == ch.BACKSLASH else 1
        return low + 1, min(high, end)
    while high < end and data[high] != ch.COMMA and data[high] != ch.RIGHT_BRACE and data[high] != ch.NEWLINE:
        high += 1
    return strip(data, low, high)


def value_end(data: Bytes, low: int, end: int) -> int:
    """Where the value that begins at `low` ends: at the end of its line or of its sentence.

    The sentence's end counts if the rest of the line `says_nothing`: "18. I hope this helps!" has the value "18". At
    most VALUE_LIMIT + 1 bytes are read; a value of this length is too long.
    """
    end = min(end, low + VALUE_LIMIT + 1)
    depth = 0  # of braces, environments, `\(` and `\[`
    # display: i is between `$$` and `$$`. goes_on: a later sentence belongs to the value, "18. No, 19."
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
                closes = data[i + 1] == ch.RIGHT_BRACKET or data[i + 1] == ch.RIGHT_PAREN
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
            after = i + 3 if byte >= 0x80 else i + 1  # a wide stop has three bytes
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
    """Position behind the formula that the dollar at i opens, if it ends on the same line; else behind the dollar."""
    closing = find_byte(data, ch.DOLLAR, i + 1, find_byte(data, ch.NEWLINE, i + 1, end))
    is_formula = closing < end and data[closing] == ch.DOLLAR and not is_space(data[closing - 1])
    return closing + 1 if is_formula else i + 1


def begins_sentence(data: Bytes, start: int, end: int) -> bool:
    """True if no small letter follows at `start`: behind the first point of "7 sq. ft." no sentence begins."""
    start = behind_spaces(data, start, end)
    return start >= end or not ch.LOWER_A <= data[start] <= ch.LOWER_Z


def is_colon(data: Bytes, i: int, end: int) -> bool:
    """True if a colon, wide or not, or an equals sign stands at i; the value follows: "Answer: 18", "answer = 18"."""
    return data[i] == ch.COLON or data[i] == ch.EQUALS or matches(data, i, end, _WIDE_COLON)


def is_stop(data: Bytes, i: int, end: int) -> bool:
    """True if the sign at i ends a sentence: the last point of "It is 1.8. Good.", not the first."""
    if data[i] not in _STOPS:
        return matches(data, i, end, _WIDE_STOP)
    following = data[i + 1] + 0 if i + 1 < end else ch.SPACE
    glued = data[i] == ch.POINT and ch.UPPER_A <= following <= ch.UPPER_Z  # correct.The answer is
    return is_space(following) or following == ch.STAR or glued


def says_nothing(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] has no number, formula or denial: "I hope this helps!"."""
    if count_values(data, start, end) > 0 or says_one_of(data, start, end, _DENIALS):
        return False
    return not (says_one_of(data, start, end, _NEGATIONS) and says_one_of(data, start, end, _RIGHT))


def count_values(data: Bytes, start: int, end: int) -> int:
    """How many numbers and formulas stand in data[start:end]: 2 in "3 of $x$"."""
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
                and (data[closing] == ch.RIGHT_PAREN or data[closing] == ch.RIGHT_BRACKET)
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


def end_of_list(data: Bytes, first: int, i: int, end: int) -> int:
    """Where a list with a line for each value ends, if its first line ends at i; i if no further line belongs to it.

    first: where the first line begins, or -1 if a name stands before its value. A further line has a value, and begins
    with a mark of the same kind as the first line, "- " or "(b) ", or with "or" or "and". With marks, either all lines
    begin with a word or none does: "- 6" and "- Check: 2*3 = 6" are no list.
    """
    # The text of the first line begins here, behind its mark if it has one; that of a further line begins at `item`.
    begin = behind_mark(data, first, end) if first >= 0 else first
    while i < end and data[i] == ch.NEWLINE:
        low, _ = strip(data, i, end)
        line_end = find_byte(data, ch.NEWLINE, low, end)
        item = behind_mark(data, low, end)
        key, after = read_word(data, low, end, ANY_CASE)
        joins = is_one_of(key, _JOINING) and find_byte(data, ch.NEWLINE, i + 1, low) == low
        if is_one_of(key, _JOINING) and is_blank(data, after, line_end):  # "or" on a line of its own
            low, _ = strip(data, line_end, end)
            line_end = find_byte(data, ch.NEWLINE, low, end)
            item, joins = low, True
        if begin > first and item > low:
            is_same_mark = data[low] == data[first] or not (is_bullet(data, low) or is_bullet(data, first))
            joins = is_same_mark and is_ascii_letter(data[item] + 0) == is_ascii_letter(data[begin] + 0)
        if not joins or count_values(data, low, line_end) == 0:
            break
        i = value_end(data, low, end)
    return i


def behind_mark(data: Bytes, i: int, end: int) -> int:
    """Position behind the mark of an item, `- ` or `(a) `, and the asterisks behind it; i if no mark stands at i."""
    if i + 2 >= end:
        return i
    if data[i] != ch.GREATER and is_bullet(data, i):
        return behind_spaces(data, i + 2, end)
    label = i + 1 if data[i] == ch.LEFT_PAREN else i
    is_label = ch.is_ascii_digit(data[label] + 0) or ch.LOWER_A <= data[label] <= ch.LOWER_Z
    closing = label + 1
    if not is_label or closing + 1 >= end or not is_space(data[closing + 1]):
        return i
    if data[closing] == ch.RIGHT_PAREN or (data[closing] == ch.POINT and label == i):
        return behind_spaces(data, closing + 1, end)
    return i


def is_bullet(data: Bytes, i: int) -> bool:
    """True if the sign at i, the first of a line, is a bullet: `- `, `* ` or `> `."""
    return (data[i] == ch.MINUS or data[i] == ch.STAR or data[i] == ch.GREATER) and is_space(data[i + 1])


def trimmed(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of data[start:end] without spaces and asterisks around it, a full stop, and an ending, "18です"."""
    start = behind_spaces(data, start, end)
    last = end  # behind the asterisks
    end = before_stars(data, start, end)
    if end - start > 1 and data[end - 1] == ch.POINT and data[end - 2] != ch.POINT:  # no ellipsis
        end = before_stars(data, start, end - 1)
    # Bold text that ends at the end, x = **6**, or begins at the start, **6** eggs, keeps both its marks.
    opens, closes = matches(data, start - len(_BOLD), start, _BOLD), matches(data, end, last, _BOLD)
    inside = count_bold(data, start, end)
    if closes and (inside % 2 == 1 or (opens and inside > 0)):
        end += len(_BOLD)
        opens = opens and inside % 2 == 0  # **2** or **3**
    if opens and inside > 0 and (inside % 2 == 1 or closes):
        start -= len(_BOLD)
    size = being_behind(data, start, end)
    return start, end - size


def count_bold(data: Bytes, start: int, end: int) -> int:
    """How many `**` of data[start:end] begin or end bold text; the `**` of a power, 2**3, is not counted."""
    count = 0
    i = behind_stars(data, start, end)
    while i > 0:
        before = i - len(_BOLD) - 1
        is_power = (
            before >= start and i < end and is_letter_or_digit(data[before]) and is_letter_or_digit(data[i])
        )
        count += int(not is_power)
        i = behind_stars(data, i, end)
    return count


def is_letter_or_digit(byte: int) -> bool:
    """True for an ASCII letter or digit."""
    return is_ascii_letter(byte + 0) or ch.is_ascii_digit(byte + 0)


def being_behind(data: Bytes, start: int, end: int) -> int:
    """Of the ending of data[start:end] that means "is", "です" in "18です", the number of bytes; 0 for none.

    The endings are `answer_words.ENDINGS`.
    """
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


def behind_stars(data: Bytes, start: int, end: int) -> int:
    """Position behind the first `**` of data[start:end]; 0 if there is none."""
    i = find_byte(data, ch.STAR, start, end)
    while i + 1 < end and data[i + 1] != ch.STAR:
        i = find_byte(data, ch.STAR, i + 1, end)
    return i + 2 if i + 1 < end else 0


def before_stars(data: Bytes, start: int, end: int) -> int:
    """End of data[start:end] without the spaces and asterisks at its end."""
    while end > start and (is_space(data[end - 1]) or data[end - 1] == ch.STAR):
        end -= 1
    return end


def behind_spaces(data: Bytes, i: int, end: int) -> int:
    """Position of the first byte from i on that is neither white space nor an asterisk."""
    while i < end and (is_space(data[i]) or data[i] == ch.STAR):
        i += 1
    return i


def behind_tag(data: Bytes, i: int, end: int) -> int:
    """Position behind the tag whose `<` stands at i, such as `<b>` and `</think>`; i if it begins no tag."""
    closing = i + 1 < end and data[i + 1] == ch.SLASH
    key, after = read_word(data, i + 2 if closing else i + 1, end, ANY_CASE)
    return after + 1 if key and after < end and data[after] == ch.GREATER else i
