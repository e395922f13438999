"""Reads arithmetic expressions token by token, evaluates them exactly, and counts the numbers that they use.

Tokens. Strict mode knows ASCII digits, `+ - * / ( )`, spaces and tabs. Lenient mode also knows the operators, digits
and spaces of `verifiers.characters`, some TeX, `=` between sides, and a wrapper or words in front. Anything else is
BAD; nothing is skipped because it was not understood.

Values. Dijkstra's shunting-yard over exact rationals, in time linear in the answer and fixed memory. This is plain
Python that numba can also compile. When compiled, a value is a pair of 64-bit integers that is never reduced. If a
number is beyond INTEGER_LIMIT, the outcome is UNDECIDED, and the same function then runs as Python with `exact`, on
integers without a limit.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from verifiers import characters as ch
from verifiers.characters import decimal_digit, decode, is_wide_space, read_word, rows, says_one_of
from verifiers.extract import Bytes, is_ascii_letter, is_space, matches, strip, word_key, word_keys
from verifiers.verdicts import MALFORMED, OK, RULE_BROKEN, WRONG

# Kinds of tokens. The second line has the operators; NEGATE is the minus before an operand.
END, BAD, BLANK, LITERAL, OPEN, CLOSE, EQUALS, FRACTION, LEFT_BRACE, RIGHT_BRACE = range(10)
PLUS, MINUS, TIMES, DIVIDE, NEGATE = 11, 12, 13, 14, 15

DIGITS_LIMIT = 4_000  # the most digits of a literal; Python reads at most 4,300
SAFE_DIGITS_LIMIT = 18  # the most digits of a literal that fits 64 bits
INTEGER_LIMIT = 10**SAFE_DIGITS_LIMIT  # the largest integer in a 64-bit value; the sum of two fits, too
OVER_LIMIT = INTEGER_LIMIT + 1  # in place of a number that does not fit; no given number or product equals it
INTEGER, DECIMAL, BROKEN = 0, 1, 2  # kinds of literals

_WIDE_POINT, _WIDE_COLON = ch.FULLWIDTH + ord("."), ch.FULLWIDTH + ord(":")

_STRICT_KINDS = {
    **dict.fromkeys(b"0123456789", LITERAL),
    **dict.fromkeys(b" \t", BLANK),
    **dict(zip(b"+-*/()", (PLUS, MINUS, TIMES, DIVIDE, OPEN, CLOSE), strict=True)),
}
_LENIENT_KINDS = {
    **_STRICT_KINDS,
    **dict.fromkeys(b"\n\v\f\r", BLANK),
    **dict(zip(b"={}", (EQUALS, LEFT_BRACE, RIGHT_BRACE), strict=True)),
}
# Kinds of ASCII characters; a backslash in lenient mode is `tex_token`'s.
_STRICT = bytes(_STRICT_KINDS.get(byte, BAD) for byte in range(128))
_LENIENT = bytes(_LENIENT_KINDS.get(byte, BAD) for byte in range(128))
# The kinds of characters beyond ASCII that are no digits, in rows (first, last, kind).
_WIDE = (
    *rows(MINUS, *ch.MINUS_SIGNS),
    *rows(TIMES, *ch.TIMES_SIGNS, 0x2A2F, ch.FULLWIDTH + ord("*")),
    *rows(DIVIDE, *ch.DIVISION_SIGNS),
    *rows(PLUS, *ch.PLUS_SIGNS),
    *rows(OPEN, ch.FULLWIDTH + ord("(")),
    *rows(CLOSE, ch.FULLWIDTH + ord(")")),
    *rows(EQUALS, ch.FULLWIDTH + ord("=")),
    *rows(BLANK, *ch.SPACES, *ch.THIN_SPACES, *ch.ZERO_WIDTH),
)
# {kind: the TeX commands of this kind}.
_TEX_WORDS = {
    TIMES: "times cdot ast",
    DIVIDE: "div",
    FRACTION: "frac dfrac tfrac cfrac",
    BLANK: "quad qquad thinspace",
}
_TEX = tuple((key, kind) for kind, words in _TEX_WORDS.items() for key in word_keys(words))
_TEX_LEFT, _TEX_RIGHT = word_key("left"), word_key("right")
_TEX_SIGNS = tuple(b",;:! \n")

_TEXT = b"\\text{"
_QUOTES = tuple(b"`$\"'")
_BESIDE_WORDS = tuple(b",.!")  # signs between leading words and the expression
_DENIALS = word_keys("not no never neither nor cannot t wrong incorrect impossible")  # t as in "isn't"

NUMBERS_LIMIT = 256  # the most given numbers
LITERALS_LIMIT = 1_024  # the most literals of an answer
DEPTH_LIMIT = 256  # operators and brackets that wait for their right side

UNDECIDED = -1  # in place of a reason: to be judged again without a limit on integers
_OVERFLOW, _UNDEFINED = 1, 2  # faults of a value, as bits: beyond INTEGER_LIMIT, divided by zero
_FRACTION_TOP, _FRACTION_BOTTOM = 16, 17  # open braces of fractions, on the stack of operators
# {operator on that stack: how tightly it binds}; 0 for an open bracket.
_BINDING = {PLUS: 1, MINUS: 1, TIMES: 2, DIVIDE: 2, NEGATE: 3}
_PRECEDENCE = bytes(_BINDING.get(operator, 0) for operator in range(_FRACTION_BOTTOM + 1))

Integers = list[int]  # or, where compiled, an array of int64


class Puzzle(NamedTuple):
    """The given numbers, numbers[first:last], and the target, top / bottom."""

    numbers: Integers
    first: int
    last: int
    top: int
    bottom: int


@dataclass(slots=True)
class Memory:
    """Two stacks with their sizes, counts, and notes on the answer so far. A note is 0 or 1."""

    tops: Integers = field(default_factory=lambda: [0] * (DEPTH_LIMIT + 1))  # numerators of values
    bottoms: Integers = field(default_factory=lambda: [0] * (DEPTH_LIMIT + 1))
    values: int = 0  # how many values there are
    operators: Integers = field(default_factory=lambda: [0] * DEPTH_LIMIT)
    pending: int = 0  # how many operators there are
    used: Integers = field(default_factory=lambda: [0] * NUMBERS_LIMIT)  # the side that used each number last
    side: int = 0  # the number of the side that is being read; 1 before the first equals sign
    literals: int = 0  # how many literals all sides have
    fault: int = 0  # the faults of values, as bits
    found: int = 0  # 1 if a side uses all numbers
    unequal: int = 0  # 1 if a side is not the target
    side_literals: int = 0  # how many literals that side has
    unknown: int = 0  # 1 if one of the literals of that side is not given, or is used up


def next_token(data: Bytes, i: int, end: int, lenient: bool) -> tuple[int, int]:
    """(kind of the next token, position after it; for a LITERAL, where it begins); spaces are skipped."""
    while i < end:
        kind, after = token_at(data, i, end, lenient)
        if kind == LITERAL:
            return LITERAL, i
        i = after
        if kind != BLANK:
            return kind, i
    return END, end


def token_at(data: Bytes, i: int, end: int, lenient: bool) -> tuple[int, int]:
    """(kind of token, position after it) at i; a digit is a LITERAL by itself."""
    byte = data[i] + 0
    if not lenient:
        return (_STRICT[byte] + 0 if byte < ch.BEYOND_ASCII else BAD), i + 1
    if byte == ch.BACKSLASH:
        return tex_token(data, i, end)
    if byte < ch.BEYOND_ASCII:
        return _LENIENT[byte] + 0, i + 1
    code, after = decode(data, i)
    return wide_token(code), after


def wide_token(code: int) -> int:
    """The kind of token of a character beyond ASCII; BLANK for spaces and zero-width characters."""
    for first, last, kind in _WIDE:
        if first <= code <= last:
            return kind
    return LITERAL if decimal_digit(code) >= 0 else BAD


def tex_token(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(kind of token, position after it) at a backslash."""
    key, after = read_word(data, i + 1, end)
    if key == 0:
        if after < end and data[after] == ch.STAR:
            return TIMES, after + 1  # Markdown writes a star that is no mark of its own as `\*`
        known = after < end and data[after] in _TEX_SIGNS
        return (BLANK if known else BAD), after + 1
    for word, kind in _TEX:
        if key == word:
            return kind, after
    if key == _TEX_LEFT or key == _TEX_RIGHT:
        while after < end and is_space(data[after]):
            after += 1
        wanted = ch.LEFT_PAREN if key == _TEX_LEFT else ch.RIGHT_PAREN
        if after < end and data[after] == wanted:
            return BLANK, after
    return BAD, after


