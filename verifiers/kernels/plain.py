r"""Where the answer of a completion stands if that is plain, and in it one whole number; all else is for the reader.

`locate` is shared by all kernels. It decides where the last closed `<answer>` block or the last closed `\boxed{}` has
the answer, and nothing stands behind it that may be a mark or name another answer.
"""

import numba
import numpy as np

READ, LOCATED = -1, -2  # in place of a reason: the row is for the reader; the same, but the answer is found
OK, WRONG, NO_ANSWER = 0, 1, 2  # as in `verifiers.verdicts`
DOUBT = -1  # in place of a kind: the reader must find the answer, or that there is none
BOXED, ALONE = 1, 2  # bits of a kind: the answer is in a box; nothing else is in the one block
LONGEST = 2_000  # bytes of an answer; a longer one is for the reader
DIGITS = 17  # the most digits of a number; whether a longer reference is valid is for the reader
LIST_GAP = 1024  # bytes before a box in which another one may begin a list; 256 characters are not more

_SPACE, _COMMA, _MINUS, _POINT, _HASH, _SLASH, _TAG, _BACKSLASH, _LEFT, _RIGHT = tuple(b" ,-.#/<\\{}")
_TAGS = tuple(b"aefrstAEFRST|")  # with which the other tags begin that the reader knows
_JOINING = tuple(b"\\$(){[]~;,=")  # with spaces and letters, what may stand between two boxes of a list


def _bytes(text):
    """The bytes of a text as an array: all have one type, so a function of them is compiled once."""
    return np.frombuffer(text, np.uint8)


_ANSWER, _CLOSE, _REASONING = _bytes(b"<answer>"), _bytes(b"</answer>"), _bytes(b"<reasoning>")
_END_REASONING, _END_OF_TURN = _bytes(b"</reasoning>"), _bytes(b"<|eot_id|>")
_END_OF_TEXT = _bytes(b"<|endoftext|>")
_BOX, _OPEN_BOX, _FRAME = _bytes(b"\\boxed"), _bytes(b"\\boxed{"), _bytes(b"\\fbox")
NAMING = _bytes(b"ansresoptcho")  # how the words begin that name an answer, three bytes each
MARKS_ONLY = NAMING[:0]  # for a task whose answers no sentence names

