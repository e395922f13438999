"""Mode flexible: of a completion that marks no answer, the last number or formula of its last sentence is judged."""

import gzip
import json
import random
import re
import time

import pytest

from tests.common import speed
from tests.common.casebook import Case, cases
from tests.common.soup import REFERENCES, RIGHT
from verifiers import ArgumentError, reward_function, verify, verify_batch
from verifiers.reading import unmarked
from verifiers.reading.unmarked import last_value

UNMARKED = [
    # From public logs of models that end without a mark.
    ("So, the ladders cost 96 dollars.", "96"),
    ("18", "18"),
    ("A: 18", "18"),
    ("18 eggs", "18"),
    ("14 * 3\n= 42 inches.", "42"),
    ("Answer: It will take 227 minutes to dry all 12 shirts.", "227"),
    ("Answer: The number of hens not in the yard is 40.", "40"),
    # Made for the rule: what stands before a number says how much it counts; signs, currency, formulas.
    ("He pays $5 a day, or $35 in 7 days.", "35"),
    ("Thus he sold 10 x 5 = 50 cards for 5 days.", "50"),
    ("It is 40 of them.\nI am sure of that!", "40"),
    ("It costs $12.50 for 5 pens.", "12.5"),
    ("Answer: $12.50 for 5 pens", "12.5"),
    ("She buys 3 shirts for $18.", "18"),
    ("He spent $30, so he paid for 6 tickets.", "6"),
    ("We count 12 rows (3 times 4 is 12).", "12"),
    ("30 boxes (20 new ones and 10 old ones)", "30"),
    ("2 dozen eggs (24 eggs).", "24"),
    ("(2 of 3) 18 eggs.", "18"),
    ("The loss is -$1,250.50.", "-1250.5"),
    ("It takes 2 1/2 cups.", "5/2"),
    (r"So \(9 \times 2 = 18\) eggs are left.", "18"),
    ("They cost \\$3 and \\$18.", "18"),
    ("18 eggs<|im_end|>\nuser\nAnd 20?", "18"),
    ("In 2 of them.", "2"),
    ("It is 18, not 19.", "18"),
    ("The answer is 18. Let me verify: 18 / 2 = 9. ✓", "18"),
    ("She has 18 eggs left. Let me verify: 18 / 2 = 9.", "18"),
    ("She has 18 eggs left. To check, 18 / 2 = 9.", "18"),
    ("She has 18 eggs left. Let me double-check: 17 + 2 = 19. So it is 19.", "19"),
    ("19 - 1 = **18**", "18"),
    ("5 + 3 or 2 x 4 = 8 eggs.", "8"),
    ("<think>It may be 40.</think> It costs 18 dollars.", "18"),
    ("<think>It costs 18 dollars.</think>", "18"),
    # A denial that speaks of another number, or says of which things.
    ("It isn't 95 but 96.", "96"),
    ("It can't be 95, so it is 96.", "96"),
    ("He does not sleep and has 96 dollars.", "96"),
    ("It costs not only him but 96 others.", "96"),
    ("The number of hens not in the yard is 96.", "96"),
    ("Those who did not pay sent 96 dollars.", "96"),
    ("The eggs that were not sold cost 96 dollars.", "96"),
    ("If it does not rain, it costs 96 dollars.", "96"),
    ("96 students are not in the club.", "96"),
    ("So 96 of his answers are wrong.", "96"),
    ("It is 96, so 95 is wrong.", "96"),
    ("He made 96 dollars, and Bob's claim is wrong.", "96"),
]
# (the last line of a worked solution, its answer): a phrase behind the answer says what it is for.
PHRASES = [
    ("Kylar needs to pay $64 for the 16 glasses.", "64"),
    ("Therefore, Eliza earned $460 for working 45 hours this week.", "460"),
    ("So it takes Carla 160 minutes to download the 200 GB file.", "160"),
    ("So, Ali can buy 8 packs with $40.", "8"),
    ("Lloyd makes $294 per week by selling 84 dozen eggs.", "294"),
    ("The trip takes 5 hours at 60 mph.", "5"),
    ("Jack will pay $35 more if he chooses option 2.", "35"),
    ("Maria walked 24 miles in total over the 3 days.", "24"),
    ("Tim deals with 120 calls during his 5-day work week.", "120"),
    ("He has 45 minutes left before 3:00 PM.", "45"),
    ("He starts at 12:30 and needs 45 minutes.", "45"),
    ("The latest he can start is 6-4 = 2:00 am.", "2"),
    ("We add up.\n\n385\\,000", "385000"),
    ("He will have $24 left from his $100.", "24"),
    ("Each of the 4 kids gets 12 candies, with 2 left over.", "12"),
    ("#### 18 miles in three days", "18"),
    # Here the answer stands behind the preposition.
    ("She sells 9 eggs for $18.", "18"),
    ("The 3 boys sell them for 18 dollars.", "18"),
    ("He multiplies 9 by 2 to get 18.", "18"),
    ("Of the 20 he gives 2 to Ann, so he is left with 18.", "18"),
    ("She paid $5 for 3 and $4 for 2, so $9.", "9"),
    ("The 4 friends end up with 18 each.", "18"),
    ("After the sale of 6 of them she is left with 18.", "18"),
    ("He multiplies 3 by 6 for a total of 18.", "18"),
    ("Therefore, we divide 64 by 8.", "8"),
    ("Her checking account has $18 left.", "18"),
    # A sentence that checks the answer says another value.
    ("So Tom has **8** apples left.\n\nLet's verify: 8 + 4 = 12. Correct!", "8"),
    ("So Tom has 8 apples left.\n\nCheck: 8 + 4 = 12", "8"),
]


