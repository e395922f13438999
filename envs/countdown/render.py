"""A Countdown problem with its completion and verdict for the terminal, readable with colours and without."""

import ast
import operator
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from envs.core import Problem
from envs.countdown.rewards import read_numbers
from envs.terminal import painter

_MAX_LENGTH = 200  # characters of an answer; what is longer is cut, and not computed
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def render(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """Numbers and target, then what the completion wrote, its value, and which numbers it used.

    A used number stands in brackets, a missing one after a dot, one that was not given (or once too often) after an x.
    """
    paint = painter(color)
    numbers, target = problem.reference["numbers"], problem.reference["target"]
    head = paint("bold", f"numbers {' '.join(map(str, numbers))}   target {target}")
    if completion is None:
        return head
    from verifiers import verify

    verdict = verify("countdown", completion, numbers=numbers, target=target)
    if verdict.extracted is None:
        return f"{head}\nno expression in the answer ({verdict.reason})"
    answer = verdict.extracted.strip()
    value = compute(answer)
    shown = ascii(answer[:_MAX_LENGTH])[1:-1] + ("..." if len(answer) > _MAX_LENGTH else "")
    equals = f" = {value}" if value is not None else ""
    style, word = ("green", "right") if verdict.correct else ("red", f"wrong: {verdict.reason}")
    judged = paint(style, f"{shown}{equals}   ({word})")
    return f"{head}\n{judged}\n{_mark_numbers(paint, numbers, answer)}"


def compute(expression: str) -> Fraction | None:
    """The exact value of an expression of digits, + - * / and brackets; None if it is none, or a long one."""
    if len(expression) > _MAX_LENGTH or not set(expression) <= set("0123456789+-*/() "):
        return None
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Fraction:
    """The value of a parsed expression; raises ValueError for an operator that is not one of the four."""
    if isinstance(node, ast.Constant):
        return Fraction(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("not an expression of Countdown")


def _mark_numbers(paint: Callable[[str, str], str], numbers: list[int], answer: str) -> str:
    """Each given number as used or missing, then the numbers that were not to be used."""
    unmatched = Counter(read_numbers(answer))
    parts = []
    for number in map(str, numbers):
        used = unmatched[number] > 0
        unmatched[number] -= used
        parts.append(paint("green", f"({number})") if used else paint("dim", f".{number}"))
    extra = list(unmatched.elements())
    parts += [paint("red", f"x{number[:20]}") for number in extra[:20]]
    legend = "(n) used  .n missing" + ("  xn not given" if extra else "")
    return f"{' '.join(parts)}   {legend}"
