"""Values that a text joins into one list: "The roots are $x = 2$ and $x = 3$." """

from collections.abc import Collection

from verifiers.flexible.denial import words_of
from verifiers.flexible.sentences import Item
from verifiers.flexible.values import BOUNDS, LEAD_LIMIT, is_formula, name_start, variable_of
from verifiers.flexible.words import BEING, CONCLUDING

_LISTING = ("are",)
"""Only behind this word, numbers outside of formulas are one list: "The roots are -2 and 5."."""
_BULLETS = ("- ", "* ")


def last_list(text: str, items: list[Item]) -> Item | None:
    """The list of values that ends a text, if a verb or a concluding word stands before it; else None.

    "The roots are $x = 2$ and $x = 3$.", "So $x = 2$ or $x = 3$." If words follow the values, "... do not work", the
    text does not end with a list.
    """
    if not items:
        return None
    behind = text[items[-1].high :]
    if "?" in behind or any(map(str.isalnum, behind)):
        return None
    first = last = len(items) - 1
    while first and joins_values(text, items[first - 1], items[first], is_last=first == last):
        first -= 1
    if first == last:
        return None
    variables = {variable_of(text, item.low, item.high) for item in items[first:]}
    low = name_start(text, items[first].low)
    words_before = list(words_of(text[max(low - LEAD_LIMIT, 0) : low].rstrip(" ,:-*\n")))
    has_one_variable = len(variables) == 1 and "" not in variables
    leading_words: Collection[str] = BEING
    if has_one_variable:
        leading_words = BEING | CONCLUDING
    elif "" in variables and not all(is_formula(text, item.low, item.high) for item in items[first:]):
        leading_words = _LISTING
    if not words_before or words_before[-1] not in leading_words:
        return None
    bullet = items[first].low - len("- ")  # where the bullet of the first value would begin
    has_several_lines = "\n" in text[items[first].high : items[-1].low]
    list_start = bullet if has_several_lines and text.startswith(_BULLETS, bullet) else items[first].low
    return Item(list_start, items[-1].high, rank=2, is_value=True)


def joins_values(text: str, before: Item, item: Item, is_last: bool) -> bool:
    """True if two neighbours are values of one list: `$2$ and $3$`, `x = 2 or x = 3`, or lines with bullets.

    If "or" or a new line with a bullet stands between the values, both must be values of one variable. "and" joins only
    the last value to the one before. is_last: whether `item` is the last value.
    """
    between = text[before.high : item.low]
    if len(between) > LEAD_LIMIT or not (is_single(text, before) and is_single(text, item)):
        return False
    words = between.replace(",", " ").replace("=", " = ").split()
    variable = variable_of(text, item.low, item.high)
    has_one_variable = variable != "" and variable_of(text, before.low, before.high) == variable
    if not is_formula(text, item.low, item.high) and has_one_variable:
        words = words[:-2]  # without the variable and its equals sign
    if words == []:
        return "," in between
    if words == ["and"]:
        return is_last
    return has_one_variable and (words == ["or"] or (words in (["-"], ["*"]) and "\n" in between))


def is_single(text: str, item: Item) -> bool:
    """True for a value or the value of a variable: `$3$`, `$x = 3$`; false for `$9 + 9 = 18$` and `$x > 3$`."""
    formula = text[item.low : item.high]
    return not any(sign in formula for sign in BOUNDS) and (
        "=" not in formula or variable_of(text, item.low, item.high) != ""
    )