@pytest.mark.parametrize(("completion", "answer"), PHRASES)
def test_a_phrase_or_a_check_behind_the_answer_is_not_read(completion, answer):
    assert verify("gsm8k", completion, mode="flexible", answer=answer).correct


# References of MATH that a completion writes without dollars.
EXPRESSIONS = [
    *(
        r"\frac{14}{3}",
        r"-\frac{1}{8}",
        r"\frac34",
        r"70\sqrt{2}",
        "2√3",
        "sqrt(3)",
        "18π",
        r"2\pi",
        "16{,}384",
        "2:5",
    ),
    *("3x", "x^2+1", "5^{10}", "2,-2", "(5,-3)", "(3, -2)", "[0,5]", "[-2, 7)", r"\{1, 2\}", r"90^\circ"),
]


@pytest.mark.parametrize("form", ["{}", "So the final value is {}.", "So x = {}."])
@pytest.mark.parametrize("answer", EXPRESSIONS)
def test_a_number_in_an_expression_is_read_with_the_whole_of_it(answer, form):
    assert verify("math500", form.format(answer), mode="flexible", answer=answer).correct


@pytest.mark.parametrize(
    ("completion", "answer", "is_right"),
    [
        ("The area is 18π.", "18", False),
        (r"So the final value is \frac{1}{8}.", "8", False),
        ("(5,-3)", "-3", False),
        ("The distance is sqrt(3).", "3", False),
        ("There are 5 (five) of them.", "5", True),
        ("It costs $5/hour.", "5", True),
        ("So 9*2=18.", "18", True),
        ("Total=18", "18", True),
        (r"So the total cost is $\$32{,}348$.", "32348", True),
        ("Student answer: 18. Grade: wrong", "18", False),
        ("She nearly reached 18.", "18", False),
        ("The total is nowhere near 18.", "18", False),
        ("The result is far from 18.", "18", False),
        ("The answer is half of 18.", "18", False),
        ("The answer is one third of 18.", "18", False),
        ("The answer is a multiple of 18.", "18", False),
        ("The answer is twice 18.", "18", False),
        ("The answer is anything but 18.", "18", False),
        ("The answer is unlikely to be 18.", "18", False),
        ("The answer is the number before 18.", "18", False),
        ("Half of 36 is 18.", "18", True),
        ("It is xπ + 2.", "x\\pi+2", True),
        ("The value is iπ/2.", "\\pi i/2", True),
        ("By dividing 36 by 2, we get 18.", "18", True),
        ("The total falls below 18.", "18", False),
        ("She nearly ran out, and has 18 left.", "18", True),
        ("My friend says the answer is 18. He is wrong.", "18", False),
        ("Tom thinks that it is 18, but he is wrong.", "18", False),
        ("She has 18 left. They are all blue.", "18", True),
    ],
)
def test_a_number_is_read_alone_only_if_it_stands_alone(completion, answer, is_right):
    assert verify("math500", completion, mode="flexible", answer=answer).correct == is_right


@pytest.mark.parametrize("mode", ["lenient", "flexible"])
@pytest.mark.parametrize(
    "said",
    [
        *(
            "half of",
            "one third of",
            "a multiple of",
            "a factor of",
            "twice",
            "anything but",
            "unlikely to be",
        ),
        *("the number before", "the number after", "next to", "found by dividing"),
    ],
)
def test_what_changes_the_number_of_a_named_answer_is_not_paid(said: str, mode: str) -> None:
    assert not verify("gsm8k", f"The answer is {said} 84.", mode=mode, answer="84").correct