def read_literal(data: Bytes, i: int, end: int, lenient: bool, exact: bool) -> tuple[int, int, int, int]:
    """(kind, numerator, denominator, position after it) of the literal that begins at i.

    Without `exact`, a literal of more than SAFE_DIGITS_LIMIT digits is OVER_LIMIT. Literals with leading zeros, with a
    point that lacks a digit on one side, or with more than DIGITS_LIMIT digits are BROKEN. `3.0` is an INTEGER.
    """
    # integer: the number before the point. decimals: how many digits stand behind the point; fraction_digits: 0 if all
    # of these are 0.
    numerator, scale = 0, 1
    integer = first = digits = decimals = fraction_digits = 0
    pointed = False
    while i < end:
        code, after = decode(data, i)
        digit = code - ch.ZERO if ch.is_ascii_digit(code) else -1
        if code >= ch.BEYOND_ASCII and lenient:
            digit = decimal_digit(code)
        point = code == ch.POINT or code == _WIDE_POINT
        if digit >= 0:
            if digits == 0:
                first = digit
            digits += 1
            if digits > DIGITS_LIMIT or (digits == 2 and first == 0 and not pointed):
                return BROKEN, 0, 1, i
            read = exact or digits <= SAFE_DIGITS_LIMIT
            numerator = numerator * 10 + digit if read else OVER_LIMIT
            if pointed:
                decimals += 1
                fraction_digits |= digit
                scale = scale * 10 if read else 1
            else:
                integer = numerator
        elif point and lenient and not pointed:
            pointed = True
        elif not (lenient and code in ch.ZERO_WIDTH):
            break
        i = after
    if pointed and decimals == 0:
        return BROKEN, 0, 1, i
    if fraction_digits == 0:
        return INTEGER, integer, 1, i
    return DECIMAL, numerator, scale, i


