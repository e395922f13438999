r"""The verdicts of d1's evaluation code (arXiv 2504.12216), which SPG, wd1 and others use for their tables.

The rules do what that code does, flaws included, so that a published rate can be given beside an exact one. The first
box with a number in it counts, MATH answers are compared as texts, Countdown is worked out in floating point, and for
Sudoku cells are counted. A completion is read to its last character, also behind its end token. Nothing is executed; if
that code would run for ever or stop with an error, the verdict here is "wrong". See docs/published.md.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from verifiers.batch import as_reference, as_text
from verifiers.errors import ArgumentError, invalid_reference
from verifiers.registry import Task, find
from verifiers.verdicts import Reason, Tier, Verdict

_BOX = "\\boxed{"
_CELLS = 16  # how many cells a Sudoku has
_MAX_EXPRESSION = 2_000  # characters; a longer one is wrong
_MAX_BITS = 4_096  # how many bits a power of integers may have; no target has more
_TOLERANCE = 1e-5  # how far a value may be from a Countdown target

_ARITHMETIC_SIGNS = "0123456789+-*/() "

# Each of these patterns goes over a text once. Functions below stand for patterns that would go over a text repeatedly.
_NUMBER = re.compile(r"-?\d+\.?\d*")
_GOLD = re.compile(r"\$?([\d,]*\d[\d,]*(?:\.\d+)?)")  # the number of a reference of GSM8K
_EQUALS = re.compile(r"=(?=[0-9. ])")
_ARITHMETIC = re.compile(r"[\d+\-*/().\s]+")
_QUOTIENT = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")


class Finding(NamedTuple):
    """What the rules make of a completion."""

    right: int
    of: int
    """How many things could be right: the empty cells of a Sudoku, else 1."""
    extracted: str | None
    """The text that was judged; None if none was found."""
    how: str
    """How this text was found in the completion."""

    def verdict(self) -> Verdict:
        """The finding as a `Verdict`: correct if everything is right; the score is the part that is right."""
        correct = self.of > 0 and self.right == self.of
        reason_if_wrong = Reason.NO_ANSWER if self.extracted is None else Reason.WRONG
        score = self.right / self.of if self.of else 0.0
        return Verdict(correct, score, self.extracted, Reason.OK if correct else reason_if_wrong, Tier.TEXT)


def _first_block(completion: str) -> str | None:
    """The text between the first `<answer>` and the next `</answer>`, stripped; None if one of the tags is missing."""
    _, opened, rest = completion.partition("<answer>")
    block, closed, _ = rest.partition("</answer>")
    return block.strip() if opened and closed else None


# GSM8K: a number, as a float.


def judge_gsm8k(completion: str, answer: object) -> Finding:
    """Judges the first box with a number in it, else the first `<answer>` block."""
    gold = as_reference(answer)
    if gold is None and answer is not None:
        raise invalid_reference("answer", answer, "is not one number, such as '18' or '1,250'", index=None)
    value, extracted, how = _gsm8k_number(completion)
    text = gold or ""  # if the reference is None, no answer is right
    final_answer = text.partition("####")[2] or text  # what follows #### in a worked solution of GSM8K
    number = _GOLD.match(final_answer.strip())
    if number is None:
        # E.g. a negative number, which the published code does not find: no answer is then right.
        return Finding(right=0, of=1, extracted=extracted, how="a reference that is no number without a sign")
    is_right = value == float(number[1].replace(",", ""))
    return Finding(int(is_right), of=1, extracted=extracted, how=how)


def _gsm8k_number(completion: str) -> tuple[float | None, str | None, str]:
    """(the number that is judged, the text that it was read from, how it was found); None for what was not found."""
    # Neither an empty box counts nor `\boxed{...}`, as prompts have it.
    boxes = [box for box in _boxes(completion) if box.strip(".")]
    which_box = "the first of several boxes" if len(set(boxes)) > 1 else "the box"
    for content in boxes:
        value, is_whole_text = _number_in(content, index=0)
        if value is not None:
            return value, content, which_box if is_whole_text else f"{which_box}, the first number in it"
    text = _first_block(completion)
    if text is None:
        return None, None, "neither a box with a number nor a block"
    value, is_whole_text = _number_in(text, index=-1)
    return value, text, "the answer block" if is_whole_text else "the answer block, the last number in it"


def _boxes(completion: str) -> Iterator[str]:
    r"""The text between each `\boxed{` and the next `}` on its line."""
    for line in completion.split("\n"):
        start = line.find(_BOX)
        while start >= 0 and (end := line.find("}", start)) >= 0:
            yield line[start + len(_BOX) : end].strip()
            start = line.find(_BOX, end)


def _number_in(text: str, index: int) -> tuple[float | None, bool]:
    """(a number, whether it is the whole text): the text as a float if the text is one, else a number in the text.

    index: which number in the text, 0 = the first, -1 = the last. (None, False) if there is no number.
    """
    try:
        return float(text), True
    except ValueError:
        numbers = _NUMBER.findall(text)
        return (float(numbers[index]) if numbers else None), False


# MATH: a text, compared after the normalisation of the MATH data set's own code (arXiv 2103.03874).


def judge_math500(completion: str, answer: object) -> Finding:
    """Compares the content of the last box or, if there is no box, the whole text.

    If the box is empty, or if its braces do not close, the first `<answer>` block is compared instead.
    """
    gold = as_text(answer)
    if gold is None:
        raise invalid_reference("answer", answer, r"is no text such as '\frac{1}{2}'", index=None)
    text, how = _answer_of(completion)
    if not text:
        block = _first_block(completion)
        if block is not None:
            text, how = block, "the answer block"
    is_right = text is not None and same_text(text, gold)
    return Finding(int(is_right), of=1, extracted=text, how=f"{how}, compared as text")


def _answer_of(completion: str) -> tuple[str | None, str]:
    r"""(the content of the last `\boxed{}`, how it was found).

    Without a box, the whole completion stands in place of the content. If the box does not close, None does.
    """
    box = last_box(completion)
    if box is None:
        return None, "a box that is not closed"
    if not box:
        return completion, "the whole text, for want of a box"
    # A box that is written otherwise, such as `\fbox{...}`, is compared as it is.
    content = box[len(_BOX) : -1] if box.startswith(_BOX) else box
    return content, "the last box"


def last_box(text: str) -> str | None:
    r"""The last `\boxed{...}` as written, or else the last `\fbox{...}`.

    "" stands for no box, None for a box that is not closed. If a text has "\boxed " (with a space), the box holds what
    follows the last "\boxed ", up to a $, as in d1's code.
    """
    if "\\boxed " in text:
        return _BOX + text.rpartition("\\boxed ")[2].partition("$")[0] + "}"
    start = text.rfind("\\boxed" if "\\boxed" in text else "\\fbox")
    if start < 0:
        return ""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0 and text[place] == "}":
            return text[start : place + 1]
    return None


def same_text(answer: str, gold: str) -> bool:
    """True if two MATH answers are the same text after normalisation or, if normalisation fails, before it."""
    try:
        return _normalized(answer) == _normalized(gold)
    except ValueError:
        return answer == gold


def _normalized(answer: str) -> str:
    """An answer in the form in which answers are compared; raises ValueError if it cannot be brought into that form."""
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for word in ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"):
        text = text.replace(word, "")
    # `\text{ ` with a space begins a unit; the unit and what follows are left out.
    if text.count("\\text{ ") > 1:
        raise ValueError("more than one unit")
    text = text.partition("\\text{ ")[0].replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    # x=5 -> 5, if the only equals sign stands behind a name of at most two characters.
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    return _quotient("\\frac{1}{2}" if text == "0.5" else text)


def _braced_roots(text: str) -> str:
    r"""\sqrt3 -> \sqrt{3}."""
    first, *others = text.split("\\sqrt")
    if not all(others):
        raise ValueError("a root of nothing")
    braced = (part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}" for part in others)
    return "\\sqrt".join([first, *braced])


def _braced_fractions(text: str) -> str:
    r"""\frac12, \frac1{2} -> \frac{1}{2}; the text as it is if a \frac has no two arguments."""
    first, *others = text.split("\\frac")
    if not all(others):
        raise ValueError("a fraction of nothing")
    written = [first]
    for part in others:
        braced = part
        if not part.startswith("{"):
            if len(part) < 2:
                return text
            denominator_and_rest = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            braced = f"{{{part[0]}}}{denominator_and_rest}"
        written.append("\\frac" + braced)
    return "".join(written)


def _quotient(text: str) -> str:
    r"""1/2 -> \frac{1}{2}, for whole numbers without leading zeros or a plus sign."""
    if text.count("/") != 1:
        return text
    for part in text.split("/"):
        int(part)  # raises ValueError for a quotient of anything else
    match = _QUOTIENT.fullmatch(text)
    return f"\\frac{{{match[1]}}}{{{match[2]}}}" if match else text


# Countdown: an expression, worked out in floating point.


def judge_countdown(completion: str, numbers: Sequence[int], target: object) -> Finding:
    """Judges the last box, else the whole text: its numbers must be those given, and its value the target (+-1e-5).

    If the box does not close, the first `<answer>` block is judged or, without a block, the whole text.
    """
    try:
        available, goal = sorted(map(operator.index, numbers)), Fraction(str(target))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise invalid_reference(
            "target", target, "is no rational number, or the numbers no integers", index=None
        ) from error
    text, how = _answer_of(completion)
    if text is None:
        text, how = _first_block(completion), "the answer block"
    if text is None:
        text, how = completion, "the whole text"
    for command, sign in (("\\div", "/"), ("\\times", "*"), ("\\cdot", "*")):
        text = text.replace(command, sign)
    if (side := _left_side(text)) is not None:
        text, how = side, f"{how}, the left side of an equation in it"
    try:
        used = sorted(map(int, re.findall(r"\d+", text)))
    except ValueError:  # there are more digits than Python reads
        used = []
    value = _value(text) if used == available else None
    try:
        goal_value = int(goal) if goal.denominator == 1 else float(goal)
        right = value is not None and abs(value - goal_value) < _TOLERANCE
    except OverflowError:
        right = False
    return Finding(int(right), of=1, extracted=text, how=f"{how}, in floating point")


def _left_side(text: str) -> str | None:
    """The arithmetic that ends right before an equals sign; None if no equals sign has arithmetic before it.

    Only equals signs before a digit, a point or a space count; of several such signs, the first counts.
    """
    for equals in _EQUALS.finditer(text):
        at = equals.start()
        if at and text[at - 1] in _ARITHMETIC_SIGNS:
            before = text[:at]
            return before[len(before.rstrip(_ARITHMETIC_SIGNS)) :].strip()
    return None


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def _value(text: str) -> Any:
    """The value of arithmetic in Python, `//` and `**` included; None if there is no value, or an enormous one."""
    if len(text) > _MAX_EXPRESSION or not _ARITHMETIC.fullmatch(text):
        return None
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, TypeError, RecursionError, MemoryError):
        return None


def _evaluate(node: ast.expr) -> Any:
    """The value of a parsed expression; raises OverflowError for a huge power, ValueError for what is no arithmetic."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=inside):
            value = _evaluate(inside)
            return value if isinstance(sign, ast.UAdd) else -value
        case ast.BinOp(left=first, op=sign, right=second) if type(sign) in _OPERATORS:
            left, right = _evaluate(first), _evaluate(second)
            if isinstance(sign, ast.Pow) and isinstance(left, int) and isinstance(right, int):
                if left.bit_length() * max(right, 0) > _MAX_BITS:
                    raise OverflowError
            return _OPERATORS[type(sign)](left, right)
    raise ValueError("no arithmetic")


