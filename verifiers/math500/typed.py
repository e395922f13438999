"""Are two parsed answers equal, kind by kind: lists, tuples, intervals, sets, matrices, equations, units, bases.

The reference decides the reading: what it leaves open (a unit, the name before an equals sign, the base) the answer
may leave out or add; what it says must not be contradicted.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifiers.math500 import tree
from verifiers.math500.lexer import Malformed, Unsupported
from verifiers.math500.probe import NO, UNSURE, YES, compare, is_negative
from verifiers.math500.tree import EXPRESSIONS, INFINITY, MINUS_ONE, NEGATIVE_INFINITY, REALS, Node, symbols
from verifiers.math500.units import MONTHS, NEGATING, conflict, conversion, is_known, is_reals
from verifiers.verdicts import PROBE, RATIONAL, TYPED

ITEM_LIMIT = 40  # of a list whose order is free
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
PLACES = [("num", 10**k, 1) for k in range(1, 5)]
NAMED_FUNCTIONS = [("sym", name) for name in "fghF"]
INVERSE_FUNCTIONS = [("^", name, MINUS_ONE) for name in NAMED_FUNCTIONS]
YES_OR_NO = [("text", (word,)) for word in ("yes", "no", "true", "false")]
FAR = 1009
RADIANS = ("/", ("const", "pi"), ("num", 180, 1))
EULER = ("const", "e")  # or an eccentricity
UNIT_VECTORS = (("const", "i"), ("sym", "j"), ("sym", "k"))
SPOKEN_OF = frozenset(
    "the it on group function series sequence integral limit matrix number relation statement triangle".split()
)
EMPTY = frozenset(["\\emptyset", ("no", "solution"), ("no", "solutions"), ("empty", "set")])
EMPTY |= {("no", "real", "solution"), ("no", "real", "solutions")}
INFINITIES = (INFINITY, NEGATIVE_INFINITY)


class Comparison:
    """One answer against one reference, of so many characters together; `signs`: if a plus-minus sign is in them.

    `rational` stays True while only exact rational numbers decided, `structured` False while no container was met.
    """

    def __init__(self, length: int, strict: bool, signs: bool = True) -> None:
        self.length = length
        self.strict = strict
        self.signs = signs
        self.rational = True
        self.structured = False

    @property
    def tier(self) -> int:
        if self.structured:
            return TYPED
        return RATIONAL if self.rational else PROBE

    def renamed(self, answer: Node, gold: Node, domain: bool) -> int:
        """NO, YES or UNSURE for two trees whose arbitrary constants may have other names.

        So may their arbitrary integers where it is said of one that it is an integer: `domain`.
        """
        ways = [tree.of_positive(answer), *tree.renamed(answer, gold, tree.CONSTANTS)]
        ways += tree.renamed(answer, gold, tree.INDICES) if domain else ()
        if any(self.same(way, gold) == YES for way in ways):
            return YES
        return self.up_to_constant(answer, gold)

    def same(self, answer: Node, gold: Node) -> int:
        """NO, YES or UNSURE for two trees of any kind."""
        answer, gold = simplified(answer), simplified(gold)
        if self.signs:
            answer, gold = spread(answer), spread(gold)
        if answer[0] in EXPRESSIONS and gold[0] in EXPRESSIONS:
            return self.same_expression(answer, gold)
        kinds = answer[0], gold[0]
        if "words" in kinds:
            inner = (node[1] if node[0] == "words" else node for node in (answer, gold))
            return NO if self.strict and gold[0] != "words" else self.same(*inner)
        if "mod" in kinds:
            return self.same_residue(answer, gold) if gold[0] == "mod" else self.same(answer[1], gold)
        if not REGIONS.isdisjoint(kinds) and kinds != ("rel", "rel"):
            (region, name), (gold_region, gold_name) = as_region(answer), as_region(gold)
            if gold_region is not None and region is None and says_inequality(answer):
                return NO
            if region is not None and gold_region is not None:
                self.structured = True
                if name and gold_name and name != gold_name:
                    return NO
                return self.same_container(region, gold_region)
        if "rel" in kinds:
            return self.same_relation(answer, gold)
        if "unit" in kinds:
            return self.same_quantity(answer, gold)
        if kinds[0] == "list" and gold[0] in EXPRESSIONS and is_limited(answer[1], symbols(gold)):
            return NO if self.strict else self.same(answer[1][0], gold)
        if kinds[0] == "list" and answer[2:] == ("or",) and gold[0] in EXPRESSIONS and not self.strict:
            first, *others = answer[1]  # 5/16 or 0.3125
            alike = all(item[0] in EXPRESSIONS for item in answer[1])
            alike = alike and all(self.same(first, other) == YES for other in others)
            return self.same(first, gold) if alike else NO
        self.structured = True
        return self.same_container(answer, gold)

    def same_expression(self, answer: Node, gold: Node) -> int:
        if answer[0] == gold[0] == "*" and tree.holds_container(gold):
            return YES if answer == gold else NO  # N(5, 2)
        infinite = same_infinity(answer, gold)
        if infinite is not None:
            self.rational = False
            return infinite
        if self.strict and not tree.keeps_form(answer, gold):
            return NO
        verdict, rational = compare(answer, gold, self.length)
        self.rational &= rational
        return verdict

    def same_container(self, answer: Node, gold: Node) -> int:
        kinds = kind, answer_kind = gold[0], answer[0]
        if "base" in kinds:
            return self.same_base(answer, gold)
        if kind == "list" == answer_kind and all(item in YES_OR_NO for item in gold[1]):
            return NO if "or" in answer[2:] else self.in_order(answer[1], gold[1])
        if kind in ("list", "set") and answer_kind in ("list", "set"):
            if self.strict and (kind, answer_kind) == ("set", "list"):
                return NO
            return self.any_order(answer[1], gold[1])
        if kind == "seq" == answer_kind:
            alike = answer[1:3] == gold[1:3] or (not self.strict and is_vector(answer) and is_vector(gold))
            return self.in_order(answer[3], gold[3]) if alike else NO
        if kind == "union" == answer_kind:
            return self.any_order(answer[1], gold[1])
        if kind == "mat" == answer_kind and list(map(len, answer[1])) == list(map(len, gold[1])):
            return self.in_order(sum(answer[1], ()), sum(gold[1], ()))
        if kind == "text" == answer_kind:
            return self.same_words(
                *([MONTHS.get(w.lower(), w.lower()) for w in node[1]] for node in (answer, gold))
            )
        if "text" in kinds:
            text, other = (gold, answer) if kind == "text" else (answer, gold)
            if len(text[1]) == 1:
                return YES if other in (("sym", *text[1]), ("const", *text[1])) else NO
        if kind == "ratio" == answer_kind:
            return self.in_order(answer[1], gold[1])
        if kind == "date" == answer_kind:
            return self.same(answer[2], gold[2]) if answer[1] == gold[1] else NO
        if self.strict:
            return NO
        if answer_kind == "list" and gold[:3] == ("seq", "(", ")"):
            items = answer[1] if all(item[0] != "rel" for item in answer[1]) else by_name(answer[1])
            return self.in_order(items, gold[3]) if items else NO
        if kind == "list" and answer[:3] == ("seq", "(", ")"):
            items = gold[1] if all(item[0] == "text" for item in gold[1]) else by_name(gold[1])
            return self.in_order(answer[3], items) if items else NO
        if {kind, answer_kind} == {"seq", "mat"} and is_vector(answer) and is_vector(gold):
            return self.in_order(entries(answer), entries(gold))
        if (
            is_vector(gold)
            and answer_kind in EXPRESSIONS
            and (vector := by_units(answer, len(entries(gold))))
        ):
            return self.in_order(vector, entries(gold))
        if kind == "seq" and answer_kind == "*" and len(answer[1]) == 2:
            name, node = answer[1]
            if name[0] == "sym" and name[1][0].isupper():
                return self.same(node, gold)  # P(3, -4)
        if set(kinds) == {"ratio", "/"}:
            return self.same(quotient(answer), quotient(gold))
        if kind == "set" and answer_kind in EXPRESSIONS and len(gold[1]) == 1:
            return self.same(answer, gold[1][0])
        if kind in EXPRESSIONS and answer_kind == "set" and len(answer[1]) == 1:
            return self.same(answer[1][0], gold)
        return NO

    def same_words(self, answer: Sequence[str], gold: Sequence[str]) -> int:
        """One side may name what is spoken of, too: the series converges, an odd function."""
        plain = [[word for word in words if word not in SPOKEN_OF] for words in (answer, gold)]
        one_says = (plain[0] == answer) != (plain[1] == gold)
        if not self.strict and one_says and NEGATING.isdisjoint(answer):
            answer, gold = plain
        return YES if answer == gold != [] else NO

    def in_order(self, answer: Sequence[Node], gold: Sequence[Node]) -> int:
        if len(answer) != len(gold):
            return NO
        verdict = YES
        for a, g in zip(answer, gold, strict=True):
            one = self.element(a, g)
            if one == NO:
                return NO
            verdict = max(verdict, one)
        return verdict

    def element(self, answer: Node, gold: Node) -> int:
        """Elements of containers: infinite ends of intervals compare by their sign."""
        if answer[0] == "unit" and answer[2] == "percent" and gold[0] != "unit":
            return NO
        infinite = same_infinity(answer, gold)
        return self.same(answer, gold) if infinite is None else infinite

    def any_order(self, answer: Sequence[Node], gold: Sequence[Node]) -> int:
        """As multisets: every element of one is an element of the other, as often."""
        name, gold = unnamed(gold)
        if name and any(item[0] == "rel" and base_of(item[2][0]) != base_of(name) for item in answer):
            return NO
        answer, gold = expanded(answer), expanded(gold)
        if len(answer) != len(gold):
            return NO
        if len(gold) > ITEM_LIMIT:
            return self.in_order(answer, gold)
        verdict = YES
        for g in gold:
            unsure = False
            for k, a in enumerate(answer):
                one = self.element(a, g)
                if one == YES:
                    del answer[k]
                    break
                unsure |= one == UNSURE
            else:
                if not unsure:
                    return NO
                verdict = UNSURE
        return verdict

    def same_quantity(self, answer: Node, gold: Node) -> int:
        (a, unit), (g, gold_unit) = (node[1:] if node[0] == "unit" else (node, "") for node in (answer, gold))
        if g[0] == "text":
            return NO  # a word has no unit
        if unit == "percent" and not gold_unit and not (g[0] == "num" and abs(g[1]) > g[2]):
            a = ("pct", a)  # only a number above 1 may have been asked for in per cent
        if "degree" in (unit, gold_unit) and not (self.strict or unit == gold_unit):  # pi/3 is 60 degrees
            other, said = (g, gold_unit) if unit == "degree" else (a, unit)
            angle = other is a and a[0] in EXPRESSIONS and "pi" in tree.leaves(a, "const")
            if said == "radian" or (angle and not said):
                a, g = (("*", (side, RADIANS)) if side is not other else side for side in (a, g))
                unit = gold_unit = ""
        if conflict(unit, gold_unit):
            times = None if self.strict else conversion(unit, gold_unit)
            return self.same(("*", (("num", *times), a)), g) if times else NO
        return self.same(a, g)

    def same_residue(self, answer: Node, gold: Node) -> int:
        """x = 5 (mod 7) as 12 (mod 7) or 7n + 5."""
        self.structured = True
        if answer[0] == "rel" and answer[1] == ("=",) and is_name(answer[2][0]):
            answer = answer[2][1]
        if answer[0] in EXPRESSIONS and len(names := symbols(answer)) == 1:
            first, second, far = (
                tree.substituted(answer, {("sym", *names): ("num", k, 1)}) for k in (0, 1, FAR)
            )
            step = ("+", (second, minus(first)))
            steady = self.same(("+", (far, minus(first))), ("*", (("num", FAR, 1), step))) == YES
            answer = ("mod", first, ("fn", "abs", (step,))) if steady else answer
        if answer[0] != "mod" or self.same(answer[2], gold[2]) != YES:
            return NO
        if (
            symbols(answer[1])
            or answer[1][0] in ("^", "*")
            or (gold[3:] and answer[3:] not in ((), gold[3:]))
        ):
            return NO  # still to be computed, or of something else
        return self.same(*(("fn", "mod", (side[1], gold[2])) for side in (answer, gold)))

    def same_base(self, answer: Node, gold: Node) -> int:
        """Numbers with a base: the same digits in the same base; the answer may leave the base out."""
        if gold[0] != "base":  # then it is decimal
            return self.same(("num", int(answer[1]), 1), gold) if answer[2] == "10" else NO
        if answer[0] == "base":
            return YES if answer[1:] == gold[1:] else NO
        if self.strict or answer[0] != "num" or answer[2] != 1:
            return NO
        return YES if str(answer[1]) == gold[1] else NO

    def same_relation(self, answer: Node, gold: Node) -> int:
        self.structured = True
        if answer[0] == "rel" and gold[0] == "rel":
            return self.same_relations(answer, gold)
        if gold[0] != "rel":
            if gold[0] in ("list", "seq") and len(items := by_name([answer])) > 1:
                return self.in_order(items, gold[1 if gold[0] == "list" else 3])  # x = y = 2 for (2, 2)
            value = self.value_of_chain(answer, gold)
            return NO if value is None else self.same(value, gold)
        value = named_value(gold)
        return NO if value is None or (self.strict and symbols(value)) else self.same(answer, value)

    def value_of_chain(self, answer: Node, gold: Node) -> Node | None:
        """What `a = b = c` says where the reference is a value: the side that is one; two of them must agree."""
        operators, sides = answer[1], answer[2]
        if operators == ("in",) and is_name(sides[0]) and sides[0][0] != "*":
            return None if simplified(sides[1])[0] in EXPRESSIONS else sides[1]
        letters = symbols(gold) if gold[0] in EXPRESSIONS else frozenset()
        if operators[-1] == "approx" and gold[0] == "num" and gold[2] > 1 and sides[-1][0] == "num":
            place = ("num", 1, gold[2])  # rounded, as asked
            error = ("+", (sides[-2], minus(sides[-1]))) if sides[-2][0] in EXPRESSIONS else place
            named = set(operators[:-1]) <= {"="} and all(map(is_name, sides[:-2]))
            if named and not self.strict and is_less(error, place) and is_less(minus(error), place):
                return sides[-1]
        if operators[-1] == "approx" and len(sides) > 1 and not is_name(sides[-2]) and not self.strict:
            operators, sides = operators[:-1], sides[:-1]  # the exact value stands before its approximation
        if any(operator != "=" for operator in operators):
            return None
        names = [is_name(side) or is_asked_for(side, letters, gold) or has_dots(side) for side in sides]
        first = sides[0]
        names[0] |= bool(letters) and first[0] == "fn" and not symbols(first)  # log_6 45 = a + b
        names[0] |= first == EULER and gold[0] in EXPRESSIONS and "e" not in tree.leaves(gold, "const")
        asked = symbols(first) if names[0] and first[0] in ("+", "*", "^", "/") else frozenset()
        for k, side in enumerate(sides[1:-1], 1):  # r^2 + s^2 = (r + s)^2 - 2rs = 19
            names[k] |= bool(symbols(side)) and asked.issuperset(symbols(side))
        if any(side[0] == "sym" and side[1] in letters for side in sides[:-1]):
            return None  # x = (x - 1)/2 gives no value
        if (sides[-1][0] == "text") != (gold[0] == "text"):
            return None
        values = [side for side, name in zip(sides, names, strict=True) if not name] or [sides[-1]]
        plain = Comparison(self.length, False)
        last = values[-1]
        agree = (
            plain.same(value, last)
            or plain.same(last, value)
            or plain.same(in_decimal(value), in_decimal(last))  # 345_6 = 137
            for value in values[:-1]
        )
        return None if NO in agree else last

    def same_relations(self, answer: Node, gold: Node) -> int:
        if any(side[0] == "unit" and is_name(side[1]) and is_known(side[2]) for side in answer[2]):
            return NO  # a name has no unit
        if set(answer[1]) != {"="} != set(gold[1]):
            (region, name), (gold_region, gold_name) = as_region(answer), as_region(gold)
            if region is not None and gold_region is not None:
                return self.same_container(region, gold_region) if name == gold_name else NO
        a, g = normal_relation(answer), normal_relation(gold)
        value = named_value(gold)
        if len(g[2]) == 2 < len(a[2]) and set(a[1]) == {"="} and value is None:  # y^2 = 4 * 2x = 8x
            first, *middle, last = a[2]
            agree = all(self.same(side, last) == YES for side in middle)
            a = ("rel", ("=",), (first, last)) if agree else a
        if value is not None and not self.strict and is_call(a[2][0]) and is_call(g[2][0]):
            argument = {a[2][0][1][1]: g[2][0][1][1]}  # f(x) = x + 1 for f(n) = n + 1
            if a[2][0][1][0] == g[2][0][1][0] and g[2][0][1][1][1] not in tree.names_in(a):
                a = ("rel", a[1], tuple(tree.substituted(side, argument) for side in a[2]))
        if value is not None and not self.strict and is_function(a[2][0], g[2][0], symbols(value)):
            a = ("rel", a[1], (g[2][0], *a[2][1:]))
        if value is not None and len(a[2]) > 2 and a[2][0] == g[2][0] and {"=", "approx"}.issuperset(a[1]):
            last = self.value_of_chain(("rel", *a[1:]), value)  # x = 2 + 2 = 4
            return NO if last is None else self.same(last, value)
        if a[1] != g[1]:
            return NO
        if self.in_order(a[2], g[2]) == YES or (a[1] == ("=",) and self.in_order(a[2][::-1], g[2]) == YES):
            return YES
        if value is not None and not symbols(value):
            return NO  # 2x = 10 is not solved
        if self.strict or a[1] != ("=",) or not all(side[0] in EXPRESSIONS for side in (*a[2], *g[2])):
            return NO
        a, g = (("+", (left, ("*", (MINUS_ONE, right)))) for left, right in (a[2], g[2]))
        return self.proportional(a, g)

    def up_to_constant(self, answer: Node, gold: Node) -> int:
        """Two antiderivatives, each a sum with a constant of its own: their difference is one."""
        (a, c), (g, gold_c) = without_constant(answer), without_constant(gold)
        names = symbols(g)
        if not (c and gold_c) or len(names) != 1 or symbols(a) != names or not "".join(names).islower():
            return NO
        if "rel" in (answer[0], gold[0]) and (answer[0] != gold[0] or answer[2][0] != gold[2][0]):
            return NO
        if a[0] == "+" and any(term[0] == "num" for term in a[1]):
            return NO  # a point on an axis, perhaps
        here_a, here_g = (tree.substituted(node, somewhere(names)) for node in (a, g))
        return compare(("+", (a, here_g)), ("+", (g, here_a)), self.length)[0]

    def proportional(self, a: Node, g: Node) -> int:
        """YES if a = c * g for a constant c: the same line."""
        names = symbols(g)
        if symbols(a) != names or not names:
            return NO
        point = somewhere(names)
        here_a, here_g = tree.substituted(a, point), tree.substituted(g, point)
        verdict, _ = compare(("*", (a, here_g)), ("*", (g, here_a)), self.length)
        nonzero = all(compare(here, tree.ZERO, self.length)[0] == NO for here in (here_g, here_a))
        return verdict if nonzero else NO


def somewhere(names: frozenset[str]) -> dict[Node, Node]:
    """A point: a number for each variable."""
    return {("sym", name): ("num", 1009 + 89 * k * k + 7 * k, 113) for k, name in enumerate(sorted(names))}


def without_constant(node: Node) -> tuple[Node, Node | None]:
    """A sum without the arbitrary constant that is one of its terms and nothing else, and that; else None."""
    node = node[2][1] if node[0] == "rel" and node[1] == ("=",) else node
    terms = node[1] if node[0] == "+" else ()
    constants = [term for term in terms if term[0] == "sym" and term[1][0] == "C"]
    if len(constants) != 1:
        return node, None
    left = tuple(term for term in terms if term is not constants[0])
    return (left[0] if len(left) == 1 else ("+", left)), constants[0]


# What equations, inequalities and plus-minus signs stand for.


def quotient(node: Node) -> Node:
    """The quotient that a ratio of two says; else the node itself."""
    return ("/", *node[1]) if node[0] == "ratio" and len(node[1]) == 2 else node


def is_name(node: Node) -> bool:
    """True for what a value may be called: x, f(x), AB, P(A), a word, an angle; no sums, no numbers."""
    kind = node[0]
    if kind in ("sym", "text", "words"):  # of these the last before a side of "The third term is 16" only
        return True
    if kind == "unit" and not is_known(node[2]):
        return is_name(node[1])
    if kind == "*":
        if node[1][0][0] == "sym" and all(part[0] in ("paren", "seq", "set") for part in node[1][1:]):
            return True  # f(2), P(10, 3)
        return all(part[0] == "seq" or is_name(part) for part in node[1]) and len(node[1]) <= 4
    if kind in ("seq", "union"):
        return all(map(is_name, node[-1]))
    if kind == "/" and node[1][0] == node[2][0] == "*":
        return node[1][1][0] == node[2][1][0] == ("sym", "d") and all(map(is_name, node[1:]))  # dy/dx
    return kind == "fn" and node[1] in tree.TRIGONOMETRIC | {"ln"} and is_name(node[2][0])


def is_vector(node: Node) -> bool:
    """True for (1, 2), <1, 2> and a matrix of one row or column."""
    if node[0] == "mat":
        return len(node[1]) == 1 or len(node[1][0]) == 1
    return node[0] == "seq" and node[1:3] in (("(", ")"), ("<", ">"))


def entries(vector: Node) -> Sequence[Node]:
    return vector[3] if vector[0] == "seq" else sum(vector[1], ())


def by_units(node: Node, size: int) -> Sequence[Node]:
    r"""The entries of `2\mathbf{i} - \mathbf{k}`; empty where it is no sum of multiples of unit vectors."""
    terms = node[1] if node[0] == "+" else (node,)
    found: dict[Node, Node] = {}
    for term in terms:
        factors = term[1] if term[0] == "*" else (term,)
        units = [factor for factor in factors if factor in UNIT_VECTORS[:size]]
        if len(units) != 1 or units[0] in found:
            return ()
        found[units[0]] = ("*", (tree.ONE, *(factor for factor in factors if factor is not units[0])))
    if not symbols(node) & {"j", "k"}:
        return ()  # 2i is a complex number
    return [found.get(unit, tree.ZERO) for unit in UNIT_VECTORS[:size]]


def in_decimal(node: Node) -> Node:
    """A number with a base as one without; another node as it is."""
    try:
        return ("num", int(node[1], int(node[2])), 1) if node[0] == "base" else node
    except ValueError:  # no digits of that base
        return node


def has_dots(node: Node) -> bool:
    return node[0] in EXPRESSIONS and "\\dots" in symbols(node)


def is_limited(items: Sequence[Node], letters: frozenset[str]) -> bool:
    """True for a value in letters, and behind it for which of one of them: 1/(p + 1), p > -1."""
    if len(items) != 2 or items[1][0] != "rel" or not says_inequality(items[1]):
        return False
    return items[1][2][0] in {("sym", name) for name in letters}


def is_call(node: Node) -> bool:
    """True for f(x)."""
    return node[0] == "*" and len(node[1]) == 2 and node[1][0] in NAMED_FUNCTIONS and node[1][1][0] == "sym"


def is_function(node: Node, name: Node, letters: frozenset[str]) -> bool:
    """True for y(t), where the name is y and its value one of t."""
    return node[0] == "*" and len(node[1]) == 2 and node[1][0] == name and node[1][1][1] in letters


def by_name(items: Sequence[Node]) -> Sequence[Node]:
    """`y = 7, x = 2` or `x = y = 2` in the order of its letters, of which none comes twice; else nothing."""
    if any(item[0] != "rel" or set(item[1]) != {"="} for item in items):
        return ()
    items = [("rel", ("=",), (side, item[2][-1])) for item in items for side in item[2][:-1]]
    if not all(is_name(item[2][0]) for item in items):
        return ()
    items = sorted(items, key=lambda item: str(item[2][0]))
    return items if len({item[2][0] for item in items}) == len(items) else ()


def named_value(gold: Node) -> Node | None:
    """The value of a reference such as x = 5, x in [2, 7] or y = 2x + 3, which may stand without its name."""
    operators, (name, *values) = gold[1], gold[2]
    named = is_name(name) or (
        name[0] == "*" and name[1][0] in INVERSE_FUNCTIONS and is_name(("*", name[1][1:]))
    )
    return values[0] if operators in (("=",), ("in",)) and named else None


def normal_relation(node: Node) -> Node:
    """With `<` instead of `>`, so that direction does not matter."""
    if any(operator in (">", ">=") for operator in node[1]):
        return ("rel", tuple(_FLIPPED.get(operator, operator) for operator in node[1][::-1]), node[2][::-1])
    return node


def is_asked_for(node: Node, letters: frozenset[str], value: Node) -> bool:
    r"""True for what a question may ask for, in other letters than the reference: m + n, |z|, \gcd(a, b), f^{-1}(x).

    Not 2x or x + 1: an equation of one letter with a number in it still has to be solved, and one with 0 behind it is
    that of a curve.
    """
    node = node[1] if node[0] == "unit" and not is_known(node[2]) else node
    if node[0] not in EXPRESSIONS or node[0] in ("num", "const"):
        return False
    if node[0] == "*" and node[1][0] in INVERSE_FUNCTIONS and len(node[1]) == 2:
        return True
    names = set(tree.leaves(node, "sym"))
    if node[0] == "/" and node[2] == ("const", "pi"):
        node = node[1]  # V / pi
    several = value[0] == "mat" or (len(names) > 1 and value != tree.ZERO)
    return bool(names) and letters.isdisjoint(names) and not has_number(node, several)


def has_number(node: Node, several: bool) -> bool:
    """True if a number stands in an expression, other than a degree of a root, a base of a logarithm or, in one of
    `several` letters, an exponent or the value of a digit's place (100a + 10b + c)."""
    kind = node[0]
    if kind == "*" and is_name(node):
        return False  # f(2)
    if several and (node in PLACES or node == MINUS_ONE or (kind == "^" and node[2][0] == "num")):
        return kind == "^" and has_number(node[1], several)
    if kind == "fn" and node[1] in ("root", "log"):
        return has_number(node[2][0], several)
    if kind == "^" and node[1][:2] == ("fn", "abs"):
        return has_number(node[1], several)
    return kind in ("num", "pct", "const") or any(has_number(part, several) for part in tree.parts(node))


