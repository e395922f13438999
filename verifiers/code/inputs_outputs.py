"""Rows whose tests are inputs with outputs: APPS, TACO, LiveCodeBench, DeepCoder, PrimeIntellect's SYNTHETIC-1.

A test without a function's name is of a whole program, of its standard input and output. Nothing of a row is run here,
and a pickle, in which LiveCodeBench's release keeps its private tests, is never opened: who made it could run anything.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from verifiers.code.values import read_cases

LARGEST = 8 << 20  # characters of all tests of a row
TRIED = 10  # solutions of a row among which one that is Python 3 is looked for
TOLERANCE = 1e-6  # of outputs with decimals
PICKLED = (
    "has private_test_cases in a pickle, which is never opened. If you trust the file, open it yourself "
    "(pickle.loads(zlib.decompress(base64.b64decode(text)))), and write what it holds as JSON in that column"
)
SETUP = """\
import bisect, collections, functools, heapq, itertools, math, re, string
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from typing import *
from builtins import *
"""
"""What a function of these sets may take as imported, as on the sites that they come from."""
TAGS = ("$tuple", "$set", "$dict", "$int", "$float", "$complex", "$other")


def read_inputs_outputs(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of `Published` of a row; None for a row without the columns of these sets.

    Raises ValueError, which says what the row has, for one that cannot be judged.
    """
    if "question_content" in row:  # LiveCodeBench
        all_tests = [*_tests(row, "public_test_cases"), *_tests(row, "private_test_cases")]
        text, shows, entry = row["question_content"], len(_tests(row, "public_test_cases")), ""
        metadata = _parsed(row.get("metadata"), "metadata") or {}
        if any(_kind(test) == "functional" for test in all_tests):
            entry = metadata.get("func_name") or ""
            if not entry:
                raise ValueError("has tests of a function whose name its metadata does not say")
        pairs = [(test.get("input"), test.get("output")) for test in all_tests]
        made = [_case_by_lines(*pair) for pair in pairs] if entry else _programs(pairs)
    elif "input_output" in row:  # APPS, TACO
        text, shows = row.get("question"), 0
        entry, made = _columns(_parsed(row["input_output"], "input_output") or {})
    elif "tests" in row and "problem" in row:  # DeepCoder, PrimeIntellect
        text, shows = row["problem"], 0
        tests = _parsed(row["tests"], "tests")
        entry, made = _columns(tests) if isinstance(tests, dict) else _listed(tests)
    else:
        return None
    if not isinstance(text, str) or not text.strip():
        raise ValueError("has no question")
    if not made:
        raise ValueError("has no tests")
    if (size := sum(len(repr(case)) for case in made)) > LARGEST:
        raise ValueError(f"has tests of {size:,} characters, more than {LARGEST:,}")
    starter = str(row.get("starter_code") or "")
    reference = _solution(row.get("solutions"))
    method = entry and "class Solution" in (starter or reference)
    read_cases(made)  # raises for a value that cannot be compared
    return {
        "entry_point": f"Solution.{entry}" if method else entry,
        "prompt": f"{text.strip()}\n\nBegin with this code:\n{starter.rstrip()}"
        if starter.strip()
        else text.strip(),
        "setup": SETUP if entry else "",
        "reference": reference,
        "cases": tuple(made),
        "shows": shows,
    }


def _columns(tests: Any) -> tuple[str, list[dict[str, Any]]]:
    """(name of the function or "", cases) of {"inputs": [...], "outputs": [...], "fn_name": ...}."""
    if not isinstance(tests, dict):
        raise ValueError(f"has tests that are {type(tests).__name__}, no object with inputs and outputs")
    inputs, outputs = tests.get("inputs") or [], tests.get("outputs") or []
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("has inputs and outputs that are no two lists of one length")
    pairs = list(zip(inputs, outputs, strict=True))
    entry = str(tests.get("fn_name") or "")
    return entry, _calls(pairs) if entry else _programs(pairs)


def _listed(tests: Any) -> tuple[str, list[dict[str, Any]]]:
    """(name of the function or "", cases) of a list of {"input", "output"} with a type, and a name where it calls."""
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError("has tests that are no list of objects with input and output")
    names = {_name(test) for test in tests}
    if len(names) > 1:
        raise ValueError(
            f"has tests of several functions or programs ({', '.join(map(repr, sorted(names)))})"
        )
    pairs = [(test.get("input"), test.get("output")) for test in tests]
    entry = next(iter(names), "")
    if not entry:
        return "", _programs(pairs)
    by_lines = all(isinstance(inputs, str) for inputs, _ in pairs)  # as LiveCodeBench has them
    return entry, [_case_by_lines(*pair) for pair in pairs] if by_lines else _calls(pairs)