# Sudoku: the share of the empty cells of a 4x4 grid that equal the stored solution.

_DIGITS_AND_SPACES = re.compile(r"[\d\s]*")
_BEFORE_CLOSE = re.compile(r"(\d{16})\s*</answer>")
_ANYWHERE = re.compile(r"\b(\d{16})\b")
_END_TOKENS = ("<|eot_id|>", "<|endoftext|>")
_FENCE = "```"


def _grids(completion: str) -> Iterator[tuple[str | None, str]]:
    """(text that may be a grid, or None; how the text was found), in the order in which these texts are tried."""
    _, opened, inside = completion.partition("<answer>")
    yield (_fenced(inside) if opened else None), "a fenced grid behind <answer>"
    places = [inside.find(end) for end in (*_END_TOKENS, "</answer>")]
    ends = [place for place in places if place >= 0]
    yield (inside[: min(ends)] if ends else None), "the answer block"
    _, closed, behind = completion.partition("</answer>")
    for end in _END_TOKENS:
        behind = behind.partition(end)[0]
    yield (behind if closed else None), "what follows </answer>"
    for pattern, how in ((_BEFORE_CLOSE, "16 digits before </answer>"), (_ANYWHERE, "16 digits anywhere")):
        match = pattern.search(completion)
        yield (match[1] if match else None), how