# Sets of real numbers: an interval, an inequality, a set by its conditions and words are one thing.

REGIONS = frozenset(["rel", "builder", "list", "text"])


def as_region(node: Node) -> tuple[Node | None, Node | None]:
    """(an interval or a union of intervals, the name of its variable or None) of what says one; else (None, None)."""
    kind = node[0]
    if kind in ("seq", "union"):
        return node, None
    if kind == "text":
        return (REALS if is_reals(node[1]) else None), None
    if kind == "rel" and (outside := beyond(normal_relation(node))):
        return outside
    if kind == "rel" and node[1] == ("in",) and is_name(node[2][0]) and node[2][0][0] != "*":
        return as_region(node[2][1])[0], node[2][0]
    if kind not in ("rel", "list", "builder"):
        return None, None
    items = node[1] if kind != "rel" else (node,)
    join = node[2] if len(node) > 2 and kind != "rel" else "or"
    if items[0][0] == "rel" and items[0][1] == ("!=",):  # x \ne 2, 3
        items = [item if item[0] == "rel" else ("rel", ("!=",), (items[0][2][0], item)) for item in items]
    if len(items) > ITEM_LIMIT or not all(item[0] == "rel" for item in items):
        return None, None
    named = [inequality(item) for item in items]
    if kind == "builder" and items[0][1] != ("in",) and node[3] not in (name[0] for name in named if name):
        return None, None
    if None in named or len({name for name, *_ in named}) != 1:
        return None, None
    return joined_region([bounds for _, *bounds in named], join), named[0][0]


