r"""An answer without what stands around its value: marks of Markdown, the working before it, the name of what is asked.

Each answer is cleaned once, before it is read; words around a value are left to the reader of tokens.
"""

from __future__ import annotations

from verifiers.math500.reference import Reference
from verifiers.reading import markup
from verifiers.reading.problem import Problem
from verifiers.reading.tokens import with_price_marked


def cleaned(answer: str, gold: Reference, problem: Problem, lenient: bool) -> str:
    """The answer as it is read. In strict mode, only the formula that the problem asks for is taken off: `x+y = 5`."""
    if lenient:
        answer = markup.plain(markup.undoubled(answer) if "\\\\" in answer else answer)
    if "=" in answer and "=" not in gold.text:
        if behind := problem.text_behind_asked(answer):
            answer = f"\\text{{It}} = {behind}" if "=" in behind else behind
        if lenient and gold.is_one_value:
            answer = markup.last_result(answer) or answer
    if not lenient:
        return answer
    if "." in gold.text:
        answer = markup.without_approximation(answer)  # about 3.14
    if gold.is_money:
        answer = with_price_marked(answer)
    return markup.in_one_line(answer)
