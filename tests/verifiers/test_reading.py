"""Where an answer stands in a text, and patterns that cannot backtrack."""

import re
from importlib import import_module
from pkgutil import iter_modules
from re import _constants as kinds
from re import _parser
from time import process_time

import pytest

import verifiers.reading
from verifiers.choice import label_of, trimmed, without_label
from verifiers.reading import locate
from verifiers.reading.expressions import expression_in
from verifiers.reading.grids import cells_in
from verifiers.reading.locate import find_answer
from verifiers.reading.numbers import calculation_end
from verifiers.reading.tokens import NUMBER, SIGN
from verifiers.verdicts import HEDGE, MALFORMED, NO_ANSWER, OK

WAYS = 4000
"""In so many ways, a pattern may at most match from one place: those of its repeats that are not possessive."""


def ways(tree) -> float:
    """In how many ways a pattern may at most be tried from one place; infinity for a repeat without a bound."""
    count = 1.0
    for kind, argument in tree:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            least, most, body = argument
            inside = ways(body)
            is_bounded = most != kinds.MAXREPEAT and (inside == 1 or most == 1)
            count *= (most - least) + inside if is_bounded else float("inf")
        elif kind is kinds.BRANCH:
            count *= 1 + sum(ways(part) - 1 for part in argument[1])
        elif kind is kinds.SUBPATTERN:
            count *= ways(argument[3])
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            count *= ways(argument[1])
        elif kind is kinds.POSSESSIVE_REPEAT:
            count *= 1 if ways(argument[2]) < float("inf") else float("inf")
        elif kind is kinds.ATOMIC_GROUP:
            count *= 1 if ways(argument) < float("inf") else float("inf")
        elif kind in (kinds.GROUPREF, kinds.GROUPREF_EXISTS):
            return float("inf")
    return count


def patterns() -> list:
    """(module and name, pattern) for every compiled pattern of verifiers.reading."""
    names = [module.name for module in iter_modules(verifiers.reading.__path__, "verifiers.reading.")]
    found = []
    for name in names:
        for key, value in vars(import_module(name)).items():
            values = value if isinstance(value, tuple | list) else (value,)
            found += [(f"{name}.{key}", part) for part in values if isinstance(part, re.Pattern)]
    return found


def test_no_pattern_of_reading_can_backtrack() -> None:
    counts = {name: ways(_parser.parse(pattern.pattern, pattern.flags)) for name, pattern in patterns()}
    assert len(counts) > 20
    assert not {name: count for name, count in counts.items() if count > WAYS}


@pytest.mark.parametrize(
    "pattern", [r"a*b", r"(?:a+,)*+b", r"(a|b)+", r"(?:a{1,9}b){1,9}", r"(a)\1", r"x{0,5000}y"]
)
def test_patterns_that_backtrack_are_found(pattern: str) -> None:
    assert ways(_parser.parse(pattern)) > WAYS


USUAL = [
    f"<reasoning>\nWe add.\n</reasoning>\n<answer>\n{box}\n</answer>"
    for box in ("\\boxed{18}", "\\boxed{7 \\text{ cm}}")
]
USUAL += [
    "<reasoning>so</reasoning>\n\\boxed{\\frac{1}{2}}<|eot_id|>",
    "so</reasoning>\n\\boxed{18}\n",
    "<answer>\\boxed{\\{2\\}}</answer>",
    "The answer is \\boxed{3}.\nQ: What?\n<answer>\\boxed{5}</answer>",
    "so</reasoning>\\boxed{5}<|eot_id|><|start|>assistant<|message|>The answer is 7.",
    "<answer>\\boxed{5◁/answer▷}</answer>",
]


