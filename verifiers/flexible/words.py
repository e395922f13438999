"""The words and signs that tell a value from the other numbers of a sentence."""

from verifiers.amounts import MAGNITUDES, NAMES

BEING = frozenset("= is are was were be equals became becomes".split())
"""Words and signs before the value: the 96 of "3 ladders cost 32 each, which is 96"."""
BOUNDING = frozenset("than least most almost nearly".split())
"""Words before a number that is a bound, and no value: "more than 18", "at least 18"."""
DENYING = BOUNDING | frozenset("not between ±".split())
"""Words and a sign before a number that is no value: "not 18"."""
REJECTING = frozenset("reject rejecting discard discarding exclude excluding ignore ignoring".split())
"""Words before a value that does not count: "$x = 5$ (we reject $x = -3$)"."""
ASIDE = (
    frozenset("in within during after over per every each all both these those".split())
    | BOUNDING
    | REJECTING
)
"""Words before a number that counts something beside the value: the 7 of "96 dollars in 7 days"."""
JOINING = frozenset("or ± + * × · ÷ / ^ x times to".split())
"""Words and signs between two numbers neither of which is the value: "18 or 19", "2 * 9"."""
ADDING = frozenset("and maybe perhaps possibly probably not then plus minus times to".split())
"""Words that join a value to the one before it: "18, maybe 19"."""
ROUNDING = frozenset("about approximately around roughly exactly".split())
"""Words that may stand before a value at the beginning of an answer: "about 18"."""
EXPLAINING = frozenset("because since which".split())
"""Words that begin a clause about the value before it: "25 dollars because each of the 5 boys paid 5"."""
COMPARING = frozenset("than as".split())
"""Words that compare the value before them with another one: "3 years older than Sam"."""
CONDITIONS = frozenset("where as".split())
"""Words that begin a condition behind a comma or a bracket: "$k = 4$, where $k > 0$"."""
CONCLUDING = frozenset("so thus therefore hence".split())
"""Words right before several values of one variable: "So $x = 2$ or $x = 3$"."""
MOVING_ON = CONCLUDING | frozenset(
    "but however wait actually no sorry oops correction corrected mistake".split()
)
"""Words that conclude or correct, so that the value may stand behind them: "9 eggs, so she makes 18 dollars"."""
PREPOSITIONS = frozenset(
    "over during before until for with by from at on after to if such satisfy satisfies satisfying".split()
)
"""Words between a value and a number that say what the value is for: "$460 for working 45 hours"."""
BOUNDARIES = CONCLUDING | frozenset(", ; : ( ) . and then which but or = find get obtain".split())
"""Words and signs that end a phrase with one of `PREPOSITIONS`: the "get" of "multiply 4 by 2 to get 8"."""
RESULTING = frozenset("left end ends come comes amount total last need needs each".split())
"""Words between two numbers that make the second one the answer: "The 4 friends end up with 18"."""
SPANNING = frozenset("from after before over during".split())
"""Words by which a number is no answer in spite of one of `RESULTING`: the 4 of "30 left after buying 4 books"."""
CHECKING = frozenset("check checking verify verifying verification".split())
"""First words of a sentence that checks the value before it: "Let's verify: 8 + 4 = 12"."""
AMOUNTS = frozenset([*MAGNITUDES, *NAMES]) - {"pound", "pounds"}
"""Words that belong to the number before them: both of "5 million dollars"; but pounds may be a weight."""
DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
"""Words that may stand between a number and "below zero": "5 degrees Celsius below zero"."""
FUNCTIONS = frozenset("sqrt pi sin cos tan log ln".split())
"""Names that belong to an expression: "sqrt(3)"."""
