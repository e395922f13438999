"""The process of the last tier: are these two LaTeX texts equal?

sympy evaluates text as Python code in one place. Here that place takes numeric literals alone, whoever calls
it, and no code that runs in this process may start a program or open a connection.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from verifiers.worker import Unavailable, serve

MEMORY = 1 << 30  # bytes
_LITERALS = frozenset("Integer Float Rational".split())
_REFUSED_EVENTS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.startfile", "subprocess.Popen",
    "pty.spawn", "socket.connect", "socket.bind", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree",
)  # fmt: skip
_WARM_UP = (
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"-\frac{\sqrt{3}}{2}x^{2}", "(x+1)(x-1)"),
    ("(1,2]", r"[0,\infty)"),
    ("2x - y = 0", r"\left(\frac{1}{x}\right)^2"),
)


class NotALiteral(Exception):
    """sympy was about to evaluate something other than a number."""


def is_numeric_literal(code: str) -> bool:
    """True for what sympy makes of a number in a text: `Integer (2 )`, `Float ('0.5' )`, or one over another."""
    return all(map(_is_number, code.split("/", 1)))


def _is_number(code: str) -> bool:
    name, _, rest = code.strip().partition("(")
    inside = rest[:-1].strip().strip("'\"") if rest.endswith(")") else ""
    return (
        name.strip() in _LITERALS
        and any("0" <= c <= "9" for c in inside)
        and all(c in "0123456789.,eE+- " for c in inside)
    )


def guard_evaluation() -> None:
    """Let sympy's evaluation of text see numeric literals only."""
    from sympy.parsing import sympy_parser

    original = sympy_parser.eval_expr

    def evaluate_literal(code: str, local_dict: dict, global_dict: dict) -> object:
        if not is_numeric_literal(code):
            raise NotALiteral(code[:100])
        return original(code, local_dict, global_dict)

    sympy_parser.eval_expr = evaluate_literal


def guard_system() -> None:
    """From here on this process starts no program, opens no connection and removes no file."""

    def hook(event: str, _: tuple) -> None:
        if event in _REFUSED_EVENTS:
            raise PermissionError(f"{event} in a verifier's worker")

    sys.addaudithook(hook)


def prepare() -> Callable[[dict], dict]:
    """Import what judges a pair, and return it."""
    try:
        import sympy
    except ImportError as error:
        raise Unavailable(_missing("sympy", error)) from error
    try:
        import sympy.physics.units  # names its units by evaluating text, and simplify imports it

        from verifiers.math500 import sympy_compare, sympy_reader

        sympy_reader.check_reader()
        for answer, gold in _WARM_UP:  # both packages load and learn their parts on first use
            sympy_compare.judge(answer, gold)
        sympy.simplify(sympy.sin(sympy.Symbol("x")) ** 2)
        guard_evaluation()
    except ImportError as error:
        raise Unavailable(_missing("math-verify", error)) from error
    except sympy_reader.Unreadable as error:
        raise Unavailable(
            f"this version of math-verify cannot be used ({error}); run: pip install 'math-verify==0.9.0'"
        ) from error
    guard_system()

    def answer(job: dict) -> dict:
        outcome, detail = sympy_compare.judge(job["answer"], job["gold"])
        return {"outcome": outcome, "detail": detail}

    return answer


def _missing(package: str, error: ImportError) -> str:
    return f"{package} cannot be imported ({error}); run: pip install sympy math-verify"


def main() -> None:
    serve(prepare, MEMORY)