def _fenced(text: str) -> str | None:
    """The first run of digits and spaces that has a fence of three backticks on either side; None if there is none."""
    fence = text.find(_FENCE)
    while fence >= 0:
        run = _DIGITS_AND_SPACES.match(text, fence + len(_FENCE))
        if run and run[0] and text.startswith(_FENCE, run.end()):
            return run[0]
        fence = text.find(_FENCE, fence + 1)
    return None


def judge_sudoku(completion: str, puzzle: str, solution: str) -> Finding:
    """How many empty cells equal the stored solution, in the first text that a pattern finds, cut to 16 characters."""
    for name, text in (("puzzle", puzzle), ("solution", solution)):
        if not (isinstance(text, str) and len(text) == _CELLS and text.isdecimal()):
            raise invalid_reference(name, text, "is not 16 digits, such as '0310200404001043'", index=None)
    blanks = [cell for cell in range(_CELLS) if puzzle[cell] == "0"]
    for text, how in _grids(completion):
        if text and text.strip():
            grid = "".join(text.split())
            # A slice, because the grid may be too short; a cell that it lacks is wrong.
            right = sum(grid[cell : cell + 1] == solution[cell] for cell in blanks)
            if len(grid) != _CELLS:
                how += ", cut" if len(grid) > _CELLS else ", filled up"
            return Finding(right, len(blanks), text.strip(), how)
    return Finding(right=0, of=len(blanks), extracted=None, how="nothing")


