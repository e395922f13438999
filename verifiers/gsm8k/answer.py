r"""The one number of an answer among its words, signs, currency, units and TeX: `x = \$1,250 \text{ a day}`.

An answer is cut at `=`; each side is a number, words, or something else (an expression, several numbers). A `Side`
notes what has been seen of it, what stands right before, and what rules it out.
Plain Python over UTF-8 bytes that numba also compiles as it stands; one pass.
"""

from dataclasses import dataclass, field

from verifiers import characters as ch
from verifiers.characters import is_one_of
from verifiers.extract import Bytes, word_key, word_keys
from verifiers.gsm8k import number as num
from verifiers.gsm8k.number import Number, read_number, skip_spaces, starts_number, symbol

NOTHING, NUMBER, WORD, MARK = range(4)  # what stands before, spaces apart
GLUED, APART, NAMED = range(3)  # a sign, with a space behind it, as the word "minus" or "negative"
OPAQUE, HEDGED, REFUSED = range(1, 4)  # faults: no single number; one of two answers; an answer that is none


@dataclass(slots=True)
class Side:
    """One side of an answer as far as it has been read."""

    number: Number = field(default_factory=Number)  # the first one
    other: Number = field(default_factory=Number)  # the last of those behind it: `18 per 2 hours`
    numbers: int = 0  # how many there are
    fault: int = 0  # the greatest of OPAQUE, HEDGED and REFUSED that was found, or 0
    before: int = 0  # NOTHING, NUMBER, WORD or MARK
    spaced: bool = False  # spaces stand behind that
    key: int = 0  # of the last word
    words: bool = False  # there are words before the number
    unit: bool = False  # there are words behind it
    sign: int = 0  # -1 or 1 of a sign that waits for its number
    sign_style: int = 0  # GLUED, APART or NAMED
    variable: bool = False  # a letter such as x stands behind the number
    spelled: int = 0  # the sum of the number words behind it