# (completion, reference, whether it is right) of MATH.
LISTS = [
    ("Thus, the roots are $x = 2$ and $x = 3$.", "2,3", True),
    ("Thus, the roots are $x = 2$ and $x = 3$.", "2", False),
    ("Thus, the roots are $x = 2$ and $x = 3$.", "3", False),
    ("So the two numbers are $2$ and $3$.", "2,3", True),
    ("So the two numbers are $2$ and $3$.", "2", False),
    ("So the solutions are x = 2 and x = 3.", "2,3", True),
    ("So the solutions are x = 2 and x = 3.", "3", False),
    ("Hence, the solutions are:\n- $x = 2$\n- $x = 3$", "2,3", True),
    ("Hence, the solutions are:\n- $x = 2$\n- $x = 3$", "3", False),
    ("Therefore, $x=2$ or $x=3$.", "2,3", True),
    ("Therefore, $x=2$ or $y=3$.", "3", False),
    ("The solutions are $x=2$, $x=3$, and $x=7$.", "2,3,7", True),
    ("The solutions are $x=2$, $x=3$, and $x=7$.", "7", False),
    ("So the solution is $x=2$, $y=3$.", "(2,3)", True),
    ("So the solution is $x=3$, $y=2$.", "(2,3)", False),
    ("So $9 \\times 2 = 18$ and $18 + 3 = 21$.", "21", True),
    ("The sum of $3$ and $4$, $7$.", "7", True),
    ("Thus $a = 3$ and $b = 4$, so $a+b = 7$.", "7", True),
    # A list counts behind a verb of being or a concluding word, and if nothing follows it.
    ("Hence $x = 2$ and $x = 3$ do not work.", "2,3", False),
    ("So $x = 2$ and $x = 3$ (extraneous).", "2,3", False),
    ("So $x = 2$ or $x = 3$. The second is rejected.", "2,3", False),
    ("The solution is either $x = 2$ or $x = 3$.", "2,3", False),
    ("Maybe $x = 2$ or $x = 3$.", "2,3", False),
    ("So $x = 2$ or $x = 3$?", "2,3", False),
    ("The maximum is the larger of $2$ and $3$.", "2,3", False),
    ("So we add $2$ and $3$.", "2,3", False),
    ("When $a = 2$, $x = 4$.", "4", True),
    ("We get $x = \\frac{8}{2}$, $x = 4$.", "4", True),
    ("Steps:\n- $x = 10 - 6$\n- $x = 4$", "4", True),
    ("So $r = 2$ and $h = 3$.", "3", True),
    # What gives the reason for a value, or is rejected, is no value.
    ("Thus $n^2 = 16$, so $n = 4$ (since $n>0$).", "4", True),
    ("So $x = 5$, because $x > 0$.", "5", True),
    ("Thus $k = 4$, as $k \\in \\mathbb{Z}$.", "4", True),
    ("Therefore, $x = 5$ (we reject $x = -3$).", "5", True),
    ("Therefore, $x = 5$ (we reject $x = -3$).", "-3", False),
    ("Therefore, $a+b = 1+2 = 3$, where $a=1$, $b=2$.", "3", True),
    ("Since $x>0$, $x = 5$.", "5", True),
    ("Hence $f(2) = 7$ for $x = 2$.", "7", True),
    ("Thus $n = 7$ is the smallest integer such that $n^2 > 40$.", "7", True),
    ("Thus, $f(x)$ has a minimum value of $5$ at $x = 2$.", "5", True),
    ("So $x = 4$.\n\n**Check:** $2(4) + 1 = 9$", "4", True),
    ("Thus $n^2 = 16$, and since $n>0$, $n = 4$.", "4", True),
    ("Thus $x = 2$, and since $x=2$, $y = 4$.", "4", True),
    ("Since $a = 2$, we get $x > 3$.", "x > 3", True),
    ("The equation $2x=4$ can be written as $x = 2$.", "2", True),
    ("The lines $y=2x$ and $y=10$ meet where $x = 5$.", "5", True),
    ("There are 5, because $12 - 7 = 5$.", "5", True),
]
AMOUNTS = [
    ("The answer is 150 minutes, which is 2.5 hours.", "150", "2.5"),
    ("The answer is approximately 33. Each of the 3 boys got 11.", "33", "11"),
    # The number alone is another one, or another currency.
    ("They earned $5M.", "5000000", "5"),
    ("They earned 5 million dollars last year.", "5000000", "5"),
    ("It was 5 degrees below zero.", "-5", "5"),
    ("It costs 25€ today.", "€25", "$25"),
    ("It costs 25 EUR.", "EUR25", "$25"),
]
NUMBERS = [
    # What stands behind the number belongs to no amount that the reader of the task knows.
    ("math500", "She needs 5 T-shirts.", "5"),
    ("math500", "The mass is 5 K.", "5"),
    ("math500", "He ran 5k.", "5"),
    ("math500", "Hence 5 M&Ms remain.", "5"),
    ("math500", "So 12 rs are left.", "12"),
    ("math500", "So y = 3 b.", "3"),
    ("math500", "It was 5 degrees below zero.", "5"),
    ("gsm8k", "He runs a 5 K race.", "5"),
    ("gsm8k", "She sold $18 T-shirts.", "18"),
    ("gsm8k", "So 3 of the readings are below zero.", "3"),
    ("gsm8k", "There were 3 days with temperatures below zero.", "3"),
    ("gsm8k", "<answer>Rs.5</answer>", "₹5"),
    ("gsm8k", "<answer>five ($5.00)</answer>", "5"),
]
FORMULAS = [
    (r"So $x = \frac{1}{2}$ holds.", r"\frac12"),
    ("We get \\[\n\\sqrt{8}\n\\]", r"2\sqrt2"),
    (r"Hence $$(1, 2)$$ where $n$ is odd.", "(1,2)"),
]
NOTHING = ["", "no", "$x$ is odd.", "It is eighteen."]


