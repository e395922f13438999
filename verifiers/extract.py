r"""Which part of a completion is its answer: the rule shared by every task.

(1) The last balanced `\boxed{}` that is not empty, in the last closed `<answer>` block. (2) Without such a box, the
text of that block. (3) Without such a block, in lenient mode, what stands last of these: the last box of the
completion, the text after an unclosed `<answer>`, the line of the last `####`. What follows the first end-of-text token
is not read. What stands in a closed `<think>` or `<reasoning>` block is no final answer, unless nothing follows it.

Every function here is plain Python over UTF-8 bytes and is also compiled by numba as it stands, so one answer
and a million run the same code. Only a few small functions have a second form, `..._in_array`, for where they are
compiled. Every scan is linear in its input.

A zero is added to some bytes and constants, `data[i] + 0`, here and in other files: in compiled code an item of `data`
is a uint8, and the sum is an int64. So a difference of two bytes may be negative, and a function gets and returns
integers of one type.
"""

from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

Bytes = bytes  # or, where compiled, a read-only array of uint8

ANSWER_LIMIT = 65_536  # bytes; a longer answer span is refused unread

FOUND = OK  # the status of a completion with an answer; without an answer, the status is the reason why

_OPEN = b"<answer>"
_CLOSE = b"</answer>"
_ANSWER_NAME, _REASONING_NAME = b"answer>", b"reasoning>"
_GREATER, _SLASH, _BAR, _BLANK, _UNDERSCORE = tuple(b">/| _")
# The end-of-text tokens of every family in docs/models.md; what follows one is another turn.
_END_TOKENS = (b"</s>", b"<|eot_id|>", b"<|endoftext|>", b"<|im_end|>", b"<|role_end|>", b"<|end|>")
_END_BYTES = b"".join(_END_TOKENS)
_END_SIZES = bytes(map(len, _END_TOKENS))
Command = tuple[int, ...]
"""The bytes of a LaTeX command. It is a tuple, because compiled code is quicker if it knows the length."""
BOX: Command = tuple(b"\\boxed")
FRAMED_BOX: Command = tuple(b"\\fbox")
_HASHES = b"####"
_NEWLINE, _HASH, _LESS, _BACKSLASH, _LEFT_BRACE, _RIGHT_BRACE = 10, 35, 60, 92, 123, 125
_DOLLAR, _STAR, _COMMA, _MINUS, _POINT, _COLON, _EQUALS = tuple(b"$*,-.:=")
_SURROGATES = 0xA0  # behind the byte ED, this byte and those above it make a lone surrogate
_LIST_LIMIT = 40  # the most boxes of one list
_GAP_LIMIT = 256  # bytes before a box in which another box of its list is looked for: \boxed{3} or \boxed{5}


def word_key(word: str) -> int:
    """A lower-case word of at most 12 letters as one integer, because numba has no quick set of strings."""
    key = 0
    for letter in word.encode():
        key = key * 32 + letter - 96
    return key


def word_keys(words: str) -> tuple[int, ...]:
    """The key of each word of a line."""
    return tuple(word_key(word) for word in words.split())


_ANSWER, _FINAL = word_key("answer"), word_key("final")
_FINAL_ANSWER = word_key("finalanswer")
_THINKING = word_keys("think thinking reasoning")
(
    NO_TAG,
    OPENS_ANSWER,
    CLOSES_ANSWER,
    OPENS_UNUSUAL,
    CLOSES_UNUSUAL,
    OPENS_THINKING,
    CLOSES_THINKING,
    ENDS_TEXT,
) = range(8)
"""Kinds of tags. An unusual tag is not written `<answer>`: `<Answer>`, `<final answer>`."""
_OR, _AND, _NOT = word_key("or"), word_key("and"), word_key("not")
_RATHER, _THAN, _INSTEAD, _OF = word_keys("rather than instead of")
_BEFORE_BOX = tuple(b"\\(${}*")
r"""Signs that may stand between "not", "than" or "of" and a box: "not $\boxed{96}$"."""
_BEHIND_BOX = tuple(b"\\)$]}*.!")  # signs that may stand between a box and the end of its line
_GAP_WORDS = word_keys("or and text textbf mathrm mbox quad qquad")
r"""Words and commands that may stand between two boxes of one list: `\boxed{3} \text{ and } \boxed{5}`."""
_GAP_SIGNS = tuple(b" \t\r\n\\$(){}[];~,")  # signs that may stand between two such boxes
APART, OR, LIST = range(3)  # how two boxes are joined; see `joint`
OVER_LONG = 1 << 60  # the key of a word of more than 12 letters


