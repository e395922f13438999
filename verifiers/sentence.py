r"""The answer that a completion names at its end: `The answer is $18$.`, `### Answer`, `\fbox{18}`, `So it is **18**.`

Lenient mode of GSM8K and MATH reads it where there is neither an `<answer>` block nor a box nor `####`, and inside an
`<answer>` block: `<answer>The final answer is: 16</answer>`. What is named stands on the same line or below it.
Plain Python over UTF-8 bytes that numba also compiles as it stands, like `verifiers.extract`.
"""

from verifiers import characters as ch
from verifiers.characters import is_one_of, read_word, says_one_of
from verifiers.extract import (
    FRAMED_BOX,
    Bytes,
    find_byte,
    is_space,
    last_box,
    read_tags,
    strip,
    word_key,
    word_keys,
)

LINES_LIMIT = 4  # lines that are not blank, from the end, on which an answer can be named

_ANSWER, _IS = word_key("answer"), word_key("is")
_BEFORE = word_keys("the final so thus therefore hence then and my our correct")  # "if", "doubt", ... are not
_DOUBTS = word_keys("if unless suppose assuming nobody no not never doubt")
_SO = word_keys("so thus therefore hence")  # may begin a clause
_STOPS = tuple(b".!?")


def answer_sentence(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the answer that is named at the end of data[start:end], before an end token, or -1s."""
    end, _, _, _, _ = read_tags(data, start, end)
    low, high = named_answer(data, start, end)
    if low < 0:
        _, low, high = last_box(data, start, end, FRAMED_BOX)
    return bold_answer(data, start, end) if low < 0 else (low, high)


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


def named_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the answer that is named at the end of data[start:end], or -1s.

    Markdown's asterisks around it, or around the whole line, are left out.
    """
    start, end = strip(data, start, end)
    line_end = end
    for number in range(LINES_LIMIT):
        line = line_end
        while line > start and data[line - 1] != ch.NEWLINE:
            line -= 1
        behind = behind_name(data, line, line_end)
        if behind >= 0:
            low, high = without_marks(data, behind, end)
            return (low, high) if low < high and (number == 0 or low >= line_end) else (-1, -1)
        _, line_end = strip(data, start, line)
    return -1, -1


def without_marks(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """data[start:end] without colons before it, without spaces and asterisks around it, and without its full stop."""
    while start < end and (is_space(data[start]) or data[start] == ch.COLON or data[start] == ch.STAR):
        start += 1
    end = before_stars(data, start, end)
    if end - start > 1 and data[end - 1] == ch.POINT and data[end - 2] != ch.POINT:  # no ellipsis
        end = before_stars(data, start, end - 1)
    return start, end


def before_stars(data: Bytes, start: int, end: int) -> int:
    """Where data[start:end] ends without spaces and asterisks behind it."""
    while end > start and (is_space(data[end - 1]) or data[end - 1] == ch.STAR):
        end -= 1
    return end


def says_so(data: Bytes, start: int, end: int) -> bool:
    """Whether a clause such as "so the answer is 18" begins at `start`."""
    start, end = strip(data, start, end)
    return is_one_of(read_word(data, start, end, True)[0], _SO)


def ends_sentence(data: Bytes, line: int, i: int, end: int) -> bool:
    """Whether the sign at i ends a sentence or its first clause, or a tag that closes: `</think>The answer is 18`."""
    if data[i] != ch.GREATER:
        stops = data[i] in _STOPS and (i + 1 == end or is_space(data[i + 1]))
        return stops or (data[i] == ch.COMMA and says_so(data, i + 1, end))
    tag = i
    while tag > line and 97 <= data[tag - 1] | 32 <= 122:
        tag -= 1
    return tag - 1 > line and data[tag - 1] == ch.SLASH and data[tag - 2] == ch.LESS


def behind_name(data: Bytes, line: int, end: int) -> int:
    """Position behind the last "the answer is" or "answer:" on a line that begins a sentence, or -1.

    Of a line without one that ends in "Final Answer" it is the end.
    """
    plain, named = True, False  # only such words in this sentence so far; the last of them is "answer"
    behind = -1
    i = line
    while i < end:
        if not plain:  # no word counts before the next sentence begins, and no letter ends one
            plain = data[i] < 65 and ends_sentence(data, line, i, end)
            i += 1
            continue
        key, after = read_word(data, i, end, True)
        if named and (key == _IS or data[i] == ch.COLON or data[i] == ch.EQUALS):
            behind, plain, named = max(after, i + 1), False, False
        elif key:
            named = plain and key == _ANSWER
            plain = named or (plain and is_one_of(key, _BEFORE))
        elif ends_sentence(data, line, i, end):
            plain, named = True, False
        i = max(after, i + 1)
    return end if named and behind < 0 else behind