helper = numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only kernels call: they compile sooner without a way in from Python."""


@helper
def is_space(byte):
    """True for ASCII white space."""
    return byte == _SPACE or 9 <= byte <= 13


@helper
def next_tag(data, start, end):
    """Position of the first "<" in data[start:end], or `end`. It looks at many bytes at a time, without a branch."""
    while start + 64 <= end:
        hit = False
        for byte in data[start : start + 64]:
            hit |= byte == _TAG
        if hit:
            break
        start += 64
    while start < end and data[start] != _TAG:
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
    """True if data[start:end] may have a mark, or one of the words, or has signs that are no plain text."""
    for i in range(start, end):
        byte = data[i] + 0
        if byte >= 127 or byte == _HASH or (byte < 32 and not is_space(byte)):
            return True
        if 97 <= byte | 32 <= 122 and i + 2 < end:
            for k in range(0, len(naming), 3):
                if byte | 32 == naming[k] and data[i + 1] | 32 == naming[k + 1]:
                    if data[i + 2] | 32 == naming[k + 2] and not begins(data, i - 2, end, _CLOSE):
                        return True
    return False


@helper
def locate(data, start, end, naming):
    """(start, end, kind) of the answer in data[start:end]; the kind has bits of BOXED and ALONE, or is DOUBT.

    (-1, -1, 0) if there is no answer. naming: NAMING, or MARKS_ONLY.
    """
    doubt = -1, -1, DOUBT
    begin, opening, low, high, tags = start, -1, -1, -1, 0
    i = next_tag(data, start, end)
    while i < end:
        at = i + 1 + (i + 1 < end and data[i + 1] == _SLASH)
        if begins(data, i, end, _ANSWER):
            opening, tags = i + len(_ANSWER), tags + 1
        elif begins(data, i, end, _CLOSE):
            tags += 1
            if opening >= 0:
                low, high, opening = opening, i, -1
        elif begins(data, i, end, _END_REASONING):
            begin = i + len(_END_REASONING)
        elif begins(data, i, end, _END_OF_TURN) or begins(data, i, end, _END_OF_TEXT):
            end = i
            break
        elif at < end and data[at] in _TAGS and not begins(data, i, end, _REASONING):
            return doubt
        i = next_tag(data, i + 1, end)
    first, last = strip(data, begin, end)
    if begin > start and (first == last or not 32 < data[first] < 127):
        return doubt  # nothing may follow thinking
    if low < begin:
        low = high = -1
    scope, scope_end = (low, high) if low >= 0 else (begin, end)
    is_block, is_only = low >= 0, low >= 0 and tags == 2
    box = last_box(data, scope, scope_end)
    if box >= 0:
        low = high = box + len(_OPEN_BOX)
        depth = 1
        while high < scope_end:
            byte = data[high] + 0
            depth += (byte == _LEFT) - (byte == _RIGHT)
            if depth == 0:
                break
            high += 1 + (byte == _BACKSLASH)
        if high >= scope_end or not begins(data, box, scope_end, _OPEN_BOX):
            return doubt
        i = box - 1
        while i > scope and (is_space(data[i]) or 97 <= data[i] <= 122 or data[i] in _JOINING):
            i -= 1
        if i > scope and (data[i] == _RIGHT or data[i] >= 128 or 48 <= data[i] <= 57):
            if last_box(data, max(scope, box - LIST_GAP), box) >= 0:  # of one list, maybe
                return doubt
        if not is_block and (opening > box or says_more(data, high, scope_end, naming)):
            return doubt
        is_alone = strip(data, scope, box)[0] == box and strip(data, high + 1, scope_end)[0] == scope_end
        kind, naming_inside = BOXED | ALONE * (is_only and is_alone), MARKS_ONLY
    elif is_block or opening >= begin:
        kind, naming_inside = is_only * ALONE, naming
        if not is_block:
            low, high = opening, end
    elif len(naming) or says_more(data, begin, end, naming):
        return doubt
    else:
        return -1, -1, 0
    first, last = strip(data, low, high)
    is_blank = first == last or data[first] == _POINT  # the \boxed{...} of a prompt
    if is_blank or high - low > LONGEST or says_more(data, first, last, naming_inside):
        return doubt
    for i in range(first, last - 2 if len(naming) else first):
        if (is_space(data[i]) or data[i] == _COMMA) and 97 <= data[i + 1] <= 122 and 97 <= data[i + 2] <= 122:
            return doubt  # " because"
    return first, last, kind


@helper
def is_whole(data, low, high):
    """True if data[low:high] is a whole number in the one way in which it has no separator: 1250, -3."""
    low += low < high and data[low] == _MINUS
    for i in range(low, high):
        if not 48 <= data[i] <= 57:
            return False
    return 0 < high - low <= DIGITS and data[low] != 48


@numba.njit(nogil=True)
def judge(data, starts, first, lenient, golds, gold_starts, reason, score, spans, scratch):
    """Fills reason, score and spans of the rows whose completions are data[starts[i]:starts[i + 1]].

    first: the row of the first completion in the batch. golds, gold_starts: the bytes of all references of the batch;
    without any, answers are only found.
    """
    for i in range(len(starts) - 1):
        reason[i] = READ
        low, high, kind = locate(data, starts[i], starts[i + 1], NAMING)
        if low < 0 or not (lenient or kind == BOXED | ALONE):
            continue
        reason[i], spans[i, 0], spans[i, 1] = LOCATED, low - starts[i], high - starts[i]
        if len(gold_starts) == 1 or not (lenient or (data[low - 1] == _LEFT and data[high] == _RIGHT)):
            continue
        gold, gold_end = gold_starts[first + i], gold_starts[first + i + 1]
        if is_whole(data, low, high) and is_whole(golds, gold, gold_end):
            is_same = high - low == gold_end - gold and begins(data, low, high, golds[gold:gold_end])
            reason[i], score[i] = (OK, 1.0) if is_same else (WRONG, 0.0)
