"""Which part of a completion is its answer: the rule shared by every task.

(1) The last closed `<answer>` block of what precedes the first end-of-text token; inside it the last balanced
box that is not empty, (2) else the block's text; (3) in lenient mode, without such a block, what stands last of these:
the last box of the completion, the text after an unclosed `<answer>`, the line after the last `####`.

Every function here is plain Python over UTF-8 bytes and is also compiled by numba as it stands, so one answer
and a million run the same code. `find_byte` alone has two forms. Every scan is linear in its input.
"""

from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

Bytes = bytes  # or, where compiled, a read-only array of uint8

ANSWER_LIMIT = 65_536  # bytes; a longer answer span is refused unread

FOUND = OK  # of a completion in which there is an answer, instead of the reason why there is none

_OPEN = tuple(b"<answer>")
_CLOSE = tuple(b"</answer>")
# What ends a completion, of every family in docs/models.md; what follows is another turn.
_BAR = tuple(b"<|")
_EOT_ID = tuple(b"<|eot_id|>")
_END_OF_TEXT = tuple(b"<|endoftext|>")
_IM_END = tuple(b"<|im_end|>")
_ROLE_END = tuple(b"<|role_end|>")
_END = tuple(b"<|end|>")
_END_OF_SENTENCE = tuple(b"</s>")
_BOX = tuple(b"\\boxed")
FRAMED_BOX = tuple(b"\\fbox")
_HASHES = tuple(b"####")
_NEWLINE, _HASH, _LESS, _BACKSLASH, _LEFT_BRACE, _RIGHT_BRACE = 10, 35, 60, 92, 123, 125
_SURROGATES = 0xA0  # the second byte behind ED, from which on it is a lone surrogate
_GAP_LIMIT = 256  # bytes before a box in which the other one of "one or the other" is looked for


def word_key(word: str) -> int:
    """A lower-case word of at most 12 letters as one integer, because numba has no quick set of strings."""
    key = 0
    for letter in word.encode():
        key = key * 32 + letter - 96
    return key


def word_keys(words: str) -> tuple[int, ...]:
    """The key of each word of a line."""
    return tuple(word_key(word) for word in words.split())


_OR = word_key("or")
_GAP_WORDS = word_keys("or text textbf mathrm mbox quad qquad")


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


def is_space(byte: int) -> bool:
    return byte == 32 or 9 <= byte <= 13


def matches(data: Bytes, start: int, end: int, pattern: tuple[int, ...]) -> bool:
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


def is_end_token(data: Bytes, start: int, end: int) -> bool:
    """Whether an end token begins at `start`, where there is a `<`."""
    return matches(data, start, end, _END_OF_SENTENCE) or (
        matches(data, start, end, _BAR)
        and (
            matches(data, start, end, _EOT_ID)
            or matches(data, start, end, _END_OF_TEXT)
            or matches(data, start, end, _IM_END)
            or matches(data, start, end, _ROLE_END)
            or matches(data, start, end, _END)
        )
    )


def is_blank(data: Bytes, start: int, end: int) -> bool:
    """Whether data[start:end] is white space alone."""
    start, end = strip(data, start, end)
    return start >= end


def read_tags(data: Bytes, start: int, end: int) -> tuple[int, int, int, int, bool]:
    """(cut, block start, block end, unclosed start, if there is exactly one pair of tags); -1: none."""
    block_start = block_end = unclosed = -1
    opened = closed = 0
    i = find_byte(data, _LESS, start, end)
    while i < end:
        second = data[i + 1] if i + 1 < end else 0
        if second == _OPEN[1] and matches(data, i, end, _OPEN):
            opened += 1
            unclosed = i + len(_OPEN)
        elif second == _CLOSE[1] and matches(data, i, end, _CLOSE):
            closed += 1
            if unclosed >= 0:
                block_start, block_end, unclosed = unclosed, i, -1
        elif is_end_token(data, i, end):
            end = i
            break
        i = find_byte(data, _LESS, i + 1, end)
    return end, block_start, block_end, unclosed, opened == 1 and closed == 1


def is_not_text(data: Bytes, start: int, end: int) -> bool:
    """True if the bytes hold NUL or a lone surrogate (encoded as ED A0..BF)."""
    i = find_byte(data, 0xED, start, end)
    while i + 1 < end and data[i + 1] < _SURROGATES:
        i = find_byte(data, 0xED, i + 1, end)
    return i + 1 < end or find_byte(data, 0, start, end) < end


def is_escaped(data: Bytes, start: int, position: int) -> bool:
    i = position
    while i > start and data[i - 1] == _BACKSLASH:
        i -= 1
    return (position - i) % 2 == 1


def last_box(data: Bytes, start: int, end: int, command: tuple[int, ...] = _BOX) -> tuple[int, int, int]:
    r"""(box start, content start, content end) of the last balanced `\boxed{}` with something in it, or -1s.

    Read from the right: `level` counts braces so that a left brace has its partner exactly if `level` has
    already been as low as it is there. command: another box's, in its place.
    """
    level = lowest = 0
    for position in range(end - 1, find_byte(data, _BACKSLASH, start, end), -1):
        byte = data[position]
        if (byte != _LEFT_BRACE and byte != _RIGHT_BRACE) or is_escaped(data, start, position):
            continue
        level += 1 if byte == _RIGHT_BRACE else -1
        if byte == _LEFT_BRACE and lowest <= level:
            box = command_before(data, start, position, command)
            if box >= 0:
                inside = position + 1
                while is_space(data[inside]):
                    inside += 1
                if data[inside] != _RIGHT_BRACE:
                    return box, position + 1, closing_brace(data, position, end)
        lowest = min(lowest, level)
    return -1, -1, -1