# (task, completion, reference, whether it is right): what is told from the value, a wrong answer, and sums of MATH.
TOLD_APART = [
    ("math500", "We get $x = 2$, not $x = 3$.", "2", True),
    ("math500", "We get $x = 2$, not $x = 3$.", "3", False),
    ("gsm8k", "The wrong answer is 18.", "18", False),
    ("gsm8k", "Not the answer: 18", "18", False),
    ("gsm8k", "The answer: 18, not 20", "18", True),
    ("gsm8k", "If no eggs were broken, the answer would be 18.", "18", False),
    ("gsm8k", "If she sells all of them, she would make 18.", "18", True),
    ("math500", "The wrong answer is 18.", "18", False),
    ("math500", r"Thus the period of $y = \sin 2x$ is $\pi$.", r"\pi", True),
    ("math500", "So the result we get is 6 - 5i.", "6 - 5i", True),
    ("math500", "6 - 5i", "6 - 5i", True),
    ("math500", r"\left( 3, \frac{\pi}{2} \right)", r"\left( 3, \frac{\pi}{2} \right)", True),
    (
        "math500",
        r"The polar coordinates are \left( 3, \frac{\pi}{2} \right).",
        r"\left( 3, \frac{\pi}{2} \right)",
        True,
    ),
    ("gsm8k", "She has 18 eggs, not 19.", "18", True),
    ("gsm8k", "She has 18 eggs, not 19.", "19", False),
    ("gsm8k", "She has 18 eggs (not 19).", "18", True),
    ("gsm8k", "She has 18 eggs (not 19).", "19", False),
    ("gsm8k", "It is (not 18).", "18", False),
    ("gsm8k", "She pays $18 instead of $20.", "18", True),
    ("gsm8k", "She pays $18 instead of $20.", "20", False),
    ("gsm8k", "She pays $18 rather than $20.", "18", True),
    ("gsm8k", "She pays $18 rather than $20.", "20", False),
    ("gsm8k", "She has not 18 eggs.", "18", False),
    ("gsm8k", "So it is not 18, not 19.", "18", False),
    ("gsm8k", "5 boys are not 18.", "18", False),
    ("math500", "Hence $x = 2$ rather than $x = 3$.", "2", True),
    ("math500", "Hence $x = 2$ instead of $x = 3$.", "2", True),
    ("math500", "Hence $x = 2$ rather than $x = 3$.", "3", False),
    ("math500", "Hence $x = 2$ instead of $x = 3$.", "3", False),
    ("math500", "We get $x = 2$, not $x = 3$.", "2,3", False),
    ("gsm8k", "The incorrect answer is 18.", "18", False),
    ("gsm8k", "An incorrect result would be 18.", "18", False),
    ("gsm8k", "A false value is 18.", "18", False),
    ("gsm8k", "The wrong answer is 18, the total is 20.", "20", True),
    ("gsm8k", "The wrong answer is 18. So the total cost is 20.", "20", True),
    ("gsm8k", "After a wrong turn he drove 18 miles.", "18", True),
    ("gsm8k", "Her wrong answers cost 18 points.", "18", True),
    ("gsm8k", "With 2 wrong answers she has 18 points.", "18", True),
    ("math500", "The wrong answer is $18$.", "18", False),
    ("math500", "The incorrect result is $x = 18$.", "18", False),
    ("math500", r"The area of a circle of radius $1$ is \(\pi\).", r"\pi", True),
    ("math500", r"So the limit as $n$ grows is $\infty$.", r"\infty", True),
    ("math500", r"Thus the period of $y = \sin 2x$ is $\pi$.", "2", False),
    ("math500", "So the angle $A$ is $4$.", "4", True),
    ("math500", "So the value of $A$ is $4$ for $ABC$.", "4", True),
    ("math500", "The result is 6 - 5i.", "6-5i", True),
    ("math500", "So z = 6 - 5i", "6-5i", True),
    ("math500", "**6 + 5i**", "6+5i", True),
    ("math500", "The number is -6 + 5i.", "-6+5i", True),
    ("math500", r"The largest root is 1 + \sqrt{2}.", r"1+\sqrt{2}", True),
    ("math500", "So the largest root is 1 + √2.", r"1+\sqrt{2}", True),
    ("math500", "The remainder is 2x + 3.", "2x+3", True),
    ("math500", "The remainder is x + 3.", "x+3", True),
    ("math500", "Thus f(x) = x^2 + 3x + 2", "x^2+3x+2", True),
    ("math500", "The result is 6 - 5i.", "5i", False),
    ("math500", "The result is 6 - 5i.", "6", False),
    ("math500", "The result is 6 - 5i.", "5", False),
    ("math500", "The answer lies between 2 + 3.", "5", False),
    ("math500", "So 4 + 5 = 9", "9", True),
    ("math500", "Take 9 - 5 apples, that is 4 apples.", "4", True),
    ("math500", "The remainder is 2x + 3.", "3", False),
    ("math500", "There are 3 - a few.", "3", True),
    ("math500", r"The polar coordinates are \left( 3, \frac{\pi}{2} \right).", r"(3,\frac{\pi}{2})", True),
    ("math500", r"So the range is \left[ 2, 5 \right].", "[2,5]", True),
    ("math500", r"So the set is \left\{ 1, 2 \right\}.", r"\{1,2\}", True),
    ("math500", r"The polar coordinates are \left( 3, \frac{\pi}{2} \right).", "3", False),
    ("math500", r"So the range is \left[ 2, 5 \right].", "5", False),
    ("math500", r"So 5 of \left( 3, 4 \right) are 5.", "5", True),
    ("math500", "There are 5 left.", "5", True),
    ("gsm8k", "Therefore, Alice will have $30 left after buying 4 books at $5 each.", "30", True),
    ("gsm8k", "This means John spent $150 on the 3 shirts.", "150", True),
    ("gsm8k", "### Final Answer:\nThe farmer has 120 chickens on 3 farms.", "120", True),
    ("gsm8k", "Therefore, Emma needs 8 more weeks to reach her goal of $400.", "8", True),
    ("gsm8k", "Therefore, Emma needs 8 more weeks to reach her goal of $400.", "400", False),
    ("gsm8k", "After selling 12 of the 30 he has 18 left.", "18", True),
    ("gsm8k", "On day 3 he has 18.", "18", True),
    ("gsm8k", "Hence, 15 out of the 60 students like both.", "15", True),
    ("gsm8k", "Hence, 15 out of the 60 students like both.", "60", False),
    ("gsm8k", "So 4 boxes of 12 make 48.", "48", True),
    ("math500", "Therefore, 3 of the 8 numbers are prime.", "3", True),
    ("gsm8k", "The hat is $12 and the coat is $18, for a total of $30.", "30", True),
    ("gsm8k", "The hat is $12 and the coat is $18, for a total of $30.", "18", False),
    ("gsm8k", "So there are 12 boys and 18 girls, for a total of 30 students.", "30", True),
    ("gsm8k", "So the new price is $45, which is $15 less than the original price.", "45", True),
    ("gsm8k", "Mark has 40 cards, which is 4 times as many as Joe has.", "40", True),
    ("gsm8k", "3 ladders cost 32 each, which is 96 dollars.", "96", True),
    ("math500", "The solutions are -2 and 5.", "-2,5", True),
    ("math500", "Therefore, the solutions are (1, 2) and (3, 4).", "(1,2),(3,4)", True),
    ("math500", "The roots are -1 and 2.", "-1", False),
    ("math500", "The roots are -1 and 2.", "2", False),
    ("gsm8k", "The probability of a wrong answer is 0.25.", "0.25", True),
    ("gsm8k", "The penalty for a wrong answer is 18.", "18", True),
    ("gsm8k", "So each wrong answer costs him 18 points.", "18", True),
    ("math500", "The only impossible value is $3$.", "3", True),
    ("math500", "So the wrong answer is $3$.", "3", False),
    ("math500", "Part b - 5", "b-5", False),
    (
        "math500",
        r"The range is \left( -\infty, 5 \right) \cup \left( 7, \infty \right).",
        r"(-\infty,5)",
        False,
    ),
]


