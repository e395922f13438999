r"""The answer that a sentence or a heading names: `Thus, the answer is $18$.`, `### Answer`, `\fbox{18}`, `Ответ: 18`.

Lenient mode of GSM8K and MATH looks for it in two places: behind everything else that marks an answer, and inside an
`<answer>` block, `<answer>The final answer is: 16</answer>`. One rule serves ten languages, whose words are in
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
    ENDING_BYTES,
    ENDING_SIZES,
    MODAL,
    OTHER,
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
    is_ascii_letter,
    is_blank,
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
"""Words that cast doubt on a value beside them, which then is no answer: "unless it is 18", "18 or 19"."""
_DENIALS = word_keys("no not never wrong incorrect wait actually or")
"""Words behind a value that take it back: "18. Actually, that is wrong."."""
_NEGATIONS, _RIGHT = word_keys("cannot isn wasn doesn t"), word_keys("right correct true seem work")
"""A word of each takes a value back, too: "18. That cannot be right." But "18. You can't buy half a box." keeps it."""
_JOINING = word_keys("or and")
"""Words with which a further line of a value begins: the second line of `x = 2` and `or x = -3`."""
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
_CORRECT, _CHOICE = word_keys("correct right"), word_keys("option choice")
_BEGIN, _END = word_key("begin"), word_key("end")
_OPERATORS = tuple(b"+-/=")
"""Signs that make bold text before them an operand if the line goes on to an equals sign."""
_AROUND_LETTER = tuple(b"*(),:")
"""Signs that may stand in a line such as "So, **(B)** is correct."."""
_STOPS = tuple(b".!?")
"""Signs that end a sentence if a space follows: the last point of "It is 1.8. Good."."""
_QUESTION, _RIGHT_PAREN = tuple(b"?)")
_WIDE_COLON, _WIDE_COMMA = "：".encode(), "，".encode()
_WIDE_STOP = "。".encode()
_BOLD = b"**"
_BESIDE_DIGITS = tuple(b'([<*`"$\\')
"""Signs of which one stands right behind stray digits: the `<` of `7<b>The answer is 18</b>`."""
SENTENCE_LIMIT = 1000  # bytes of a sentence that are searched for a value; a longer one counts as having one
VALUE_LIMIT = 4096  # bytes; a longer named answer does not count


def find_answer(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool]:
    """What `extract.locate` finds; in lenient mode also an answer that a sentence names behind it or inside a block.

    Returns (FOUND or the reason why there is none, start, end, whether the answer is from a box).
    """
    status, low, high, boxed, behind, cut = locate_mark(data, start, end, lenient)
    may_be_named = behind >= 0 and (status == NO_ANSWER if low < 0 else has_word(data, behind, cut))
    if lenient and (may_be_named or (status == FOUND and not boxed)):
        return named_or_marked(data, status, low, high, boxed, behind, cut)
    return status, low, high, boxed


def has_word(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] has a letter outside of tags: ". So", not ".</b>"; behind most answers there is none."""
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
    if first < 0:
        first, last = correct_choice(data, behind, cut)
    if first >= last or is_not_text(data, first, last):
        return status, low, high, boxed
    return FOUND, first, last, False


def find_row(
    data: Bytes, start: int, end: int, lenient: bool, references: tuple, row: int, scratch: tuple
) -> tuple[int, int, float, int, int]:
    """`find_answer` with the arguments of `batch.RowLoop`; instead of a tier it returns 1 for a box, else 0."""
    status, low, high, boxed = find_answer(data, start, end, lenient)
    return status, int(boxed), 0.0, low, high


