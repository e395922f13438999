r"""The one closed `<answer>` block, maybe a box that is all of it, and in it one plain number: equal, wrong, or READ.

`answer_in` is shared by all kernels. It decides only where the text leaves no doubt: one block with closed reasoning
before it, and nothing but end tokens behind it.
"""

import numba

READ = -1  # in place of a reason: the row is for the reader
LOCATED = -2  # the same, but the answer is found, in a box
OK, WRONG = 0, 1  # as in `verifiers.verdicts`
LONGEST = 2_000  # bytes of an answer; a longer one is for the reader
DIGITS = 17  # the most digits of a number; 18 fit 64 bits

_ANSWER, _CLOSE, _REASONING, _END_REASONING = b"<answer>", b"</answer>", b"<reasoning>", b"</reasoning>"
_END_OF_TURN, _END_OF_TEXT, _BOX = b"<|eot_id|>", b"<|endoftext|>", b"\\boxed{"
_NEWLINE, _SPACE, _BANG, _COMMA, _MINUS, _POINT, _LESS, _BACKSLASH, _LEFT, _RIGHT = tuple(b"\n !,-.<\\{}")


@numba.njit(nogil=True)
def is_space(byte):
    """True for ASCII white space."""
    return byte == _SPACE or 9 <= byte <= 13


@numba.njit(nogil=True)
def find(data, byte, start, end):
    """Position of the first `byte` in data[start:end], or `end`; looks at 64 bytes at a time, without a branch."""
    wanted = byte & 255
    while start + 64 <= end:
        hit = False
        for other in data[start : start + 64]:
            hit |= other == wanted
        if hit:
            break
        start += 64
    while start < end and data[start] != wanted:
        start += 1
    return start


@numba.njit(nogil=True)
def begins(data, start, end, word):
    """True if data[start:end] begins with `word`."""
    if start + len(word) > end:
        return False
    for k in range(len(word)):
        if data[start + k] != word[k]:
            return False
    return True


@numba.njit(nogil=True)
def strip(data, start, end):
    """(start, end) of data[start:end] without white space around it."""
    while start < end and is_space(data[start]):
        start += 1
    while end > start and is_space(data[end - 1]):
        end -= 1
    return start, end


@numba.njit(nogil=True)
def block_in(data, start, end):
    """(start, end) of what the one closed `<answer>` block holds; -1s if there is any doubt."""
    opened = shut = -1
    reasoning = 0  # how many blocks of reasoning are open
    i = find(data, _LESS, start, end)
    while i < end:
        if shut >= 0 and (begins(data, i, end, _END_OF_TURN) or begins(data, i, end, _END_OF_TEXT)):
            end = i
            break
        if begins(data, i, end, _ANSWER) and opened < 0 and reasoning <= 0:
            opened = i + len(_ANSWER)
        elif begins(data, i, end, _CLOSE) and opened >= 0 and shut < 0:
            shut = i
        elif begins(data, i, end, _REASONING) and opened < 0:
            reasoning += 1
        elif begins(data, i, end, _END_REASONING) and opened < 0:
            reasoning -= 1
        elif i + 1 == end or not (is_space(data[i + 1]) or 48 <= data[i + 1] <= 57):  # another tag
            return -1, -1
        i = find(data, _LESS, i + 1, end)
    if shut < 0:
        return -1, -1
    behind, _ = strip(data, shut + len(_CLOSE), end)
    if behind < end or shut - opened > LONGEST:
        return -1, -1
    return strip(data, opened, shut)


@numba.njit(nogil=True)
def answer_in(data, start, end):
    """(start, end, whether a box held it) of the answer in the one closed block; -1s if there is any doubt."""
    low, high = block_in(data, start, end)
    if low < 0 or low == high:
        return -1, -1, False
    if begins(data, low, high, _BOX):
        low += len(_BOX)
        depth = 1
        i = low
        while i < high and depth > 0:
            if data[i] == 0 or data[i] >= 128 or begins(data, i, high, _BOX):
                return -1, -1, False
            if data[i] == _BACKSLASH:
                i += 1
            elif data[i] == _LEFT:
                depth += 1
            elif data[i] == _RIGHT:
                depth -= 1
            i += 1
        if depth > 0 or i < high:  # something follows the box
            return -1, -1, False
        low, high = strip(data, low, high - 1)
        return (low, high, True) if low < high else (-1, -1, False)
    for i in range(low, high):
        if data[i] == _BACKSLASH or data[i] == 0 or data[i] >= 128:
            return -1, -1, False
    return low, high, False


@numba.njit(nogil=True)
def number(data, low, high, plainest):
    """(whether data[low:high] is one, value, how many of its digits stand behind the point) of a number: `-1,250.50`.

    plainest: without commas, as strict mode wants it.
    """
    sign, value, decimals, digits = 1, 0, 0, 0
    since = -1  # digits behind the last comma; -1 without one
    pointed = False
    if low < high and data[low] == _MINUS:
        sign, low = -1, low + 1
    if low + 1 < high and data[low] == 48 and data[low + 1] != _POINT:
        return False, 0, 0
    for i in range(low, high):
        byte = data[i] + 0
        if 48 <= byte <= 57:
            if digits == DIGITS:
                return False, 0, 0
            value = value * 10 + byte - 48
            digits += 1
            if pointed:
                decimals += 1
            elif since >= 0:
                since += 1
        elif (
            byte == _COMMA
            and not (plainest or pointed)
            and 1 <= digits
            and (since == 3 or (since < 0 and digits <= 3))
        ):
            since = 0
        elif byte == _POINT and not pointed and digits > 0 and (since == 3 or since < 0):
            pointed = True
        else:
            return False, 0, 0
    whole = (
        digits > 0 and (since == 3 or since < 0) and decimals > 0
        if pointed
        else digits > 0 and (since == 3 or since < 0)
    )
    return whole, sign * value, decimals


@numba.njit(nogil=True)
def judge(data, starts, first, lenient, golds, gold_starts, reason, score, spans, scratch):
    """Fills reason, score and spans of the rows whose completions are data[starts[i]:starts[i + 1]].

    first: the row of the first completion in the batch. golds, gold_starts: the bytes of all references of the batch.
    """
    for i in range(len(starts) - 1):
        reason[i] = READ
        row = first + i
        known, gold, gold_decimals = number(golds, gold_starts[row], gold_starts[row + 1], True)
        if not known:
            continue
        low, high, boxed = answer_in(data, starts[i], starts[i + 1])
        if low < 0 or not (lenient or boxed):
            continue
        if not lenient and (data[low - 1] != _LEFT or data[high] != _RIGHT):
            continue
        known, value, decimals = number(data, low, high, not lenient)
        if boxed and lenient:
            reason[i] = LOCATED
            spans[i, 0], spans[i, 1] = low - starts[i], high - starts[i]
        if not known:
            continue
        while decimals < gold_decimals and abs(value) < 10**17:
            value, decimals = value * 10, decimals + 1
        while gold_decimals < decimals and abs(gold) < 10**17:
            gold, gold_decimals = gold * 10, gold_decimals + 1
        if decimals != gold_decimals:
            continue
        reason[i] = OK if value == gold else WRONG
        score[i] = 1.0 if value == gold else 0.0
        spans[i, 0], spans[i, 1] = low - starts[i], high - starts[i]