def beyond(node: Node) -> tuple[Node, Node] | None:
    """The region and the name of |x| > a."""
    operators, sides = node[1:]
    if operators not in (("<",), ("<=",)) or sides[1][:2] != ("fn", "abs") or not is_name(sides[1][2][0]):
        return None
    left, right = ")(" if operators == ("<",) else "]["
    low = interval(("(", NEGATIVE_INFINITY), (left, minus(sides[0])))
    return ("union", (low, interval((right, sides[0]), (")", INFINITY)))), sides[1][2][0]


def says_inequality(node: Node) -> bool:
    items = node[1] if node[0] in ("list", "builder") else (node,)
    return any(item[0] == "rel" and set(item[1]) != {"="} for item in items)


def inequality(node: Node) -> tuple | None:
    """(name, low end, high end, excluded point or None) of an inequality of one variable.

    An end is (bracket, value).
    """
    lowest, highest = ("(", NEGATIVE_INFINITY), (")", INFINITY)
    operators, sides = node[1], node[2]
    if operators == ("in",) and sides[1] == REALS and sides[0][0] == "sym":
        return sides[0], lowest, highest, None
    if operators == ("!=",) and sides[0][0] == "sym" and sides[1][0] in EXPRESSIONS:
        return sides[0], lowest, highest, sides[1]
    operators, sides = normal_relation(node)[1:]
    if len(sides) > 3 or any(operator not in ("<", "<=") for operator in operators):
        return None
    if len(sides) == 2 and sides[0][:2] == ("fn", "abs") and is_name(sides[0][2][0]):  # |x| < 1
        operators, sides = operators * 2, (minus(sides[1]), sides[0][2][0], sides[1])
    places = [k for k, side in enumerate(sides) if is_name(side) or (side[0] == "*" and is_name(minus(side)))]
    if len(places) != 1 or (len(sides) == 3 and places != [1]):
        return None
    name = sides[places[0]]
    if not is_name(name):
        operators, sides = operators[::-1], tuple(minus(side) for side in sides[::-1])  # times -1
        places = [len(sides) - 1 - places[0]]
        name = sides[places[0]]
    if name[0] == "*" and name[1][0] != ("sym", "f"):
        return None  # x t is a product
    if any(side[0] not in EXPRESSIONS for side in sides if side is not name):
        return None
    if places[0] > 0:
        lowest = ("(" if operators[0] == "<" else "[", sides[0])
    if places[0] < len(sides) - 1:
        highest = (")" if operators[-1] == "<" else "]", sides[-1])
    return name, lowest, highest, None