_OR, _PER, _K, _B, _LAST_LETTER = (word_key(word) for word in ("or", "per", "k", "b", "z"))
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
_T = word_key("t")  # of "can't"
_PREPOSITIONS = word_keys(
    "per in for of at every each after within over during the"
)  # a number word behind them says another thing
_NUMERALS = word_keys(  # each with the value of its place
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
# 1 at the remainder of each of these words, so that most others are not compared with all of them.
_TABLE = 2039
_REMAINDERS = {key % _TABLE for key in (*_SPOILERS, *_BEFORE, *_BEHIND, *_LIMITS, _TO, _T, *_NUMERALS)}
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
APPROXES = word_keys("approx simeq sim cong equiv doteq")
_COMMAND_KINDS = {
    ch.SPACE: "quad qquad space enspace thinspace hspace newline",
    num.MARK: "circ degree degrees percent dollar dollars pounds euro textdollar textdegree textcent cent cents "
    "therefore implies rightarrow to colon checkmark",
    num.ELLIPSIS: "dots ldots cdots",
    num.RELATION: "ne neq lt gt le ge leq geq ll gg leqslant geqslant",
    num.PLUS_MINUS: "pm mp lor vee",
}
_COMMANDS = tuple((key, kind) for kind, words in _COMMAND_KINDS.items() for key in word_keys(words))
_VARIABLES = word_keys("x y z n")
_ORDINALS = word_keys("th st nd rd o circ degree degrees")
_OPENERS = tuple(b" \t\n\r([{$~>")
_CLOSERS = tuple(b" \t\n\r)]}$:;,.!?\"'`~<")
_FAULTS = {
    num.RELATION: REFUSED, num.PLUS_MINUS: HEDGED,
    **dict.fromkeys((num.FOREIGN, num.TIMES, num.POWER, ch.UNDERSCORE), OPAQUE),
}  # fmt: skip
_FAULT = bytes(_FAULTS.get(kind, 0) for kind in range(ch.BEYOND_ASCII))  # of signs wherever they stand


def clear(side: Side) -> None:
    side.numbers = side.fault = side.before = side.key = side.sign = side.sign_style = side.spelled = 0
    side.spaced = side.words = side.unit = side.variable = False


def is_listed(key: int) -> bool:
    return _LISTED[key % _TABLE] == 1


def blame(side: Side, fault: int) -> None:
    side.fault = max(side.fault, fault)


def follow(side: Side, before: int) -> None:
    """Note what stands before whatever comes next."""
    side.before, side.spaced = before, False


def is_behind(side: Side, before: int) -> bool:
    """True if this stands right before, without a space."""
    return side.before == before and not side.spaced


def scale_of(key: int, glued: bool) -> int:
    """The power of ten a word stands for after a number, or 0."""
    if glued and (key == _K or key == _B):
        return 3 if key == _K else 9
    for k in range(len(_SCALES)):
        if _SCALES[k] == key:
            return _POWERS[k]
    return 0


def note_number(data: Bytes, i: int, end: int, side: Side) -> int:
    """Read the number at i; position after it."""
    number = side.number
    unreadable = is_behind(side, WORD)  # x18, 0x12, CO2
    if side.numbers == 0:
        i = read_number(data, i, end, number)
        unreadable |= number.shape == num.NO_NUMBER or (is_listed(side.key) and is_one_of(side.key, _BEFORE))
        unreadable |= side.sign_style == APART and side.words  # "total - 18": a dash or a minus
        if side.sign < 0:
            number.sign = -number.sign
    else:
        i = read_number(data, i, end, side.other)
        in_unit = side.numbers == 1 and side.before == WORD and side.key == _PER
        unreadable |= not in_unit or side.other.shape == num.NO_NUMBER
    if unreadable:
        blame(side, OPAQUE)
    side.numbers += 1
    side.variable = False  # the x of "9 x 2" is none
    side.sign = side.sign_style = 0
    follow(side, NUMBER)
    return i


def spelled(key: int) -> int:
    """The value of a number word, or -1."""
    for k in range(len(_NUMERALS)):
        if _NUMERALS[k] == key:
            return k if k <= 20 else 10 * (k - 18)
    return -1


def changes_value(key: int, side: Side) -> bool:
    """True if a word, alone or with the one before it, denies the number, bounds it or makes another one of it."""
    if is_one_of(key, _SPOILERS):
        return True
    if is_one_of(key, _BEHIND):
        return side.numbers > 0 and not side.unit  # "18 squared", not "18 meters squared"
    if key == _T:
        return is_behind(side, MARK) and side.key != 0
    if key == _TO:
        return is_one_of(side.key, _TOWARDS)
    return side.key == _AT and is_one_of(key, _LIMITS)


def note_word(key: int, side: Side) -> None:
    """Note a word: most say nothing about the value."""
    listed = is_listed(key)
    value = spelled(key) if side.numbers and listed else -1
    if value >= 0 and not is_one_of(side.key, _PREPOSITIONS):
        side.spelled += value
    elif side.spelled and is_behind(side, MARK):
        side.spelled -= max(spelled(side.key), 0)  # two-liter
    if key == _OR:
        blame(side, HEDGED)
    elif listed and changes_value(key, side):
        blame(side, OPAQUE)
    elif side.numbers and is_one_of(key, _VARIABLES):
        side.variable = True
    elif is_one_of(key, _NEGATIVE):
        side.sign, side.sign_style = -1, NAMED
        follow(side, MARK)
        return
    elif side.before == NUMBER and scale_of(key, not side.spaced):
        if side.numbers == 1:
            side.number.scale += scale_of(key, not side.spaced)
        follow(side, NUMBER)
        return
    side.sign = side.sign_style = 0  # "- She makes 18" is a bullet
    side.key = key
    follow(side, WORD)
    if side.numbers:
        side.unit = True
    else:
        side.words = True


def is_long_word(data: Bytes, i: int, end: int) -> bool:
    kind, _, key = symbol(data, i, end) if i < end else (num.NOTHING, i, 0)
    return kind == num.WORD and key > _LAST_LETTER


def note_sign(data: Bytes, kind: int, after: int, end: int, side: Side) -> None:
    """Note a plus or a minus: a sign, a hyphen, a dash, or an operator."""
    glued_word = is_behind(side, WORD)
    if side.numbers:
        hyphen = glued_word or is_behind(side, NUMBER)
        dash = side.before == WORD and side.spaced
        if kind == ch.PLUS or not (dash or (hyphen and is_long_word(data, after, end))):
            blame(side, OPAQUE)
    elif side.sign or (glued_word and (kind == ch.PLUS or not is_long_word(data, after, end))):
        blame(side, OPAQUE)
    elif not glued_word:
        side.sign, side.sign_style = 1 if kind == ch.PLUS else -1, GLUED
    follow(side, MARK)


def note_command(key: int, side: Side) -> None:
    """Note a TeX command that begins no number and compares nothing."""
    if is_one_of(key, WRAPPERS):
        return
    kind = num.FOREIGN
    for command, other in _COMMANDS:
        if command == key:
            kind = other
    if kind == ch.SPACE:
        note_space(side)
        return
    note_mark(kind, side)
    if kind == num.MARK and side.numbers:
        side.unit = True


def note_space(side: Side) -> None:
    side.spaced = True
    if side.sign and side.sign_style != NAMED:
        side.sign_style = APART


def note_mark(kind: int, side: Side) -> None:
    """Note punctuation and other signs, those that change the value among them."""
    if kind == num.POWER and side.unit and is_behind(side, WORD):
        side.key = 0  # cm²
        return
    blame(side, _FAULT[kind])
    if (kind == ch.BANG and is_behind(side, NUMBER)) or (kind == num.ELLIPSIS and side.before == NUMBER):
        blame(side, OPAQUE)  # a factorial; 3.33...
    if kind == ch.COMMA or kind == ch.POINT or kind == ch.COLON:
        side.key = 0  # "left over: 18", "No, 18"
    closes = kind == ch.RIGHT_PAREN or kind == ch.RIGHT_BRACKET
    follow(side, WORD if closes and side.numbers == 0 and side.words else MARK)


def note_caret(data: Bytes, i: int, end: int, side: Side) -> int:
    """Read what is raised: `18^{th}`, `18^\\circ`, `18 cm^2`; any other power is opaque."""
    if is_behind(side, NUMBER):
        while i < end:
            kind, after, key = symbol(data, i, end)
            named = kind == num.WORD or kind == num.COMMAND
            if kind == num.DEGREE or (named and is_one_of(key, _ORDINALS)):
                side.unit = True
                return after
            wraps = kind == num.COMMAND and is_one_of(key, WRAPPERS)
            if kind != ch.LEFT_BRACE and kind != ch.SPACE and not wraps:
                break
            i = after
    elif side.unit and not is_one_of(side.key, _VARIABLES):
        power, behind = num.read_exponent(data, i, end, num.BRACED)
        if behind >= 0 and 1 <= abs(power) <= 3:
            side.key = 0
            return behind
    blame(side, OPAQUE)
    return i


def note_star(data: Bytes, i: int, end: int, side: Side) -> int:
    """Read the run of stars at i: bold type if exactly one side of it is open, else an operator."""
    before = side.before == NOTHING or side.spaced or data[i - 1] in _OPENERS
    kind, after = num.kind_at(data, i, end)
    while kind == ch.STAR:  # a fullwidth one, too
        i = after
        kind, after = num.kind_at(data, i, end)
    behind = i >= end or data[i] in _CLOSERS
    either = i < end and (data[i] == ch.DOLLAR or data[i] == ch.BACKSLASH)  # which open and close
    if (before == behind and not either) or side.sign:
        blame(side, OPAQUE)
    return i


def note_less(data: Bytes, i: int, end: int, side: Side) -> int:
    """Read a tag such as `<b>` or what is left of one (`</answer`); any other `<` compares."""
    closing = i < end and data[i] == ch.SLASH
    if closing:
        i += 1
    kind, after = num.kind_at(data, i, end)
    if kind != num.WORD:
        blame(side, REFUSED)
        return i
    if after < end and data[after] == ch.GREATER:
        return after + 1
    if not closing:
        blame(side, REFUSED)
    return after


def note_greater(data: Bytes, i: int, end: int, side: Side) -> int:
    r"""Read a `>` that only closing signs follow (`\boxed{36>`); any other compares."""
    while i < end and (data[i] in _CLOSERS or data[i] == ch.GREATER):
        i += 1
    if i < end or side.numbers == 0:
        blame(side, REFUSED)
    return i


def note_punctuation(data: Bytes, i: int, kind: int, after: int, end: int, side: Side) -> int:
    """Note an ASCII sign at i that may mean more than itself; position after it."""
    if kind == ch.LEFT_BRACE or kind == ch.RIGHT_BRACE:
        if kind == ch.LEFT_BRACE and side.before == WORD:
            side.before = MARK
        return after
    if kind == ch.CARET:
        return note_caret(data, after, end, side)
    if kind == ch.STAR:
        return note_star(data, i, end, side)
    if kind == ch.LESS:
        return note_less(data, after, end, side)
    if kind == ch.GREATER:
        return note_greater(data, after, end, side)
    if kind == ch.BANG and after < end and data[after] == ch.EQUALS:
        blame(side, REFUSED)
    elif kind == ch.SLASH:
        unit, _ = num.kind_at(data, skip_spaces(data, after, end), end)
        if unit != num.WORD and unit != num.COMMAND and unit != ch.LEFT_BRACE:
            blame(side, OPAQUE)
    note_mark(kind, side)
    return after


def read_side(data: Bytes, i: int, end: int, side: Side) -> tuple[int, bool]:
    """Read up to the next `=` into `side`; (position after it, if there was one)."""
    clear(side)
    more = False
    while i < end and not more:
        kind, after, key = symbol(data, i, end)
        if starts_number(data, kind, after, end, key):
            after = note_number(data, i, end, side)
        elif kind == ch.SPACE or kind == num.THIN:
            note_space(side)
        elif kind == num.WORD:
            note_word(key, side)
        elif kind == ch.EQUALS or kind == num.APPROX or (kind == num.COMMAND and is_one_of(key, APPROXES)):
            more = True
        elif kind == num.COMMAND:
            note_command(key, side)
        elif kind == ch.PLUS or kind == ch.MINUS:
            note_sign(data, kind, after, end, side)
        elif ch.SPACE < kind < ch.BEYOND_ASCII:
            after = note_punctuation(data, i, kind, after, end, side)
        elif kind != num.NOTHING:
            note_mark(kind, side)
        i = after
    if side.variable:
        blame(side, REFUSED)  # 18x is no number, and 3x = 18 does not say 18
    whole = side.number.whole
    said = side.number.shape == num.LITERAL and whole.mantissa == side.spelled and whole.exponent == 0
    if side.spelled and not said:
        blame(side, OPAQUE)  # 72 and seventy-three
    return i, more


def is_number(side: Side) -> bool:
    """True if a side is one number."""
    return side.numbers > 0 and side.fault == 0


def read_plain(data: Bytes, start: int, end: int, number: Number) -> bool:
    """Read `-12.50`, ASCII and at most 18 characters behind the sign; False if it is anything else."""
    number.sign, number.shape, number.scale = 1, num.LITERAL, 0
    if start < end and data[start] == ch.MINUS:
        number.sign = -1
        start += 1
    if not 0 < end - start <= 18:
        return False
    mantissa, point = 0, end - 1
    for i in range(start, end):
        digit = data[i] - ch.ZERO
        if 0 <= digit <= 9:
            mantissa = mantissa * 10 + digit
        elif data[i] == ch.POINT and start < i < end - 1 and point == end - 1:
            point = i
        else:
            return False
    number.whole.mantissa, number.whole.exponent = mantissa, point + 1 - end
    return True
