"""The wording of the generated GSM8K problems: one line at level 1, full sentences at levels 2 and 3.

The words of the prompt around a problem are in envs/gsm8k/env.py and envs/bases/published.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

NAMES = "Ann Ben Cam Dan Eva Fay Gus Ida Jon Kim Leo Mia Ned Oli Pam Ray Sue Tom Una Zoe".split()
THINGS = "pens cups nuts eggs pins coins cards books keys figs balls hats".split()


@dataclass(frozen=True)
class LineTemplate:
    """A level 1 problem: something is counted, two things happen to it, how much is it then?

    The text is "OPENING a UNIT, VERB b, VERB c. UNIT?", e.g. "Bus: 20 kids, gains 3, drops 4. Kids?". Units have four
    letters and verbs five: every number stands equally far from the end, which lets a small model find it by position.
    """

    opening: str
    """May have {name} in it."""
    units: str
    """Words separated by spaces; a problem takes one of them. The verbs below are written in the same way."""
    more: str
    """Verbs that add."""
    less: str
    """Verbs that take away."""


SIGNS = ("++", "+-", "+-", "+-", "-+", "-+", "-+", "--", "--", "--")
"""The signs of the two events; each entry is equally likely. Adding all numbers is right only with the first entry."""


@dataclass(frozen=True)
class SentenceTemplate:
    """A problem of level 2 or 3, in full sentences."""

    text: str
    """With {name}, {other} and {things}, and one letter for each number, {a}."""
    steps: list[list[str]]
    """[["a", "*", "b"], ["r1", "-", "c"]]: each has two numbers and a sign; r1 is the result of the first step."""
    numbers: dict[str, Sequence[int]]
    """{letter: the numbers that it may be}, in the order of the text. Numbers are drawn again if a step's result is not
    whole or not above zero."""


# Of level 1, a template on each line: opening | units | verbs that add | verbs that take away.
_LINES = """\
{name} has | pens cups nuts eggs pins keys figs hats | finds gains makes | loses sells gives drops
{name}: | runs wins hits | gains earns | loses drops
{name} has | euro cent | earns saves gains | loses gives lends
Shop: | caps pens cups hats | makes gains finds | sells sends loses
Bus: | kids fans boys | gains loads | drops loses
Kite: | feet | rises soars gains | falls sinks drops
Pond: | fish eels | gains rears | loses sends
Tank: | cups pots | fills gains | leaks loses sheds
Farm: | cows hens pigs | rears gains | sells loses lends
Club: | fans kids | gains finds | loses sends
Tree: | figs nuts pods | grows bears | drops sheds loses
Snow: | feet | gains grows rises | melts loses sinks
Cook: | eggs figs nuts | finds picks | fries burns drops
Ship: | tons | loads gains | dumps loses sheds
"""
# {level: templates}. A template is a line with its steps, in which r1 is the result of the first step, and then its
# text. In the text, {a:2-9} is a number from 2 to 9 that the steps call a; no step uses the number x.
_SENTENCES = {
    2: """\
a*b, r1-c
{name} buys {a:2-9} boxes with {b:2-9} {things} in each box and gives {c:2-30} {things} to {other}. How many
{things} does {name} have left?

a*b, r1+c
There are {a:2-9} rows of {b:10-30} chairs in a hall, and {c:2-9} more chairs are brought in. How many chairs are
there now?

a*b, c-r1
{name} reads {a:5-15} pages a day for {b:2-9} days. The book has {c:40-120} pages. How many pages does {name} still
have to read?

a*c, b*d, r1+r2
A lamp costs {a:10-20} coins and a book costs {b:2-9} coins. {name} buys {c:2-9} lamps and {d:2-9} books. How many
coins does {name} pay?

a*b, a+r1
{name} has {a:3-30} {things}. {other} has {b:2-5} times as many. How many {things} do they have together?

a*b, r1-c, r2-d
{name} earns {a:8-20} coins an hour and works {b:2-9} hours. Lunch costs {c:2-9} coins and the bus {d:2-9} coins.
How many coins does {name} take home?

a/b, r1-c
A farmer packs {a:40-120} eggs into boxes of {b:3-12} and sells {c:2-9} of the boxes. How many boxes of eggs are
left?