def minus(node: Node) -> Node:
    """The negative of an expression, without a double minus."""
    if node[0] == "num":
        return ("num", -node[1], node[2])
    if node[0] == "*" and node[1][0] == MINUS_ONE:
        return node[1][1] if len(node[1]) == 2 else ("*", node[1][1:])
    return ("*", (MINUS_ONE, *node[1]) if node[0] == "*" else (MINUS_ONE, node))


def joined_region(conditions: list, join: str) -> Node | None:
    """Conditions (low, high, excluded point) on one variable as a region: by "or" a union, by "and" what all allow.

    A comma means "and" where that leaves something, else "or".
    """
    pieces: list[Node] | None = None
    if join != "or" or len(conditions) == 1:
        pieces = common(conditions)
    if pieces is None and join != "and" and all(point is None for *_, point in conditions):
        pieces = [interval(low, high) for low, high, _ in conditions]
    if not pieces:
        return None
    return pieces[0] if len(pieces) == 1 else ("union", tuple(pieces))


def common(conditions: list) -> list[Node] | None:
    """The intervals that all conditions allow; None where there are none, or that cannot be told."""
    lows = [low for low, _, _ in conditions if low[1] != NEGATIVE_INFINITY]
    highs = [high for _, high, _ in conditions if high[1] != INFINITY]
    if len(lows) > 1 or len(highs) > 1:
        return None
    low = lows[0] if lows else ("(", NEGATIVE_INFINITY)
    high = highs[0] if highs else (")", INFINITY)
    pieces = [(low, high)]
    for *_, point in conditions:
        if point is None:
            continue
        for k, (left, right) in enumerate(pieces):
            if is_less(left[1], point) and is_less(point, right[1]):
                pieces[k : k + 1] = [(left, (")", point)), (("(", point), right)]
                break
        else:
            return None
    if len(conditions) > 1 and not all(is_less(left[1], right[1]) for left, right in pieces):
        return None
    return [interval(left, right) for left, right in pieces]


