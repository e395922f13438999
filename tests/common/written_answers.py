r"""Answers as models write them, right and wrong by careful reading: (task, where it stands, reference, right, wrong).

`HELD_OUT` was written before the rules it tests and looked at only when they were done; `CASES` came with them. BLOCK
is an answer in an `<answer>` block, BARE a whole completion.
"""

BLOCK, BARE = "<answer>\n{}\n</answer>", "{}"
PUZZLE = "4320004330100004"  # one solution: 4321 1243 3412 2134
NUMBERS = {"numbers": [3, 5, 7], "target": 22}

HELD_OUT = [
    (
        "gsm8k", BLOCK, {"answer": "72"},
        [
            "72 apples more than Jim", "72 minutes longer than the bus", "72 times as much", "72 times",
            "**72 more stickers than Ann**", "There are 72 left over.", "Money left over: $72", "72 square meters",
            "It took her 72 hours longer than planned", "She has 72 fewer marbles than Tom", "*72* pages",
            "**Final answer:** 72 km", "72 meters squared", "the most he can carry is 72", "72 years younger than Pat",
        ],
        [
            "at least 72", "72 at most", "over 72", "just under 72", "nearly 72 people", "almost 72", "twice 72",
            "72 squared", "72 lakh", "72 crore", "72x", "72y + x", "72\\pi", "72\u03c0", "It cannot be 72",
            "It can't be 72", "The answer isn't 72", "72 is wrong", "72 is incorrect", "double 72", "more than 72",
            "up to 72", "times 72", "the square of 72", "72 is not right", "older than 72", "72 cubed",
            "a multiple of 72",
        ],
    ),
    (
        "gsm8k", BARE, {"answer": "72"},
        [
            "She sold 48 and then 24.\nThe answer is 72.", "48 + 24 = 72. So the final answer is $72.",
            "Adding them up gives it. **The answer is 72.**", "Therefore, the answer is: 72",
        ],
        [
            "The answer is 72. Then add 3 to get 75.", "If the answer is 72.", "I doubt the answer is 72.",
            "The total is 72.", "The answer is not 72.", "The answer is 72 or 73.",
        ],
    ),
    (
        "sudoku", BLOCK, {"puzzle": PUZZLE},
        [
            "| | | | |\n|---|---|---|---|\n| 4 | 3 | 2 | 1 |\n| 1 | 2 | 4 | 3 |\n| 3 | 4 | 1 | 2 |\n| 2 | 1 | 3 | 4 |",
            "Row 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 4: 2134", "```text\n4321\n1243\n3412\n2134\n```",
            "**4321124334122134**", "Row 1: 4 3 2 1.\nRow 2: 1 2 4 3.\nRow 3: 3 4 1 2.\nRow 4: 2 1 3 4.",
            "| 4 | 3 | 2 | 1 |\n|:-:|:-:|:-:|:-:|\n| 1 | 2 | 4 | 3 |\n| 3 | 4 | 1 | 2 |\n| 2 | 1 | 3 | 4 |",
            "Solution: 4321124334122134",
        ],
        [
            "Row 1: 4321\nRow 2: 1243\nRow 3: 3412", "Row 2: 4321\nRow 1: 1243\nRow 3: 3412\nRow 4: 2134",
            "**432112433412213**4*", "Row 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 4: 2143",
            "1: 4321\n2: 1243\n3: 3412\n4: 2134", "4 * 3 * 2 * 1 1243 3412 2134", "not 4321124334122134",
        ],
    ),
    (
        "countdown", BLOCK, NUMBERS,
        [
            "**3*5+7**", "3*5+7.", "3*5+7 == 22", "**Answer:** 3*5+7", "```python\n3*5+7\n```", "*3 * 5 + 7*",
            "<b>3*5+7</b>",
        ],
        [
            "3*5+7..", "3*5+7 === 22", "**3*5+7*", "3*5+7 == 23", "3*5*+7", "**3*5+8**", "Answer * 3*5+7",
            "3.*5+7.",
        ],
    ),
]  # fmt: skip
