"""The words beside a number that change it, count something else or are no number at all."""

from __future__ import annotations

NUMERALS = {
    word: value
    for words, values in (
        ("zero one two three four five six seven eight nine ten eleven twelve", range(13)),
        ("thirteen fourteen fifteen sixteen seventeen eighteen nineteen", range(13, 20)),
        ("twenty thirty forty fifty sixty seventy eighty ninety", range(20, 100, 10)),
    )
    for word, value in zip(words.split(), values, strict=True)
}
"""{a word for a number: its value}."""
SPOILING = frozenset(
    """not never cannot cant can't neither nor none wrong incorrect false incorrectly impossible untrue plus twice
    thrice doubled tripled halved factorial multiple multiples root pi half halves third thirds fourths fifths sixths
    sevenths eighths ninths tenths hundredths thousandths wait unlikely lt gt""".split()
)
"""Words that deny a number or change its value wherever they stand: "not 18", "18 doubled"."""
CHANGING_BEFORE = frozenset(
    """than times over under above below beyond exceeds exceeding nearly almost least most twice thrice half double
    triple quadruple dividing no without except excluding but between near unlike sqrt cbrt sin sine cos cosine tan
    tangent ln log exp""".split()
)
"""Words that change the value of the number right behind them: "almost 18"."""
NOT_THE_NUMBER = (
    *(["up", "to"], ["close", "to"], ["next", "to"], ["far", "from"], ["short", "of"], ["off", "by"]),
    *(["number", "before"], ["number", "after"], ["anything", "but"]),
)
"""Two words before a number that make it something else: "next to 18"."""
CHANGING_BEHIND = frozenset("squared cubed tens quintillion score reciprocal inverse".split())
"""Words that change the value of the number right before them: "18 squared"."""
FRACTIONS = frozenset(
    "quarter quarters fourth fifth sixth seventh eighth ninth tenth eleventh twelfth twentieth hundredth".split()
)
OPERATIONS = frozenset(
    "square cube opposite reciprocal inverse double half third multiple factor divisor".split()
)
"""Words that, with "of", make something else of the number behind them: "the square of 18"."""
DETERMINERS = frozenset("the these those all his her its their my our".split())
ARTICLES = frozenset("a an".split())
SPANNING = frozenset("in within for every".split())
"""Words behind a unit that let a further number count something else: the 3 of "18 miles in 3 days"."""
PREPOSITIONS = SPANNING | frozenset("per of at each after over during the".split())
"""Words behind which a number in words is no second value: the two of "18 miles in two days"."""
REASONS = frozenset("because since as if".split())
"""Words behind a number that begin a reason, in which a calculation has a value of its own."""
DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
MONTHS = frozenset(
    """january february march april may june july august september october november december
    jan feb mar apr jun jul aug sep sept oct nov dec""".split()
)


def changes_number(before: list[str]) -> bool:
    """True if the words right before a number change its value: "almost", "up to", "a quarter of (the)"."""
    if not before:
        return False
    if before[-1] in CHANGING_BEFORE or before[-2:] in NOT_THE_NUMBER:
        return True
    place = len(before)
    while place and before[place - 1] in DETERMINERS:
        place -= 1
    *_, article, part, of = ["", "", "", *before[:place]]
    counted = article in ARTICLES or article in NUMERALS
    is_part = part in OPERATIONS or part in NUMERALS or (counted and part in {*FRACTIONS, "percent"})
    return of == "of" and is_part
