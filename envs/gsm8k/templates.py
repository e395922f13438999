"""The wording of the generated GSM8K problems: one line at level 1, full sentences at levels 2 and 3."""

from collections.abc import Sequence
from dataclasses import dataclass

NAMES = "Ann Ben Cam Dan Eva Fay Gus Ida Jon Kim Leo Mia Ned Oli Pam Ray Sue Tom Una Zoe".split()
THINGS = "pens cups nuts eggs pins coins cards books keys figs balls hats".split()


@dataclass(frozen=True)
class LineTemplate:
    """A level 1 problem: something is counted, two things happen to it, how much is it then?

    The text is OPENING a UNIT, VERB b, VERB c. UNIT? with units of four letters and verbs of five, so that
    every number stands equally far from the end: a small model finds it by its place. An opening may hold {name};
    units, verbs that add (more) and verbs that take away (less) are words separated by spaces.
    """

    opening: str
    units: str
    more: str
    less: str


SIGNS = ("++", "+-", "+-", "+-", "-+", "-+", "-+", "--", "--", "--")
"""What the two events of a line do, one ticket each; only the first is right for who adds everything."""


@dataclass(frozen=True)
class SentenceTemplate:
    """A problem of level 2 or 3, in full sentences."""

    text: str
    """With {name}, {other} and {things}, and one letter for each number; x is a number that plays no part."""
    steps: tuple[str, ...]
    """ "a * b", "r1 - c": two numbers and what is done with them; r1 is what the first step gave."""
    numbers: dict[str, Sequence[int]]
    """What each letter may be; only choices with whole results above zero are used."""


_FEW, _SOME, _MANY = range(2, 10), range(10, 31), range(40, 121)