def test_the_usual_texts_are_read_as_all_others(at_length, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any piece put in anywhere, too; by default at every third place."""
    texts = [
        text[:at] + piece + text[at:]
        for text in USUAL
        for at in range(0, len(text) + 1, 1 if at_length else 3)
        for piece in ("", *PIECES)
    ]
    for mode in ((True, False), (True, True), (False, False)):
        found = [find_answer(text, *mode) for text in texts]
        with monkeypatch.context() as patched:
            patched.setattr(locate, "_usual", lambda *_: None)
            in_general = [find_answer(text, *mode) for text in texts]
        # Whether the box is alone is only told in strict mode.
        both = [
            [part._replace(alone=part.alone and not mode[0]) for part in parts]
            for parts in (found, in_general)
        ]
        assert both[0] == both[1]


PIECES = (
    *("<answer>", "<think>", "</think>", "<", "◁", "\\boxed{", "\\boxed", "\\boxed{1} or ", "not \\boxed{1} ", "{"),
    *("#### ", "####\n", "answer ", "the answer is ", "Answer: 5. ", "answer to ", "answer (", "答案是", "**", "$"),
    *("\\[", "\\begin", "A:", "\nA: 5", "1", "1.", "is 5. ", "No, 5. ", "wait ", "the final ", "is correct "),
    *("let me redo 5 = so ", ", not 5", "18 is the answer.", "(B) is ", '"answer": "', "<|end|>", "\\", "\n", " "),
)  # fmt: skip
"""Texts of one of these pieces, again and again, behind nothing, a mark and a name, take most work."""


@pytest.mark.parametrize("size", [20_000, pytest.param(500_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("before", ["", "\\boxed{5} ", "The answer is "])
def test_time_grows_with_the_text_alone(before: str, size: int) -> None:
    def seconds(piece: str, characters: int) -> float:
        text = before + (piece * (characters // len(piece) + 1))[:characters]
        began = process_time()
        find_answer(text)
        return process_time() - began

    for piece in PIECES:
        # Further tries are for a machine whose clock is slow for a moment.
        tries = ((seconds(piece, size), seconds(piece, 2 * size)) for _ in range(3))
        assert any(twice < max(2.5 * once, 0.1) for once, twice in tries), piece


@pytest.mark.parametrize(
    ("read", "frame", "piece", "size"),
    [
        *(
            (lambda text: cells_in(text, 4), "\\text{{{}}}", piece, 20_000)
            for piece in ("*", "* ", ". ", "r 1: ")
        ),
        *((expression_in, "{0}3*5+7{0}", quote, 20_000) for quote in ('"', "`", "$")),
        (
            lambda text: calculation_end([(NUMBER, "5", False), (SIGN, "*", False)] * len(text), 0, 18),
            "{}",
            "5*",
            40_000,
        ),
        (trimmed, "{0}5{0}", "\\qquad", 200_000),
        (without_label, "{}", "\\textbf{", 300_000),
        (label_of, "{}", "the answer is ", 250_000),
    ],
)
def test_time_of_other_readers_grows_with_the_text_alone(read, frame: str, piece: str, size: int) -> None:
    def seconds(characters: int) -> float:
        text = frame.format(piece * (characters // len(piece)))
        began = process_time()
        read(text)
        return process_time() - began

    tries = ((seconds(size), seconds(2 * size)) for _ in range(3))
    assert any(twice < max(2.5 * once, 0.03) for once, twice in tries)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 460.\n\nActually, that's incorrect. On reflection the answer is 450.", "450"),
        ("#### 460\n\nOn second thought, it is 450.", "450"),
        ("\\boxed{460}. Oh no, I forgot the tax, so the total is 450.", "450"),
        ("The answer is 460. Oh no, I forgot the tax, so the total is 450.", "450"),
        ("The answer is 460. No, 450.", "450"),
        ("The answer is 460.\nI made a mistake, the discount comes first. The total is 450.", "450"),
        ("#### 460\nHmm, I forgot one. It should be 450.", "450"),
        ("The answer is 460. Wait, that's wrong.", None),
        ("The answer is 460. That can't be right.", None),
        ("\\boxed{460}\nThis is not correct.", None),
        ("The answer is 18. You can't buy half a box.", "18"),
        ("\\boxed{18}\nThe other roots are wrong. No smaller number works.", "18"),
        ("#### 18\nWait, let me check: 9 * 2 = 18.", "18"),
        ("#### 18\nEdit: 20", "20"),
        ("\\boxed{18}\n\nUpdate: it is 20.", "20"),
        ("\\boxed{18}\nI will edit: the text", "18"),
        ("The answer is 18. Grade: wrong", None),
        ("#### 18\nThis is not wrong.", "18"),
        ("#### 18\nThis isn't wrong.", "18"),
        ("#### 18\nThe 17 is wrong.", "18"),
        ("#### 18\nThat 18 is wrong.", None),
        ("\\boxed{18}\nHe is mistaken.", None),
        ("\\boxed{18}\nShe should have bought more.", "18"),
        ("The answer is 18, which is not too many.", "18"),
        ("<answer>18 eggs, which isn't a lot</answer>", "18 eggs"),
        ("The answer is 18, which is wrong.", None),
        ("The answer is 18. Let me know if this is wrong!", "18"),
        ("The answer is 18.\n\nIf I made a mistake, please correct me.", "18"),
        ("\\boxed{18}\nFeel free to ask if this is wrong or unclear.", "18"),
        ("#### 18\nI hope there are no mistakes.", "18"),
        ("<answer>18</answer>\nI checked for mistakes and found none.", "18"),
        ("#### 18\nI don't think that is wrong.", "18"),
        ("#### 18\nI don't think that is right.", None),
        ("#### 18\nI checked if it fits, and it is wrong.", None),
        ("#### 18\nSorry for the long explanation.", "18"),
        ("#### 18\nSorry for the mistake.", None),
        ("#### 18\nSorry for the wrong answer.", None),
        ("#### 17\nSorry for the confusion, it's 18.", "18"),
        ("\\boxed{17}\nSorry about that: 18.", "18"),
        ("#### 18\nI checked whether it fits and it is wrong.", None),
        ("\\boxed{18}. If we plug it in we see that this is wrong.", None),
        ("#### 18\nI checked if 18 fits (it's wrong).", None),
        ("#### 18\nI hope you see that this is wrong.", None),
        ("#### 18\nI can't believe I made a mistake.", None),
        ("#### 18\nI didn't see my mistake.", None),
        ("The answer is 17.\n\nApologies, the correct number is 18.", "18"),
        ("\\boxed{17}\n\nI need to correct this: it is 18.", "18"),
        ("#### 17\nLet me reconsider. So it is 18.", "18"),
        ("The answer is 17. Let me redo this: 2 * 9 = 18. Therefore, 18 eggs.", "18 eggs"),
        ("\\boxed{17}\nHmm, 2 * 9 is actually 18.", "18"),
        ("#### 17\nOn reflection, the total is 18.", "18"),
        ("#### 17\nLet me double-check: 2 * 9 = 18. So the total is 18.", "18"),
        ("<answer>17</answer>\nLet me recalculate: 2 * 9 = 18.", None),
        ("<answer>18</answer>\nWait, let me double check: 2 * 9 = 18. Yes, correct.", "18"),
        ("<answer>18</answer>\nWait, is that right? 2 * 9 = 18. Yes.", "18"),
        ("<answer>17</answer>\nWait, is that right? 17 + 1 = 18.", None),
        ("The answer is 18. Check: 18 / 2 = 9.", "18"),
        ("The answer is 18. Let me verify: 18 / 2 = 9, so there are 9. ✓", "18"),
        ("$\\boxed{18}$. Let me verify this: 90/18 = 5. Let me verify again: 5 = 1 * 5, so", "18"),
        ("#### 3\nCheck: both sides are 11. It works.", "3"),
        ("#### 18\nLet me recount: 6, 12, 18.", "18"),
        ("#### 17\nWait, let me verify. For all of them, it is 18.", "18"),
        ("#### 17\nLet me verify: 17 is too small, 2 * 9 = 18. So the total is 18.", "18"),
        ("#### 17\nLet me correct that to 18.", "18"),
        ("#### 17\nI miscounted. It is 18.", "18"),
        ("**Answer: C**\n\nAnswer B is incorrect since it is too small.", "C"),
        ("\\boxed{C}\n\nOption A is wrong because it ignores the tax.", "C"),
        ("<answer>C</answer>\n\nExplanation:\nA. Incorrect. 30 is too small.\nC. Correct.", "C"),
        ("\\boxed{C}\n\nExplanation:\nC. Incorrect. 30 is too small.", None),
        ("\\boxed{C}\n\nOption B is wrong. I made a mistake.", None),
        ("\\boxed{C}\nWait, option B is wrong.", None),
        ("#### 18\nWe found the missing side.", "18"),
        ("#### 18\nLet me check that it is 18. No, that is wrong.", None),
        ("#### 18\nWait, the question asks for the tax.", None),
        ("#### 18\nActually, we need to subtract the broken", None),
        ("#### 18\nActually, let me redo this.", None),
        ("#### 18\nAssuming 12 is correct, 18 - 6 = 12.", "18"),
        ("#### 18\nHowever, she only needs 10 of them, so 8 are left over.", "18"),
        ("\\boxed{5}\nBut $x$ must be positive, so we discard $-3$.", "5"),
        ("7 boxes of 12.\n#### 84\nLet me double check. 84 / 7 = 12. So each box has 12 eggs.", "84"),
        ("2(5) + 3 = 13\n\\boxed{5}\nLet me check: 2(5)+3 = 13. Thus both sides are 13.", "5"),
        ("#### 84\nThis means the answer is 7 dozen eggs.", "84"),
        ("I used to think the answer is 84.\nNow 80.", None),
        ("There are $\\boxed{84}$ eggs.\nHowever, 4 are broken, so the final count is 80.", "80"),
        ("#### 18\nActually, that can't be it.", None),
        ("#### 18\nActually, I only counted one of them.", None),
        ("#### 17\nActually, we need the tax. 17 + 1 = 18.", "18"),
        ("#### 18\nThe number of boys is right. It is 7, not 18.", "18"),
    ],
)
def test_what_a_later_sentence_takes_back_is_no_answer(text: str, answer: str | None) -> None:
    found = find_answer(text)
    assert (text[found.start : found.end] if found.reason == OK else None) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>9 * 2 is \\boxed{18}, and then", None),
        ("<think>The answer is 18.", None),
        ("<scratchpad>The answer is 18.", None),
        ("◁think▷The answer is 18.", None),
        ("<think>9 * 2 is \\boxed{18}.", "18"),
        ("<think>9 * 2\n<answer>18</answer>", "18"),
        ("The answer is 18. <think>Or is it", "18"),
        ("◁think▷The answer is 17.◁/think▷The answer is 18.", "18"),
        ("<scratchpad>The answer is 17.</scratchpad>The answer is 18.", "18"),
        ("<|channel|>analysis<|message|>The answer is 17.<|end|>", None),
        (
            "<|channel|>analysis<|message|>The answer is 17.<|end|><|start|>assistant<|channel|>final<|message|>"
            "The answer is 18.<|return|>",
            "18",
        ),
        ("9 * 2 = 18\nA: 18", "18"),
        ("A: 17\nB: 18", None),
        ("So the answer is **correct**. It is 18", None),
        ("<answer>7", "7"),
        ("<answer>7<answer>", "7"),
        ("\\boxed{3} or \\boxed{5}", None),
        ("\\boxed{3} and \\boxed{5}", "\\boxed{3} and \\boxed{5}"),
        ("x=\\boxed{3}$, $x=\\boxed{5}", "\\boxed{3}$, $x=\\boxed{5}"),
        ("\\boxed{2}, not \\boxed{3}", "2"),
        ("so \\boxed 7.", "7"),
        ("#### Step 2\n18\n#### 19", "19"),
        ("####\n18", "18"),
        ("<finalanswer>18</finalanswer>", "18"),
        ("**Answer:**\n```\n18\n```", "18"),
        ("The answer is __18__.", "18"),
        ("The total is **€18.50**.", "€18.50"),
        ("Is it prime? It is not\n\n$\\boxed{18}$", "18"),
        ("Por lo tanto, la respuesta final es 18.", "18"),
        ("所以答案是18。", "18"),
        ("如果答案是18。", None),
        ("The answer is 18?", None),
        ("If we forget the tax, we think the answer is 18.", None),
        ("We know that the answer is less than 18.", None),
        ("The answer is 18, since 20 - 2 = 18.", "18"),
        ("The answer is $18$ because she sells 9 eggs.", "$18$"),
        ("The answer is 84 eggs because there are 7 cartons.", "84 eggs"),
        ("The answer is 13 eggs, since 16 - 3 = 13 eggs.", "13 eggs"),
        ("The answer is 18 eggs, since 16 - 3 = 13.", "18 eggs, since 16 - 3 = 13"),
        ("<answer>20 eggs because 20 is wrong</answer>", "20 eggs because 20 is wrong"),
        ("The answer is 5, since 5 is one half, so it is 10.", "5, since 5 is one half, so it is 10"),
        ("The answer is 41.67, rounded to two decimal places.", "41.67"),
        ("#### 41.67 (rounded to 2 decimal places)", "41.67"),
        ("The answer is 41.666, rounded to 41.67.", "41.666, rounded to 41.67"),
        ("#### 3.6 rounded to 4 people", "3.6 rounded to 4 people"),
        ("The answer is 42, rounded to the nearest ten is 40.", "42, rounded to the nearest ten is 40"),
        ("17 plus one. Therefore, we can conclude that the answer is 18.", "18"),
        ("The answer is 17.\nWith the tax it is more. This means the answer is 18.", "18"),
        ("I am confident that the answer is 18.", "18"),
        ("I don't think the answer is 18.", None),
        ("So I think the answer is 18.", None),
        ("We find that the answer is less than 18.", None),
        ("The answer is 18. This answer is reasonable.", "18"),
        ("The answer is 18. Let me know if you have any other questions!", "18"),
        ("The answer is 18.\n\nThis answer is correct because 18 / 2 = 9.", "18"),
        ("The answer is 18 dollars. This means that each of the 9 eggs costs 2 dollars.", "18 dollars"),
        ("The answer is 18. This is because 9 * 2 = 18.", "18"),
        ("The answer is 18. Then add 3 to get 21.", "18. Then add 3 to get 21"),
        ("#### 17. 18", "17. 18"),
        ("The answer is 17. I mean 18.", "17. I mean 18"),
        ("Answer: 1. 5 apples", "1. 5 apples"),
        ("#### 18. Let me know if you have any other questions!", "18"),
        ("16 - 7 = 9.\nWe now know that the answer is 18.", "18"),
        ("So we can say that the answer is 9 * 2 = 18 dollars.", "9 * 2 = 18 dollars"),
        ("The answer is 18.\n\nWe could add first, but the answer is the same.", "18"),
        ("$\\boxed{18}$\nWe can see that the answer is independent of $r$.", "18"),
        ("The answer is 18.\nIt follows that the answer is divisible by 9.", "18"),
        ("At first I thought 17, but the answer is 18.", "18"),
        ("#### 17\nHmm, it's actually 18.", "18"),
        ("#### 17\nUpon closer inspection, the total is 18.", "18"),
        ("The answer is 17.\n\nOn rechecking, the total comes to 18.", "18"),
        ("$\\boxed{17}$\nNever mind, it's 18.", "18"),
        ("#### 18\n\nLet me verify: 16 - 7 = 9 eggs.", "18"),
        ("#### 18\nNever mind the other 9 eggs.", "18"),
        ("#### 18\n\nLet me double-check: 18 / 2 = 9.", "18"),
        ("#### 18\n\nHowever, each of the 9 guests gets 2, so 9 * 2 = 18.", "18"),
        ("#### 18\nThat's actually 2 eggs for each of the 9 guests.", "18"),
        ("#### 18\nThat's actually the correct number of eggs.", "18"),
        ("Unless I am wrong, 18 is the answer.", None),
        ("### Answer\n- 18 eggs\n- I hope this helps", "18 eggs"),
        ("### Answer\n(a) 6\n(b) 5", "(a) 6\n(b) 5"),
        ("The answer is 17.\nThe actual answer is found to be six.", "found to be six"),
    ],
)
def test_where_an_answer_stands(text: str, answer: str | None) -> None:
    found = find_answer(text)
    assert (text[found.start : found.end] if found.reason == OK else None) == answer


def test_strict_mode_takes_one_closed_block_alone() -> None:
    assert find_answer("<answer> \\boxed{18} </answer>", lenient=False)[3:5] == (True, True)
    assert find_answer("<answer>so \\boxed{18} </answer>", lenient=False)[3:5] == (True, False)
    assert find_answer("<answer>17</answer><answer>18</answer>", lenient=False).reason == MALFORMED
    assert find_answer("<Answer>18</Answer>", lenient=False).reason == MALFORMED
    assert find_answer("\\boxed{18}", lenient=False).reason == NO_ANSWER
    assert find_answer("<answer>\\boxed{17} or \\boxed{18}</answer>").reason == HEDGE
    assert find_answer("<answer>18\0</answer>").reason == MALFORMED
    assert find_answer("The answer is 18.", marks_only=True).reason == NO_ANSWER
