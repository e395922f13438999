"""The worker of the computer algebra tier; its replies also say what sympy evaluated behind the guard."""

from collections.abc import Callable

from verifiers.math500 import cas_worker
from verifiers.worker import serve

evaluated: list[str] = []


def prepare() -> Callable[[dict], dict]:
    from sympy.parsing import sympy_parser

    original = sympy_parser.eval_expr

    def recording(code: str, local_dict: dict, global_dict: dict) -> object:
        evaluated.append(code)
        return original(code, local_dict, global_dict)

    sympy_parser.eval_expr = recording
    answer = cas_worker.prepare()

    def recorded(job: dict) -> dict:
        evaluated.clear()
        return {**answer(job), "evaluated": list(evaluated)}

    return recorded


def main() -> None:
    serve(prepare, cas_worker.MEMORY)