def _name(test: Mapping[str, Any]) -> str:
    """The function that a test calls, "" for a program."""
    if _kind(test) in ("stdin", "stdin_stdout"):
        return ""
    metadata = _parsed(test.get("metadata"), "metadata") or {}
    name = test.get("fn_name") or metadata.get("func_name") or ""
    if _kind(test) in ("functional", "function_call") and not name:
        raise ValueError("has a test of a function without its name")
    return str(name)


def _kind(test: Mapping[str, Any]) -> str:
    return str(test.get("testtype") or test.get("type") or "")


def _programs(pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Cases of standard input; a list, as APPS has some, is the lines of a text."""
    cases = []
    for inputs, output in pairs:
        texts = ["\n".join(map(str, one)) if isinstance(one, list) else one for one in (inputs, output)]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"has an input or output that is no text: {inputs!r:.40}, {output!r:.40}")
        case = {"stdin": texts[0], "expected": texts[1]}
        cases.append(case | ({"float_tolerance": TOLERANCE} if _has_decimals(texts[1]) else {}))
    return cases


def _has_decimals(text: str) -> bool:
    for word in text.split():
        if "." in word:
            with suppress(ValueError):
                float(word)
                return True
    return False


def _calls(pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Cases of a function; where every output is a list of one value, that is what is returned, as in APPS."""
    wrapped = all(isinstance(output, list) and len(output) == 1 for _, output in pairs)
    cases = []
    for inputs, output in pairs:
        if not isinstance(inputs, list):
            raise ValueError(f"has the input {inputs!r:.40} of a function, which is no list of its arguments")
        cases.append(_call(inputs, output[0] if wrapped else output))
    return cases


def _case_by_lines(inputs: Any, output: Any) -> dict[str, Any]:
    """A case of LiveCodeBench's: an argument a line, each as JSON, as is the output."""
    if not isinstance(inputs, str) or not isinstance(output, str):
        raise ValueError(f"has an input or output that is no text: {inputs!r:.40}, {output!r:.40}")
    lines = [line for line in inputs.split("\n") if line.strip()]
    return _call([_parsed_text(line, "an input") for line in lines], _parsed_text(output, "an output"))


def _call(args: list[Any], expected: Any) -> dict[str, Any]:
    """A case; JSON has no tuples, so one that is returned counts as a list."""
    for value in (args, expected):
        if _is_tagged(value):
            raise ValueError(
                "has an object whose one key begins with $, which stands for something else here"
            )
    return {"args": args, "expected": expected} | ({"via": "list"} if isinstance(expected, list) else {})


def _is_tagged(value: Any) -> bool:
    if isinstance(value, dict):
        return (len(value) == 1 and next(iter(value)) in TAGS) or any(map(_is_tagged, value.values()))
    return isinstance(value, list) and any(map(_is_tagged, value))


def _tests(row: Mapping[str, Any], column: str) -> list[Mapping[str, Any]]:
    tests = row.get(column)
    if column.startswith("private") and isinstance(tests, bytes):
        raise ValueError(PICKLED)
    if column.startswith("private") and isinstance(tests, str) and tests.strip()[:1] not in ("[", "{", ""):
        raise ValueError(PICKLED)
    tests = _parsed(tests, column) or []
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError(f"has {column} that are no list of objects with input and output")
    return tests


def _parsed(value: Any, column: str) -> Any:
    """A value, or what its JSON text holds; "" is nothing."""
    if not isinstance(value, str):
        return value
    return _parsed_text(value, column) if value.strip() else None


def _parsed_text(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has {what} that is no JSON: {text!r:.40}") from error


def _solution(solutions: Any) -> str:
    """The first solution that is Python 3, the first one where none is, "" where there are none."""
    if isinstance(solutions, str) and solutions.lstrip()[:1] in ("[", '"'):
        with suppress(ValueError):
            solutions = _parsed_text(solutions, "solutions")
    if isinstance(solutions, str):
        solutions = [solutions]
    texts = [text for text in solutions or () if isinstance(text, str) and text.strip()][:TRIED]
    texts = [_without_fence(text) for text in texts]
    for text in texts:
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            ast.parse(text)
            return text
    return texts[0] if texts else ""


def _without_fence(text: str) -> str:
    """A solution as DeepCoder has some, between ```python and ```."""
    lines = text.strip().split("\n")
    fenced = len(lines) > 2 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text