RANGES = ["{}–20 hours", "{}-20 hours", "${}–$20"]


@pytest.mark.parametrize("form", RANGES)
@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_a_range_is_no_value_but_a_number_behind_a_dash_is(task, form):
    completion = f"So it takes {form.format(18)}."
    assert not any(
        verify(task, completion, mode="flexible", answer=answer).correct for answer in ("18", "20")
    )
    for behind_dash in ("Total – 20 hours.", "Week 2 - 20 hours.", "Day 1 - 18\nDay 2 - 20"):
        assert verify("gsm8k", behind_dash, mode="flexible", answer="20").correct
    assert verify("gsm8k", "The prices:\n- 18\n- 20", mode="flexible", answer="20").correct


# (the last line, the reference of MATH, whether it is right)
LAST_LINES = [
    (r"5 \cdot 2^{32}", r"5 \cdot 2^{32}", True),
    (r"\frac{2^n - 1}{8^n}", r"\frac{2^n - 1}{8^n}", True),
    (r"(-\infty, 0]", r"(-\infty, 0]", True),
    ("**5r^5**", "5r^5", True),
    ("2k + 2", "2k+2", True),
    (r"5 \cdot 2^{32}", "2^{32}", False),
    ("9 + 9", "18", False),  # not computed
    ("5 a.m.", "5", True),
    ("A 5", "5", True),
    ("- 5", "5", True),  # a bullet
    ("(a) 5", "5", True),
    ("n: 5", "5", True),
    (r"5 \qed", "5", True),
    ("So the incorrect graph is B.", "B", False),
    ("It is not true that the correct graph is B.", "B", False),
    ("Is it so that the correct graph is B?", "B", False),
    ("So the correct graph is (B).", "B", True),
    (r"Therefore, the right statement is \(B\).", "B", True),
    ("The correct graph is in Box 3.", "3", True),
    ("The probability that it is not red is $\\frac35$.", r"\frac35", True),
    ("It is not true that it is $\\frac35$.", r"\frac35", False),
]


@pytest.mark.parametrize(("line", "answer", "is_right"), LAST_LINES)
def test_a_last_line_that_is_an_expression_is_read_as_a_whole(line, answer, is_right):
    completion = f"We get $20 - 18 = 2$.\n\n{line}"
    assert verify("math500", completion, mode="flexible", answer=answer).correct == is_right


