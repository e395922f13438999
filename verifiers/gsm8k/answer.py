r"""The one number of an answer among its words, signs, currency, units and TeX: `x = \$1,250 \text{ a day}`.

An answer is cut at `=`. Each side is a number, words, or something else: an expression, several numbers. `read_side`
goes over a side once and notes in a `Side` what it has seen, what stands right before, and what rules the side out.
The functions are plain Python over UTF-8 bytes, and numba also compiles them as they stand.
"""

from dataclasses import dataclass, field

from verifiers import characters as ch
from verifiers.amounts import (
    GLUED_MAGNITUDES,
    MAGNITUDES,
    MONEY_MAGNITUDES,
    NAMES,
    NATIONS,
    SIGNS,
    currencies_of,
)
from verifiers.characters import is_one_of
from verifiers.extract import OVER_LONG, Bytes, find_byte, is_space, matches, word_key, word_keys
from verifiers.gsm8k import number as num
from verifiers.gsm8k.number import Number, read_number, starts_number, symbol

NOTHING, NUMBER, WORD, MARK = range(4)  # what stands before the current place, apart from spaces
# Faults. OPAQUE: the side is not one number that can be read. HEDGED: "18 or 19". REFUSED: "< 18".
OPAQUE, HEDGED, REFUSED = range(1, 4)


@dataclass(slots=True)
class Side:
    """One side of an answer as far as it has been read."""

    number: Number = field(default_factory=Number)  # the first number of the side
    other: Number = field(default_factory=Number)  # the last further number: the 2 of `18 per 2 hours`
    # A span is what the number is counted over: the "in 3 days" of `18 miles in 3 days`.
    after_span_word: bool = False  # a word of `_SPANNING`, behind a unit, stands last: the "in"
    in_span: bool = False  # the last number stands behind such a word: the 3
    span_has_unit: bool = False  # a word says what the last number counts: the "days"
    numbers: int = 0  # how many numbers the side has
    fault: int = 0  # the greatest of OPAQUE, HEDGED and REFUSED that was found, or 0
    before: int = 0  # what stands last: NOTHING, NUMBER, WORD or MARK
    space_follows: bool = False  # spaces stand behind what stands last
    key: int = 0  # the `word_key` of the last word
    words: bool = False  # words stand before the number
    unit: bool = False  # words stand behind the number
    sign: int = 0  # -1 or 1 if a sign stands before a number that is still to come
    variable: bool = False  # a letter such as x stands behind the number
    spelled: int = 0  # the sum of the number words behind the number: 73 in "72, seventy-three"
    words_value: int = 0  # the value of the number words before the number; -1 if other words stand there
    # `words_value` when a bracket opened behind the words: the six of "six (6)".
    value_before_bracket: int = 0
    degrees: bool = False  # at most degrees stand behind the number, so that "below zero" makes it negative
    braced: bool = False  # a brace stands right behind the number: 5 \text{ euros}
    in_function: bool = False  # the bracket of a function opened last, which changes the number: sqrt(16)
    price: int = 0  # the currencies that are named right before the current place; see `currencies_of`
    dollar: int = 0  # where the last dollar sign ends
    # What begins a reason behind the number: MARK for the open bracket of `5 (5 * 20 = 100)`, WORD, or NOTHING.
    reason: int = 0
    currency: int = 0  # the currencies that the number may be in; 0 if none is named, or CONTRADICTED
    letter: int = 0  # the power of ten of a letter behind the number, which counts beside a currency: 5M USD
    capital: bool = False  # that letter is a capital right behind the number, and no currency is named: 5M
    priced: bool = False  # the last word behind the number names its currency
    plain_words: int = 0  # how many words name no currency


