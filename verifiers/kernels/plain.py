r"""Where the answer of a completion stands, as `verifiers.reading.locate` says, and in it one plain number.

`locate` is shared by all kernels. It decides only where the text leaves no doubt: the last mark is a block, a closed
box or an `<answer>` that nothing closes, and nothing is said behind it.
"""

import numba

READ = -1  # in place of a reason: the row is for the reader
LOCATED = -2  # the same, but the answer is found
OK, WRONG, NO_ANSWER = 0, 1, 2  # as in `verifiers.verdicts`
DOUBT = -1  # in place of a kind: the reader must find the answer, or that there is none
BOXED, ALONE = 1, 2  # bits of a kind: the answer is in a box; nothing else is in the one block
LONGEST = 2_000  # bytes of an answer; a longer one is for the reader
LONGEST_TEXT = (
    65_536  # bytes of a text, as of an answer that the reader refuses unread; a longer one is for the reader
)
REST = 256  # bytes of a text behind its mark; a longer rest is for the reader
DIGITS = 17  # the most digits of a number; 18 fit 64 bits
LIST_GAP = 1024  # bytes before a box in which another one may begin a list; 256 characters are not more
DENIED = 40  # bytes before a box in which it may be denied

_ANSWER, _CLOSE, _REASONING, _END_REASONING = b"<answer>", b"</answer>", b"<reasoning>", b"</reasoning>"
_END_OF_TURN, _END_OF_TEXT, _START = b"<|eot_id|>", b"<|endoftext|>", b"<|start"
_BOX, _HASHES = b"\\boxed", b"####"
_TAG_LETTERS = b"AaFfTtRrSse|"  # with which the tags begin that `locate.regions` knows
NAMING = b"ans\0resurespantwergerisprisua:\0\0"  # four bytes of each word that may name an answer
# The same of all that may name another answer behind a mark, or take back the one before it: also words that turn, that
# deny, and that find fault.
SAYING_MORE = NAMING + (
    b"secowaitoopssorrcorractuscradisrignoholdeditupda"
    b"no\0\0't\0\0neveisn\0wasndoesdon\0wroncannincofalsimpoextrcontviolmis\0erroforgshou"
    b"checverireflapolhmm\0re-\0recorecaredorethreexreevrevirerefix\0howebut\0"
)
NEXT_TURN = b"q\0\0\0probexerinstinpuuserhuma[ins"  # the same of a line with which another text begins


def _table(words):
    """The words, four bytes each, sorted, behind 256 places, from 1, of the first word that a byte begins; or 0."""
    several = sorted(words[k : k + 4] for k in range(0, len(words), 4))
    places = {word[0] | 32: place for place, word in reversed([*enumerate(several, 1)])}
    return bytes(places.get(byte | 32, 0) for byte in range(256)) + b"".join(several)


_SAYING_MORE, _NEXT_TURN, _NEXT = _table(SAYING_MORE), _table(NEXT_TURN), _table(b"next")
_SHOWING = _table(NAMING + b"fboxcorrrigh")  # without them and a star, only a mark shows an answer
# Bytes with which such a line begins, or the signs before it.
_LINE_STARTS = bytes(
    known or byte in b" \t#*" for byte, known in enumerate(_table(NEXT_TURN + b"next")[:256])
)
_DENYING = _table(b"not\0t be't\0\0thaninstwroninco")  # words of `locate._is_rejected`
_COMMENTING = _table(b"not\0rathinstwhicbecasincroun")  # words of `locate._without_comment`
_APART = b".<>+-*/!?#%&|\"'"  # none of them may stand between the boxes of one list
_NEWLINE, _SPACE, _COMMA, _MINUS, _POINT, _LESS, _BACKSLASH, _B, _LEFT, _RIGHT = tuple(b"\n ,-.<\\b{}")


@numba.njit(nogil=True)
def is_space(byte):
    """True for ASCII white space."""
    return byte == _SPACE or 9 <= byte <= 13


@numba.njit(nogil=True)
def find(data, byte, start, end):
    """Position of the first `byte` in data[start:end], or `end`; looks at many bytes at a time, without a branch."""
    wanted = byte & 255
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
def is_in(byte, several):
    """True if `byte` is one of several."""
    for other in several:
        if byte == other:
            return True
    return False


@numba.njit(nogil=True)
def blank(data, start, end):
    """1 if data[start:end] is white space, 0 if not, DOUBT if what comes first behind it is no ASCII character."""
    while start < end and is_space(data[start]):
        start += 1
    return 1 if start >= end else 0 if 32 < data[start] < 127 else DOUBT


@numba.njit(nogil=True)
def last_box(data, start, end):
    r"""Position of the last `\boxed` in data[start:end]; -1 if there is none."""
    i = end - len(_BOX)
    while i >= start:
        while i - 64 >= start:  # many at a time, without a branch; a text of mathematics has few \b
            part = data[i - 63 : i + 2]
            hit = False
            for k in range(64):
                hit |= (part[k] == _BACKSLASH) & (part[k + 1] == _B)
            if hit:
                break
            i -= 64
        while i >= start and data[i] != _BACKSLASH:
            i -= 1
        if i >= start and begins(data, i, end, _BOX):
            return i
        i -= 1
    return -1