@pytest.mark.parametrize(("task", "completion", "answer", "is_right"), TOLD_APART)
def test_what_the_value_is_told_from_is_not_read_and_a_sum_is_read_as_a_whole(
    task, completion, answer, is_right
):
    assert verify(task, completion, mode="flexible", answer=answer).correct == is_right


@pytest.mark.parametrize(("completion", "answer", "is_right"), LISTS)
def test_values_that_a_sentence_joins_are_one_list_and_reasons_are_no_values(completion, answer, is_right):
    assert verify("math500", completion, mode="flexible", answer=answer).correct == is_right


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize(("completion", "answer"), UNMARKED)
def test_the_number_that_a_completion_ends_with_is_judged(task: str, completion: str, answer: str) -> None:
    assert verify(task, completion, mode="flexible", answer=answer).correct
    assert not verify(task, completion, mode="flexible", answer="7").correct
    assert verify_batch(task, [completion] * 2, mode="flexible", answer=[answer, "7"]).correct.tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize(("completion", "answer", "other"), AMOUNTS)
def test_an_amount_is_judged_with_the_words_that_belong_to_it(completion, answer, other) -> None:
    assert verify("gsm8k", completion, mode="flexible", answer=answer).correct
    assert not verify("gsm8k", completion, mode="flexible", answer=other).correct


@pytest.mark.parametrize(("task", "completion", "answer"), NUMBERS)
def test_a_number_is_judged_without_the_words_that_do_not_belong_to_it(task, completion, answer) -> None:
    assert verify(task, completion, mode="flexible", answer=answer).correct


@pytest.mark.parametrize(("completion", "answer"), FORMULAS)
def test_the_formula_that_a_completion_ends_with_is_judged(completion: str, answer: str) -> None:
    verdict = verify("math500", completion, mode="flexible", answer=answer)
    assert verdict.correct and verdict.extracted in completion
    assert verify("math500", completion, answer=answer).reason == "no_answer"


NAMED = [
    # (an answer that begins with its value, the value, another number of its text)
    ("The answer is 72. Natalia sold 48 clips in April and 24 in May.", "72", "24"),
    ("**Answer: 72 clips** (48 in April and 24 in May)", "72", "24"),
    ("The answer is 25 dollars, because each of the 5 boys paid 5 dollars.", "25", "5"),
    ("The answer is 25 dollars because each of the 5 boys paid 5 dollars.", "25", "5"),
    ("The answer is 7 days because he needs 35 dollars and earns 5 a day.", "7", "5"),
    ("**Final Answer:** 72 clips — they sold 48 in April and 24 in May.", "72", "24"),
    ("La respuesta es 72. Vendió 48 en abril y 24 en mayo.", "72", "24"),
    ("The answer is 18. It is not 19.", "18", "19"),
    (r"The answer is $x = 3$. We check that 3 is larger than 2.", "3", "2"),
    # It does not begin with its value: it corrects itself, concludes, computes or numbers its steps.
    ("The answer is 18. Actually, it is 19.", "19", "18"),
    ("Answer: 9 eggs are left, so she makes 9 * 2 = 18 dollars.", "18", "9"),
    ("Answer: 16 eggs a day. 16 - 7 = 9 eggs. 9 * 2 = 18 dollars.", "18", "16"),
    (r"Answer: \(16 - 7 = 9\) eggs are left. She makes \(9 \times 2 = 18\) dollars.", "18", "9"),
    ("Answer: 1. Compute 48 / 2 = 24. 2. Add 48 + 24 = 72.", "72", "1"),
]


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize(("completion", "answer", "other"), NAMED)
def test_what_is_named_first_is_judged_if_an_answer_is_named(task, completion, answer, other) -> None:
    verdicts = [verify(task, completion, mode="flexible", answer=gold) for gold in (answer, other)]
    assert [verdict.correct for verdict in verdicts] == [True, False]


OPEN = [
    # An answer that begins with several values.
    "Answer: 18 out of 24",
    "Answer: 6 of the 18 apples",
    "The answer is 17-18.",
    "The answer is 12 boys and 18 girls.",
    "The answer is 5 feet 18 inches.",
    "The answer is 17, maybe 18.",
    "The answer is 17, or 18.",
    "The answer is 17, or it is 18.",
    "The answer is 17 boys where 18 are tall.",
    "The answer is 18 (or 19).",
    "The answer is 18 (for Ann), 19 (for Bob).",
    "The answer is not 18.",
    "The answer is ±18",
    "The answer is 18 or 19.",
    "It is 19 or 18 eggs.",
    "<answer>18 or 19</answer>",
    "<answer>19 or 18</answer>",
    "<answer>2*18</answer>",
    "They need 2 x 18",
    "Answer: between 17 and 18",
    "Is it 18?",
    # A bound.
    "There are more than 18 boxes.",
    "She makes at least $18.",
    "It takes almost 18 hours.",
    # Denied by the verb before it.
    "The total isn't 18.",
    "It isn’t $18$.",
    "It can't be 18.",
    "So it cannot be 18.",
    "It could not have been 18.",
    "The total is never 18.",
    "The total won't be 18.",
    "So that isn't 18.",
    "It doesn't cost 18 dollars.",
    "She did not pay $18.",
    "I see that it does not equal 18.",
    "It is wrong to say 18.",
    "The answer isn't 18.",
    "<answer>It isn't 18</answer>",
    # Denied by what is said of it.
    "18 is wrong.",
    "18 dollars is clearly incorrect.",
    "18 is not right.",
    "18 can't be right.",
    "18 isn't the answer.",
    "It costs 18 dollars. That's wrong.",
    "It costs 18 dollars, which is wrong.",
    "It is 18. Wait, no.",
]


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
@pytest.mark.parametrize("completion", OPEN)
def test_what_is_denied_asked_or_left_open_is_as_in_lenient_mode(task: str, completion: str) -> None:
    flexible, lenient = (verify(task, completion, mode=mode, answer="18") for mode in ("flexible", "lenient"))
    assert flexible == lenient and not flexible.correct


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_what_names_no_value_has_none(task: str) -> None:
    for completion in NOTHING:
        assert verify(task, completion, mode="flexible", answer="18").reason == "no_answer"
    assert verify(task, None, mode="flexible", answer="18").reason == "malformed"


