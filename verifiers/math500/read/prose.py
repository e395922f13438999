r"""Finds the words around a value among the tokens of an answer, before any of it is read as mathematics.

There is one rule: words beside a value do not change it, unless there is a number, a negation, an "or", a comparison or
another unit among them. Words before an equals sign, "is" or a colon name the value. Words behind the value may give
a reason for it or say where it holds.

A token is (kind, value, True if white space stands before it).
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500.read.lexer import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, Token
from verifiers.math500.read.words import (
    APPROXIMATING,
    ATTAINED,
    COMPARING,
    CONCLUDING,
    EXPLAINING,
    FORBIDDEN_IN_QUALIFIER,
    FORBIDDEN_IN_REMARK,
    HARMLESS_BEHIND_THE,
    IS,
    JOINING,
    NEGATING,
    OCCASIONS,
    OPENING_WORDS,
    QUALIFIERS,
    QUANTIFIERS,
)

# Brackets, which are counted in what may be a name.
OPENS, CLOSES = frozenset(["(", "[", "{", "\\{"]), frozenset([")", "]", "}", "\\}"])
RELATIONS = {  # {token: the operator of a `Relation`}
    "=": "=", "<": "<", ">": ">", "le": "<=", "ge": ">=", "in": "in", "ne": "!=", "equiv": "=", "approx": "approx",
}  # fmt: skip
FUNCTION_NAMES = frozenset(  # commands that may stand in a name: \sin A
    "sin cos tan cot sec csc asin acos atan ln log lg exp sinh cosh tanh sech csch coth cis gcd lcm max min det".split()
)
# Signs and commands that may stand in a name, as in P(A|B) and \angle ABC.
NAME_SIGNS = FUNCTION_NAMES | {*"( ) [ ] { } | ' + - * / : _ ^ , overline widehat cap cup perp".split()}
NAME_SIGNS |= {
    *"# deg dim ker arg Pr Re Im frac partial nabla circ triangle angle".split(),
    "mathbb P",
    "mathbb E",
}
NAME_SIGNS |= {
    *"alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi chi psi omega Delta ell".split()
}
OPERATORS = frozenset(  # signs for an operation that a problem defines: 3 \star 5
    "odot star oplus otimes ominus diamond Diamond clubsuit spadesuit heartsuit diamondsuit bigstar Box @".split()
)
SENTENCE_WORDS = OPENING_WORDS | CONCLUDING | EXPLAINING | OCCASIONS | QUALIFIERS | QUANTIFIERS | IS | JOINING
"""Words by which a text may be a sentence around a value: "so", "because", "for", "is", "and"."""
SENTENCE_COMMANDS = frozenset(["Rightarrow", "therefore", "forall"])
"""Commands of LaTeX by which a text may be such a sentence."""
BOUNDS = frozenset(["<", ">", "le", "ge", "ne", "in"])  # relations that bound a letter: n > 2
Tokens = Sequence[Token]


class Brackets(dict[int, int]):
    """{place of an opening bracket: place of its closing bracket}; raises `Malformed` for one that nothing closes."""

    def __missing__(self, place: int) -> int:
        raise Malformed("a bracket that nothing closes")


def matched(tokens: Tokens) -> Brackets:
    """The places of all pairs of brackets; an environment such as `\\begin{matrix}` counts as a pair."""
    # {opening bracket: what may close it}; round and square ones close each other, as in (2, 5].
    closing_of = {"(": (")", "]"), "[": (")", "]"), "{": ("}",), "\\{": ("\\}",), "langle": ("rangle",)}
    match = Brackets()
    open_places: list[int] = []
    for place, (kind, value, _) in enumerate(tokens):
        if kind == SIGN or value in ("langle", "rangle"):
            if value in closing_of:
                open_places.append(place)
            elif value in (")", "]", "}", "\\}", "rangle"):
                if open_places and value in closing_of.get(tokens[open_places[-1]][1], ()):
                    match[open_places.pop()] = place
                else:
                    open_places.append(place)  # has no opening bracket, so nothing will close it
        elif kind == COMMAND and value[:6] == "begin ":
            open_places.append(place)
        elif kind == COMMAND and value[:4] == "end ":
            if open_places and tokens[open_places[-1]][1] == "begin " + value[4:]:
                match[open_places.pop()] = place
    return match


def is_word(token: Token, words: frozenset[str]) -> bool:
    """True if a token is one of the words, in any case."""
    return token[0] == WORD and token[1].lower() in words


def words_among(tokens: Tokens) -> list[str]:
    """The words among the tokens, in lower case."""
    return [value.lower() for kind, value, _ in tokens if kind == WORD]


def negates(tokens: Tokens) -> bool:
    """True if a word among the tokens denies, doubts or changes a value: "not", "perhaps", "twice"."""
    return not NEGATING.isdisjoint(words_among(tokens))


def hedges(tokens: Tokens) -> bool:
    """True if a word among the tokens may take back or change a value: "or", "not", "about", "base"."""
    words = words_among(tokens)
    return not (NEGATING | COMPARING | {"or", "and", "base", "mod", "to"}).isdisjoint(words)


# ---- before the value ----


def start_of_answer(tokens: Tokens, low: int, high: int) -> int:
    """The first place in [low, high) of the answer itself: "So,", arrows and equals signs before it are left out."""
    while low < high:
        kind, value, _ = tokens[low]
        following = tokens[low + 1][1] if low + 1 < high else ""
        if value == "=" or (kind == COMMAND and value in ("therefore", "Rightarrow")):
            low += 1
        elif is_word(tokens[low], OPENING_WORDS) and following in (",", "."):
            low += 2
        else:
            break
    return low


def start_of_last_claim(tokens: Tokens, places: Sequence[int], low: int, high: int) -> int:
    """The place behind the last arrow or word such as "so", where an answer says its result; `low` if there is none.

    `places`: those of the tokens outside of brackets. `high`: the place behind the last token.
    """
    for place in places:
        kind, value, _ = tokens[place]
        is_arrow = kind == COMMAND and value in ("Rightarrow", "therefore")
        if place > low and (is_arrow or is_word(tokens[place], CONCLUDING)):
            low = place + 1
            if low < high and tokens[low][1] == ",":
                low += 1
    return low


# ---- behind the value ----


def end_of_values(tokens: Tokens, places: Sequence[int], low: int, high: int, is_reference: bool) -> int:
    """The place where the values end, before "at x = 6, y = 4" or "for all n > 2"; `high` if nothing explains them.

    `places`: those of the tokens outside of brackets. `low`, `high`: the place of the first token, and behind the last.
    """
    for place in places:
        if place <= low:
            continue
        # start: where an explanation may begin. end: where the values before it end, without a comma between them.
        start = place + 1 if tokens[place][1] == "," and place + 1 < high else place
        end = place
        if start == place and tokens[place - 1][1] == ",":
            end = place - 1
        first = tokens[start]
        if first[1].lower() == "at" and all(token[0] == WORD for token in tokens[low:place]):
            continue  # "The focus is at (0, 2)": the value comes only here
        if qualifies(tokens, place, high, is_reference):
            return end
        if not is_reference and is_word(first, OCCASIONS) and is_condition(tokens[start:high]):
            return end
    return high


def qualifies(tokens: Tokens, low: int, high: int, is_reference: bool) -> bool:
    """True if the tokens in [low, high) only say where the value holds: "for all n > 2", but not "for even n"."""
    has_comma = tokens[low][1] == "," and low + 1 < high
    start = low + 1 if has_comma else low
    values = [value.lower() if kind == WORD else value for kind, value, _ in tokens[start:high]]
    if not (FORBIDDEN_IN_QUALIFIER | IS).isdisjoint(values):
        return False
    if has_comma and high - start == 3 and tokens[start + 2][0] == LETTERS:
        if tokens[start][1].lower() in QUANTIFIERS:
            return True  # ", any integer n"
    first, second, third = (*values, "", "")[:3]  # "" where there is no such token
    is_for_all = first == "forall" or second in QUANTIFIERS or (not is_reference and third in BOUNDS)
    return first in QUALIFIERS and is_for_all


def is_condition(tokens: Tokens) -> bool:
    r"""True if tokens behind a value are a condition: `n \in \mathbb{Z}`, `a = b = c = 2`, "attained at x = 1".

    Not for x = 2, which may be another answer.
    """
    values = [value for _, value, _ in tokens]
    if negates(tokens) or "or" in values or values[:2] in (["at", "least"], ["at", "most"]):
        return False
    if is_word(tokens[0], OCCASIONS):
        is_range = is_word(tokens[0], ATTAINED) and not BOUNDS.isdisjoint(values) and "," not in values
        says_where = "=" in values or "(" in values  # at x = 1, at (1, 2)
        has_number = any(kind == NUMBER for kind, _, _ in tokens)
        return is_range or says_where or not has_number
    # Letters with an equals sign behind each, a = b = c = 2, or one with "in" behind it.
    sides, signs = tokens[::2], values[1::2]  # those of a = b = c = 2, if each side is one token
    are_letters = all(kind == LETTERS for kind, _, _ in sides[:-1])
    is_chain = len(values) > 4 and set(signs) == {"="}
    return are_letters and (is_chain or signs[:1] == ["in"])


def is_remark(inside: Tokens) -> bool:
    """True if brackets behind a value hold words that leave the value alone: "(simplified)", "(where n is even)"."""
    words = words_among(inside)
    if not EXPLAINING.isdisjoint(words[:1]):
        return not hedges(inside)
    # Words that are harmless behind "the" are left out there.
    words = [
        word
        for word, before in zip(words, ("", *words), strict=False)
        if before != "the" or word not in HARMLESS_BEHIND_THE
    ]
    has_words_alone = all(
        kind in (WORD, LETTERS) or (kind == SIGN and value in (",", "'", "-")) for kind, value, _ in inside
    )
    has_long_word = any(len(word) > 1 for word in words)  # single letters may be a value
    return has_words_alone and has_long_word and FORBIDDEN_IN_REMARK.isdisjoint(words)


def as_alternatives(tokens: list[Token]) -> list[Token]:
    """The tokens of "3/4 or 75%" for an answer that says its value twice: "3/4 (75%)", "3/4, which is 75%".

    A value that is rounded the second time, "2/3 (about 0.667)" or "2/3, approximately 0.667", becomes "2/3 ≈ 0.667".
    The tokens of any other answer are returned as they are.
    """
    values = [value.lower() for _, value, _ in tokens]
    # start: the place of what parts the value from its repetition (a bracket, "which is" or "about"); 0 if there is
    # none. end: where the repetition ends.
    if values[-1:] == [")"]:
        end = len(tokens) - 1
        start = next((opening for opening, closing in matched(tokens).items() if closing == end), 0)
        is_spaced = tokens[start][2]  # a space stands before the bracket: 3/4 (75%), not f(3)
        first, second = (values[:start], values[start + 1 : end]) if is_spaced else ([], [])
    else:
        end = len(tokens)
        start = next((place for place in range(end) if values[place : place + 2] == ["which", "is"]), 0)
        first, second = values[:start], values[start + 2 :]
        if not start:
            start = next((place for place, value in enumerate(values) if value in APPROXIMATING), 0)
            first, second = values[:start], values[start:]
    if not (first and second) or first[-1] == ")" or first == second:
        return tokens  # (x+1) (x+2) and 3 (3) are products
    end_of_first = start - 1 if first[-1] == "," else start
    start_of_second = end - len(second)
    if second[0] == "approx" or second[0] in APPROXIMATING:
        rounded = tokens[start_of_second + 1 : end]
        is_number = [kind for kind, value, _ in rounded if value != "-"] == [NUMBER]
        if second[0] == "approx" or is_number:
            return [*tokens[:end_of_first], (COMMAND, "approx", True), *rounded]
        return tokens
    if second[0] in ("or", "="):
        start_of_second += 1  # this sign is left out, because an "or" is written instead
    return [*tokens[:end_of_first], (WORD, "or", True), *tokens[start_of_second:end]]


# ---- names ----


def is_only_name(tokens: Tokens) -> bool:
    """True if a side of an equation can be nothing but a name: `P(A|B)`, `[ABC]`, words.

    Numbers in a name are indices or stand in brackets.
    """
    if not tokens or negates(tokens):
        return False
    first = tokens[0]
    values = [value for _, value, _ in tokens]
    if not OPERATORS.isdisjoint(values):
        return True
    depth = 0
    # Anything may stand in brackets, 3 in f(3), unless the side begins with a bracket or a fraction.
    takes_brackets = (first[0] != SIGN or first[1] in ("_", "^", "#")) and first[1] != "frac"
    for place, (kind, value, _) in enumerate(tokens):
        if kind == SIGN:
            if value in OPENS:
                depth += 1
            elif value in CLOSES:
                depth -= 1
        is_index = place > 0 and tokens[place - 1][1] in ("_", "^")
        may_be_in_name = kind in (LETTERS, WORD) or value in NAME_SIGNS or is_index
        if value == "," and depth <= 0:
            may_be_in_name = False
        if not may_be_in_name and not (takes_brackets and depth > 0):
            return False
    kind, value, _ = tokens[-1]
    ends_in_operator = kind == SIGN and value not in CLOSES and value != "|"
    return not ends_in_operator


def place_of_last_is(tokens: Tokens, places: Sequence[int]) -> int:
    """The place of the last "is", "are" or "equals" outside of brackets; -1 where there is none."""
    return next((place for place in reversed(places) if is_word(tokens[place], IS)), -1)