_JUDGES: dict[str, tuple[Callable[..., Finding], tuple[str, ...]]] = {
    "gsm8k": (judge_gsm8k, ("answer",)),
    "math": (judge_math500, ("answer",)),
    "math500": (judge_math500, ("answer",)),
    "countdown": (judge_countdown, ("numbers", "target")),
    "sudoku": (judge_sudoku, ("puzzle", "solution")),
}
"""{task: (the function that judges it, its reference fields)}."""
TASKS = tuple(_JUDGES)


def fields(task: str) -> tuple[str, ...]:
    """The reference fields that the rules need; raises ArgumentError for a task that they do not have."""
    if task not in _JUDGES:
        message = f'The rules of d1 have no task "{task}"; they have {", ".join(_JUDGES)}. Leave them out.'
        raise ArgumentError(message, argument="rules", value="d1")
    _, reference_fields = _JUDGES[task]
    return reference_fields


def judge(task: str, completion: object, reference: Mapping[str, Any]) -> Finding:
    """The finding on one completion; raises VerifierError for an unknown task and for an invalid reference."""
    values = [reference[name] for name in fields(task)]
    judge_of_task, _ = _JUDGES[task]
    return judge_of_task(as_text(completion) or "", *values)  # what is no text is judged as ""


def task_of(name: str) -> Task:
    """The rules for one task, as a `Task`."""

    def verify(completion: object, *, mode: str, **reference: Any) -> Verdict:
        if mode == "strict":
            message = 'rules="d1" has no strict mode, which is ours; leave mode= out.'
            raise ArgumentError(message, argument="mode", value=mode)
        return judge(name, completion, reference).verdict()

    return Task(name, fields(name), verify, optional=find(name).optional)