def interval(low: tuple[str, Node], high: tuple[str, Node]) -> Node:
    return ("seq", low[0], high[0], (low[1], high[1]))


def is_less(a: Node, b: Node) -> bool:
    """True if it is proved that a < b."""
    if a == NEGATIVE_INFINITY or b == INFINITY:
        return a != b
    return INFINITY != a and NEGATIVE_INFINITY != b and is_negative(("+", (a, minus(b))))


def without_points(removed: Node) -> Node:
    r"""`\mathbb{R} \setminus \{1, 2\}` as a union of intervals."""
    points = minus(removed)
    if points[0] != "set" or not all(point[0] in EXPRESSIONS for point in points[1]):
        raise Unsupported("a difference of sets")
    everything = ("(", NEGATIVE_INFINITY), (")", INFINITY)
    region = joined_region([(*everything, point) for point in points[1]], "and")
    if region is None:
        raise Unsupported("points in no order")
    return region


def same_infinity(answer: Node, gold: Node) -> int | None:
    """YES or NO where one or both are a signed infinity, else None."""
    if answer in INFINITIES or gold in INFINITIES:
        return YES if answer == gold else NO
    return None


def spread(node: Node) -> Node:
    """An expression with a plus-minus sign as the list of both values."""
    if node[0] in ("num", "const", "sym"):
        return node
    if node[0] in ("unit", "words"):
        inner = spread(node[1])
        return node if inner is node[1] else inner
    if node[0] == "rel" and node[1] in (("=",), ("!=",)):
        left, right = node[2]
        values = spread(right)
        if values is right:
            return node
        return ("list", tuple(("rel", node[1], (left, value)) for value in values[1]), "and")
    if node[0] not in EXPRESSIONS and node[0] not in ("pm", "seq"):
        return node
    if node[0] == "seq":  # (0, \pm 2)
        columns = [spread(item) for item in node[3]]
        if sum(new is not item for new, item in zip(columns, node[3], strict=True)) != 1:
            return node
        both = ([c[1][k] if c is not i else c for c, i in zip(columns, node[3], strict=True)] for k in (0, 1))
        return ("list", tuple((*node[:3], tuple(items)) for items in both), ",")
    signs = tree.leaves(node, "pm")
    if not signs:
        return node
    if signs.count(1) > 1:
        raise Unsupported("two plus-minus signs")
    upper = {("pm", 1): tree.ONE, ("pm", -1): MINUS_ONE}
    lower = {("pm", 1): MINUS_ONE, ("pm", -1): tree.ONE}
    return ("list", (tree.substituted(node, upper), tree.substituted(node, lower)))


