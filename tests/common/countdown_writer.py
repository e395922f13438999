"""Right Countdown answers by construction in every accepted notation, and answers one edit away from them."""

import operator
import random
from collections.abc import Iterator
from fractions import Fraction

from tests.common.constructed import Case
from tests.common.countdown_oracle import oracle

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
TIMES, DIVIDED_BY = ["*", "×", "\\times ", "\\cdot ", "∗", "·"], ["/", "÷", "\\div ", "∕"]
SIGNS = {"+": "+＋", "-": "-−–", "*": TIMES, "/": DIVIDED_BY}
FRAMES = [*["{}"] * 6, "`{}`", "${}$", "\\({}\\)", "\\[ {} \\]", "```\n{}\n```", '"{}"']
WORDS = [*[""] * 5, "The answer is ", "Answer: ", "So, the expression is:\n", "Here's one way: "]
BOXED = "<answer>\n\\boxed{{{}}}\n</answer><|eot_id|>"
PLACES = ["<answer>{}</answer>", BOXED, "why\n<answer>\n{}\n</answer>"]


class Writer:
    """Right answers by construction: a random tree over random numbers, written in random notations."""

    def __init__(self, rng: random.Random, strict: bool) -> None:
        self.rng, self.strict = rng, strict

    def pick(self, *choices: str) -> str:
        return choices[0] if self.strict or self.rng.random() < 0.5 else self.rng.choice(choices)

    def gap(self) -> str:
        return self.rng.choice(["", " ", "\t" if self.strict else self.rng.choice(SPACES + "\u200b")])

    def tree(self, numbers: list[int]) -> tuple:
        if len(numbers) == 1:
            return (numbers[0],)
        cut = self.rng.randrange(1, len(numbers))
        return (self.rng.choice("+-*/"), self.tree(numbers[:cut]), self.tree(numbers[cut:]))

    def value(self, tree: tuple) -> Fraction:
        if len(tree) == 1:
            return Fraction(tree[0])
        return OPERATORS[tree[0]](self.value(tree[1]), self.value(tree[2]))

    def literal(self, value: int) -> str:
        text = str(abs(value))
        if not self.strict and self.rng.random() < 0.1:
            text += "." + "0" * self.rng.randrange(1, 4)
        if not self.strict and self.rng.random() < 0.1:
            text = "".join(chr(0xFF10 + int(c)) if c.isdigit() else c for c in text)
        return "-" + text if value < 0 else text

    def write(self, tree: tuple, level: int = 0) -> str:
        """`level`: 0 anything may stand here, 1 a term, 2 a factor."""
        rng = self.rng
        if len(tree) == 1:
            text, own = self.literal(tree[0]), 0 if tree[0] < 0 else 3
        elif tree[0] == "/" and not self.strict and rng.random() < 0.3:
            name = rng.choice(["\\frac", "\\dfrac", "\\tfrac"])
            text, own = f"{name}{{{self.write(tree[1])}}}{self.gap()}{{{self.write(tree[2])}}}", 3
        else:
            own = 1 if tree[0] in "+-" else 2
            left, right = self.write(tree[1], own), self.write(tree[2], own + (tree[0] in "-/"))
            text = left + self.gap() + self.pick(*SIGNS[tree[0]]) + self.gap() + right
        if not self.strict and len(tree) == 1 and tree[0] > 0 and rng.random() < 0.05:
            text, own = f"-({self.write((-tree[0],))})", 0
        if own < level or (len(tree) == 3 and rng.random() < 0.1):
            text = rng.choice(["({})"] if self.strict else ["({})", "\\left({}\\right)", "（{}）"]).format(
                text
            )
        return text

    def sides(self, tree: tuple, value: Fraction) -> str:
        text = self.write(tree)
        if self.strict:
            return text
        plain = str(value.numerator) + (f" / {value.denominator}" if value.denominator > 1 else "")
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 2])):
            other = self.rng.choice([plain, f"\\frac{{{value.numerator}}}{{{value.denominator}}}", text])
            sides = [text, other] if self.rng.random() < 0.8 else [other, text]
            text = self.pick(" = ", "=", "＝").join(sides)
        return text

    def problem(self) -> tuple[str, str, list[int], Fraction]:
        """(the completion with {} for the answer, the answer, numbers, target)."""
        rng = self.rng
        while True:
            most = rng.choice([12, 100, 100, 10**10, 10**25])
            least = [0, *[1] * 9]
            numbers = [rng.randrange(rng.choice(least), most) for _ in range(rng.randrange(1, 7))]
            if rng.random() < 0.15:
                numbers[0] = -numbers[0]
            tree = self.tree(numbers)
            try:
                value = self.value(tree)
                break
            except ZeroDivisionError:
                continue
        text = self.sides(tree, value)
        if not self.strict:
            text = rng.choice(WORDS) + rng.choice(FRAMES).format(text)
        rng.shuffle(numbers)
        return rng.choice(PLACES), text, numbers, value

    def edit(self, text: str) -> str:
        """`text` with one character deleted, inserted, replaced or doubled, or two neighbours swapped."""
        i = self.rng.randrange(len(text))
        more = "=.,%^! \n\t\\{}x×÷−√²٣３\u200b`$'\"a;_:[]" if self.rng.random() < 0.7 else ""
        new = self.rng.choice("0123456789+-*/()" + more)
        head, here, tail = text[:i], text[i], text[i + 1 :]
        swapped = head + tail[:1] + here + tail[1:]
        return self.rng.choice(
            [head + tail, head + new + here + tail, head + new + tail, head + here + here + tail, swapped]
        )


def cases(seed: int, strict: bool) -> Iterator[Case]:
    """Right answers, and what one edit makes of them."""
    writer = Writer(random.Random(seed), strict)
    while True:
        place, text, *given = writer.problem()
        right, edited = place.format(text), place.format(writer.edit(text))
        reference = dict(zip(("numbers", "target"), given, strict=True))
        yield Case(right, edited, reference, lambda text, given=given: oracle(text, *given, strict))