def find_byte(data: Bytes, byte: int, start: int, end: int) -> int:
    """Position of the first `byte` in data[start:end], or `end`."""
    position = data.find(byte, start, end)
    return position if position >= 0 else end


def find_byte_in_array(data, byte, start, end):  # type: ignore[no-untyped-def]
    """`find_byte` where compiled (numba asks for no annotations): 64 bytes at a time, without a branch."""
    wanted = byte & 255
    position = start
    while position + 64 <= end:
        hit = False
        for other in data[position : position + 64]:
            hit |= other == wanted
        if hit:
            break
        position += 64
    while position < end:
        if data[position] == wanted:
            return position
        position += 1
    return end


def line_start(data: Bytes, start: int, end: int) -> int:
    """Where the line that ends at `end` begins, but at least `start`."""
    return max(data.rfind(_NEWLINE, start, end) + 1, start)


def line_start_in_array(data, start, end):  # type: ignore[no-untyped-def]
    """`line_start` where compiled."""
    line = end
    while line > start and data[line - 1] != _NEWLINE:
        line -= 1
    return line


def is_space(byte: int) -> bool:
    """True for ASCII white space."""
    return byte == 32 or 9 <= byte <= 13


def is_ascii_letter(code: int) -> bool:
    """True for an ASCII letter."""
    return 65 <= code <= 90 or 97 <= code <= 122


ANY_CASE = True
"""An argument of `read_word`: capital letters are read as small ones."""


def read_word(data: Bytes, i: int, end: int, any_case: bool = False) -> tuple[int, int]:
    """(key of the word that starts at i, position after it); (0, i) if none does.

    All words of more than 12 letters have the key OVER_LONG. A word has only ASCII letters in lower case; with
    `any_case` also capitals, which are read as lower case.
    """
    key = 0
    while i < end:
        letter = data[i] | 32 if any_case and data[i] >= 65 else data[i] + 0
        if not 97 <= letter <= 122:
            break
        key = key * 32 + letter - 96 if key < 1 << 55 else OVER_LONG
        i += 1
    return key, i


def matches(data: Bytes, start: int, end: int, pattern: bytes | Command) -> bool:
    """True if data[start:end] begins with a pattern."""
    return data.startswith(bytes(pattern), start, end)


def matches_in_array(data, start, end, pattern):  # type: ignore[no-untyped-def]
    """`matches` where compiled."""
    if start + len(pattern) > end:
        return False
    for offset in range(len(pattern)):
        if data[start + offset] != pattern[offset]:
            return False
    return True