def command_before(data: Bytes, start: int, position: int, command: tuple[int, ...]) -> int:
    """Where the command begins whose brace is at `position`, or -1."""
    end = position
    while end > start and is_space(data[end - 1]):
        end -= 1
    end -= len(command)
    return end if end >= start and matches(data, end, position, command) else -1


def closing_brace(data: Bytes, position: int, end: int) -> int:
    """Where the brace opened at `position` closes; only called where it does."""
    depth = 1
    i = position + 1
    while i < end:
        byte = data[i]
        if byte == _BACKSLASH:
            i += 1  # whatever follows is escaped
        elif byte == _LEFT_BRACE:
            depth += 1
        elif byte == _RIGHT_BRACE:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return end


def is_joined_by_or(data: Bytes, start: int, end: int) -> bool:
    """True if the text between two boxes says "or" and no other word."""
    seen = False
    key = 0
    for i in range(start, end + 1):
        byte = data[i] | 32 if i < end else 32
        if 97 <= byte <= 122:
            key = key * 32 + byte - 96 if key < 1 << 55 else 1 << 60
        elif key:
            if key not in _GAP_WORDS:
                return False
            seen = seen or key == _OR
            key = 0
    return seen


def is_hedged(data: Bytes, start: int, box: int, content_start: int, content_end: int) -> bool:
    """True if the box at `box` follows "other box or"."""
    _, other_start, other_end = last_box(data, max(start, box - _GAP_LIMIT), box)
    if other_start < 0 or not is_joined_by_or(data, other_end + 1, box):
        return False
    for offset in range(content_end - content_start + 1):  # with the brace behind it
        if data[other_start + offset] != data[content_start + offset]:
            return True
    return False


def last_line(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) of the rest of the line after the last `####`; the start is -1 if there is none."""
    last = -1
    i = find_byte(data, _HASH, start, end)
    while i < end:
        if matches(data, i, end, _HASHES):
            last = i + len(_HASHES)
        i = find_byte(data, _HASH, i + 1, end)
    return last, find_byte(data, _NEWLINE, max(last, start), end)


def is_alone(data: Bytes, start: int, end: int, low: int, high: int, exact: bool) -> bool:
    r"""True if the box around data[low:high] is all that its `<answer>` block holds.

    `exact`: written `\boxed{`, with nothing but spaces beside its content.
    """
    _, block_start, block_end, _, _ = read_tags(data, start, end)
    while data[low - 1] == 32 or (not exact and is_space(data[low - 1])):
        low -= 1
    while data[high] == 32 or (not exact and is_space(data[high])):
        high += 1
    box = command_before(data, block_start, low - 1, _BOX)
    alone = box >= 0 and is_blank(data, block_start, box) and is_blank(data, high + 1, block_end)
    written = data[low - 1] == _LEFT_BRACE and data[high] == _RIGHT_BRACE
    return alone and written and (not exact or box + len(_BOX) == low - 1)


def locate(data: Bytes, start: int, end: int, lenient: bool) -> tuple[int, int, int, bool]:
    """(FOUND | NO_ANSWER | MALFORMED | HEDGE, start, end, if it is from a box) of the answer in data[start:end].

    The span is stripped of white space and -1, -1 where there is none. In strict mode the completion must
    hold exactly one `<answer>` and one `</answer>`.
    """
    cut, block_start, block_end, unclosed, single = read_tags(data, start, end)
    boxed = False
    if block_start >= 0:
        if not (lenient or single):
            return MALFORMED, -1, -1, False
        scope, low, high = block_start, block_start, block_end
        box, inner_start, inner_end = last_box(data, low, high)
    elif not lenient:
        return NO_ANSWER, -1, -1, False
    else:
        # What stands last and is not empty counts: a box in the reasoning is no answer where an unclosed block or a
        # line with #### follows it.
        scope, low, high = start, unclosed, cut
        if unclosed >= 0 and is_blank(data, unclosed, cut):
            low = -1
        box, inner_start, inner_end = last_box(data, max(start, low), cut)
        line_start, line_end = last_line(data, start, cut)
        if line_start > max(box, low) and not is_blank(data, line_start, line_end):
            box, low, high = -1, line_start, line_end
    if box >= 0:
        boxed, low, high = True, inner_start, inner_end
    if low < 0:
        return NO_ANSWER, -1, -1, False
    if high - low > ANSWER_LIMIT or is_not_text(data, low, high):
        return MALFORMED, -1, -1, boxed
    hedged = boxed and is_hedged(data, scope, box, inner_start, inner_end)
    low, high = strip(data, low, high)
    if low == high:
        return NO_ANSWER, -1, -1, boxed
    return (HEDGE if hedged else FOUND), low, high, boxed


def locate_row(
    data: Bytes, start: int, end: int, lenient: bool, references: tuple, row: int, scratch: tuple
) -> tuple[int, int, float, int, int]:
    """`locate` in the form of `batch.RowLoop`, with 1 for a box as the tier."""
    status, low, high, boxed = locate(data, start, end, lenient)
    return status, int(boxed), 0.0, low, high