@numba.njit(nogil=True)
def box_end(data, i, end):
    r"""Position of the brace that closes the one behind the `\boxed` at i; -1 if none does, or no brace follows."""
    i += len(_BOX)
    if i >= end or data[i] != _LEFT:
        return -1
    depth = 1
    i += 1
    while i < end:
        if data[i] == _BACKSLASH:
            i += 1
        elif data[i] == _LEFT:
            depth += 1
        elif data[i] == _RIGHT:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return -1


@numba.njit(nogil=True)
def begins_any(data, i, end, words):
    """True if data[i:end] begins with one of the words of a `_table`, in any case."""
    if not words[data[i]]:
        return False
    for k in range(252 + 4 * words[data[i]], len(words), 4):
        n = 0
        while n < 4 and (words[k + n] == 0 or (i + n < end and data[i + n] | 32 == words[k + n] | 32)):
            n += 1
        if n == 4 or n == 0:  # the first letters of all further words differ, too
            return n == 4
    return False


@numba.njit(nogil=True)
def has_any(data, start, end, words):
    """True if data[start:end] has one of the words of a `_table`, in any case."""
    for i, byte in enumerate(data[start:end]):
        if words[byte] and begins_any(data, start + i, end, words):
            return True
    return False


@numba.njit(nogil=True)
def is_box_doubtful(data, scope, start, box):
    r"""True if what stands before the last `\boxed` may deny it, or begin a list of boxes.

    scope, start: where a list of boxes may begin, and where this box may.
    """
    for i in range(max(start, box - DENIED), box):
        if data[i] >= 128:
            return True
    if has_any(data, max(start, box - DENIED), box, _DENYING):
        return True
    other, other_end = box, -1
    while other_end < 0:  # a box around this one begins no list
        other = last_box(data, max(scope, box - LIST_GAP), other)
        if other < 0 or data[other + len(_BOX)] != _LEFT:
            return other >= 0
        other_end = box_end(data, other, box)
    for i in range(other_end, box):
        if is_in(data[i], _APART):
            return False
    return True


@numba.njit(nogil=True)
def says_any(data, start, end, words):
    """True if data[start:end] has one of the words of a `_table`, beside tags of answers, or may have others."""
    i = start
    while i < end:
        if data[i] == _LESS and (begins(data, i, end, _ANSWER) or begins(data, i, end, _CLOSE)):
            i = find(data, 62, i, end)
        elif data[i] >= 127 or (words[data[i]] and begins_any(data, i, end, words)):
            return True
        i += 1
    return False


@numba.njit(nogil=True)
def has_other_rules(data, start, begin, end):
    """True if data[start:end] has a tag of Kimi, or data[begin:end] a line that may begin another text, or a `####`."""
    # Few texts have one of the two bytes, and looking for them without a branch takes little time.
    kimi = hash_mark = False
    for byte in data[start:end]:
        kimi |= byte == 0x97
        hash_mark |= byte == 35
    i = find(data, 0x97, start, end) if kimi else end
    while i < end:
        if i > start and i + 1 < end and data[i - 1] == 0xE2 and data[i + 1] == 0x81:
            return True
        i = find(data, 0x97, i + 1, end)
    for i, byte in enumerate(data[begin : max(begin, end - 1)]):
        if byte == _NEWLINE and _LINE_STARTS[data[begin + i + 1]]:
            at = begin + i + 1
            while at < end and is_in(data[at], b" \t#*"):
                at += 1
            if at < end and begins_any(data, at, end, _NEXT):  # Next question:
                at += 5
            if at < end and begins_any(data, at, end, _NEXT_TURN):
                return True
    i = find(data, 35, begin, end) if hash_mark else end
    while i < end:
        if begins(data, i, end, _HASHES):
            return True
        i = find(data, 35, i + 1, end)
    return False


@numba.njit(nogil=True)
def may_be_tag(data, i, end):
    """True if the "<" before i may begin a tag that `locate.regions` knows; none of them lacks its ">"."""
    if i < end and data[i] == 47:
        i += 1
    if i >= end or not (data[i] >= 128 or is_in(data[i], _TAG_LETTERS)):
        return False
    while i < end and (97 <= data[i] | 32 <= 122 or is_in(data[i], b" _-")):
        i += 1
    return i < end and (data[i] >= 128 or is_in(data[i], b">|"))


