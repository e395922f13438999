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
            "**Final answer:** 72 km", "72 meters squared", "the most he can carry is 72",
            "72 years younger than Pat",
        ],
        [
            "at least 72", "72 at most", "over 72", "just under 72", "nearly 72 people", "almost 72", "twice 72",
            "72 squared", "72 lakh", "72 crore", "72x", "72y + x", r"72\pi", "72\u03c0", "It cannot be 72",
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
            "| | | | |\n|---|---|---|---|\n| 4 | 3 | 2 | 1 |\n| 1 | 2 | 4 | "
            "3 |\n| 3 | 4 | 1 | 2 |\n| 2 | 1 | 3 | 4 |", "Row 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 4: 2134",
            "```text\n4321\n1243\n3412\n2134\n```", "**4321124334122134**",
            "Row 1: 4 3 2 1.\nRow 2: 1 2 4 3.\nRow 3: 3 4 1 2.\nRow 4: 2 1 3 4.",
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
            "3*5+7..", "3*5+7 === 22", "**3*5+7*", "3*5+7 == 23", "3*5*+7", "**3*5+8**", "Answer * 3*5+7", "3.*5+7.",
        ],
    ),
]  # fmt: skip

CASES = [
    (
        "gsm8k", BLOCK, {"answer": "3"},
        [
            "3 times as many", "3 years older than Mary", "3 more apples than Bob", "3 times as many as Bob",
            "3 times a week", "3 fewer than Tom", "3 inches taller than Sue", "3 minutes less than before",
            "He is 3 years older than Mary.", "3 cups more than needed", "$3 more than the other shop",
            r"3 \text{ more than Bob}", "3 miles farther than Ann", "**3 times as many**", "There are 3 left over",
            "left over: 3", "Left over, 3", "3 over the limit", "3 under par", "3 degrees above normal",
            "3 cm squared", "3 square feet", "3 rooms without windows", "The most he can buy is 3",
            "The least number of boxes is 3", "x = 3", "3 = x", "No, 3", "3 at the end", "3 quarters",
            "She has 3 left", "3 of them", "a total of 3", "3 in all", "about 3", "3 remaining", "Each gets 3",
            "3 double rooms", "It takes 3 hours to finish", "He ate 3 at lunch", "3 on Monday", "3 more",
            "3 square units", "$3 profit", "3 percent",
        ],
        [
            "more than 3", "at least 3", "At most 3", "3 at least", "at the most 3", "over 3", "nearly 3",
            "almost $3", "twice 3", "3 squared", "3 cubed", "3x", "3 y", "3z", r"3\pi", "3\u03c0", "3 pi",
            "cannot be 3", "can't be 3", "can\u2019t be 3", "3 is wrong", "Incorrect: 3", "3 lakh", "3 crore",
            "3x = 9", "x = 3y", "triple 3", "below 3", "exceeds 3", "without 3", "except 3", "3 tenths",
            "3 hundredths", "3 thirds", "half of 3", "the cube of 3", "root of 3", "3 factorial", "multiples of 3",
            "no 3", "3 times 2", "3 plus 2", "3 is false", "It isn't 3", "3 isn't it", "up to 3", "3 doubled",
            "close to 3", "a quarter of 3", "older than 3", "x = 3n", "3 never",
        ],
    ),
    (
        "gsm8k", BLOCK, {"answer": "18"},
        [
            "9 x 2 = 18", "18 = 9 x 2", "36/2 = 18 eggs",
        ],
        [
            "3x = 18", "x = 18y", "17 = 18",
        ],
    ),
    (
        "gsm8k", BLOCK, {"answer": "500000"},
        [
            "5 lakh", "5 lakhs", "0.05 crore", "500 thousand", "5,00,000 is 500,000 in groups = 500000",
        ],
        [
            "5", "50 lakh", "5 crore", "5 lakh and 1", "0.5 million crore",
        ],
    ),
    (
        "gsm8k", BARE, {"answer": "3"},
        [
            "The answer is 3.", "So the answer is 3", "7 - 4 = 3.\nTherefore, the final answer is: $3.",
            "It is easy. The answer is 3 apples.", "**The answer is 3**", "the answer is **3**.",
            "Thus my answer is x = 3.\n", "The correct answer is 3.<|eot_id|>The answer is 4.",
            "The answer is 4.\nThe answer is 3.",
        ],
        [
            "3", "It is 3.", "The answer is 3.\nThat was it.", "The answer is not 3.", "Perhaps the answer is 3.",
            "The answer is at least 3.", "the question: the answer is 3?", "The answer is 3 or 4.", "The answer is",
            "The answer is 4.", "2 answer is 3", "The answer is 3. Or is it 4?", "The answer is 3 x.",
            "<answer></answer> The answer is 3.",
        ],
    ),
    (
        "sudoku", BLOCK, {"puzzle": PUZZLE},
        [
            "Row 1: 4 3 2 1\nRow 2: 1 2 4 3\nRow 3: 3 4 1 2\nRow 4: 2 1 3 4",
            "**Row 1:** 4321\n**Row 2:** 1243\n**Row 3:** 3412\n**Row 4:** 2134",
            "| Row 1 | 4 | 3 | 2 | 1 |\n|---|---|---|---|---|\n| Row 2 | 1 "
            "| 2 | 4 | 3 |\n| Row 3 | 3 | 4 | 1 | 2 |\n| Row 4 | 2 | 1 | 3 | 4 |",
            "row 1: [4, 3, 2, 1]\nrow 2: [1, 2, 4, 3]\nrow 3: [3, 4, 1, 2]\nrow 4: [2, 1, 3, 4]",
            "```\n4 3 2 1\n1 2 4 3\n3 4 1 2\n2 1 3 4\n```",
            "```python\n[[4,3,2,1],[1,2,4,3],[3,4,1,2],[2,1,3,4]]\n```", "**Answer:** 4321124334122134",
            "<b>4321124334122134</b>",
            "| **4** | **3** | 2 | 1 |\n| 1 | 2 | **4** | 3 |\n| **3** | 4 | 1 | 2 |\n| 2 | 1 | 3 | **4** |",
            "The completed grid is:\n\n4321\n1243\n3412\n2134", "*4321*<br>*1243*<br>*3412*<br>*2134*",
            "`4321124334122134`.", "'4321124334122134'", "Row 1: 4321 Row 2: 1243 Row 3: 3412 Row 4: 2134",
            "Row 1: `4321`\nRow 2: `1243`\nRow 3: `3412`\nRow 4: `2134`",
            "Row 1 : 4,3,2,1\nRow 2 : 1,2,4,3\nRow 3 : 3,4,1,2\nRow 4 : 2,1,3,4",
            "Solution:\n```\n4321\n1243\n3412\n2134\n```", "**Solved grid**\n4321\n1243\n3412\n2134",
            "<pre>4321\n1243\n3412\n2134</pre>", "|4|3|2|1|\n|:--|:--|:--|--:|\n|1|2|4|3|\n|3|4|1|2|\n|2|1|3|4|",
            "Final answer: **4321 1243 3412 2134**.",
        ],
        [
            "**4321124334122143**", "Row 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 5: 2134",
            "Row 0: 4321\nRow 1: 1243\nRow 2: 3412\nRow 3: 2134",
            "Column 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 4: 2134", "Row 1: 4321124\nRow 2: 334122134",
            "4321*1243*3412*2134", "<script>4321124334122134</script>", "```python\nprint(4321124334122134)\n```",
            "The wrong grid is: 4321124334122134", "4321124334122134 is the grid", "4321\n1243\n3412\n2134\nRow 5: 1",
            "Row 1: 4321\nRow 2: 1243\nRow 3: 3412\nRow 4: 213.\n4.",
            "**Row 1: 4321**\nRow 3: 1243\nRow 2: 3412\nRow 4: 2134",
        ],
    ),
    (
        "countdown", BLOCK, NUMBERS,
        [
            "**(3 * 5) + 7**", "*3*5+7*", "**3*5+7 = 22**", "(3*5)+7 == 22", "3*5+7 = 22.", "`3*5+7`.", "$3*5+7$.",
            "$3*5+7.$", "**Answer:** `3*5+7`", "**Final answer**: 3*5+7", "***3*5+7***", "<strong>7+3*5</strong>",
            "<code>7+5*3</code>", "```\n3*5+7 == 22\n```", "The answer is **3*5+7**.", "22 == 3*5+7",
            r"$3 \times 5 + 7 == 22$.", "**Answer: 3*5+7.**", "\"3*5+7.\"", r"\boxed{\,3 \times 5 + 7.}",
            "3 * 5\n+ 7.", "*7+3*5*", "**7 + (5 * 3)**", "Answer: **3*5+7**", "Answer: <b>3*5+7</b>",
            "So the expression is `3*5+7`.", "(3*5+7) == 22.", "**`3*5+7`**", "$$3*5+7$$",
            "**Solution:** $3*5+7 == 22$", "<p>3*5+7</p>",
        ],
        [
            "**3*5+7", "3*5+7**", "**3*5-7**", "3*5+7 == 22 == 21", "3*5+7 != 22", "3*5+7 ==", "== 22", "**3**5**+7",
            "3*5+.7", "<b>3*5+7</b", "<b>3</b>*5+7", "** 3*5+7 ***", "**Not:** 3*5+7", "**Answer** * 3*5+7",
            "3*5+7 =.", "3*5. + 7",
        ],
    ),
]  # fmt: skip