@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_a_marked_answer_is_judged_as_in_lenient_mode(task: str) -> None:
    texts = [
        text for right in RIGHT[task] for text in (f"<answer>{right}</answer> or 7.", f"\\boxed{{{right}}} 7")
    ]
    texts += ["\\boxed{17 or 18} is 18.", "<answer>\\boxed{1 2}</answer> 18"]
    answers = [REFERENCES[task][0]["answer"]] * (len(texts) - 2) + ["18"] * 2
    lenient = verify_batch(task, texts, answer=answers)
    assert list(verify_batch(task, texts, mode="flexible", answer=answers)) == list(lenient)
    assert lenient.correct.tolist() == [True] * (len(texts) - 2) + [False] * 2


@pytest.mark.parametrize(
    "answer",
    ["half of 12", "12!", "anything but 12", "11 = 12", "twice 12", "over 12", "12x", "12 or so", "1. 12"],
)
def test_a_marked_answer_that_cannot_be_read_stays_refused(answer: str) -> None:
    """Words and signs of a mark that change its number are no other answer."""
    for text in (f"<answer>{answer}</answer>", f"\\boxed{{{answer}}}", f"#### {answer}", f"<answer>{answer}"):
        lenient = verify("gsm8k", text, answer="12")
        assert not lenient.correct and verify("gsm8k", text, mode="flexible", answer="12") == lenient, text


@pytest.mark.parametrize(
    "text", ["<think>It is 18", "<scratchpad>18", "The answer is 18. Wait, that's wrong."]
)
def test_thinking_that_never_ends_and_what_is_taken_back_have_no_value(text: str) -> None:
    assert verify("gsm8k", text, mode="flexible", answer="18").reason == "no_answer"