@numba.njit(nogil=True)
def locate(data, start, end, marks_only):
    """(start, end, kind) of the answer in data[start:end]; the kind has bits of BOXED and ALONE, or is DOUBT.

    (-1, -1, 0) if there is no answer. marks_only: no sentence names an answer.
    """
    doubt = -1, -1, DOUBT
    if end - start > LONGEST_TEXT:
        return doubt
    for reasoning_counts in (False, True):
        begin, opening = start, -1
        low = high = outer_low = outer_high = -1
        opened = closed = 0
        i = find(data, _LESS, start, end)
        while i < end:
            if begins(data, i, end, _ANSWER):
                if opening >= 0:
                    if blank(data, opening, i) != 1:  # text stands between two of them
                        return doubt
                opening = i + len(_ANSWER)
                opened += 1
            elif begins(data, i, end, _CLOSE):
                closed += 1
                if opening >= 0:
                    low, high, opening = opening, i, -1
            elif begins(data, i, end, _REASONING):
                outer_low, outer_high = low, high
            elif begins(data, i, end, _END_REASONING):
                if not reasoning_counts:
                    begin, opening, low, high = i + len(_END_REASONING), -1, outer_low, outer_high
                outer_low = outer_high = -1
            elif begins(data, i, end, _END_OF_TURN) or begins(data, i, end, _END_OF_TEXT):
                if begins(data, find(data, 62, i, end) + 1, end, _START):
                    return doubt
                end = i
                break
            elif may_be_tag(data, i + 1, end):
                return doubt
            i = find(data, _LESS, i + 1, end)
        if low >= 0 or begin == start:
            break
        empty = blank(data, begin, end)
        if empty < 0:
            return doubt
        if empty == 0:  # else only its reasoning may have the answer
            break
    if has_other_rules(data, start, begin, end):
        return doubt
    unclosed = -1
    scope, scope_end, first = low, high, low
    if low < 0:
        scope, scope_end = begin, end
        if opening >= 0:
            empty = blank(data, opening, end)
            if empty < 0:
                return doubt
            unclosed = -1 if empty else opening
        first = max(begin, unclosed)
    box = last_box(data, first, scope_end)
    kind, behind = 0, scope_end
    if box >= 0:
        last, inside = box_end(data, box, scope_end), box + len(_BOX) + 1
        if inside > scope_end or data[inside - 1] != _LEFT or is_box_doubtful(data, scope, first, box):
            return doubt
        kind, behind = BOXED, last + 1
        if last < 0:  # nothing closes it: the rest of its line
            last = find(data, _NEWLINE, inside, scope_end)
            while last > inside and (
                is_space(data[last - 1]) or data[last - 1] == 36 or data[last - 1] == _POINT
            ):
                last -= 1
            behind = min(last + 1, scope_end)
        elif low >= 0 and opened == 1 and closed == 1:
            if blank(data, first, box) == 1 and blank(data, behind, scope_end) == 1:
                kind = BOXED | ALONE
        inside_low, inside_high = strip(data, inside, last)
    elif low >= 0:
        inside_low, inside_high = strip(data, low, high)
        kind = ALONE if opened == 1 and closed == 1 else 0
        if inside_low == inside_high:
            return -1, -1, 0
    elif unclosed >= 0:
        inside_low, inside_high = strip(data, unclosed, end)
    elif marks_only or (find(data, 42, begin, end) == end and not says_any(data, begin, end, _SHOWING)):
        return -1, -1, 0
    else:
        return doubt
    if low >= 0:
        behind = high + len(_CLOSE)
    if not marks_only and (end - behind > REST or says_any(data, behind, end, _SAYING_MORE)):
        return doubt
    if inside_low == inside_high or inside_high - inside_low > LONGEST:
        return doubt
    if not marks_only and has_any(data, inside_low, inside_high, _COMMENTING):
        return doubt
    if not (marks_only or kind & BOXED) and says_any(data, inside_low, inside_high, _SAYING_MORE):
        return doubt
    for i in range(inside_low, inside_high):
        if data[i] >= 127 or (data[i] < 32 and not is_space(data[i])):
            return doubt
    return inside_low, inside_high, kind


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
        low, high, kind = locate(data, starts[i], starts[i + 1], False)
        if low < 0:
            if kind != DOUBT and lenient and len(gold_starts) == 1:
                reason[i], spans[i, 0], spans[i, 1] = NO_ANSWER, -1, -1
            continue
        if not lenient and not (kind == BOXED | ALONE and data[low - 1] == _LEFT and data[high] == _RIGHT):
            continue
        reason[i], spans[i, 0], spans[i, 1] = LOCATED, low - starts[i], high - starts[i]
        if len(gold_starts) == 1:
            continue
        is_number, value, decimals = number(data, low, high, not lenient)
        known, gold, gold_decimals = number(golds, gold_starts[row], gold_starts[row + 1], True)
        if not (known and is_number):
            continue
        while decimals < gold_decimals and abs(value) < 10**17:
            value, decimals = value * 10, decimals + 1
        while gold_decimals < decimals and abs(gold) < 10**17:
            gold, gold_decimals = gold * 10, gold_decimals + 1
        if decimals != gold_decimals:
            continue
        reason[i], score[i] = (OK, 1.0) if value == gold else (WRONG, 0.0)
