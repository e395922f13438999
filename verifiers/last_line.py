r"""The answer that the last line shows without naming it: `**18**` in bold, or B in "So option B is correct.".

The functions are plain Python over UTF-8 bytes, and numba also compiles them as they stand.
"""

from verifiers import characters as ch
from verifiers.answer_words import ANSWER, BEFORE, BEING, SO, word_at
from verifiers.characters import is_one_of, says_one_of
from verifiers.extract import (
    ANY_CASE,
    Bytes,
    find_byte,
    is_ascii_letter,
    is_blank,
    is_space,
    line_start,
    read_word,
    strip,
    word_keys,
)
from verifiers.named_value import (
    DOUBTS,
    before_stars,
    behind_spaces,
    behind_stars,
    is_colon,
    is_stop,
    trimmed,
)

_CORRECT, _CHOICE = word_keys("correct right"), word_keys("option choice")
_OPERATORS = tuple(b"+-/")
"""Signs that make bold text before them an operand if a calculation without words follows."""
_AROUND_LETTER = tuple(b"*(),:")
"""Signs that may stand in a line such as "So, **(B)** is correct."."""


def bold_answer(data: Bytes, start: int, end: int) -> tuple[int, int]:
    r"""(start, end) of the number or equation, `**\$18**`, that is the only bold text of the last line; else -1s.

    Also -1s if one of `DOUBTS` stands before the bold text, "It is not **18**", or if that text is an operand, as in
    "**24** - 4 = 20".
    """
    line, end = last_line_with_text(data, start, end)
    low = behind_stars(data, line, end)
    closed = behind_stars(data, low, end)  # 0 if no stars close the bold text
    if low == 0 or closed == 0 or behind_stars(data, closed, end) > 0:  # no bold text, or several
        return -1, -1
    high = closed - 2
    first = low + 1 if data[low] == ch.BACKSLASH or data[low] == ch.MINUS else low
    is_number = ch.is_ascii_digit(data[first]) or data[first] == ch.DOLLAR
    is_value = is_number or find_byte(data, ch.EQUALS, low, high) < high
    behind = behind_spaces(data, high, end)
    is_operand = behind < end and is_one_of(data[behind] + 0, _OPERATORS)
    is_calculated = is_operand and find_byte(data, ch.EQUALS, behind, end) < end  # **24** - 4 = 20
    while is_calculated and behind < end:
        is_calculated = not is_ascii_letter(data[behind] + 0)
        behind += 1
    if not is_value or is_calculated or says_one_of(data, line, low, DOUBTS):
        return -1, -1
    return low, high


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
        key, _ = read_word(data, i, end, ANY_CASE)
        claims = is_correct and has_noun and low < 0  # "The correct option" has come
        if after == i:
            if claims and is_colon(data, i, end):
                return choice_behind(data, i + 1, end)
            if is_stop(data, i, end):
                if data[i] == ch.QUESTION or not is_blank(data, i + 1, before_stars(data, i + 1, end)):
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
    """(start, end) of the choice that a line names behind "The correct option is"; -1s if that is in doubt."""
    return (-1, -1) if says_one_of(data, start, end, DOUBTS) else trimmed(data, start, end)


def last_line_with_text(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the last line of data[start:end] that is not blank."""
    start, end = strip(data, start, end)
    return line_start(data, start, end), end
