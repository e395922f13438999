r"""The one number of an answer among its words, signs, currency, units and TeX: `x = \$1,250 \text{ a day}`.

An answer is cut at `=`; each side is a number, words, or something else (an expression, several numbers). A side
is described by a few integers (`state`): what has been seen, what stands right before, and what rules it out.
Plain Python over UTF-8 bytes that numba also compiles as it stands; one pass.
"""

from verifiers.characters import is_one_of
from verifiers.extract import Bytes, word_key, word_keys
from verifiers.gsm8k import number as num
from verifiers.gsm8k.number import Fields, is_digit, read_number, skip_spaces, starts_number, symbol

# What has been seen of a side so far.
NUMBERS, PREVIOUS, GAP, SIGNED, LOOSE, WORDS, UNIT, KEY, OPAQUE, REFUSED, HEDGED, VARIABLE, SPELLED = range(
    13
)
STATE = 13
AT_START, AT_NUMBER, AT_WORD, AT_MARK = 0, 1, 2, 3  # PREVIOUS: what stands before, spaces apart (GAP)
_NAMED = 2  # LOOSE: the sign is a word

_OR, _PER, _K, _B = word_key("or"), word_key("per"), word_key("k"), word_key("b")
_NEGATIVE = word_keys("minus negative")
# Words that change or deny the number wherever they stand, right before it, right behind it.
_SPOILERS = word_keys(
    "not never cannot cant neither nor none isn aren wasn doesn didn couldn wouldn shouldn wrong incorrect false "
    "incorrectly impossible untrue plus twice thrice doubled tripled halved factorial multiple multiples root pi "
    "half halves third thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths"
)
_BEFORE = word_keys(
    "than times over under above below beyond exceeds exceeding nearly almost least most double triple quadruple no "
    "without except excluding but between"
)
_BEHIND = word_keys("squared cubed tens quintillion score")
# Pairs of words that do: the second, and the first ones.
_LIMITS, _AT = word_keys("least most"), word_key("at")
_TO, _TOWARDS = word_key("to"), word_keys("up close")
_OF, _PARTS = word_key("of"), word_keys("square cube quarter fraction reciprocal")
_T = word_key("t")  # of "can't"
_BELOW, _ZERO = word_key("below"), word_key("zero")
_PREPOSITIONS = word_keys(
    "per in for of at every each after within over during the"
)  # a number word behind them says another thing
_NUMERALS = word_keys(  # each with the value of its place
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
# 1 at the remainder of each of these words, so that most others are not compared with all of them.
_TABLE = 2039
_REMAINDERS = {key % _TABLE for key in (*_SPOILERS, *_BEFORE, *_BEHIND, *_LIMITS, _TO, _OF, _T, *_NUMERALS)}
_LISTED = bytes(remainder in _REMAINDERS for remainder in range(_TABLE))
_SCALES = word_keys(
    "hundred hundreds thousand thousands lakh lakhs million millions crore crores billion billions trillion trillions "
    "quadrillion quadrillions"
)
_POWERS = (2, 2, 3, 3, 5, 5, 6, 6, 7, 7, 9, 9, 12, 12, 15, 15)  # of ten, for each of _SCALES
WRAPPERS = word_keys(
    "boxed fbox mbox text textbf textrm textsf texttt textit textnormal mathbf mathrm mathsf mathtt mathit "
    "boldsymbol bm bf rm displaystyle underline left right big bigl bigr emph"
)
_SPACES = word_keys("quad qquad space enspace thinspace hspace newline")
_SIGNS = word_keys(
    "circ degree degrees percent dollar dollars pounds euro textdollar textdegree textcent cent cents therefore "
    "implies rightarrow to colon checkmark"
)
APPROXES = word_keys("approx simeq sim cong equiv doteq")
_RELATIONS = word_keys("ne neq lt gt le ge leq geq ll gg leqslant geqslant")
_HEDGES = word_keys("pm mp lor vee")
_DOTS = word_keys("dots ldots cdots")


def scale_of(key: int, glued: bool) -> int:
    """The power of ten a word stands for after a number, or 0."""
    if glued and (key == _K or key == _B):
        return 3 if key == _K else 9
    for k in range(len(_SCALES)):
        if _SCALES[k] == key:
            return _POWERS[k]
    return 0


def note_number(data: Bytes, i: int, end: int, number: Fields, spare: Fields, state: Fields) -> int:
    """Read the number at i, the first into `number`; position after it."""
    if state[PREVIOUS] == AT_WORD and state[GAP] == 0:
        state[OPAQUE] = 1  # x18, 0x12, CO2
    if state[NUMBERS] == 0:
        i = read_number(data, i, end, number)
        if number[num.SHAPE] == num.NO_NUMBER or (state[LOOSE] == 1 and state[WORDS]):
            state[OPAQUE] = 1  # "total - 18": a dash or a minus
        if _LISTED[state[KEY] % _TABLE] and is_one_of(state[KEY], _BEFORE):
            state[OPAQUE] = 1
        if state[SIGNED] < 0:
            number[num.SIGN] = -number[num.SIGN]
    else:
        i = read_number(data, i, end, spare)
        in_unit = state[NUMBERS] == 1 and state[PREVIOUS] == AT_WORD and state[KEY] == _PER
        if not in_unit or spare[num.SHAPE] == num.NO_NUMBER:
            state[OPAQUE] = 1
    state[NUMBERS] += 1
    state[VARIABLE] = 0  # the x of "9 x 2"
    state[PREVIOUS], state[GAP], state[SIGNED], state[LOOSE] = AT_NUMBER, 0, 0, 0
    return i


def spelled(key: int) -> int:
    """The value of a number word, or -1."""
    for k in range(len(_NUMERALS)):
        if _NUMERALS[k] == key:
            return k if k <= 20 else 10 * (k - 18)
    return -1


def changes_value(key: int, state: Fields) -> bool:
    """True if a word, alone or with the one before it, denies the number, bounds it or makes another one of it."""
    if is_one_of(key, _SPOILERS):
        return True
    if is_one_of(key, _BEHIND):
        return state[NUMBERS] > 0 and state[UNIT] == 0  # "18 squared", not "18 meters squared"
    last = state[KEY]
    if key == _T:
        return state[PREVIOUS] == AT_MARK and state[GAP] == 0 and last != 0
    if key == _TO:
        return is_one_of(last, _TOWARDS)
    if key == _OF:
        return state[NUMBERS] == 0 and is_one_of(last, _PARTS)
    if key == _ZERO:
        return last == _BELOW
    return last == _AT and is_one_of(key, _LIMITS)


def note_word(key: int, number: Fields, state: Fields) -> None:
    """Note a word: most say nothing about the value."""
    glued = state[GAP] == 0
    value = spelled(key) if state[NUMBERS] and _LISTED[key % _TABLE] else -1
    if value >= 0 and not is_one_of(state[KEY], _PREPOSITIONS):
        state[SPELLED] += value
    elif state[SPELLED] and state[PREVIOUS] == AT_MARK and glued:
        state[SPELLED] -= max(spelled(state[KEY]), 0)  # two-liter
    if key == _OR:
        state[HEDGED] = 1
    elif _LISTED[key % _TABLE] and changes_value(key, state):
        state[OPAQUE] = 1
    elif state[NUMBERS] and is_one_of(key, _VARIABLES):
        state[VARIABLE] = 1
    elif is_one_of(key, _NEGATIVE):
        if state[NUMBERS] or state[SIGNED]:
            state[OPAQUE] = 1
        state[SIGNED], state[LOOSE], state[GAP], state[PREVIOUS] = -1, _NAMED, 0, AT_MARK
        return
    elif state[PREVIOUS] == AT_NUMBER and scale_of(key, glued):
        if state[NUMBERS] == 1:
            number[num.SCALE] += scale_of(key, glued)
        state[GAP] = 0
        return
    if state[SIGNED]:
        if state[LOOSE] != 1 or state[SIGNED] > 0 or state[WORDS]:
            state[OPAQUE] = 1  # -x; "- She makes 18" is a bullet
        state[SIGNED] = state[LOOSE] = 0
    state[PREVIOUS], state[KEY], state[GAP] = AT_WORD, key, 0
    state[UNIT if state[NUMBERS] else WORDS] = 1


def is_long_word(data: Bytes, i: int, end: int) -> bool:
    kind, _, key = symbol(data, i, end) if i < end else (0, i, 0)
    return kind == num.WORD and key > 26


def note_sign(data: Bytes, kind: int, after: int, end: int, state: Fields) -> None:
    """Note a plus or a minus: a sign, a hyphen, a dash, or an operator."""
    glued_word = state[PREVIOUS] == AT_WORD and state[GAP] == 0
    if state[NUMBERS]:
        hyphen = (state[PREVIOUS] == AT_NUMBER or state[PREVIOUS] == AT_WORD) and state[GAP] == 0
        dash = state[PREVIOUS] == AT_WORD and state[GAP] == 1
        if kind == num.PLUS or not (dash or (hyphen and is_long_word(data, after, end))):
            state[OPAQUE] = 1
    elif state[SIGNED] or (glued_word and (kind == num.PLUS or not is_long_word(data, after, end))):
        state[OPAQUE] = 1
    elif not glued_word:
        state[SIGNED] = 1 if kind == num.PLUS else -1
        state[LOOSE] = 0
    state[PREVIOUS], state[GAP] = AT_MARK, 0


def note_command(key: int, state: Fields) -> None:
    """Note a TeX command that begins no number and compares nothing."""
    if is_one_of(key, WRAPPERS):
        return
    if is_one_of(key, _SPACES):
        note_gap(state)
    elif is_one_of(key, _SIGNS):
        note_mark(num.MARK, state)
        state[UNIT] |= 1 if state[NUMBERS] else 0
    elif is_one_of(key, _DOTS):
        note_mark(num.ELLIPSIS, state)
    elif is_one_of(key, _RELATIONS):
        state[REFUSED] = 1
    elif is_one_of(key, _HEDGES):
        state[HEDGED] = 1
    else:
        state[OPAQUE] = 1
        state[PREVIOUS], state[GAP] = AT_MARK, 0


def note_gap(state: Fields) -> None:
    state[GAP] = 1
    if state[SIGNED] and state[LOOSE] != _NAMED:
        state[LOOSE] = 1


def note_mark(kind: int, state: Fields) -> None:
    """Note punctuation and other signs, those that change the value among them."""
    at_number = state[PREVIOUS] == AT_NUMBER
    if kind == num.RELATION:
        state[REFUSED] = 1
    elif kind == num.PLUS_MINUS:
        state[HEDGED] = 1
    elif (
        kind == num.FOREIGN
        or kind == num.TIMES
        or kind == 95
        or (kind == 33 and at_number and state[GAP] == 0)
    ):
        state[OPAQUE] = 1  # an unknown sign, an operator, a subscript, a factorial
    elif kind == num.ELLIPSIS and at_number:
        state[OPAQUE] = 1  # 3.33...
    elif kind == num.POWER and not (state[UNIT] and state[PREVIOUS] == AT_WORD and state[GAP] == 0):
        state[OPAQUE] = 1
    elif kind == num.POWER:
        state[KEY] = 0
        return
    elif kind == num.DEGREE and state[NUMBERS]:
        state[UNIT] = 1
    if state[SIGNED] and kind != 36 and kind != 40 and kind != num.MARK:
        state[OPAQUE] = 1
    if kind == num.COMMA or kind == num.POINT or kind == 58:
        state[KEY] = 0  # "left over: 18", "No, 18"
    closes = kind == 41 or kind == 93
    state[PREVIOUS], state[GAP] = AT_WORD if closes and state[NUMBERS] == 0 and state[WORDS] else AT_MARK, 0


_VARIABLES = word_keys("x y z n")
_ORDINALS = word_keys("th st nd rd o circ degree degrees")
_OPENERS = tuple(b" \t\n\r([{$~>")
_CLOSERS = tuple(b" \t\n\r)]}$:;,.!?\"'`~<")


def note_caret(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read what is raised: `18^{th}`, `18^\\circ`, `18 cm^2`; any other power is opaque."""
    if state[PREVIOUS] == AT_NUMBER and state[GAP] == 0:
        while i < end:
            kind, after, key = symbol(data, i, end)
            if (
                kind != num.LEFT
                and kind != num.SPACE
                and not (kind == num.COMMAND and is_one_of(key, WRAPPERS))
            ):
                if kind == num.DEGREE or (
                    (kind == num.WORD or kind == num.COMMAND) and is_one_of(key, _ORDINALS)
                ):
                    state[UNIT] = 1
                    return after
                break
            i = after
    elif state[UNIT] and not is_one_of(state[KEY], _VARIABLES):
        power, behind = num.read_exponent(data, i, end, num.BRACED)
        if behind >= 0 and 1 <= abs(power) <= 3:
            state[KEY] = 0
            return behind
    state[OPAQUE] = 1
    return i


def note_star(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read the run of stars at i: bold type if exactly one side of it is open, else an operator."""
    before = state[PREVIOUS] == AT_START or state[GAP] == 1 or data[i - 1] in _OPENERS
    while i < end and data[i] == num.STAR:
        i += 1
    behind = i >= end or data[i] in _CLOSERS
    either = i < end and (data[i] == 36 or data[i] == 92)  # `$` and a backslash open and close
    if (before == behind and not either) or state[SIGNED]:
        state[OPAQUE] = 1
    return i


def note_less(data: Bytes, i: int, end: int, state: Fields) -> int:
    """Read a tag such as `<b>` or what is left of one (`</answer`); any other `<` compares."""
    closing = i < end and data[i] == num.SLASH
    if closing:
        i += 1
    kind, after, _ = symbol(data, i, end) if i < end else (0, i, 0)
    if kind != num.WORD:
        state[REFUSED] = 1
        return i
    if after < end and data[after] == 62:
        return after + 1
    if not closing:
        state[REFUSED] = 1
    return after


def note_greater(data: Bytes, i: int, end: int, state: Fields) -> int:
    r"""Read a `>` that only closing signs follow (`\boxed{36>`); any other compares."""
    while i < end and (data[i] in _CLOSERS or data[i] == 62):
        i += 1
    if i < end or state[NUMBERS] == 0:
        state[REFUSED] = 1
    return i


def note_punctuation(data: Bytes, i: int, kind: int, after: int, end: int, state: Fields) -> int:
    """Note an ASCII sign at i that may mean more than itself; position after it."""
    following = data[after] + 0 if after < end else 0
    if kind == num.LEFT or kind == num.RIGHT:
        if kind == num.LEFT and state[PREVIOUS] == AT_WORD:
            state[PREVIOUS] = AT_MARK
        return after
    if kind == num.CARET:
        return note_caret(data, after, end, state)
    if kind == num.STAR:
        return note_star(data, i, end, state)
    if kind == 60:
        return note_less(data, after, end, state)
    if kind == 62:
        return note_greater(data, after, end, state)
    if kind == 33 and following == num.EQUALS:
        state[REFUSED] = 1
    elif kind == num.POINT and following == num.POINT and state[PREVIOUS] == AT_NUMBER:
        kind = num.ELLIPSIS
    elif kind == 40 and state[PREVIOUS] == AT_WORD and state[GAP] == 0 and state[NUMBERS] == 0:
        if is_digit(data, after, end) or following == num.MINUS:
            state[OPAQUE] = 1  # f(18)
    elif kind == num.SLASH:
        start = skip_spaces(data, after, end)
        unit, _, _ = symbol(data, start, end) if start < end else (0, 0, 0)
        if unit != num.WORD and unit != num.COMMAND and unit != num.LEFT:
            state[OPAQUE] = 1
    note_mark(kind, state)
    return after


def read_side(
    data: Bytes, i: int, end: int, number: Fields, spare: Fields, state: Fields
) -> tuple[int, bool]:
    """Read up to the next `=` into `number` and `state`; (position after it, if there was one)."""
    for k in range(STATE):
        state[k] = 0
    while i < end:
        kind, after, key = symbol(data, i, end)
        if starts_number(data, kind, after, end, key):
            after = note_number(data, i, end, number, spare, state)
        elif kind == num.SPACE or kind == num.THIN:
            note_gap(state)
        elif kind == num.WORD:
            note_word(key, number, state)
        elif kind == num.EQUALS or kind == num.APPROX or (kind == num.COMMAND and is_one_of(key, APPROXES)):
            note_end(number, state)
            return after, True
        elif kind == num.COMMAND:
            note_command(key, state)
        elif kind == num.PLUS or kind == num.MINUS:
            note_sign(data, kind, after, end, state)
        elif 32 < kind < 128:
            after = note_punctuation(data, i, kind, after, end, state)
        elif kind != num.NOTHING:
            note_mark(kind, state)
        i = after
    note_end(number, state)
    return i, False


def note_end(number: Fields, state: Fields) -> None:
    state[REFUSED] |= state[VARIABLE]  # 18x is no number, and 3x = 18 does not say 18
    said = (
        number[num.SHAPE] == num.LITERAL
        and number[num.WHOLE] == state[SPELLED]
        and number[num.WHOLE + 1] == 0
    )
    if state[SPELLED] and not said:
        state[OPAQUE] = 1  # 72 and seventy-three


def is_number(state: Fields) -> bool:
    """True if the side that was read last is one number."""
    return state[NUMBERS] > 0 and state[OPAQUE] == 0


def read_plain(data: Bytes, start: int, end: int, number: Fields) -> bool:
    """Read `-12.50`, ASCII and at most 17 digits, into `number`; False if it is anything else."""
    i = start
    number[num.SIGN], number[num.SHAPE], number[num.SCALE] = 1, num.LITERAL, 0
    if i < end and data[i] == num.MINUS:
        number[num.SIGN] = -1
        i += 1
    if not 0 < end - i <= 18:
        return False
    mantissa = 0
    digits = 0
    point = end - 1
    while i < end:
        digit = data[i] - 48
        if 0 <= digit <= 9:
            mantissa = mantissa * 10 + digit
            digits += 1
        elif data[i] == num.POINT and digits and point == end - 1 and i < end - 1:
            point = i
        else:
            return False
        i += 1
    number[num.WHOLE], number[num.WHOLE + 1] = mantissa, point + 1 - end
    return digits < 18