def strip(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """data[start:end] without ASCII white space around it, as (start, end)."""
    while start < end and is_space(data[start]):
        start += 1
    while end > start and is_space(data[end - 1]):
        end -= 1
    return start, end


def is_blank(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] holds nothing but white space."""
    start, end = strip(data, start, end)
    return start >= end


def tag_at(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(kind, position after it) of the tag whose `<` stands at i, in small or capital letters.

    The kind is NO_TAG if no known tag stands there. The position of ENDS_TEXT is i.
    """
    closing = i + 1 < end and data[i + 1] == _SLASH
    name = i + 2 if closing else i + 1
    shift = 1 if closing else 0  # the kind of a closing tag is 1 above that of its opening tag
    if matches(data, name, end, _ANSWER_NAME):  # the usual spelling, for which no word has to be read
        return OPENS_ANSWER + shift, name + len(_ANSWER_NAME)
    if matches(data, name, end, _REASONING_NAME):
        return OPENS_THINKING + shift, name + len(_REASONING_NAME)
    if i + 1 < end and (closing or data[i + 1] == _BAR) and is_end_token(data, i, end):
        return ENDS_TEXT, i
    key, after = read_word(data, name, end, ANY_CASE)
    if (
        key == _FINAL
        and after < end
        and (data[after] == _BLANK or data[after] == _UNDERSCORE or data[after] == _MINUS)
    ):
        # <final answer>, <final_answer>, <final-answer>
        key, after = read_word(data, after + 1, end, ANY_CASE)
        key = _FINAL_ANSWER + 0 if key == _ANSWER else 0
    if after >= end or data[after] != _GREATER:
        return NO_TAG, i + 1
    if key == _ANSWER or key == _FINAL_ANSWER:
        return OPENS_UNUSUAL + shift, after + 1
    for word in _THINKING:
        if key == word:
            return OPENS_THINKING + shift, after + 1
    return NO_TAG, i + 1


def is_end_token(data: Bytes, start: int, end: int) -> bool:
    """True if an end-of-text token begins at `start`."""
    return data.startswith(_END_TOKENS, start, end)


def is_end_token_in_array(data, start, end):  # type: ignore[no-untyped-def]
    """`is_end_token` where compiled."""
    begin = 0
    for k in range(len(_END_SIZES)):
        size = _END_SIZES[k] + 0
        offset = 0
        while offset < size and start + offset < end and data[start + offset] == _END_BYTES[begin + offset]:
            offset += 1
        if offset == size:
            return True
        begin += size
    return False


def read_tags(data: Bytes, start: int, end: int) -> tuple[int, int, int, int, int, int, bool]:
    """(cut, begin, block_start, block_end, unclosed, unclosed_end, single): where a final answer may stand.

    A place that does not exist is -1.

    cut: the end of the text, before the first end-of-text token. begin: the end of the last closed `<think>` or
    `<reasoning>` block, before which no final answer stands; `start` if nothing follows that block. block_start,
    block_end: the content of the last closed `<answer>` block behind `begin`; if none stands there, of the last one
    before the reasoning block that ends at `begin`. unclosed, unclosed_end: the text behind an `<answer>` that is not
    closed. single: whether there is exactly one `<answer>` and one `</answer>`, both in the usual spelling.
    """
    # reasoning_counts: whether a final answer may stand in a closed `<think>` or `<reasoning>` block.
    text_end, reasoning_counts = end, False
    while True:
        end = text_end
        begin = start
        block_start = block_end = unclosed = unclosed_end = -1
        opening = -1  # the end of the `<answer>` that is open
        # The start of the `<think>` that is open, and the last `<answer>` block before it.
        thinking = outer_start = outer_end = -1
        opened = closed = 0
        i = find_byte(data, _LESS, start, end)
        while i < end:
            kind, after = tag_at(data, i, end)
            if kind == NO_TAG:
                pass
            elif kind == ENDS_TEXT:
                end = i
                break
            elif kind == OPENS_ANSWER or kind == OPENS_UNUSUAL:
                opened += 1 if kind == OPENS_ANSWER else 2  # an unusual tag is never the single one
                if opening >= 0 and not is_blank(data, opening, i):  # <answer>7<answer>
                    unclosed, unclosed_end = opening, i
                opening = after
            elif kind == CLOSES_ANSWER or kind == CLOSES_UNUSUAL:
                closed += 1 if kind == CLOSES_ANSWER else 2
                if opening >= 0:
                    block_start, block_end, opening = opening, i, -1
            elif kind == OPENS_THINKING:
                if thinking < 0:  # of nested tags, the outermost
                    thinking, outer_start, outer_end = i, block_start, block_end
            elif kind == CLOSES_THINKING:
                if not reasoning_counts:
                    begin = after
                    # Blocks inside the reasoning do not count: the last block is again the one before the reasoning.
                    block_start, block_end, unclosed, opening = outer_start, outer_end, -1, -1
                thinking = outer_start = outer_end = -1
            i = find_byte(data, _LESS, after, end)
        if reasoning_counts or begin == start or block_start >= 0 or not is_blank(data, begin, end):
            break
        reasoning_counts = True  # nothing stands behind it, so the answer may stand in it
    if opening >= 0 and (unclosed < 0 or not is_blank(data, opening, end)):
        unclosed, unclosed_end = opening, end
    return end, begin, block_start, block_end, unclosed, unclosed_end, opened == 1 and closed == 1


def is_not_text(data: Bytes, start: int, end: int) -> bool:
    """True if the bytes hold NUL or a lone surrogate (encoded as ED A0..BF)."""
    i = find_byte(data, 0xED, start, end)
    while i + 1 < end and data[i + 1] < _SURROGATES:
        i = find_byte(data, 0xED, i + 1, end)
    return i + 1 < end or find_byte(data, 0, start, end) < end


def last_box(data: Bytes, start: int, end: int, command: Command) -> tuple[int, int, int]:
    r"""(box start, content start, content end) of the last closed `\boxed{}` with something in it, or -1s.

    A box does not count if `is_rejected` is true for it. command: BOX, or FRAMED_BOX for `\fbox{}`. The boxes are read
    from the last one to the first.
    """
    # The brace of the box that was read before, and where it is closed. No byte within it has to be read again.
    later_brace = later_closing = end
    box = last_command(data, start, end, command)
    while box >= 0:
        brace = box + len(command)
        while brace < end and is_space(data[brace]):
            brace += 1
        if brace < end and data[brace] == _LEFT_BRACE:
            closing = closing_brace(data, brace, end, later_brace, later_closing)
            if closing < end and not is_blank(data, brace + 1, closing):
                if not is_rejected(data, start, box, closing + 1, end):
                    return box, brace + 1, closing
            later_brace, later_closing = brace, closing
        box = last_command(data, start, box, command)
    return -1, -1, -1


def last_command(data: Bytes, start: int, end: int, command: Command) -> int:
    """Position of the last `command` in data[start:end], or -1."""
    return data.rfind(bytes(command), start, end)


def last_command_in_array(data, start, end, command):  # type: ignore[no-untyped-def]
    """`last_command` where compiled."""
    for position in range(end - len(command), start - 1, -1):
        if matches(data, position, end, command):
            return position
    return -1


def is_rejected(data: Bytes, start: int, box: int, box_end: int, end: int) -> bool:
    r"""True for the second box of `\boxed{2}, not \boxed{3}`: it ends its line, and "not" stands before it.

    "rather than" and "instead of" reject it, too. A variable may stand between the words and the box: `not
    $x = \boxed{3}$`. data[box:box_end] is the box.
    """
    for i in range(box_end, end):
        if data[i] == _NEWLINE:
            break
        if not (is_space(data[i]) or data[i] in _BEHIND_BOX):
            return False
    key, i = word_before(data, start, box)
    equals = before_spaces(data, start, box)
    if equals > start and data[equals] == _EQUALS:
        variable = before_spaces(data, start, equals)
        if variable < start or not is_ascii_letter(data[variable] + 0):
            return False
        key, i = word_before(data, start, variable)
    if key == _NOT:
        return True
    return (key == _THAN or key == _OF) and is_other_than(word_before(data, start, i)[0], key)


def is_other_than(first: int, second: int) -> bool:
    """True if `first` and `second` are the keys of "rather" and "than", or of "instead" and "of"."""
    return (second == _THAN and first == _RATHER) or (second == _OF and first == _INSTEAD)


def word_before(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(key of the word that ends a line, apart from signs of formulas and bold type; where it begins).

    The line is data[start:end], or the last one of it.
    """
    while end > start and data[end - 1] != _NEWLINE:
        if not (is_space(data[end - 1]) or data[end - 1] in _BEFORE_BOX):
            break
        end -= 1
    begin = end
    while begin > start and is_ascii_letter(data[begin - 1] + 0):
        begin -= 1
    key, _ = read_word(data, begin, end, ANY_CASE)
    return key, begin


def command_before(data: Bytes, start: int, position: int, command: Command) -> int:
    """Where `command` begins if the brace at `position` is its own, else -1."""
    end = position
    while end > start and is_space(data[end - 1]):
        end -= 1
    end -= len(command)
    return end if end >= start and matches(data, end, position, command) else -1


def closing_brace(data: Bytes, position: int, end: int, later: int, later_closing: int) -> int:
    """Position of the brace that closes the left brace at `position`, or `end` if none does.

    What stands between the left brace at `later` and its own closing brace is passed over.
    """
    depth = 1
    i = position + 1
    while i < end:
        byte = data[i]
        if byte == _BACKSLASH:
            i += 1  # whatever follows is escaped
        elif byte == _LEFT_BRACE and i == later:
            i = later_closing
        elif byte == _LEFT_BRACE:
            depth += 1
        elif byte == _RIGHT_BRACE:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return end


def joint(data: Bytes, start: int, end: int) -> int:
    """How the text between two boxes joins them: LIST by commas or "and", OR if "or" is among its words; else APART.

    A word other than those of `_GAP_WORDS` makes it APART.
    """
    # joins: whether a comma or "and" stands there. strange: whether a sign stands there that no list has.
    says_or = joins = strange = False
    i = start
    while i < end:
        key, after = read_word(data, i, end, ANY_CASE)
        if key:
            known = False
            for word in _GAP_WORDS:
                known |= key == word
            if not known:
                return APART
            says_or |= key == _OR
            joins |= key == _AND
        else:
            joins |= data[i] == _COMMA
            known = False
            for sign in _GAP_SIGNS:
                known |= data[i] == sign
            strange |= not known
            after = i + 1
        i = after
    if says_or:
        return OR
    return LIST if joins and not strange else APART


def name_before(data: Bytes, start: int, box: int) -> int:
    r"""Position of the variable before the box at `box`: the x of `x = \boxed{3}` and of `x_1 = \boxed{3}`; else -1.

    The variable begins the text, or stands behind a dollar, a comma, a colon or a word, and not behind an operand or a
    command: `2 x`, `1 + x`, `\cos x`.
    """
    i = before_spaces(data, start, box)
    if i < start or data[i] != _EQUALS:
        return -1
    i = before_spaces(data, start, i)
    if i > start and 48 <= data[i] <= 57 and data[i - 1] == _UNDERSCORE:
        i -= 2  # the x of x_1
    if i < start or not is_ascii_letter(data[i]):
        return -1
    before = before_spaces(data, start, i)
    if before < start or data[before] == _DOLLAR or data[before] == _COMMA or data[before] == _COLON:
        return i
    begin = before
    while begin >= start and is_ascii_letter(data[begin]):
        begin -= 1
    is_command = begin >= start and data[begin] == _BACKSLASH
    is_word = before < i - 1 and begin < before - 1
    return i if is_word and not is_command else -1


def before_spaces(data: Bytes, start: int, i: int) -> int:
    """Position of the last byte before i that is no white space, or start - 1."""
    i -= 1
    while i >= start and is_space(data[i]):
        i -= 1
    return i


def is_other_text(data: Bytes, first: int, second: int, length: int) -> bool:
    """True if the texts of one length that begin at `first` and at `second` differ."""
    for offset in range(length):
        if data[first + offset] != data[second + offset]:
            return True
    return False


def first_of_list(
    data: Bytes, start: int, box: int, content_start: int, content_end: int
) -> tuple[int, bool]:
    """(start of the list of boxes whose last one is at `box`, whether "or" joins a box of another value to `box`).

    `\\boxed{3}, \\boxed{5} and \\boxed{7}` is one list, and so is `x=\\boxed{3}$, $x=\\boxed{5}`. A single box or
    boxes of the same content are no list; then the start is `box`.
    """
    first, differs = box, False
    for _ in range(_LIST_LIMIT):
        other, other_start, other_end = last_box(data, max(start, first - _GAP_LIMIT), first, BOX)
        # If there is no other box, `other` is -1, and no name stands before it.
        name, other_name = name_before(data, start, first), name_before(data, start, other)
        is_same_name = name >= 0 and other_name >= 0 and data[name] == data[other_name]
        kind = joint(data, other_end + 1, name if is_same_name else first) if other >= 0 else APART
        if kind == APART:
            break
        size = content_end - content_start + 1  # with the closing brace, so that 35 differs from 3
        differs |= is_other_text(data, other_start, content_start, size)
        if kind == OR:
            return box, differs
        first = other
    list_start = first if differs else box
    return list_start, False


def open_box(data: Bytes, start: int, end: int) -> tuple[int, int, int]:
    r"""(box start, content start, content end) of the last box that nothing closes, `\boxed 7` and `\boxed{7`, or -1s.

    Without a brace, the box holds a number, up to the next space; with one, the rest of the line.
    """
    box = low = -1
    i = find_byte(data, _BACKSLASH, start, end)
    while i < end:
        if matches(data, i, end, BOX) and not is_rejected(data, start, i, end, end):
            box, low = i, i + len(BOX)
        i = find_byte(data, _BACKSLASH, i + 1, end)
    if box < 0:
        return -1, -1, -1
    while low < end and is_space(data[low]):
        low += 1
    high = end
    if low < end and data[low] == _LEFT_BRACE:
        low += 1
        high = min(high, find_byte(data, _NEWLINE, low, end))
    elif low == box + len(BOX) or low == end or not (48 <= data[low] <= 57 or data[low] == _MINUS):
        return -1, -1, -1
    else:
        high = low
        while high < end and not is_space(data[high]) and data[high] != _DOLLAR:
            high += 1
    while high > low and (is_space(data[high - 1]) or data[high - 1] == _DOLLAR or data[high - 1] == _POINT):
        high -= 1
    return (box, low, high) if high > low and data[low] != _RIGHT_BRACE else (-1, -1, -1)


def last_line(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the text that the last `####` marks: the rest of its line, or the only line below; -1s if none.

    A line such as `#### Step 2` with a text below is a heading, and marks nothing. The text ends at another `####`, and
    at a label that is glued to a digit: `#### 80question: There are`.
    """
    low = high = line_end = -1
    _, end = strip(data, start, end)
    i = find_byte(data, _HASH, start, end)
    while i < end:
        if matches(data, i, end, _HASHES):
            first = i + len(_HASHES)
            goes_on = i < line_end  # another `####` stands before this one on the same line
            if not goes_on:
                line_end = find_byte(data, _NEWLINE, first, end)
            while first < end and data[first] == _HASH:
                first += 1
            last = min(find_byte(data, _HASH, first, line_end), line_end)
            if not is_blank(data, first, last):
                if goes_on or line_end == end or not starts_word(data, first, last):
                    low, high = first, before_label(data, first, last)
            elif not goes_on:
                below, below_end = strip(data, line_end, end)
                if below < below_end and find_byte(data, _NEWLINE, below, below_end) == below_end:
                    if not starts_word(data, below, below_end):
                        low, high = below, below_end
            i = first - 1
        i = find_byte(data, _HASH, i + 1, end)
    return low, high


def starts_word(data: Bytes, start: int, end: int) -> bool:
    """True if data[start:end] begins with a word of two or more ASCII letters: " **Step 2"."""
    while start < end and (is_space(data[start]) or data[start] == _STAR):
        start += 1
    _, after = read_word(data, start, end, ANY_CASE)
    return after > start + 1


def before_label(data: Bytes, start: int, end: int) -> int:
    """End of data[start:end] without a label that is glued to a digit: behind the 80 of `80question: There are`."""
    i = start + 1
    while i < end:
        _, after = read_word(data, i, end, ANY_CASE)
        if after > i and 48 <= data[i - 1] <= 57 and after < end and data[after] == _COLON:
            return i
        i = max(after, i + 1)
    return end


def is_alone(data: Bytes, start: int, end: int, low: int, high: int, as_in_prompt: bool) -> bool:
    r"""True if the box around data[low:high] is all that its `<answer>` block holds.

    as_in_prompt: the box must be written `\boxed{`, with nothing but spaces beside its content.
    """
    while data[low - 1] == 32 or (not as_in_prompt and is_space(data[low - 1])):
        low -= 1
    while data[high] == 32 or (not as_in_prompt and is_space(data[high])):
        high += 1
    box = command_before(data, start, low - 1, BOX)
    if box < 0 or data[low - 1] != _LEFT_BRACE or data[high] != _RIGHT_BRACE:
        return False
    _, before = strip(data, start, box)
    behind, _ = strip(data, high + 1, end)
    opens = before - len(_OPEN) >= start and matches(data, before - len(_OPEN), before, _OPEN)
    closes = matches(data, behind, end, _CLOSE)
    return opens and closes and (not as_in_prompt or box + len(BOX) == low - 1)


def locate(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool]:
    """(FOUND | NO_ANSWER | MALFORMED | HEDGE, start, end, whether it is from a box) of the answer in data[start:end].

    The span has no white space around it; it is -1, -1 if there is no answer. In strict mode the completion must hold
    exactly one `<answer>` and one `</answer>`.
    """
    status, low, high, boxed, _, _ = locate_mark(data, start, end, lenient)
    return status, low, high, boxed


def locate_mark(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool, int, int]:
    """What `locate` returns, and (start, end) of the text behind the answer, in which a sentence may name a later one.

    If no box, tag or `####` marks an answer, this text is all that may be a final answer. The start of this text is -1
    in strict mode, or if a closed block was found.
    """
    cut, begin, block_start, block_end, unclosed, unclosed_end, single = read_tags(data, start, end)
    boxed = False
    behind = -1
    # scope: where the text begins in which the answer is looked for, a closed block or all that may be a final answer.
    if block_start >= 0:
        if not (lenient or single):
            return MALFORMED, -1, -1, False, -1, -1
        scope, low, high = block_start, block_start, block_end
        box, inner_start, inner_end = last_box(data, low, high, BOX)
    elif not lenient:
        return NO_ANSWER, -1, -1, False, -1, -1
    else:
        # What stands last and is not empty counts: a box of an intermediate step is no answer where an unclosed block
        # or a line with #### follows it.
        scope, low, high = begin, unclosed, unclosed_end
        if unclosed >= 0 and is_blank(data, unclosed, unclosed_end):
            low = -1
        box, inner_start, inner_end = last_box(data, max(begin, low), cut, BOX)
        marked, marked_end = last_line(data, begin, cut)
        if marked > max(box, low):
            box, low, high = -1, marked, marked_end
        behind = begin  # unless a mark is found
    if lenient:
        # An open box counts if it stands behind what was found so far.
        rest = max(inner_end, scope) if box >= 0 else max(low, scope)
        rest_end = high if block_start >= 0 else cut
        if rest_end - rest > len(BOX):
            other, other_start, other_end = open_box(data, rest, rest_end)
            if other >= 0:
                box, inner_start, inner_end = other, other_start, other_end
    if box >= 0:
        boxed, low, high = True, inner_start, inner_end
    if low < 0:
        return NO_ANSWER, -1, -1, False, behind, cut
    if behind >= 0:
        behind = high  # an answer is marked, so only what follows it is left
    if high - low > ANSWER_LIMIT or is_not_text(data, low, high):
        return MALFORMED, -1, -1, boxed, behind, cut
    hedged = False
    if boxed and box - scope > len(BOX):  # there is room for another box before this one
        first, hedged = first_of_list(data, scope, box, inner_start, inner_end)
        if lenient and first < box:
            low, high = first, high + 1
    low, high = strip(data, low, high)
    if low == high:
        return NO_ANSWER, -1, -1, boxed, behind, cut
    return HEDGE if hedged else FOUND, low, high, boxed, behind, cut
