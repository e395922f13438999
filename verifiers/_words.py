"""What each word, sign and mark of an answer says about the number it names.

Plain Python that numba also compiles as it stands. A side of an equation is described by a few integers
(`state`): what has been seen, what stands right before, and what rules the side out.
"""

from verifiers._extract import Bytes, word_key
from verifiers._number import NO_NUMBER, SCALE, SHAPE, SIGN, Fields, read_number
from verifiers._symbols import (
    DEGREE,
    ELLIPSIS,
    FOREIGN,
    MARK,
    PLUS,
    PLUS_MINUS,
    POWER,
    RELATION,
    TIMES,
    WORD,
    symbol,
)

# What has been seen of a side so far.
NUMBERS, PREVIOUS, GAP, SIGNED, LOOSE, WORDS, UNIT, KEY, OPAQUE, REFUSED, HEDGED = range(11)
STATE = 11
AT_START, AT_NUMBER, AT_WORD, AT_MARK = 0, 1, 2, 3  # PREVIOUS: what stands before, spaces apart (GAP)
_NAMED = 2  # LOOSE: the sign is a word


def keys_of(words: str) -> tuple[int, ...]:
    """The key of each word of a line, as the compiled code looks them up."""
    return tuple(word_key(word) for word in words.split())


_OR, _PER, _K = word_key("or"), word_key("per"), word_key("k")
_NEGATIVE = keys_of("minus negative")
_SPOILERS = keys_of(
    "not never than plus times half halves third thirds fourths fifths sixths sevenths eighths ninths tenths"
)
_HUNDRED = keys_of("hundred hundreds")
_THOUSAND = keys_of("thousand thousands")
_MILLION = keys_of("million millions")
_BILLION = keys_of("billion billions")
_TRILLION = keys_of("trillion trillions")
WRAPPERS = keys_of(
    "boxed fbox mbox text textbf textrm textsf texttt textit textnormal mathbf mathrm mathsf mathtt mathit "
    "boldsymbol bm bf rm displaystyle underline left right big bigl bigr emph"
)
_SPACES = keys_of("quad qquad space enspace thinspace hspace newline")
_SIGNS = keys_of(
    "circ degree degrees percent dollar dollars pounds euro textdollar textdegree textcent cent cents therefore "
    "implies rightarrow to colon checkmark"
)
APPROXES = keys_of("approx simeq sim cong equiv doteq")
_RELATIONS = keys_of("ne neq lt gt le ge leq geq ll gg leqslant geqslant")
_HEDGES = keys_of("pm mp lor vee")
_DOTS = keys_of("dots ldots cdots")


def has(keys: tuple[int, ...], key: int) -> bool:
    """True if `key` is one of `keys`; a loop, because numba unrolls `in` and compiles it for long."""
    for other in keys:
        if other == key:
            return True
    return False


def scale_of(key: int, glued: bool) -> int:
    """The power of ten a word stands for behind a number, or 0."""
    if key == _K and glued:
        return 3
    if has(_HUNDRED, key):
        return 2
    if has(_THOUSAND, key):
        return 3
    if has(_MILLION, key):
        return 6
    if has(_BILLION, key):
        return 9
    return 12 if has(_TRILLION, key) else 0


def take_number(data: Bytes, i: int, end: int, number: Fields, spare: Fields, state: Fields) -> int:
    """Read the number at i, the first into `number`; position behind it."""
    if state[PREVIOUS] == AT_WORD and state[GAP] == 0:
        state[OPAQUE] = 1  # x18, 0x12, CO2
    if state[NUMBERS] == 0:
        i = read_number(data, i, end, number)
        if number[SHAPE] == NO_NUMBER or (state[LOOSE] == 1 and state[WORDS]):
            state[OPAQUE] = 1  # "total - 18": a dash or a minus
        if state[SIGNED] < 0:
            number[SIGN] = -number[SIGN]
    else:
        i = read_number(data, i, end, spare)
        in_unit = state[NUMBERS] == 1 and state[PREVIOUS] == AT_WORD and state[KEY] == _PER
        if not in_unit or spare[SHAPE] == NO_NUMBER:
            state[OPAQUE] = 1
    state[NUMBERS] += 1
    state[PREVIOUS], state[GAP], state[SIGNED], state[LOOSE] = AT_NUMBER, 0, 0, 0
    return i


