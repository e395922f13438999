"""A worked Countdown problem for the terminal, readable with colours and without."""

import ast
import os
from collections import Counter
from fractions import Fraction

from envs.core import Problem
from envs.countdown_score import read_numbers

_RESET = "\x1b[0m"
_COLORS = {"given": "\x1b[1m", "right": "\x1b[32m", "wrong": "\x1b[31m", "missing": "\x1b[2m"}
_SHOWN = 200  # characters of an answer; what is longer is cut, and not computed


def draw(problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
    """Numbers and target, then what the completion wrote, its value, and which numbers it used.

    A used number stands in brackets, a missing one after a dot, one that was not given (or once too often) after an
    x. color: None = coloured unless the environment variable NO_COLOR is set.
    """
    colored = "NO_COLOR" not in os.environ if color is None else color
    numbers, target = problem.reference["numbers"], problem.reference["target"]
    head = f"numbers {' '.join(map(str, numbers))}   target {target}"
    lines = [_paint("given", head, colored)]
    if completion is None:
        return lines[0]
    from verifiers import verify

    verdict = verify("countdown", completion, numbers=numbers, target=target)
    if verdict.extracted is None:
        return f"{lines[0]}\nno expression in the answer ({verdict.reason})"
    answer = verdict.extracted.strip()
    result = compute(answer)
    shown = ascii(answer[:_SHOWN])[1:-1] + ("..." if len(answer) > _SHOWN else "")
    equals = f" = {result}" if result is not None else ""
    note = "right" if verdict.correct else f"wrong: {verdict.reason}"
    lines.append(_paint("right" if verdict.correct else "wrong", f"{shown}{equals}   ({note})", colored))
    lines.append(_marks(numbers, answer, colored))
    return "\n".join(lines)


def compute(expression: str) -> Fraction | None:
    """The exact value of an expression of digits, + - * / and brackets; None if it is none, or a long one."""
    if len(expression) > _SHOWN or not set(expression) <= set("0123456789+-*/() "):
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
    if not isinstance(node, ast.BinOp):
        raise ValueError("no arithmetic")
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    if isinstance(node.op, ast.Div):
        return left / right
    raise ValueError("no operator of Countdown")


def _marks(numbers: list[int], answer: str, colored: bool) -> str:
    """Each given number as used or missing, then the numbers that were not to be used."""
    written = Counter(read_numbers(answer))
    parts = []
    for number in map(str, numbers):
        used = written[number] > 0
        written[number] -= used
        parts.append(
            _paint("right", f"({number})", colored) if used else _paint("missing", f".{number}", colored)
        )
    extra = [number for number, count in written.items() for _ in range(count)]
    parts += [_paint("wrong", f"x{number[:20]}", colored) for number in extra[:20]]
    legend = "(n) used  .n missing" + ("  xn not given" if extra else "")
    return f"{' '.join(parts)}   {legend}"


def _paint(kind: str, text: str, colored: bool) -> str:
    return f"{_COLORS[kind]}{text}{_RESET}" if colored else text
