r"""Where the answer of a completion stands if that is plain, and in it one plain number; all else is for the reader.

`locate` is shared by all kernels. It decides where the last closed `<answer>` block or the last closed `\boxed{}` has
the answer, and nothing stands behind it that may be a mark or name another answer.
"""

import numba
import numpy as np

READ = -1  # in place of a reason: the row is for the reader
LOCATED = -2  # the same, but the answer is found
OK, WRONG, NO_ANSWER = 0, 1, 2  # as in `verifiers.verdicts`
DOUBT = -1  # in place of a kind: the reader must find the answer, or that there is none
BOXED, ALONE = 1, 2  # bits of a kind: the answer is in a box; nothing else is in the one block
LONGEST = 2_000  # bytes of an answer; a longer one is for the reader
DIGITS = 17  # the most digits of a number; 18 fit 64 bits
LIST_GAP = 1024  # bytes before a box in which another one may begin a list; 256 characters are not more


helper = numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only kernels call: they compile sooner without a way in from Python."""


def _bytes(text):
    """The bytes of a text as an array: all have one type, so a function of them is compiled once."""
    return np.frombuffer(text, np.uint8)


_ANSWER, _CLOSE, _REASONING = _bytes(b"<answer>"), _bytes(b"</answer>"), _bytes(b"<reasoning>")
_END_REASONING, _END_OF_TURN = _bytes(b"</reasoning>"), _bytes(b"<|eot_id|>")
_END_OF_TEXT, _START = _bytes(b"<|endoftext|>"), _bytes(b"<|start")
_BOX, _FRAME = _bytes(b"\\boxed"), _bytes(b"\\fbox")
_TAG, _TAG_ENDS, _KIMI = _bytes(b"<"), _bytes(b">"), _bytes(b"\xe2\x97")
_TAGS = _bytes(b"aeftrs")  # with which the tags begin that the reader knows
_IN_TAGS = _bytes(b" _-")
_JOINING = _bytes(
    b"\\$(){[]~;,="
)  # with spaces and small letters, what may stand between two boxes of a list
_REASONS = _bytes(b"abinrsw(")  # with which the words begin behind which an answer ends
NAMING = _bytes(b"ansresoptcho")  # how the words begin that may name an answer, three bytes each
MARKS_ONLY = NAMING[:0]  # for a task whose answers no sentence names
_SPACE, _COMMA, _MINUS, _POINT, _HASH, _SLASH, _BAR = tuple(b" ,-.#/|")
_LESS, _MORE, _BACKSLASH, _LEFT, _RIGHT = tuple(b"<>\\{}")


@helper
def is_space(byte):
    """True for ASCII white space."""
    return byte == _SPACE or 9 <= byte <= 13


@helper
def is_in(byte, several):
    """True if `byte` is one of several."""
    for other in several:
        if byte == other:
            return True
    return False


@helper
def find(data, word, start, end):
    """Position of the first byte in data[start:end] with which `word` begins, or `end`.

    It looks at many bytes at a time, without a branch. The byte stands in an array because numba would compile the
    function once more for each constant.
    """
    wanted = word[0]
    for size in (128, 32):
        while start + size <= end:
            hit = False
            for other in data[start : start + size]:
                hit |= other == wanted
            if hit:
                break
            start += size
    while start < end and data[start] != wanted:
        start += 1
    return start


@helper
def begins(data, start, end, word):
    """True if data[start:end] begins with `word`."""
    if start + len(word) > end:
        return False
    for k in range(len(word)):
        if data[start + k] != word[k]:
            return False
    return True


@helper
def strip(data, start, end):
    """(start, end) of data[start:end] without white space around it."""
    while start < end and is_space(data[start]):
        start += 1
    while end > start and is_space(data[end - 1]):
        end -= 1
    return start, end


@helper
def last_box(data, start, end):
    r"""Position of the last `\boxed` or `\fbox` in data[start:end]; -1 if there is none."""
    i = end - 1
    while i >= start:
        if data[i] == _BACKSLASH and (begins(data, i, end, _BOX) or begins(data, i, end, _FRAME)):
            return i
        i -= 1
    return -1


@helper
def says_more(data, start, end, naming):
    """True if data[start:end] may have a mark, or one of the words, or has other characters than ASCII."""
    i = start - 1
    while i + 1 < end:
        i += 1
        byte = data[i] + 0
        if byte == _LESS and begins(data, i, end, _CLOSE):
            i += len(_CLOSE) - 1
            continue
        if byte >= 127 or byte == _HASH:
            return True
        if 97 <= byte | 32 <= 122 and i + 2 < end:
            for k in range(0, len(naming), 3):
                if (
                    byte | 32 == naming[k]
                    and data[i + 1] | 32 == naming[k + 1]
                    and data[i + 2] | 32 == naming[k + 2]
                ):
                    return True
    return False


@helper
def locate(data, start, end, naming):
    """(start, end, kind) of the answer in data[start:end]; the kind has bits of BOXED and ALONE, or is DOUBT.

    (-1, -1, 0) if there is no answer. naming: NAMING, or MARKS_ONLY; an array, because numba would compile the
    function once more for each constant.
    """
    doubt = -1, -1, DOUBT
    begin, opening, low, high, tags = start, -1, -1, -1, 0
    i = find(data, _TAG, start, end)
    while i < end:
        if begins(data, i, end, _ANSWER):
            opening = i + len(_ANSWER)
            tags += 1
        elif begins(data, i, end, _CLOSE):
            if opening >= 0:
                low, high, opening = opening, i, -1
            tags += 1
        elif begins(data, i, end, _END_REASONING):
            begin = i + len(_END_REASONING)
        elif begins(data, i, end, _END_OF_TURN) or begins(data, i, end, _END_OF_TEXT):
            if begins(data, find(data, _TAG_ENDS, i, end) + 1, end, _START):
                return doubt
            end = i
            break
        elif i + 1 < end and not begins(data, i, end, _REASONING):
            at = i + 1 + (data[i + 1] == _SLASH)
            is_known = at < end and is_in(data[at] | 32, _TAGS)  # as the first sign of another tag
            while at < end and (97 <= data[at] | 32 <= 122 or is_in(data[at], _IN_TAGS)):
                at += 1
            if at < end and (data[at] >= 128 or data[at] == _BAR or (is_known and data[at] == _MORE)):
                return doubt
        i = find(data, _TAG, i + 1, end)
    i = find(data, _KIMI, start, end)
    while i < end:
        if begins(data, i, end, _KIMI):
            return doubt
        i = find(data, _KIMI, i + 1, end)
    first, last = strip(data, begin, end)
    if first == last:
        begin = start
    elif data[first] >= 127 or data[first] < 32:
        return doubt
    if low < begin:
        low = high = -1
    scope, scope_end = (low, high) if low >= 0 else (begin, end)
    box = last_box(data, scope, scope_end)
    kind = 0
    if box >= 0:
        inside = box + len(_BOX) + 1
        if not begins(data, box, scope_end, _BOX) or inside > scope_end or data[inside - 1] != _LEFT:
            return doubt
        depth, i = 1, inside
        while i < scope_end:
            if data[i] == _BACKSLASH:
                i += 1
            elif data[i] == _LEFT:
                depth += 1
            elif data[i] == _RIGHT:
                depth -= 1
                if depth == 0:
                    break
            i += 1
        if i >= scope_end or (low < 0 and opening > box):
            return doubt
        if says_more(data, i + 1, scope_end, MARKS_ONLY if low >= 0 else naming):
            return doubt
        if last_box(data, max(scope, box - LIST_GAP), box) >= 0:  # of one list, maybe
            gap = box - 1
            while gap > scope and (
                is_space(data[gap]) or 97 <= data[gap] <= 122 or is_in(data[gap], _JOINING)
            ):
                gap -= 1
            if data[gap] == _RIGHT or data[gap] >= 128:
                return doubt
        kind = BOXED
        size = i - inside
        first, last = strip(data, inside, i)
        if low >= 0 and tags == 2 and strip(data, low, box)[0] == box and strip(data, i + 1, high)[0] == high:
            kind |= ALONE
    elif low >= 0 or opening >= begin:
        whole = low >= 0 and tags == 2
        if low < 0:
            low, high = opening, end
        size = high - low
        first, last = strip(data, low, high)
        if first == last and whole:
            return -1, -1, 0
        if says_more(data, low if whole else scope, high if whole else scope_end, naming):
            return doubt
        kind = ALONE if whole else 0
    else:
        return doubt if len(naming) or says_more(data, begin, end, naming) else (-1, -1, 0)
    if size > LONGEST:
        return doubt
    blank = True
    for i in range(first, last):
        if data[i] >= 127 or data[i] == _HASH or (data[i] < 32 and not is_space(data[i])):
            return doubt
        blank &= data[i] == _POINT or is_space(data[i])
        if len(naming) and i + 1 < last and (is_space(data[i]) or data[i] == _COMMA):
            if is_in(data[i + 1] | 32, _REASONS):  # " because"
                return doubt
    return doubt if blank else (first, last, kind)


@helper
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
    whole = digits > 0 and (since == 3 or since < 0) and (decimals > 0 or not pointed)
    return whole, sign * value, decimals


@numba.njit(nogil=True)
def judge(data, starts, first, lenient, golds, gold_starts, reason, score, spans, scratch):
    """Fills reason, score and spans of the rows whose completions are data[starts[i]:starts[i + 1]].

    first: the row of the first completion in the batch. golds, gold_starts: the bytes of all references of the batch;
    without any, answers are only found.
    """
    for i in range(len(starts) - 1):
        reason[i] = READ
        row = first + i
        low, high, kind = locate(data, starts[i], starts[i + 1], NAMING)
        if low < 0:
            if kind == 0 and lenient and len(gold_starts) == 1:
                reason[i], spans[i, 0], spans[i, 1] = NO_ANSWER, -1, -1
            continue
        if not lenient and not (kind == BOXED | ALONE and data[low - 1] == _LEFT and data[high] == _RIGHT):
            continue
        reason[i], spans[i, 0], spans[i, 1] = LOCATED, low - starts[i], high - starts[i]
        if len(gold_starts) == 1:
            continue
        is_number, value, decimals = number(data, low, high, not lenient)
        known, gold, gold_decimals = number(golds, gold_starts[row], gold_starts[row + 1], not lenient)
        if not (known and is_number):
            continue
        while decimals < gold_decimals and abs(value) < 10**17:
            value, decimals = value * 10, decimals + 1
        while gold_decimals < decimals and abs(gold) < 10**17:
            gold, gold_decimals = gold * 10, gold_decimals + 1
        if decimals != gold_decimals:
            continue
        reason[i], score[i] = (OK, 1.0) if value == gold else (WRONG, 0.0)