def take_word(key: int, number: Fields, state: Fields) -> None:
    """Note a word: most say nothing about the value."""
    glued = state[GAP] == 0
    if key == _OR:
        state[HEDGED] = 1
    elif has(_SPOILERS, key):
        state[OPAQUE] = 1
    elif has(_NEGATIVE, key):
        if state[NUMBERS] or state[SIGNED]:
            state[OPAQUE] = 1
        state[SIGNED], state[LOOSE], state[GAP], state[PREVIOUS] = -1, _NAMED, 0, AT_MARK
        return
    elif state[PREVIOUS] == AT_NUMBER and scale_of(key, glued):
        if state[NUMBERS] == 1:
            number[SCALE] += scale_of(key, glued)
        state[GAP] = 0
        return
    if state[SIGNED]:
        if state[LOOSE] != 1 or state[SIGNED] > 0 or state[WORDS]:
            state[OPAQUE] = 1  # -x; "- She makes 18" is a bullet
        state[SIGNED] = state[LOOSE] = 0
    state[PREVIOUS], state[KEY], state[GAP] = AT_WORD, key, 0
    state[UNIT if state[NUMBERS] else WORDS] = 1


def is_long_word(data: Bytes, i: int, end: int) -> bool:
    """True if a word of two letters or more stands at i."""
    if i >= end:
        return False
    kind, _, key = symbol(data, i, end)
    return kind == WORD and key > 26


def take_sign(data: Bytes, kind: int, after: int, end: int, state: Fields) -> None:
    """Note a plus or a minus: a sign, a hyphen, a dash, or an operator."""
    glued_word = state[PREVIOUS] == AT_WORD and state[GAP] == 0
    if state[NUMBERS]:
        hyphen = (state[PREVIOUS] == AT_NUMBER or state[PREVIOUS] == AT_WORD) and state[GAP] == 0
        dash = state[PREVIOUS] == AT_WORD and state[GAP] == 1
        if kind == PLUS or not (dash or (hyphen and is_long_word(data, after, end))):
            state[OPAQUE] = 1
    elif state[SIGNED] or (glued_word and (kind == PLUS or not is_long_word(data, after, end))):
        state[OPAQUE] = 1
    elif not glued_word:
        state[SIGNED] = 1 if kind == PLUS else -1
        state[LOOSE] = 0
    state[PREVIOUS], state[GAP] = AT_MARK, 0


def take_command(key: int, state: Fields) -> None:
    """Note a TeX command that begins no number and compares nothing."""
    if has(WRAPPERS, key):
        return
    if has(_SPACES, key):
        take_gap(state)
    elif has(_SIGNS, key):
        take_mark(MARK, state)
        state[UNIT] |= 1 if state[NUMBERS] else 0
    elif has(_DOTS, key):
        take_mark(ELLIPSIS, state)
    elif has(_RELATIONS, key):
        state[REFUSED] = 1
    elif has(_HEDGES, key):
        state[HEDGED] = 1
    else:
        state[OPAQUE] = 1
        state[PREVIOUS], state[GAP] = AT_MARK, 0


def take_gap(state: Fields) -> None:
    """Note white space."""
    state[GAP] = 1
    if state[SIGNED] and state[LOOSE] != _NAMED:
        state[LOOSE] = 1


def take_mark(kind: int, state: Fields) -> None:
    """Note punctuation and other signs, those that change the value among them."""
    at_number = state[PREVIOUS] == AT_NUMBER
    if kind == RELATION:
        state[REFUSED] = 1
    elif kind == PLUS_MINUS:
        state[HEDGED] = 1
    elif kind == FOREIGN or kind == TIMES or kind == 95 or (kind == 33 and at_number and state[GAP] == 0):
        state[OPAQUE] = 1  # an unknown sign, an operator, a subscript, a factorial
    elif kind == ELLIPSIS and at_number:
        state[OPAQUE] = 1  # 3.33...
    elif kind == POWER and not (state[UNIT] and state[PREVIOUS] == AT_WORD and state[GAP] == 0):
        state[OPAQUE] = 1
    elif kind == POWER:
        state[KEY] = 0
        return
    elif kind == DEGREE and state[NUMBERS]:
        state[UNIT] = 1
    if state[SIGNED] and kind != 36 and kind != 40 and kind != MARK:
        state[OPAQUE] = 1
    closes = kind == 41 or kind == 93
    state[PREVIOUS], state[GAP] = AT_WORD if closes and state[NUMBERS] == 0 and state[WORDS] else AT_MARK, 0


COMPILED = (
    has,
    scale_of,
    take_number,
    take_word,
    is_long_word,
    take_sign,
    take_command,
    take_gap,
    take_mark,
)