b/a, r1+c
{a:2-9} friends share {b:20-100} {things} equally, and then each of them finds {c:2-9} more. How many {things} does
each of them have?

a*b, r1+c, r2-d
A baker makes {a:2-9} trays of {b:6-12} rolls in the morning and {c:10-30} rolls in the afternoon. {d:10-60} rolls
are sold. How many rolls are left?

a+b, r1+c
{name} has {a:5-60} {things}. {other} has {b:5-40} {things} and finds {c:2-9} more. How many {things} do they have
together?
""",
    3: """\
a/2, b*c, r1+r2, r3-d
{name} has {a:20-100} {things}, and {other} has {x:10-30} stamps. {name} gives half of the {things} away, buys
{b:2-9} packs of {c:2-9} {things} and then loses {d:2-9}. How many {things} does {name} have now?

a*p, r1/100, a-r2, r3-b
A coat with {x:2-9} buttons costs {a:40-120} coins. In a sale it is {p:5,10,20,25,30,40,50}% cheaper, and {name} has
a voucher worth {b:2-9} coins. How many coins does {name} pay?

a/4, a-r1, r2/3, r2-r3
A tank that is {x:2-9} years old holds {a:40-1000} litres of water. A quarter of the water is used on Monday, and a
third of the rest on Tuesday. How many litres are left?

a*b, r1*c, r2/10, r2-r3
{name} works {a:2-9} hours a day for {b:2-9} days and earns {c:5-20} coins an hour. The way to work is {x:10-30} km.
A tenth of the money goes to {other}. How many coins does {name} keep?

a*b, r1*p, r2/100, r1-r3
A school has {x:10-30} teachers and {a:4-12} classes of {b:15-30} children. {p:10,20,25,30,40,60,75}% of the
children come on foot. How many children do not come on foot?

a*b, c*d, r1+r2, r3/e
{name} bakes {a:2-9} trays of {b:6-12} rolls and {other} bakes {c:2-9} trays of {d:6-12} rolls in an oven that is
{x:10-30} years old. They put all the rolls into bags of {e:3-8}. How many bags do they fill?

a/5, r1*2, a-r2, r3-b
There are {a:20-300} {things} and {x:2-9} jars on a shelf. Two fifths of the {things} are red and {b:10-30} of them
are blue. How many {things} are neither red nor blue?

a+b, r1+c, r2+d, r3+e
{name} collects {a:3-30} {things} on Monday, {b:3-30} on Tuesday, {c:3-30} on Wednesday, {d:3-30} on Thursday and
{e:3-30} on Friday. How many {things} does {name} collect?

a*2, a/2, a+r1, r3+r2
A ticket costs {x:10-30} coins. A train drives {a:20-160} km in the first hour, twice as far in the second hour and
half as far as in the first hour in the third. How many km does it drive?
""",
}


def _read_level(text: str) -> list[SentenceTemplate]:
    """The templates of a level of `_SENTENCES`, a paragraph each."""
    return [_read_sentences(paragraph) for paragraph in text.strip().split("\n\n")]


def _read_sentences(paragraph: str) -> SentenceTemplate:
    """The template that a paragraph of `_SENTENCES` describes."""
    steps, _, text = paragraph.partition("\n")
    fields = [(letter, choices) for _, letter, choices, _ in Formatter().parse(text) if choices]
    return SentenceTemplate(
        text=re.sub(r"(?<=\{\w):[^}]*", "", text.replace("\n", " ")),  # {a:2-9} -> {a}
        steps=[re.split("([-+*/])", step) for step in steps.split(", ")],
        numbers={letter: _read_choices(choices) for letter, choices in fields},
    )


def _read_choices(text: str) -> Sequence[int]:
    """ "2-9" -> range(2, 10), "5,10" -> [5, 10]."""
    low, dash, high = text.partition("-")
    return range(int(low), int(high) + 1) if dash else [int(number) for number in text.split(",")]


TEMPLATES: dict[int, list[LineTemplate] | list[SentenceTemplate]] = {
    1: [LineTemplate(*line.split(" | ")) for line in _LINES.splitlines()],
    **{level: _read_level(text) for level, text in _SENTENCES.items()},
}
"""{level: its templates}. At each of the levels 2 and 3, adding all numbers is right for one template only."""
