"""The words and signs that tell a value from the other numbers of a sentence."""

from verifiers.amounts import MAGNITUDES, NAMES

BEING = frozenset("= is are was were be equals became becomes".split())
"""Behind them the value stands: the 96 of "3 ladders cost 32 each, which is 96"."""
BOUNDING = frozenset("than least most almost nearly".split())
"""Behind them a number is a bound, and no value: "more than 18", "at least 18"."""
DENYING = BOUNDING | frozenset("not between ±".split())
"""Behind them a number is no value: "not 18"."""
REJECTING = frozenset("reject rejecting discard discarding exclude excluding ignore ignoring".split())
"""Behind them a value is one that does not count: "$x = 5$ (we reject $x = -3$)"."""
ASIDE = (
    frozenset("in within during after over per every each all both these those".split())
    | BOUNDING
    | REJECTING
)
"""Behind them a number counts something beside the value: the 7 of "96 dollars in 7 days"."""
JOINING = frozenset("or ± + * × · ÷ / ^ x times to".split())
"""Between two numbers, of which then neither is the value: "18 or 19", "2 * 9"."""
ADDING = frozenset("and maybe perhaps possibly probably not then plus minus times to".split())
"""They join a value to the one before them: "18, maybe 19"."""
ROUNDING = frozenset("about approximately around roughly exactly".split())
"""They may stand before a value that an answer begins with."""
EXPLAINING = frozenset("because since which".split())
"""They begin a clause about the value before them: "25 dollars because each of the 5 boys paid 5"."""
COMPARING = frozenset("than as".split())
"""They compare the value before them with another one: "3 years older than Sam"."""
CONDITIONS = frozenset("where as".split())
"""Behind a comma or a bracket, they begin a condition: "$k = 4$, where $k > 0$"."""
CONCLUDING = frozenset("so thus therefore hence".split())
"""Right behind them, several values of one variable may stand: "So $x = 2$ or $x = 3$"."""
MOVING_ON = CONCLUDING | frozenset(
    "but however wait actually no sorry oops correction corrected mistake".split()
)
"""They conclude or correct, so that the value may stand behind them: "9 eggs, so she makes 18 dollars"."""
PREPOSITIONS = frozenset("for with by from at on after to if such satisfy satisfies satisfying".split())
"""Between a value and a number, they say what the value is for: "$460 for working 45 hours"."""
BOUNDARIES = CONCLUDING | frozenset(", ; : ( ) . and then which but or = find get obtain".split())
"""Behind them, such a phrase has ended: "multiply 4 by 2 to get 8"."""
RESULTING = frozenset("left end ends come comes amount total last need needs each".split())
"""Between two numbers, they make the second one the answer: "The 4 friends end up with 18"."""
CHECKING = frozenset("check checking verify verifying verification".split())
"""Among the first words of a sentence that checks the value before it: "Let's verify: 8 + 4 = 12"."""
AMOUNTS = frozenset([*MAGNITUDES, *NAMES]) - {"pound", "pounds"}
"""They belong to the number before them: both of "5 million dollars"."""
DEGREES = frozenset("degree degrees c f celsius fahrenheit".split())
"""They may stand between a number and "below zero": "5 degrees Celsius below zero"."""
FUNCTIONS = frozenset("sqrt pi sin cos tan log ln".split())
"""They belong to an expression: "sqrt(3)"."""