@pytest.mark.parametrize("size", [5_000, pytest.param(500_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", ["gsm8k", "math500"])
def test_time_grows_with_the_text_alone(task: str, size: int) -> None:
    """Twice the characters take at most 2.5 times the time, and 100,000 of them at most four seconds."""
    pieces = [
        "1 + ",
        "x - ",
        "\\left 1",
        "1 ",
        "1,",
        "1, ",
        "$1",
        "\\(",
        "\\[1",
        "$$",
        "1/",
        "a1.",
        "1. ",
        "$ ",
        "-",
    ]
    pieces += ["1 1/", "= 1 ", "1+", "1 not ", "is not, ", "answer is \\("]

    def seconds(text: str) -> float:
        began = time.process_time()
        verify(task, text, mode="flexible", answer="18")
        return time.process_time() - began

    def is_slow(piece: str) -> bool:
        text = piece * (2 * size // len(piece))
        once, twice = seconds(text[:size]), seconds(text)
        return twice > min(2.5 * once, speed.here(size / 25_000))

    # A clock may be slow for a moment: what is slow is so each time.
    assert [piece for piece in pieces if all(is_slow(piece) for _ in range(4))] == []


@pytest.mark.parametrize(
    "ending",
    [
        "So she has 18 eggs.",
        "So it is $$x + 5.\n" + "2 + " * 70 + "b$$",
        "So it is \\[x + 5.\n" + "2 + " * 70 + "b\\]",
        "So it is 18.\nCheck: " + "5 and " * 60 + "13 are 18.",
        "".join(f"- $x = {number}$.\n" for number in range(30)),
    ],
)
def test_of_a_long_text_the_last_lines_say_what_the_whole_says(ending: str, monkeypatch) -> None:
    text = "She buys 9 eggs a day.\n" * 20 + ending
    value = last_value(text, formulas=True)
    monkeypatch.setattr("verifiers.reading.unmarked._TAIL", len(text))
    assert value is not None and value == last_value(text, formulas=True)


def test_it_is_never_what_a_call_or_a_reward_does_unasked() -> None:
    assert not verify("gsm8k", "18 eggs", answer="18").correct
    assert reward_function("gsm8k")(completions=["18 eggs"], answer=["18"]) == [0.0]
    flexible = reward_function("gsm8k", mode="flexible")
    assert flexible(completions=["18 eggs"], answer=["18"]) == [1.0] and flexible.__name__ == "gsm8k_flexible"


def test_a_task_without_it_says_so() -> None:
    for call in (
        lambda: verify("code", "", mode="flexible"),
        lambda: reward_function("code", mode="flexible"),
    ):
        with pytest.raises(ArgumentError, match='"code" has no mode "flexible"; use "lenient"'):
            call()


def test_worked_solutions_are_read_better_than_by_their_last_number(shared_data, at_length) -> None:
    """By default every fourth."""
    with gzip.open(shared_data / "gsm8k" / "train.jsonl.gz", "rt") as lines:
        solutions = [json.loads(line)["answer"] for line in lines][:: 1 if at_length else 4]
    working = [re.sub("<<.*?>>", "", solution.rpartition("####")[0]) for solution in solutions]
    correct = verify_batch("gsm8k", working, mode="flexible", answer=solutions).correct
    last = [[*re.findall(r"-?\d[\d,]*(?:\.\d+)?", text), "none"][-1] for text in working]
    by_last_number = verify_batch(
        "gsm8k", [f"<answer>{text}</answer>" for text in last], answer=solutions
    ).correct
    assert correct.mean() > 0.99 and by_last_number.mean() < 0.96


def test_half_a_character_before_a_value_does_not_move_it() -> None:
    found = verify("math500", "\ud800 5 is what is left \U00010000", answer="5", mode="flexible")
    assert found.correct and found.extracted == "5"


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("B", True),
        ("**B**", True),
        ("(B)", True),
        ("**B) Paris**", True),
        ("Paris is the capital of France.\n\n**B**", True),
        ("C", False),
        ("B or C", False),
        ("So 12.\n\nB is wrong", False),
        ("B\n\n12", False),
    ],
)
def test_the_letter_of_a_choice_in_the_last_line_is_judged(completion: str, right: bool) -> None:
    assert verify("math500", completion, answer="B", mode="flexible").correct is right
    assert verify_batch("math500", [completion], answer=["B"], mode="flexible").correct.tolist() == [right]
    assert not verify("math500", completion, answer="B").correct
    assert not verify("math500", completion, answer="A", mode="flexible").correct


@pytest.mark.parametrize(
    ("task", "case"),
    [(task, case) for task in ("countdown", "sudoku") for case in cases(f"{task}_flexible")],
    ids=lambda value: value.answer[:60] if isinstance(value, Case) else value,
)
def test_an_expression_or_grid_that_no_mark_names_is_read_as_a_whole(task: str, case: Case) -> None:
    assert verify(task, case.answer, mode="flexible", **case.reference).correct is case.right
    columns = {name: [value] for name, value in case.reference.items()}
    assert verify_batch(task, [case.answer], mode="flexible", **columns).correct.tolist() == [case.right]


RIGHT_BUT_NOT_READ = ["*3 × 5 + 7*", "Answer: *3 × 5 + 7*.", "For 22 \\(3 × 5 + 7\\)", "| 3 × 5 + 7 | 22 |"]


@pytest.mark.parametrize("completion", RIGHT_BUT_NOT_READ)
def test_a_star_a_number_or_a_table_beside_an_expression_is_not_known_to_end_it(completion: str) -> None:
    verdict = verify("countdown", completion, mode="flexible", numbers=[3, 5, 7], target=22)
    assert verdict.reason == "no_answer"


@pytest.mark.parametrize("unit", ["(", "3*", "3 × ", "\\frac{", "\\,", "* ", "} ", "é", "\\é3+4 ", "\ud800"])
def test_a_long_line_is_read_whatever_it_repeats(unit: str) -> None:
    text = unit * 20_000
    assert not verify("countdown", f"{text}3+4{text}", mode="flexible", numbers=[3, 5], target=22).correct
    assert not verify("sudoku", text, mode="flexible", puzzle="4320004330100004").correct


ENDS = (
    *("So it is $5$.", "It is 5. ", ". ", ".\n", "\n", "? ", "We add 18 eggs and get 5", "$x = 5$", "$5. She paid $7 "),
    *(" and ", " or ", ", ", "\\[ x = 5 \\]", "\\[", "\\]", "\\(5\\)", "\\(5. ", "$$5$$", "$$", "minus 5", "- 7"),
    *("- $x = 2$\n", "Check: 5 + 7 = 12. ", "not 5", "isn't 7", "That is wrong. ", "Wait, no. ", "sin x", "sqrt(5)"),
    *("\\frac{1}{2}", "(5, 7)", "the rest of her eggs ", " is ", " = ", "(", ")"),
)  # fmt: skip
"""Pieces of texts that mark no answer."""


@pytest.mark.parametrize("formulas", [False, True])
def test_the_end_of_a_text_is_read_as_in_the_whole(formulas, monkeypatch):
    rng = random.Random(4)
    texts = ["".join(rng.choices(ENDS, k=rng.randrange(2, 16))) for _ in range(1500)]
    monkeypatch.setattr(unmarked, "_TAIL", 20)
    of_the_end = [unmarked.last_value(text, formulas) for text in texts]
    monkeypatch.setattr(unmarked, "_TAIL", 10_000)
    assert of_the_end == [unmarked.last_value(text, formulas) for text in texts]