def bold_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    r"""(start, end) of the only bold text in the last line if it is a number or an equation, `**\$18**`; else -1s.

    Also -1s if one of `_DOUBTS` stands before it on the line: "It is not **18**".
    """
    line, end = last_line_with_text(data, start, end)
    low = behind_stars(data, line, end)
    high = behind_stars(data, low, end) - 2
    if low == 0 or high < low or behind_stars(data, high + 2, end) > 0:
        return -1, -1
    first = low + 1 if data[low] == ch.BACKSLASH or data[low] == ch.MINUS else low
    number = ch.is_ascii_digit(data[first]) or data[first] == ch.DOLLAR
    value = number or find_byte(data, ch.EQUALS, low, high) < high
    behind = behind_spaces(data, high, end)
    is_operand = behind < end and is_one_of(data[behind] + 0, _OPERATORS)
    is_calculated = is_operand and find_byte(data, ch.EQUALS, behind, end) < end  # **24** - 4 = 20
    if not value or is_calculated or says_one_of(data, line, low, _DOUBTS):
        return -1, -1
    return low, high


def last_line_with_text(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the last line of data[start:end] that is not blank."""
    start, end = strip(data, start, end)
    line = end
    while line > start and data[line - 1] != ch.NEWLINE:
        line -= 1
    return line, end


def correct_choice(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the choice that the last line calls correct, the B of "So option B is correct."; else -1s.

    The line has no other words: "The correct option is **B**.", "(B) is the right answer". What follows the verb of
    "The correct option is" is the choice as a whole: "B) Paris".
    """
    i, end = last_line_with_text(data, start, end)
    low = high = -1  # of the letter before the verb of being
    has_verb = is_correct = has_noun = False  # has_noun: "option" or "choice" has come
    while i < end:
        role, after = word_at(data, i, end)
        key, _ = read_word(data, i, end, True)
        claims = is_correct and has_noun and low < 0
        if after == i:
            if claims and is_colon(data, i, end):
                return choice_behind(data, i + 1, end)
            if is_stop(data, i, end):
                if data[i] == _QUESTION or not is_blank(data, i + 1, before_stars(data, i + 1, end)):
                    return -1, -1
            elif not (is_space(data[i]) or is_one_of(data[i] + 0, _AROUND_LETTER)):
                return -1, -1
            i += 1
            continue
        if after == i + 1 and ch.UPPER_A <= data[i] <= ch.UPPER_Z:
            if low >= 0:
                return -1, -1
            low, high = i, after
        elif is_one_of(key, _CHOICE):
            has_noun = True
        elif is_one_of(key, _CORRECT):
            is_correct = True
        elif role == BEING and claims:
            return choice_behind(data, after, end)
        elif role == BEING and low >= 0 and not (has_verb or is_correct):
            has_verb = True
        elif role == ANSWER and has_verb:
            is_correct = True  # "B is the answer"
        elif not (role == SO or role == BEFORE):
            return -1, -1
        i = after
    return (low, high) if has_verb and is_correct else (-1, -1)


def choice_behind(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the choice that a line names behind "The correct option is"; -1s if it is in doubt."""
    return (-1, -1) if says_one_of(data, start, end, _DOUBTS) else trimmed(data, start, end)


def behind_stars(data: Bytes, start: int, end: int) -> int:
    """Position behind the first `**` of data[start:end]; 0 if there is none."""
    i = find_byte(data, ch.STAR, start, end)
    while i + 1 < end and data[i + 1] != ch.STAR:
        i = find_byte(data, ch.STAR, i + 1, end)
    return i + 2 if i + 1 < end else 0


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
    """True if the line data[start:end] may name an answer by its words; most lines of a working do not."""
    line = data[start:end].lower()
    for name in ANSWER_NAMES:
        if name in line:
            return True
    return False


def may_name_in_array(data, start, end):  # type: ignore[no-untyped-def]
    """`may_name` where compiled. It is always true, because there the words of the line are read as quickly."""
    return True


# ---- the sentence ----


def name_on_line(data: Bytes, line: int, end: int) -> tuple[int, int]:
    """(start, end) of the value that a line names last.

    The end is -1 if the value is what follows `start`: "The answer is 18". A heading, "Final Answer", has its start at
    the end of the line. The start is -1 if the line names no value. The end is then the end of the verb in a sentence
    without a value, "The answer is found by adding.", or else -1.
    """
    low = high = without_value = -1
    # Of the sentence so far. plain: it has only words that may stand before "answer". named: "answer" has come, without
    # a verb yet. aside: behind that came words such as "to this". supposed: it is a supposition, "if the answer is 18".
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
            if is_plural:
                role = BEING if named and not aside else OTHER
            if named and role == BEING:
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
            plain = named = aside = False  # "The answer3 is": with a digit it is no word for an answer
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
    """True if the rest of a sentence, from `start` on, says no value: "unknown." or "found by adding"."""
    key, stop = read_word(data, behind_spaces(data, start, end), end, True)
    if not is_one_of(key, _NO_VALUE):
        return False
    end = min(end, start + SENTENCE_LIMIT)
    while stop < end and not is_stop(data, stop, end):
        stop += 1
    if stop >= start + SENTENCE_LIMIT:
        return False
    return says_nothing(data, start, stop) and not says_one_of(data, start, stop, _IN_WORDS)


def behind_spaces(data: Bytes, i: int, end: int) -> int:
    """Position of the first byte from i on that is neither white space nor an asterisk."""
    while i < end and (is_space(data[i]) or data[i] == ch.STAR):
        i += 1
    return i


def is_glued(data: Bytes, start: int, i: int, end: int) -> bool:
    """True if a letter stands right before or right behind the character at i: beside the 3 of "answer3 is"."""
    before = i > start and is_ascii_letter(data[i - 1] + 0)
    return before or (i + 1 < end and is_ascii_letter(data[i + 1] + 0))


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


def ends_sentence(data: Bytes, i: int, end: int) -> bool:
    """True if a sentence ends at i, apart from asterisks, without a question mark: at the `**.` of "the answer**."."""
    while i < end and data[i] == ch.STAR:
        i += 1
    return i >= end or (data[i] != _QUESTION and is_stop(data, i, end))


def closes_formula(data: Bytes, i: int, end: int) -> bool:
    r"""True if `\]` or `$$` stands at i, behind which a new sentence may begin: `$$9 + 9 = 18$$ The answer is 18`."""
    if i + 1 >= end:
        return False
    return (data[i] == ch.BACKSLASH and data[i + 1] == ch.RIGHT_BRACKET) or data[i] == data[
        i + 1
    ] == ch.DOLLAR


def behind_tag(data: Bytes, i: int, end: int) -> int:
    """Position behind the tag whose `<` stands at i, such as `<b>` and `</think>`; i if it begins no tag."""
    closing = i + 1 < end and data[i + 1] == ch.SLASH
    key, after = read_word(data, i + 2 if closing else i + 1, end, True)
    return after + 1 if key and after < end and data[after] == ch.GREATER else i


# ---- the value ----


def value_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(start, end) of the value behind a name, such as "The answer is", that ends at i; -1, -1 if there is no value.

    The value is the rest of the sentence or of the line; if nothing stands there, it is the next line with a text. A
    formula is read to its end, also over several lines.
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
    first = low
    while below and data[first - 1] != ch.NEWLINE:
        first -= 1
    first, _ = strip(data, first, end)
    while below and low + 1 < end and is_bullet(data, low):
        low += 2
    low = behind_spaces(data, low, end)
    if low >= end:
        return -1, -1
    if quoted:
        return json_value(data, low, end)
    line_end = value_end(data, low, end)
    high = end_of_list(data, first if below else -1, line_end, end)
    is_list = below and high > line_end and behind_mark(data, first, end) > first
    low, high = trimmed(data, first if is_list else low, high)
    return first if is_list else low, high


def end_of_list(data: Bytes, first: int, i: int, end: int) -> int:
    """Where the list ends that has a line for each value and whose first line ends at i; i if there is no further line.

    first: where the first line begins, or -1 if a name stands before its value. A further line has a value, and the
    same mark as the first line, "- " or "(b) ", or "or" or "and". If the first item begins with a word, so do the
    others, or neither does: "- 6" and "- Check: 2*3 = 6" are no list.
    """
    begin = behind_mark(data, first, end) if first >= 0 else first
    while i < end and data[i] == ch.NEWLINE:
        low, _ = strip(data, i, end)
        line_end = find_byte(data, ch.NEWLINE, low, end)
        item = behind_mark(data, low, end)
        key, _ = read_word(data, low, end, True)
        joins = is_one_of(key, _JOINING) and find_byte(data, ch.NEWLINE, i + 1, low) == low
        if begin > first and item > low:
            is_same_mark = data[low] == data[first] or not (is_bullet(data, low) or is_bullet(data, first))
            joins = is_same_mark and is_ascii_letter(data[item] + 0) == is_ascii_letter(data[begin] + 0)
        if not joins or count_values(data, low, line_end) == 0:
            break
        i = value_end(data, low, end)
    return i


def behind_mark(data: Bytes, i: int, end: int) -> int:
    """Position behind the mark of an item of a list, such as `- ` or `(a) `, and behind asterisks; i if none is."""
    if i + 2 >= end:
        return i
    if data[i] != ch.GREATER and is_bullet(data, i):
        return behind_spaces(data, i + 2, end)
    label = i + 1 if data[i] == ch.LEFT_PAREN else i
    is_label = ch.is_ascii_digit(data[label] + 0) or ch.LOWER_A <= data[label] <= ch.LOWER_Z
    closing = label + 1
    if not is_label or closing + 1 >= end or not is_space(data[closing + 1]):
        return i
    if data[closing] == _RIGHT_PAREN or (data[closing] == ch.POINT and label == i):
        return behind_spaces(data, closing + 1, end)
    return i


def is_bullet(data: Bytes, i: int) -> bool:
    """True if the sign at i, the first of a line, is a bullet: `- `, `* ` or `> `."""
    return (data[i] == ch.MINUS or data[i] == ch.STAR or data[i] == ch.GREATER) and is_space(data[i + 1])


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
    """Where the value that begins at `low` ends: at the end of its line, or at that of its sentence.

    The sentence's end counts if the rest of the line `says_nothing`: "18. I hope this helps!" has the value "18". At
    most VALUE_LIMIT + 1 bytes are read; a value of this length is too long.
    """
    end = min(end, low + VALUE_LIMIT + 1)
    depth = 0  # of braces, environments, `\(` and `\[`
    # display: the place is between `$$` and `$$`. goes_on: a later sentence belongs to the value, "18. No, 19."
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
    """Position behind the formula that the dollar at i opens, if it ends on the same line; else behind the dollar."""
    closing = find_byte(data, ch.DOLLAR, i + 1, find_byte(data, ch.NEWLINE, i + 1, end))
    is_formula = closing < end and data[closing] == ch.DOLLAR and not is_space(data[closing - 1])
    return closing + 1 if is_formula else i + 1


def begins_sentence(data: Bytes, start: int, end: int) -> bool:
    """True if no small letter follows at `start`: behind the first point of "7 sq. ft." no sentence begins."""
    start = behind_spaces(data, start, end)
    return start >= end or not ch.LOWER_A <= data[start] <= ch.LOWER_Z


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
    """(start, end) without spaces and asterisks around data[start:end], without its full stop and one of `ENDINGS`."""
    start = behind_spaces(data, start, end)
    last = end
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
    """How many `**` of data[start:end] begin or end bold text; not the one of a power, 2**3."""
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
    """How many bytes the verb of being at the end of data[start:end] has, such as "です" in "18です"; 0 for none."""
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
    """End of data[start:end] without the spaces and asterisks at its end."""
    while end > start and (is_space(data[end - 1]) or data[end - 1] == ch.STAR):
        end -= 1
    return end
