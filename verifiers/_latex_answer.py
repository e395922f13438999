r"""Reads a whole answer: lists, relations, unions, the words and units around expressions (see `_latex`).

Around expressions: ("list", items), ("union", items), ("rel", operators, sides), ("unit", a, unit),
("text", words), ("words", a): an expression with words before it.
"""

from __future__ import annotations

from verifiers._latex import Expressions
from verifiers._latex_atoms import RELATIONS
from verifiers._latex_tokens import COMMAND, LETTERS, NUMBER, SIGN, WORD, Malformed, tokenize
from verifiers._trees import Node
from verifiers._units import CHANGING, GENERIC, JOINING, KNOWN_WORDS, UNIT_LETTERS, UNITS, canonical_unit

_OPENING = ("(", "[", "{", "\\{")


class Parser(Expressions):
    """The outer grammar; `items` is also what stands inside brackets."""

    def answer(self) -> Node:
        """The whole answer: one item, or a list of items without brackets."""
        items = self.items()
        if self.kind != "end":
            raise Malformed("rest")
        if not items:
            raise Malformed("empty")
        return items[0] if len(items) == 1 else ("list", tuple(items))

    def items(self) -> list[Node]:
        found = [self.relation()]
        while self.is_separator():
            comma = self.kind == SIGN
            self.next()
            if comma and self.kind == WORD and self.is_separator():
                self.next()  # "1, 2, and 3"
            found.append(self.relation())
        return found

    def is_separator(self) -> bool:
        if self.kind == SIGN:
            return self.value in ",;"
        return self.kind == WORD and self.value.lower() in JOINING

    def relation(self) -> Node:
        sides = [self.side()]
        operators: list[str] = []
        while (self.kind in (SIGN, COMMAND) and self.value in RELATIONS) or self.says_is():
            operator = RELATIONS.get(self.value, "=")
            self.next()
            if self.take("="):
                operator = operator if operator == "=" else operator + "="
            operators.append(operator)
            sides.append(self.side())
        return ("rel", tuple(operators), tuple(sides)) if operators else sides[0]

    def says_is(self) -> bool:
        """True at the word "is" behind a value: x is 5."""
        return self.kind == WORD and self.value.lower() in ("is", "equals")

    def side(self) -> Node:
        """One side of a relation: words before it, a union of sums, a unit behind it."""
        outer, self.unit = self.unit, ""
        words = self.words()
        if self.kind == "end" or self.is_boundary():
            if not words:
                raise Malformed("empty")
            self.unit = outer
            return ("text", tuple(word.lower() for word in words))
        if any(word.lower() in CHANGING for word in words):
            raise Malformed("words")
        if words:
            if any(len(word) == 1 and (word not in "aAI" or len(words) == 1) for word in words):
                raise Malformed("a letter before the value")
            if self.kind == SIGN and self.value in _OPENING and not self.spaced:
                raise Malformed("a word as a function")
            self.take(":")
        parts = [self.sum()]
        while self.is_command("cup") or (
            self.kind == LETTERS and self.value == "U" and parts[-1][0] == "seq"
        ):
            self.next()
            parts.append(self.sum())
        node = parts[0] if len(parts) == 1 else ("union", tuple(parts))
        node = self.with_unit(node)
        self.unit = outer
        return ("words", node) if words else node

    def words(self) -> list[str]:
        found = []
        while self.kind == WORD and self.value.lower() not in JOINING:
            found.append(self.value)
            self.next()
        return found

    def is_boundary(self) -> bool:
        if self.is_separator():
            return True
        if self.kind == SIGN:
            return self.value in ")]}&" or self.value in ("\\}", "\\\\") or self.value in RELATIONS
        return self.kind == COMMAND and (self.value in RELATIONS or self.value.startswith("end "))

    def with_unit(self, node: Node) -> Node:
        """The node with the unit that follows it, from words, a per cent or degree sign, or a currency."""
        node, unit = lift_unit(node)
        behind = self.kind == WORD and not self.says_is() and not self.is_separator()
        if node[0] == "text" and (unit or behind):
            raise Malformed("words behind words")
        words = [unit or self.unit] if unit or self.unit else []
        while (
            self.kind == WORD
            or self.is_unit_letter(words)
            or (words and self.is_sign("/"))
            or self.is_sign("%")
        ):
            if self.says_is() or (self.kind == WORD and self.value.lower() in JOINING):
                break
            if (
                (self.is_sign("%") and words)
                or self.value.lower() in CHANGING
                or (
                    self.kind == WORD
                    and len(self.value) == 1
                    and self.value.islower()
                    and self.value not in UNITS
                )
            ):
                raise Malformed("words")
            words.append(self.value)
            self.next()
            if words[-1] == "/":
                if self.kind == WORD or (self.kind == LETTERS and self.value in UNIT_LETTERS):
                    continue
                raise Malformed("unit")
            if self.is_sign("^"):
                if words[-1].lower() not in UNITS and words[-1].lower() not in GENERIC:
                    raise Malformed("the power of a word")
                self.next()
                braces = self.take("{")
                if self.kind != NUMBER or len(self.value) > 1:
                    raise Malformed("unit")
                words.append("^" + self.value)
                self.next()
                if braces:
                    self.expect("}")
        return ("unit", node, canonical_unit(words)) if words else node

    def is_unit_letter(self, before: list[str] | None = None) -> bool:
        return (
            self.kind == LETTERS
            and (self.spaced or (before is not None and before[-1:] == ["/"]))
            and self.variables is not None
            and self.value in UNIT_LETTERS
            and self.value not in self.variables
        )


def lift_unit(node: Node) -> tuple[Node, str]:
    """A degree or per cent sign taken off the whole of an expression: (expression, unit or "")."""
    kind = node[0]
    if kind == "deg":
        return node[1], "degree"
    if kind == "pct":
        return node[1], "percent"
    if kind == "/":
        below, unit = lift_unit(node[2])
        return (("/", node[1], below), unit) if unit else (node, "")
    if kind == "*":
        lifted = [lift_unit(factor) for factor in node[1]]
        units = [unit for _, unit in lifted if unit]
        if units == ["degree"] and lifted[-1][1]:
            return ("*", tuple(inner for inner, _ in lifted)), units[0]
    if kind == "+":
        lifted = [lift_unit(term) for term in node[1]]
        if {unit for _, unit in lifted} == {"degree"}:
            return ("+", tuple(inner for inner, _ in lifted)), "degree"
    return node, ""


def parse(text: str, variables: frozenset[str] | None = None) -> Node:
    """The tree of an answer; raises `Malformed` or `Unsupported`.

    `variables` are the letters of the reference, by which a run of letters is a product of them or a word; None
    where the text is the reference.
    """
    return Parser(tokenize(text, variables, KNOWN_WORDS), variables).answer()