_OR, _PER, _THAN, _K, _LAST_LETTER = (word_key(word) for word in ("or", "per", "than", "k", "z"))
_AND_WORD, _NO, _WAIT, _NOT = word_key("and"), word_key("no"), word_key("wait"), word_key("not")
_NEGATIVE = word_keys("minus negative")
"""Words that stand for a minus before a number: "minus 5"."""
_SPOILERS = word_keys(
    "not never cannot cant neither nor none isn aren wasn doesn didn couldn wouldn shouldn wrong incorrect false "
    "incorrectly impossible untrue plus twice thrice doubled tripled halved factorial multiple multiples root pi "
    "half halves third thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths"
)
"""Words that deny the number or change its value wherever they stand: "not 18", "18 doubled"."""
_REASONS = word_keys("because since as if")
"""Words behind a number that begin a reason, in which a calculation has a value of its own."""
_BEFORE = word_keys(
    "than times over under above below beyond exceeds exceeding nearly almost least most double triple quadruple no "
    "without except excluding but between sqrt cbrt sin sine cos cosine tan tangent ln logarithm exp partof"
)
"""Words that change the number's value right before it: "almost 18"; "partof" stands for `_PART_OF`."""
_BEHIND = word_keys("squared cubed tens quintillion score reciprocal inverse")
"""Words that change the number right behind it: "18 squared"."""
_FUNCTIONS = word_keys("log lg sqrt cbrt sin sine cos cosine tan tangent ln exp f")
"""Words that change the number in brackets behind them: "log(18)", "f(18)"."""
_FRACTIONS = word_keys(
    "quarter fourth fifth sixth seventh eighth ninth tenth eleventh twelfth twentieth hundredth thousandth"
)
_QUARTERS = word_keys("quarter quarters")
"""Fractions that are also coins and times of a game: "18 quarters"."""
_PARTS = (*_FRACTIONS, *_QUARTERS, word_key("percent"))
"""Words that say a part with a number word or "a" before them and "of" behind them: "a quarter of 18"."""
_OPERATIONS = word_keys("square cube opposite reciprocal inverse double")
"""Words that say with "of" how a number is changed, as number words do: "the square of 18", "two of the 18"."""
_OF, _DETERMINERS = word_key("of"), word_keys("of the these those all his her its their my our")
"""`_DETERMINERS` may stand between "a quarter of" and the number: "a quarter of all the 18"."""
_ARTICLES = word_keys("a an")
_PART, _NUMBER_AND, _NUMBER_AND_A, _WORD_AND_A, _FRACTION, _COIN = range(-6, 0)
"""What `Side.key` is, in this order, behind "a quarter", "2 and", "2 and a", "2 hours and a", "1 fourth", "1 quarter".
The key of a word is never below 0."""
_PART_OF = word_key("partof")
"""What `Side.key` is behind "a quarter of (the)"."""
_LIMITS, _AT = word_keys("least most"), word_key("at")
"""A pair of words that changes the value, with `_AT` first: the "at least" of "at least 18"."""
_BELOW, _BELOW_WHAT, _ZERO = word_key("below"), word_keys("zero freezing"), word_key("zero")
"""The words of "below zero" ("5 degrees below zero" is -5), and of "below freezing", which says no number."""
_DEGREES = word_keys("degree degrees c f celsius fahrenheit")
"""Words that may stand between a temperature and "below zero"."""
_TO, _TOWARDS = word_key("to"), word_keys("up close")
"""A pair of words that changes the value, with `_TO` last: the "up to" of "up to 18"."""
_T, _CAN = word_key("t"), word_key("can")  # "can't"
_PREPOSITIONS = word_keys("per in for of at every each after within over during the")
"""Words behind which a number word is no second value of the answer: the "two" of "18 miles in two days"."""
_SPANNING = word_keys("in within for every")
"""Words behind a unit that let a second number count something else: the 3 of "18 miles in 3 days"."""
_NUMERALS = word_keys(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
"""Number words in the order of their values, 0 to 20, 30, ..., 90."""
# Keys of words, and in a second tuple what the word at each place stands for: a power of ten, or currencies.
_SCALES, _POWERS = word_keys(" ".join(MAGNITUDES)), tuple(MAGNITUDES.values())
_GLUED, _GLUED_POWERS = word_keys(" ".join(GLUED_MAGNITUDES)), tuple(GLUED_MAGNITUDES.values())
_LETTERS, _LETTER_POWERS = word_keys(" ".join(MONEY_MAGNITUDES)), tuple(MONEY_MAGNITUDES.values())
_MONEY = word_keys(" ".join((*filter(str.isalpha, NAMES), *NATIONS)))
_MONEY_MEANS = tuple(map(currencies_of, (*filter(str.isalpha, NAMES), *NATIONS)))
_SIGNS, _SIGNS_MEAN = tuple(map(ord, SIGNS)), tuple(map(currencies_of, SIGNS))  # the characters of signs: €
_NATIONS, _RS = word_keys(" ".join(NATIONS)), word_key("rs")  # the us of "us dollars"; the Rs of "Rs.5"
_DOLLARS = currencies_of("$")
_AMPERSAND, _ESCAPED_AMPERSAND, _ESCAPED_DOLLAR = ord("&"), b"\\&", b"\\$"
_X = word_key("x")  # a times sign in a calculation
# The numbers of a calculation in brackets behind the answer, 7 (3 + 4), are below this.
_CALCULATION_LIMIT = 10**8
CONTRADICTED = 1 << 62  # stands for currencies that have nothing in common: $5 EUR
_PRICE_LIMIT = 400  # bytes; in a longer answer, a dollar sign without a backslash is no price's
_TABLE = 8191  # keys are divided by it, and a table is looked up at the remainder
_REMAINDERS = {
    key % _TABLE
    for key in (
        *_SPOILERS,
        *_BEFORE,
        *_BEHIND,
        *_LIMITS,
        *_BELOW_WHAT,
        *_PARTS,
        _TO,
        _T,
        *_NUMERALS,
        *_MONEY,
        *_SCALES,
    )
}
_LISTED = bytes(remainder in _REMAINDERS for remainder in range(_TABLE))
"""1 at the remainder of each word of these lists, so that most other words need not be compared with all of them."""
_WRAPPERS = word_keys(
    "boxed fbox mbox text textbf textrm textsf texttt textit textnormal mathbf mathrm mathsf mathtt mathit "
    "boldsymbol bm bf rm displaystyle underline left right big bigl bigr emph quad qquad circ degree degrees percent "
    "dollar dollars textdollar therefore implies rightarrow"
)
r"""TeX commands that say nothing about the value: `\textbf{18}`."""
_APPROXES = word_keys("approx simeq sim cong equiv doteq")
r"""TeX commands at which an answer is cut like at `=`: `54/3 \approx 18`."""
_VARIABLES = word_keys("x y z n")
"""Letters behind a number that make it no number: `3x`."""
_ORDINALS = word_keys("th st nd rd o circ degree degrees")
r"""Words that may be raised behind a number without being a power: `18^{th}`."""
_FAULT_OF_KIND = {
    num.RELATION: REFUSED, num.PLUS_MINUS: HEDGED,
    **dict.fromkeys((num.FOREIGN, num.TIMES, num.POWER, ch.UNDERSCORE), OPAQUE),
}  # fmt: skip
_FAULT = bytes(_FAULT_OF_KIND.get(kind, 0) for kind in range(ch.BEYOND_ASCII))
"""The fault that a sign makes wherever it stands, at the place of its kind: HEDGED for "±"; 0 for none."""


def clear(side: Side) -> None:
    """Forgets all that a side has noted, but for the contents of `number` and `other`, which are overwritten."""
    side.numbers = side.fault = side.before = side.key = side.sign = side.spelled = 0
    side.price = side.dollar = side.currency = side.letter = side.plain_words = 0
    side.words_value = side.value_before_bracket = side.reason = 0
    side.priced = side.capital = side.degrees = side.braced = side.in_function = False
    side.words = side.unit = side.variable = side.space_follows = False
    side.after_span_word = side.in_span = side.span_has_unit = False


def is_listed(key: int) -> bool:
    """True for the words of the lists above, and for a few others; false for most words."""
    return _LISTED[key % _TABLE] == 1


def blame(side: Side, fault: int) -> None:
    """Notes a fault unless a greater one has been noted."""
    side.fault = max(side.fault, fault)


def follow(side: Side, before: int) -> None:
    """Notes NUMBER, WORD or MARK as what stands last."""
    side.before, side.space_follows = before, False


def is_behind(side: Side, before: int) -> bool:
    """True if `before` stands last, without a space behind it."""
    return side.before == before and not side.space_follows


def scale_of(key: int, glued: bool) -> int:
    """The power of ten that a word behind a number stands for, 6 for "million"; 0 for none.

    glued: whether the word stands right behind the number, where "k" and "b" are such words, too.
    """
    return value_at_key(key, _SCALES, _POWERS) or (value_at_key(key, _GLUED, _GLUED_POWERS) if glued else 0)


def value_at_key(key: int, keys: tuple[int, ...], values: tuple[int, ...]) -> int:
    """The value at the place that a key has in `keys`; 0 if the key is not among them."""
    for k in range(len(keys)):
        if keys[k] == key:
            return values[k]
    return 0


def note_currency(currencies: int, side: Side) -> None:
    """Notes a currency that stands beside the number."""
    both = currencies if side.currency == 0 else side.currency & currencies
    side.currency = both if both else CONTRADICTED
    side.degrees = False


def is_price(data: Bytes, first: int, i: int, end: int) -> bool:
    """True if the dollar sign before i, in an answer data[first:end], neither opens nor closes a formula."""
    if i - 2 >= first and data[i - 2] == ch.BACKSLASH:
        return True
    if end - first > _PRICE_LIMIT or find_byte(data, ch.DOLLAR, i, end) < end:
        return False
    opened = False
    for k in range(first, i - 1):
        if data[k] == ch.DOLLAR and (k == first or data[k - 1] != ch.BACKSLASH):
            opened = not opened
    return not opened


def note_dollar(data: Bytes, first: int, i: int, end: int, side: Side) -> None:
    """Notes a dollar sign that ends at i; the first one behind the number may be its currency: 5$."""
    side.space_follows = True  # a dollar parts words and numbers as a space does
    if side.numbers == 1 and side.before == NUMBER and side.dollar == 0 and is_price(data, first, i, end):
        note_currency(_DOLLARS, side)
    side.dollar = i


def note_number(data: Bytes, first: int, i: int, end: int, side: Side) -> int:
    """Reads the number at i of an answer that begins at `first`; returns the position after it."""
    number = side.number
    unreadable = is_behind(side, WORD)  # x18, 0x12, CO2
    if side.numbers == 0:
        if side.dollar and is_price(data, first, side.dollar, end):
            named_dollars = side.price & _DOLLARS  # those that a word before the sign names: US$5
            side.price = named_dollars if named_dollars else _DOLLARS
        if side.price:
            note_currency(side.price, side)
        i = read_number(data, i, end, number)
        bounded = side.before == WORD and is_listed(side.key) and is_one_of(side.key, _BEFORE)
        unreadable |= bounded or side.in_function or number.shape == num.NO_NUMBER
        if side.sign < 0:
            number.sign = -number.sign
    else:
        i = read_number(data, i, end, side.other)
        behind_word = side.numbers == 1 and side.before == WORD
        side.in_span = behind_word and side.after_span_word
        side.span_has_unit = False
        is_of_unit = side.in_span or (behind_word and side.key == _PER)  # 18 per 2 hours
        unreadable |= not is_of_unit or side.other.shape == num.NO_NUMBER
    if unreadable:
        blame(side, OPAQUE)
    side.degrees = side.numbers == 0 and side.currency == 0
    side.numbers += 1
    side.variable = False  # the x of "9 x 2" is no variable
    side.sign = side.dollar = 0
    follow(side, NUMBER)
    return i


def contradicts(number: Number, value: int) -> bool:
    """True if a number in digits is not the whole number `value`, e.g. the value of the words before it: six (5)."""
    if number.shape != num.LITERAL or number.scale:
        return False
    for _ in range(-number.whole.exponent):  # 6.00 has the mantissa 600 and the exponent -2
        value = min(value * 10, num.MANTISSA_LIMIT)
    return number.whole.mantissa != value


def value_of_word(key: int) -> int:
    """The value of a number word, or -1."""
    for k in range(len(_NUMERALS)):
        if _NUMERALS[k] == key:
            return k if k <= 20 else 10 * (k - 18)  # "thirty" has place 21
    return -1


def value_with_word(key: int, value: int, so_far: int) -> int:
    """The value of number words with one more: 105 where "five" follows "one hundred and"; -1 if they say none.

    value: the value of the added word, -1 if it is no number word. so_far: the value of the words before it.
    """
    glued = False
    power = scale_of(key, glued)
    if so_far < 0:
        return -1
    if power == 0 and value < 0:
        is_and = key == _AND_WORD and so_far > 0 and so_far % 100 == 0  # one hundred and
        return so_far if is_and else -1
    if power == 0:
        return so_far + value
    # The word multiplies the part that is smaller than it: in "one million two thousand", the 2 of 1,000,002 becomes
    # 2,000. Without such a part, it stands for itself: "thousand" is 1,000.
    factor = 10**power
    small_part = so_far % factor
    multiplied = max(small_part, 1)
    if multiplied >= num.MANTISSA_LIMIT // factor:
        return -1
    return min(so_far - small_part + multiplied * factor, num.MANTISSA_LIMIT)


def changes_value(key: int, side: Side) -> bool:
    """True if a word, alone or with the word before it, denies, bounds or changes the number: "not", "at least"."""
    if is_one_of(key, _SPOILERS) or (key == _T and side.key == _CAN):  # can't
        return True
    if is_one_of(key, _BEHIND):
        return side.numbers > 0 and not side.unit  # "18 squared", not "18 meters squared"
    if side.key == _NUMBER_AND_A or side.key == _NUMBER_AND:
        return is_one_of(key, _FRACTIONS) or is_one_of(key, _QUARTERS)  # 2 and a quarter hours
    if key == _TO:
        return is_one_of(side.key, _TOWARDS)
    return side.key == _AT and is_one_of(key, _LIMITS)


def key_with_words_before(key: int, listed: bool, side: Side) -> int:
    """A word's key, or what stands for the word with those before it: `_PART_OF` for the "of" of "a quarter of".

    "3 quarters of", which makes the side OPAQUE, is noted on the way. listed: what `is_listed` says of the word.
    """
    if side.numbers == 0:
        counted = is_one_of(side.key, _ARTICLES) or value_of_word(side.key) >= 0
        if listed and counted and is_one_of(key, _PARTS):
            return _PART
        if key == _OF and (
            side.key == _PART or value_of_word(side.key) >= 0 or is_one_of(side.key, _OPERATIONS)
        ):
            return _PART_OF
        return _PART_OF if side.key == _PART_OF and is_one_of(key, _DETERMINERS) else key
    if key == _AND_WORD:
        if side.before == MARK:
            return 0  # 18, and a quarter of them are red
        return _NUMBER_AND if side.before == NUMBER else key
    if (side.key == _NUMBER_AND or side.key == _AND_WORD) and (
        is_one_of(key, _ARTICLES) or value_of_word(key) >= 0
    ):
        return _NUMBER_AND_A if side.key == _NUMBER_AND else _WORD_AND_A
    if side.before == NUMBER and is_one_of(key, _QUARTERS):
        return _COIN
    if (side.before == NUMBER or side.key == _WORD_AND_A) and is_one_of(key, _FRACTIONS):
        return _FRACTION
    if key == _OF and (side.key == _FRACTION or (side.key == _COIN and is_below_four(side.number))):
        blame(side, OPAQUE)  # 3 quarters of the class
    return key


def is_below_four(number: Number) -> bool:
    """True for 1, 2 and 3, which may count the quarters of something."""
    return number.shape == num.LITERAL and number.whole.exponent == 0 and number.whole.mantissa < 4


def note_word(key: int, is_capital: bool, side: Side) -> None:
    """Notes a word; most words say nothing about the value. is_capital: whether it begins with a capital letter."""
    listed = is_listed(key)
    currencies = value_at_key(key, _MONEY, _MONEY_MEANS) if listed else 0
    if currencies and note_money_word(currencies, side):
        return
    side.plain_words += 1
    side.price = side.dollar = side.letter = 0
    side.priced = False
    side.degrees &= (
        key == _BELOW or is_one_of(key, _DEGREES) or (side.key == _BELOW and is_one_of(key, _BELOW_WHAT))
    )
    value = value_of_word(key) if listed else -1
    if side.numbers == 0:
        side.words_value = value_with_word(key, value, side.words_value)
    elif value >= 0 and not is_one_of(side.key, _PREPOSITIONS):
        side.spelled += value
    if key == _OR:
        blame(side, HEDGED)
    elif listed and side.degrees and side.key == _BELOW and is_one_of(key, _BELOW_WHAT):
        note_below_zero(key, side)
    elif listed and changes_value(key, side):
        blame(side, OPAQUE)
    elif side.numbers and is_one_of(key, _VARIABLES):
        side.variable = True
    elif is_one_of(key, _NEGATIVE):
        side.sign = -1
        side.plain_words -= 1
        follow(side, MARK)
        return
    elif side.numbers == 1 and not side.unit:
        scale = scale_of(key, is_behind(side, NUMBER))
        letter = value_at_key(key, _LETTERS, _LETTER_POWERS) if scale == 0 and side.before == NUMBER else 0
        if scale or (letter and side.currency):
            side.number.scale += scale + letter
            side.letter = letter
            side.plain_words -= 1
            follow(side, NUMBER)
            return
        if letter and key == _K:
            blame(side, OPAQUE)  # 5 k, which may be kelvins
        side.letter = letter
        side.capital = is_capital and letter > 0 and is_behind(side, NUMBER)
    if side.numbers:
        side.span_has_unit |= side.before == NUMBER
        side.after_span_word = (
            side.unit and is_one_of(key, _SPANNING) and not is_one_of(side.key, _PREPOSITIONS)
        )
        side.unit = True
    else:
        side.words = True
    side.key = key_with_words_before(key, listed, side)
    follow(side, WORD)


def note_money_word(currencies: int, side: Side) -> bool:
    """Notes the currencies that a word beside the number names and returns True; returns False for a word elsewhere."""
    if side.numbers == 0:
        side.price = side.price & currencies if side.price & currencies else currencies
        side.space_follows = True
        return True
    beside = side.before == NUMBER or (side.before == WORD and (side.letter > 0 or side.priced))
    beside |= side.before == MARK and side.braced
    if side.numbers > 1 or not beside:
        return False
    note_currency(currencies, side)
    note_letter(side)
    side.unit = side.priced = True
    side.braced = False
    side.key = 0
    follow(side, WORD)
    return True


def says_no_money(data: Bytes, key: int, after: int, end: int, side: Side) -> bool:
    """True if a word of money does not mean money here: the "us" of `cost us 5 euros`, the T of `$18 T-shirts`."""
    if side.before == NUMBER and value_at_key(key, _LETTERS, _LETTER_POWERS):
        if not side.space_follows and (side.currency > 0 or is_one_of(key, _GLUED)):
            return False  # $5M, 5k
        kind, _ = num.kind_at(data, after, end)  # of what goes on with the letter: T-shirts, M&Ms
        return (
            kind == ch.MINUS
            or kind == _AMPERSAND
            or kind == num.WORD
            or matches(data, after, end, _ESCAPED_AMPERSAND)
        )
    if not is_listed(key) or not is_one_of(key, _NATIONS):
        return False
    if after < end and (data[after] == ch.DOLLAR or matches(data, after, end, _ESCAPED_DOLLAR)):
        return False
    # A nation means money only before a word of money that is no nation: "us dollars".
    low = num.skip_spaces(data, after, end)
    kind, _, next_key = symbol(data, low, end) if low < end else (num.NOTHING, low, 0)
    return (
        kind != num.WORD or is_one_of(next_key, _NATIONS) or value_at_key(next_key, _MONEY, _MONEY_MEANS) == 0
    )


def takes_back(data: Bytes, after: int, end: int) -> bool:
    """True if the "no" that ends at `after` takes back what stands before it: in "18. Wait, no.", not in "no more"."""
    low = num.skip_spaces(data, after, end)
    kind, _, key = symbol(data, low, end) if low < end else (num.NOTHING, low, 0)
    return kind != num.WORD or key == _WAIT


def note_money_sign(currencies: int, side: Side) -> None:
    """Notes a currency sign such as € before or behind the number. currencies: 0 for any other sign."""
    if currencies and side.numbers == 0:
        side.price = currencies
    elif currencies and side.numbers == 1 and (side.before == NUMBER or side.letter):
        note_currency(currencies, side)
        note_letter(side)


def note_letter(side: Side) -> None:
    """Notes that a currency stands behind a letter, which thereby is a power of ten: 5M USD."""
    if side.before == WORD:
        side.number.scale += side.letter
    side.letter = 0
    side.capital = False


def take_back_letter(side: Side) -> bool:
    """Notes that a letter taken for a power of ten is a unit, as an exponent follows: $5 m². False without a letter."""
    if side.before != NUMBER or side.letter == 0:
        return False
    side.number.scale -= side.letter
    side.letter = 0
    side.unit = True
    side.plain_words += 1
    follow(side, WORD)
    return True


def note_below_zero(key: int, side: Side) -> None:
    """Notes "below zero" behind a number or its degrees: the number is negative. "below freezing" is OPAQUE."""
    if key != _ZERO or side.numbers > 1 or side.number.sign < 0:
        blame(side, OPAQUE)
    side.number.sign = -1


def is_long_word(data: Bytes, i: int, end: int) -> bool:
    """True if a word of two or more letters begins at i."""
    kind, _, key = symbol(data, i, end) if i < end else (num.NOTHING, i, 0)
    return kind == num.WORD and key > _LAST_LETTER  # the key of a longer word is larger


def note_sign(data: Bytes, kind: int, after: int, end: int, side: Side) -> None:
    """Notes a plus or a minus as a sign or a hyphen; an operator makes the side OPAQUE, and so does the plus of 20+."""
    glued_word = is_behind(side, WORD)
    is_sum = kind == ch.PLUS and side.numbers > 0 and side.before != WORD
    if side.sign or is_sum or (glued_word and (kind == ch.PLUS or not is_long_word(data, after, end))):
        blame(side, OPAQUE)
    elif not glued_word:
        side.sign = 1 if kind == ch.PLUS else -1
    follow(side, MARK)


def note_mark(kind: int, side: Side) -> None:
    """Notes punctuation and other signs. Some change the value and make the side OPAQUE: 5!"""
    if kind == num.POWER and (side.unit or take_back_letter(side)) and is_behind(side, WORD):
        side.key = 0  # cm²
        return
    if kind == ch.STAR and side.numbers == 0 and side.before == WORD:
        side.space_follows = True  # "almost **18**": emphasis leaves the word right before the number
        return
    blame(side, _FAULT[kind])
    side.in_function = False
    if side.numbers == 0 and side.before == WORD:
        if kind == ch.LEFT_PAREN:
            side.value_before_bracket = side.words_value
        if kind == ch.LEFT_PAREN or kind == ch.LEFT_BRACE or kind == ch.LEFT_BRACKET:
            side.in_function = is_one_of(side.key, _FUNCTIONS)
    if kind == ch.COLON and side.numbers == 0:
        side.price = 0  # pounds: 20 euros
    side.braced = kind == ch.LEFT_BRACE and side.before == NUMBER
    side.degrees &= kind == num.MARK or kind == ch.LEFT_BRACE or kind == ch.RIGHT_BRACE
    stray = (
        side.sign
        and side.numbers == 0
        and kind != num.MARK
        and kind != ch.LEFT_PAREN
        and kind != ch.LEFT_BRACE
    )
    if stray or (kind == ch.BANG and is_behind(side, NUMBER)):
        blame(side, OPAQUE)  # a plus or minus before something else than a number; a factorial
    closes = kind == ch.RIGHT_PAREN or kind == ch.RIGHT_BRACKET
    follow(side, WORD if closes and side.numbers == 0 and side.words else MARK)


def behind_calculation(data: Bytes, i: int, end: int, number: Number) -> int:
    """Position after the brackets that open before i, if the calculation in them gives the number: 7 (3 red + 4).

    -1 if it does not. `total` is the sum of the finished terms, `term` the product or quotient that is still open, and
    `operator` the sign before the next number, 0 for none.
    """
    total = term = value = terms = operator = 0
    while i < end:
        kind, after, key = symbol(data, i, end)
        if kind == ch.RIGHT_PAREN:
            is_finished = terms > 1 and operator == 0
            is_whole = number.shape == num.LITERAL and number.scale == 0
            if not is_finished or not is_whole or number.sign < 0 or total + term < 0:
                return -1
            return -1 if contradicts(number, total + term) else after
        if ch.is_ascii_digit(kind):
            if data[i] >= ch.BEYOND_ASCII:
                return -1
            value = 0
            while i < end and ch.is_ascii_digit(data[i] + 0) and value < _CALCULATION_LIMIT:
                value = value * 10 + data[i] - ch.ZERO
                i += 1
            if value >= _CALCULATION_LIMIT or abs(term) >= _CALCULATION_LIMIT or (terms and operator == 0):
                return -1
            if operator == ch.SLASH:
                if value == 0 or term % value:
                    return -1
                term //= value
            elif operator == num.TIMES:
                term *= value
            else:
                total += term
                term = -value if operator == ch.MINUS else value
            terms += 1
            operator = 0
            continue
        joins = kind == ch.PLUS or kind == ch.MINUS or kind == ch.SLASH
        multiplies = kind == num.TIMES or kind == ch.STAR or (kind == num.WORD and key == _X)
        if joins or multiplies:
            if terms == 0 or operator:
                return -1
            operator = num.TIMES if multiplies else kind
        elif kind == num.WORD:
            if key == _OR or (is_listed(key) and is_one_of(key, _SPOILERS)):
                return -1
        elif kind != ch.SPACE and kind != num.THIN and kind != ch.DOLLAR and kind != num.NOTHING:
            return -1
        i = after
    return -1


def note_caret(data: Bytes, i: int, end: int, side: Side) -> int:
    """Reads the exponent at i, and returns the position after it.

    All but `18^{th}`, `18^\\circ` and `18 cm^2` make the side OPAQUE.
    """
    if is_behind(side, NUMBER) and not take_back_letter(side):
        braces = i
        while braces < end and data[braces] == ch.LEFT_BRACE:
            braces += 1
        _, after, key = symbol(data, braces, end) if braces < end else (num.NOTHING, i, 0)
        if is_one_of(key, _ORDINALS):
            side.unit = True
            return after
    elif side.unit and not is_one_of(side.key, _VARIABLES):
        may_be_braced = True
        power, behind = num.read_exponent(data, i, end, may_be_braced)
        if behind >= 0 and 1 <= abs(power) <= 3:
            side.key = 0
            return behind
    blame(side, OPAQUE)
    return i


def note_less(data: Bytes, i: int, end: int, side: Side) -> int:
    """Reads a tag such as `<b>`, or the cut `</answer`, and returns the position after it.

    Any other `<` compares, and the side is REFUSED.
    """
    closing = i < end and data[i] == ch.SLASH
    kind, after = num.kind_at(data, i + 1 if closing else i, end)
    opening = after < end and data[after] == ch.GREATER
    if kind != num.WORD or not (closing or opening):
        blame(side, REFUSED)
    return after + 1 if opening else after


def denies_equality(data: Bytes, first: int, i: int, side: Side) -> bool:
    """True if the = at i, in an answer that begins at `first`, denies an equality: `x != 18`, `x is not = 18`.

    In `n!=120` no space stands before the !, so it may be the sign of a factorial.
    """
    if i > first and data[i - 1] == ch.BANG:
        return i - 1 == first or is_space(data[i - 2])
    return side.before == WORD and side.key == _NOT


def read_side(data: Bytes, first: int, i: int, end: int, side: Side) -> tuple[int, bool]:
    """Reads the answer data[first:end] from i to the next `=` into `side`.

    Returns (position after that sign, True), or (end, False) if no `=` follows.
    """
    clear(side)
    more = False
    while i < end and not more:
        kind, after, key = symbol(data, i, end)
        if side.numbers and not side.words:
            note_reason(data, kind, key, after, end, side)
        if starts_number(data, kind, after, end, key):
            after = note_number(data, first, i, end, side)
        elif kind == ch.SPACE or kind == num.THIN:
            side.space_follows = True
        elif kind == ch.DOLLAR:
            note_dollar(data, first, after, end, side)
        elif kind == num.WORD and says_no_money(data, key, after, end, side):
            is_capital = False
            note_word(OVER_LONG, is_capital, side)  # as any word that says nothing
        elif kind == num.WORD and key == _NO and side.numbers and takes_back(data, after, end):
            blame(side, OPAQUE)
        elif kind == num.WORD or kind == ch.GREATER:
            is_capital = ch.UPPER_A <= data[i] <= ch.UPPER_Z
            note_word(key if kind == num.WORD else _THAN, is_capital, side)  # "> 18" is "more than 18"
            if kind == num.WORD and key == _RS and after < end and data[after] == ch.POINT:
                after += 1  # Rs.5
        elif kind == ch.LEFT_PAREN and side.numbers == 1 and (side.space_follows or side.before == WORD):
            behind = behind_calculation(data, after, end, side.number)
            if behind >= 0:
                after = behind
                follow(side, MARK)
            else:
                note_mark(kind, side)
        elif kind == ch.EQUALS or kind == num.APPROX or (kind == num.COMMAND and is_one_of(key, _APPROXES)):
            more = True
            if denies_equality(data, first, i, side):
                blame(side, REFUSED)  # x != 18
        elif kind == num.COMMAND:
            if not is_one_of(key, _WRAPPERS):
                note_mark(num.FOREIGN, side)
        elif kind == ch.PLUS or kind == ch.MINUS:
            note_sign(data, kind, after, end, side)
        elif kind == ch.CARET:
            after = note_caret(data, after, end, side)
        elif kind == ch.LESS:
            after = note_less(data, after, end, side)
        elif kind != num.NOTHING:
            if kind == num.MARK:
                note_money_sign(value_at_key(key, _SIGNS, _SIGNS_MEAN), side)
            note_mark(kind, side)
        i = after
    if side.in_span and (more or not side.span_has_unit):
        blame(side, OPAQUE)  # 18 miles in 3 days = 6 miles a day; 18 apples in 20
    if side.sign < 0 and side.numbers and not side.unit:
        blame(side, OPAQUE)  # 20-
    if side.capital or side.key == _FRACTION:
        blame(side, OPAQUE)  # 5M may be five million; 1 fourth
    if (
        side.value_before_bracket > 0
        and not side.unit
        and contradicts(side.number, side.value_before_bracket)
    ):
        blame(side, OPAQUE)  # six (5)
    if side.variable:
        blame(side, REFUSED)  # 18x is no number, and 3x = 18 does not say that x is 18
    literal = side.number.whole
    is_as_spelled = (
        side.number.shape == num.LITERAL and literal.mantissa == side.spelled and literal.exponent == 0
    )
    if side.spelled and not is_as_spelled:
        blame(side, OPAQUE)  # 72 and seventy-three
    return i, more


def note_reason(data: Bytes, kind: int, key: int, after: int, end: int, side: Side) -> None:
    """Notes what begins a reason or a check behind a number: a word such as "because", a bracket or a new sentence.

    A bracket that is closed begins none, and neither does that of a calculation: 3 (red) + 2, 3 * (2 - 1), 2(10).
    """
    if kind == ch.RIGHT_PAREN and side.reason == MARK:
        side.reason = NOTHING
    if side.numbers > 1:
        return
    ends_sentence = kind == ch.POINT and after < end and is_space(data[after])
    is_step = side.before == NUMBER and not contradicts(side.number, 1)  # the step 1. of a list
    if (kind == num.WORD and is_one_of(key, _REASONS)) or (ends_sentence and not is_step):
        side.reason = WORD
    elif kind == ch.LEFT_PAREN and side.fault == 0 and (side.space_follows or side.before != NUMBER):
        side.reason = MARK


def leads(side: Side) -> bool:
    """True if a side that is followed by `=` is a value and a reason: the `5 (5 * 20` of `5 (5 * 20 = 100)`."""
    return side.reason != NOTHING and side.numbers > 1


def is_number(side: Side) -> bool:
    """True if a side is one number without a fault."""
    return side.numbers > 0 and side.fault == 0


def read_plain(data: Bytes, start: int, end: int, number: Number) -> bool:
    """Reads data[start:end] if it is ASCII digits alone, as most answers are; False if it is anything else."""
    number.sign, number.shape, number.scale = 1, num.LITERAL, 0
    if not 0 < end - start <= num.DIGITS_LIMIT:
        return False
    mantissa = 0
    for i in range(start, end):
        digit = data[i] - ch.ZERO
        if not 0 <= digit <= 9:
            return False
        mantissa = mantissa * 10 + digit
    whole = number.whole
    whole.mantissa, whole.exponent, whole.start, whole.end = mantissa, 0, start, end
    return True