def frame_size(data: Bytes, start: int, end: int) -> int:
    """The bytes of the quote, stars, brace or TeX sign that begins data[start:end], if the end closes it; else 0."""
    length = end - start
    first, last = data[start] + 0, data[end - 1] + 0
    if first in _QUOTES:
        return 1 if last == first else 0
    if first == ch.LEFT_BRACE:
        return 1 if last == ch.RIGHT_BRACE else 0
    if first == ch.STAR:
        stars = 1
        while 2 * stars + 2 <= length and data[start + stars] == ch.STAR and data[end - 1 - stars] == ch.STAR:
            stars += 1
        has_inside = (
            length > 2 * stars and data[start + stars] != ch.STAR and data[end - 1 - stars] != ch.STAR
        )
        return stars if last == ch.STAR and has_inside else 0
    if first == ch.BACKSLASH and length >= 4 and data[end - 2] == ch.BACKSLASH:
        second = data[start + 1] + 0
        inline = second == ch.LEFT_PAREN and last == ch.RIGHT_PAREN
        return 2 if inline or (second == ch.LEFT_BRACKET and last == ch.RIGHT_BRACKET) else 0
    return 0


def unwrap(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(start, end) without a final point, and without the pairs of quotes, stars, ... that surround data[start:end]."""
    start, end = strip(data, start, end)
    while start < end:
        size = frame_size(data, start, end)
        if matches(data, start, end, _TEXT) and data[end - 1] == ch.RIGHT_BRACE:
            start, end = start + len(_TEXT), end - 1
        elif size:
            start, end = start + size, end - size
        elif end - start > 1 and data[end - 1] == ch.POINT and data[end - 2] != ch.POINT:
            end -= 1
        else:
            break
        start, end = strip(data, start, end)
    return start, end


def is_letter(code: int) -> bool:
    """Whether a character is a letter of the Latin alphabet, with or without an accent."""
    if code < ch.BEYOND_ASCII:
        return ch.LOWER_A <= (code | 32) <= ch.LOWER_Z
    return 0xC0 <= code <= 0x24F and code != 0xD7 and code != 0xF7  # without the signs × and ÷ among them


def is_bold_word(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether the star at i is one of at most three that make a word bold: `**Answer:** ` or `**Answer**: `."""
    first = last = i
    while first > start and i - first < 3 and data[first - 1] == ch.STAR:
        first -= 1
    while last < end and last - i < 3 and data[last] == ch.STAR:
        last += 1
    opens = last < end and is_letter(data[last])
    return opens or (first > start and (data[first - 1] == ch.COLON or is_letter(data[first - 1])))


def skip_words(data: Bytes, start: int, end: int) -> int:
    """Where the expression behind leading words begins; `start` without such words, -1 if the words do not lead to it.

    Words lead to it under these conditions:

    - White space or a sign such as a comma follows the last word, which has at least two letters: `x - 3` is no answer.
      Behind a word of one letter, a colon must follow.
    - Stars of bold type come in pairs.
    - No word denies what follows: `It is not 3*5+7`.
    """
    letters = last = stars = 0  # letters: of the word that is being read; last: of the word before it
    gap = colon = False
    i = start
    while i < end:
        code, after = decode(data, i)
        if is_letter(code):
            letters += 1
            gap = colon = False
        elif not letters or (code != ch.APOSTROPHE and code != 0x2019):
            last, letters = letters if letters else last, 0
            star = code == ch.STAR and is_bold_word(data, start, i, end)
            beside = star or code == ch.COLON or code == _WIDE_COLON or code in _BESIDE_WORDS
            if not (beside or is_space(code) or is_wide_space(code)):
                break
            colon = colon or code == ch.COLON or code == _WIDE_COLON
            gap = True
            stars += star
        i = after
    if last == 0:
        return start
    leads = i < end and gap and (colon or last > 1) and stars % 2 == 0
    return i if leads and not says_one_of(data, start, i, _DENIALS) else -1


def without_words(data: Bytes, low: int, high: int) -> tuple[int, int]:
    """(start, end) of the expression in data[low:high], without wrappers and leading words.

    The start is -1 if there are words that do not lead to an expression. Words with numbers among them lead to an
    expression only by a colon: `Using 9, 6 and 3: (9+6)*3`.
    """
    begin, end = unwrap(data, low, high)
    words = begin
    begin = skip_words(data, words, end)
    if (
        begin >= words
        and begin < end
        and is_ascii_letter(data[words] + 0)
        and starts_with_number(data, begin, end)
    ):
        colon = last_colon(data, begin, end)
        if colon >= 0 and not says_one_of(data, words, colon, _DENIALS):
            begin = colon + 1
    if begin > low:
        begin, end = unwrap(data, begin, end)
    return begin, end


def starts_with_number(data: Bytes, start: int, end: int) -> bool:
    """Whether data[start:end] begins with digits that are not part of a word."""
    i = start
    while i < end and ch.is_ascii_digit(data[i]):
        i += 1
    return i > start and not (i < end and is_ascii_letter(data[i] + 0))


def last_colon(data: Bytes, start: int, end: int) -> int:
    """Position of the last colon in data[start:end], or -1."""
    i = end - 1
    while i >= start and data[i] != ch.COLON:
        i -= 1
    return i if i >= start else -1


def product(a: int, b: int, exact: bool) -> tuple[int, int]:
    """(a * b, 0), or (0, _OVERFLOW) if the product is beyond INTEGER_LIMIT and not `exact`."""
    if not exact and abs(a) > INTEGER_LIMIT // max(abs(b), 1):
        return 0, _OVERFLOW
    return a * b, 0


def combine(operator: int, tops: Integers, bottoms: Integers, right: int, exact: bool) -> int:
    """Replaces the values at `right` - 1 and `right` by the result of `operator`; returns the fault, 0 for none."""
    a, b, c, d = tops[right - 1], bottoms[right - 1], tops[right], bottoms[right]
    if operator == PLUS or operator == MINUS:
        a, fault = product(a, d, exact)
        c, more = product(c, b, exact)
        fault |= more
        b, more = product(b, d, exact)
        fault |= more
        a = a + c if operator == PLUS else a - c
    else:
        if operator == DIVIDE:
            if c == 0:
                tops[right - 1], bottoms[right - 1] = 0, 1
                return _UNDEFINED
            c, d = d, c
        a, fault = product(a, c, exact)
        b, more = product(b, d, exact)
        fault |= more
    tops[right - 1], bottoms[right - 1] = a, b
    return fault


def unwind(level: int, memory: Memory, exact: bool) -> None:
    """Applies every operator on the stack that binds at least as tightly as `level`."""
    while memory.pending > 0:
        operator = memory.operators[memory.pending - 1]
        if _PRECEDENCE[operator] < level:
            return
        memory.pending -= 1
        last = memory.values - 1
        if operator == NEGATE:
            memory.tops[last] = -memory.tops[last]
        else:
            memory.fault |= combine(operator, memory.tops, memory.bottoms, last, exact)
            memory.values -= 1


def use_number(value: int, puzzle: Puzzle, memory: Memory) -> bool:
    """Marks a given number equal to `value` as used on this side; False if no such number is left."""
    numbers, used, first, side = puzzle.numbers, memory.used, puzzle.first, memory.side
    for j in range(first, puzzle.last):
        if numbers[j] == value and used[j - first] != side:
            used[j - first] = side
            return True
    return False


def push_literal(
    data: Bytes, i: int, end: int, lenient: bool, exact: bool, puzzle: Puzzle, memory: Memory
) -> int:
    """Reads the literal at i as the next value, and looks for it among the given numbers.

    Returns the position after it, or -1 if it is malformed. A literal behind a minus sign of its own is first looked
    for as a negative number, then, in lenient mode, as a positive number whose sign is changed: `-3` uses 3.
    """
    kind, top, bottom, i = read_literal(data, i, end, lenient, exact)
    if memory.literals == LITERALS_LIMIT or kind == BROKEN:
        return -1
    memory.tops[memory.values], memory.bottoms[memory.values] = top, bottom
    memory.values += 1
    memory.literals += 1
    memory.side_literals += 1
    if not memory.unknown:
        signed = memory.pending > 0 and memory.operators[memory.pending - 1] == NEGATE
        known = kind == INTEGER and use_number(-top if signed else top, puzzle, memory)
        known = known or (kind == INTEGER and signed and lenient and use_number(top, puzzle, memory))
        if not known:
            memory.unknown = 1
    return i


def end_side(puzzle: Puzzle, memory: Memory, exact: bool) -> None:
    """Compares a finished side with the target, notes whether it uses all numbers, and begins the next side."""
    left, fault = product(memory.tops[0], puzzle.bottom, exact)
    right, more = product(memory.bottoms[0], puzzle.top, exact)
    memory.fault |= fault | more
    if left != right:
        memory.unequal = 1
    if memory.side_literals == puzzle.last - puzzle.first and not memory.unknown:
        memory.found = 1
    memory.values = memory.side_literals = memory.unknown = 0
    memory.side += 1


def outcome(memory: Memory) -> int:
    """The outcome of a well-formed answer, from the notes in `memory`."""
    if memory.fault & _OVERFLOW:
        return UNDECIDED
    if not memory.found:
        return RULE_BROKEN
    return WRONG if memory.fault or memory.unequal else OK


def push(operator: int, memory: Memory) -> bool:
    """Puts an operator or an open bracket on its stack; False if the stack is full."""
    if memory.pending == DEPTH_LIMIT:
        return False
    memory.operators[memory.pending] = operator
    memory.pending += 1
    return True


def close_bracket(kind: int, memory: Memory, exact: bool) -> int:
    """Closes a bracket or brace: 1 if an operator may follow, 0 if a denominator must, -1 if it was not open."""
    unwind(1, memory, exact)
    last = memory.pending - 1
    opened = memory.operators[last] if last >= 0 else 0
    if kind == CLOSE:
        memory.pending = last
        return 1 if opened == OPEN else -1
    if opened == _FRACTION_TOP:
        memory.operators[last] = _FRACTION_BOTTOM
        return 0
    if opened == _FRACTION_BOTTOM:
        memory.pending = last
        memory.values -= 1
        memory.fault |= combine(DIVIDE, memory.tops, memory.bottoms, memory.values, exact)
        return 1
    return -1


def begin_operand(data: Bytes, kind: int, i: int, end: int, lenient: bool, memory: Memory) -> int:
    """Pushes a token that may stand before an operand: a bracket, a fraction, a minus sign.

    Returns the position after it, or -1 for any other token. In strict mode, a minus sign there belongs to a literal
    that must follow at once.
    """
    if kind == OPEN:
        return i if push(OPEN, memory) else -1
    if kind == FRACTION:
        kind, i = next_token(data, i, end, lenient)
        return i if kind == LEFT_BRACE and push(_FRACTION_TOP, memory) else -1
    if kind != MINUS or not (lenient or (i < end and ch.is_ascii_digit(data[i]))):
        return -1
    return i if push(NEGATE, memory) else -1


def clear(memory: Memory, numbers: int) -> None:
    """Forgets the last answer. numbers: how many are given for the next answer."""
    memory.values = memory.pending = memory.literals = memory.fault = memory.found = 0
    memory.unequal = memory.side_literals = memory.unknown = 0
    used = memory.used
    for j in range(numbers):
        used[j] = 0
    memory.side = 1


def evaluate_expression(
    data: Bytes, i: int, end: int, lenient: bool, exact: bool, puzzle: Puzzle, memory: Memory
) -> int:
    """MALFORMED, RULE_BROKEN, WRONG, OK or UNDECIDED (never with `exact`) for the expression data[i:end]."""
    clear(memory, puzzle.last - puzzle.first)
    operand = True  # an operand must come next
    while i >= 0:
        kind, i = next_token(data, i, end, lenient)
        if operand and kind == LITERAL:
            i = push_literal(data, i, end, lenient, exact, puzzle, memory)
            operand = False
        elif operand:
            i = begin_operand(data, kind, i, end, lenient, memory)
        elif PLUS <= kind <= DIVIDE:
            unwind(_PRECEDENCE[kind], memory, exact)
            operand = True
            i = i if push(kind, memory) else -1
        elif kind == CLOSE or kind == RIGHT_BRACE:
            closed = close_bracket(kind, memory, exact)
            if closed == 0:
                kind, i = next_token(data, i, end, lenient)
                operand = True
            if closed < 0 or (closed == 0 and kind != LEFT_BRACE):
                return MALFORMED
        elif kind == END or kind == EQUALS:
            unwind(1, memory, exact)
            if memory.pending > 0:
                return MALFORMED
            end_side(puzzle, memory, exact)
            operand = True
            if kind == END:
                return outcome(memory)
        else:
            return MALFORMED
    return MALFORMED