def unnamed(items: Sequence[Node]) -> tuple[Node | None, Sequence[Node]]:
    """(x, the values) of `x = 1, 6`; (None, the items) of any other list."""
    if len(items) < 2 or items[0][:2] != ("rel", ("=",)) or any(item[0] == "rel" for item in items[1:]):
        return None, items
    name, value = items[0][2]
    return (name, (value, *items[1:])) if name[0] == "sym" else (None, items)


def base_of(name: Node) -> str:
    """x of x_1."""
    return name[1].partition("_")[0] if name[0] == "sym" else ""


def expanded(items: Sequence[Node]) -> list[Node]:
    """The elements with every plus-minus sign as two elements."""
    elements: list[Node] = []
    for item in items:
        item = spread(simplified(item))
        elements.extend(item[1] if item[0] == "list" else (item,))
    return elements


def simplified(node: Node) -> Node:
    """What is made of matrices as one matrix, no solution as the empty set, no limit as DNE; else the node itself."""
    kind = node[0]
    if kind in ("num", "const"):
        return node
    if kind in ("sym", "text") and node[1] in EMPTY:
        return ("set", ())
    if kind == "text" and tuple(map(str.lower, node[1][-3:])) == ("does", "not", "exist"):
        return ("text", ("dne",))
    if kind == "+" and node[1][0] == REALS and len(node[1]) == 2:
        return without_points(node[1][1])
    if kind in EXPRESSIONS and tree.holds_container(node) and not (kind == "*" and is_name(node)):
        return matrix_of(node)
    return node