TEMPLATES: dict[int, tuple[LineTemplate, ...] | tuple[SentenceTemplate, ...]] = {
    1: (  # no prompt is longer than 40 characters
        LineTemplate(
            "{name} has",
            "pens cups nuts eggs pins keys figs hats",
            "finds gains makes",
            "loses sells gives drops",
        ),
        LineTemplate("{name}:", "runs wins hits", "gains earns", "loses drops"),
        LineTemplate("{name} has", "euro cent", "earns saves gains", "loses gives lends"),
        LineTemplate("Shop:", "caps pens cups hats", "makes gains finds", "sells sends loses"),
        LineTemplate("Bus:", "kids fans boys", "gains loads", "drops loses"),
        LineTemplate("Kite:", "feet", "rises soars gains", "falls sinks drops"),
        LineTemplate("Pond:", "fish eels", "gains rears", "loses sends"),
        LineTemplate("Tank:", "cups pots", "fills gains", "leaks loses sheds"),
        LineTemplate("Farm:", "cows hens pigs", "rears gains", "sells loses lends"),
        LineTemplate("Club:", "fans kids", "gains finds", "loses sends"),
        LineTemplate("Tree:", "figs nuts pods", "grows bears", "drops sheds loses"),
        LineTemplate("Snow:", "feet", "gains grows rises", "melts loses sinks"),
        LineTemplate("Cook:", "eggs figs nuts", "finds picks", "fries burns drops"),
        LineTemplate("Ship:", "tons", "loads gains", "dumps loses sheds"),
    ),
    2: (
        SentenceTemplate(
            "{name} buys {a} boxes with {b} {things} in each box and gives {c} {things} to {other}. "
            "How many {things} does {name} have left?",
            ("a * b", "r1 - c"),
            {"a": _FEW, "b": _FEW, "c": range(2, 31)},
        ),
        SentenceTemplate(
            "There are {a} rows of {b} chairs in a hall, and {c} more chairs are brought in. "
            "How many chairs are there now?",
            ("a * b", "r1 + c"),
            {"a": _FEW, "b": _SOME, "c": _FEW},
        ),
        SentenceTemplate(
            "{name} reads {a} pages a day for {b} days. The book has {c} pages. "
            "How many pages does {name} still have to read?",
            ("a * b", "c - r1"),
            {"a": range(5, 16), "b": _FEW, "c": _MANY},
        ),
        SentenceTemplate(
            "A lamp costs {a} coins and a book costs {b} coins. {name} buys {c} lamps and {d} books. "
            "How many coins does {name} pay?",
            ("a * c", "b * d", "r1 + r2"),
            {"a": range(10, 21), "b": _FEW, "c": _FEW, "d": _FEW},
        ),
        SentenceTemplate(
            "{name} has {a} {things}. {other} has {b} times as many. "
            "How many {things} do they have together?",
            ("a * b", "a + r1"),
            {"a": range(3, 31), "b": range(2, 6)},
        ),
        SentenceTemplate(
            "{name} earns {a} coins an hour and works {b} hours. Lunch costs {c} coins and the bus {d} coins. "
            "How many coins does {name} take home?",
            ("a * b", "r1 - c", "r2 - d"),
            {"a": range(8, 21), "b": _FEW, "c": _FEW, "d": _FEW},
        ),
        SentenceTemplate(
            "A farmer packs {a} eggs into boxes of {b} and sells {c} of the boxes. "
            "How many boxes of eggs are left?",
            ("a / b", "r1 - c"),
            {"a": _MANY, "b": range(3, 13), "c": _FEW},
        ),
        SentenceTemplate(
            "{a} friends share {b} {things} equally, and then each of them finds {c} more. "
            "How many {things} does each of them have?",
            ("b / a", "r1 + c"),
            {"a": _FEW, "b": range(20, 101), "c": _FEW},
        ),
        SentenceTemplate(
            "A baker makes {a} trays of {b} rolls in the morning and {c} rolls in the afternoon. "
            "{d} rolls are sold. How many rolls are left?",
            ("a * b", "r1 + c", "r2 - d"),
            {"a": _FEW, "b": range(6, 13), "c": _SOME, "d": range(10, 61)},
        ),
        SentenceTemplate(
            "{name} has {a} {things}. {other} has {b} {things} and finds {c} more. "
            "How many {things} do they have together?",
            ("a + b", "r1 + c"),
            {"a": range(5, 61), "b": range(5, 41), "c": _FEW},
        ),
    ),
    3: (
        SentenceTemplate(
            "{name} has {a} {things}, and {other} has {x} stamps. {name} gives half of the {things} away, "
            "buys {b} packs of {c} {things} and then loses {d}. How many {things} does {name} have now?",
            ("a / 2", "b * c", "r1 + r2", "r3 - d"),
            {"a": range(20, 101), "x": _SOME, "b": _FEW, "c": _FEW, "d": _FEW},
        ),
        SentenceTemplate(
            "A coat with {x} buttons costs {a} coins. In a sale it is {p}% cheaper, and {name} has a voucher "
            "worth {b} coins. How many coins does {name} pay?",
            ("a * p", "r1 / 100", "a - r2", "r3 - b"),
            {"x": _FEW, "a": _MANY, "p": (5, 10, 20, 25, 30, 40, 50), "b": _FEW},
        ),
        SentenceTemplate(
            "A tank that is {x} years old holds {a} litres of water. A quarter of the water is used on Monday, "
            "and a third of the rest on Tuesday. How many litres are left?",
            ("a / 4", "a - r1", "r2 / 3", "r2 - r3"),
            {"x": _FEW, "a": range(40, 1001)},
        ),
        SentenceTemplate(
            "{name} works {a} hours a day for {b} days and earns {c} coins an hour. The way to work is {x} km. "
            "A tenth of the money goes to {other}. How many coins does {name} keep?",
            ("a * b", "r1 * c", "r2 / 10", "r2 - r3"),
            {"a": _FEW, "b": _FEW, "c": range(5, 21), "x": _SOME},
        ),
        SentenceTemplate(
            "A school has {x} teachers and {a} classes of {b} children. {p}% of the children come on foot. "
            "How many children do not come on foot?",
            ("a * b", "r1 * p", "r2 / 100", "r1 - r3"),
            {"x": _SOME, "a": range(4, 13), "b": range(15, 31), "p": (10, 20, 25, 30, 40, 60, 75)},
        ),
        SentenceTemplate(
            "{name} bakes {a} trays of {b} rolls and {other} bakes {c} trays of {d} rolls in an oven that is {x} "
            "years old. They put all the rolls into bags of {e}. How many bags do they fill?",
            ("a * b", "c * d", "r1 + r2", "r3 / e"),
            {"a": _FEW, "b": range(6, 13), "c": _FEW, "d": range(6, 13), "x": _SOME, "e": range(3, 9)},
        ),
        SentenceTemplate(
            "There are {a} {things} and {x} jars on a shelf. Two fifths of the {things} are red and {b} of them "
            "are blue. How many {things} are neither red nor blue?",
            ("a / 5", "r1 * 2", "a - r2", "r3 - b"),
            {"a": range(20, 301), "x": _FEW, "b": _SOME},
        ),
        SentenceTemplate(
            "{name} collects {a} {things} on Monday, {b} on Tuesday, {c} on Wednesday, {d} on Thursday and {e} on "
            "Friday. How many {things} does {name} collect?",
            ("a + b", "r1 + c", "r2 + d", "r3 + e"),
            {letter: range(3, 31) for letter in "abcde"},
        ),
        SentenceTemplate(
            "A ticket costs {x} coins. A train drives {a} km in the first hour, twice as far in the second hour "
            "and half as far as in the first hour in the third. How many km does it drive?",
            ("a * 2", "a / 2", "a + r1", "r3 + r2"),
            {"x": _SOME, "a": range(20, 161)},
        ),
    ),
}
"""By level; at levels 2 and 3 one template each is right for who adds everything."""