def as_matrix(node: Node) -> Node:
    """A matrix, a vector as one of one row, or what an expression of matrices comes to."""
    if node[0] == "mat":
        return node
    return ("mat", (node[3],)) if is_vector(node) else matrix_of(node)


def matrix_of(node: Node) -> Node:
    """The sum or product of matrices and scalars as one matrix; of matrices, two that are written out at most."""
    kind, parts = node[0], tree.parts(node)
    if kind == "/" and not tree.holds_container(node[2]):
        kind, parts = "*", (("/", tree.ONE, node[2]), node[1])
    if kind not in ("+", "*"):
        raise Malformed("brackets in an expression")
    scalars = tuple(part for part in parts if not tree.holds_container(part))
    matrices = [as_matrix(part) for part in parts if part not in scalars]
    if kind == "*":
        if len(matrices) == 2 and all(part in parts for part in matrices):
            matrices = [multiplied(*matrices)]
        if len(matrices) == 1:
            return ("mat", tuple(tuple(("*", (*scalars, cell)) for cell in row) for row in matrices[0][1]))
    elif not scalars and len({tuple(map(len, matrix[1])) for matrix in matrices}) == 1:
        places = zip(*(matrix[1] for matrix in matrices), strict=True)
        return ("mat", tuple(tuple(("+", cells) for cells in zip(*rows, strict=True)) for rows in places))
    raise Malformed("matrices that do not fit")


def multiplied(left: Node, right: Node) -> Node:
    columns = list(zip(*right[1], strict=True))
    if len(left[1][0]) != len(right[1]):
        raise Malformed("matrices that do not fit")
    return (
        "mat",
        tuple(
            tuple(("+", tuple(("*", pair) for pair in zip(row, column, strict=True))) for column in columns)
            for row in left[1]
        ),
    )
