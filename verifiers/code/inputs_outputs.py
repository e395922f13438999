"""Rows whose tests are inputs with outputs: of a function, or of a program that reads its standard input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from verifiers.code.values import read_cases

MAX_CHARACTERS = 8 << 20  # the most characters of all tests of a row
TOLERANCE = 1e-6  # how far a printed number with decimals may be off, as a fraction of it if it is above 1
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
"""The imports that a function may rely on, as on the sites from which such problems come."""
# The keys of the one-key objects by which `values` writes what JSON lacks.
TAGS = ("$tuple", "$set", "$dict", "$int", "$float", "$complex", "$other")


def read_inputs_outputs(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of `Published` of a row with `problem` and `tests`; None for a row without these columns.

    tests: {"inputs": [...], "outputs": [...]}, or the JSON text of such an object. With "fn_name", an input is the list
    of a function's arguments, and an output is the function's value; without "fn_name", both are texts, the standard
    input and output of a program. "shown": how many tests, from the first on, the problem shows. Further columns are
    `starter_code`, which the prompt shows, and `solution`. Raises ValueError, which says what the row has, for a row
    that cannot be judged.
    """
    if not {"problem", "tests"} <= row.keys():
        return None
    text, tests = row["problem"], row["tests"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("has no problem")
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"has tests that are no JSON: {tests!r:.40}") from error
    if not isinstance(tests, dict):
        tests = {}
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError("has tests that are no object with inputs and outputs, two lists of one length")
    name, starter = tests.get("fn_name") or "", str(row.get("starter_code") or "").rstrip()
    if not isinstance(name, str):
        raise ValueError(f"has fn_name {name!r:.40}, which is no text: it is a function's name")
    case_of = _case_of_call if name else _case_of_program
    cases = tuple(case_of(*pair) for pair in zip(inputs, outputs, strict=True))
    if not cases:
        raise ValueError("has no tests")
    shown = tests.get("shown") or 0
    if isinstance(shown, bool) or shown not in range(len(cases) + 1):
        raise ValueError(f"has shown {shown!r:.40}, which is no whole number from 0 to {len(cases)}")
    if (size := sum(len(repr(case)) for case in cases)) > MAX_CHARACTERS:
        raise ValueError(f"has tests of {size:,} characters, more than {MAX_CHARACTERS:,}")
    read_cases(cases)  # raises for a value that cannot be compared
    return {
        "entry_point": name,
        "prompt": text.strip() + (f"\n\nBegin with this code:\n{starter}" if starter else ""),
        "setup": SETUP if name else "",
        "reference": str(row.get("solution") or ""),
        "cases": cases,
        "num_shown": int(shown),
    }


def _case_of_program(text: Any, output: Any) -> dict[str, Any]:
    """A case of standard input; if the output has a number with decimals, numbers may differ by `TOLERANCE`."""
    if not isinstance(text, str) or not isinstance(output, str):
        raise ValueError(f"has an input or output that is no text: {text!r:.40}, {output!r:.40}")
    case = {"stdin": text, "expected": output}
    for word in output.split():
        if "." in word:
            with suppress(ValueError):
                float(word)
                return case | {"float_tolerance": TOLERANCE}
    return case


def _case_of_call(args: Any, expected: Any) -> dict[str, Any]:
    """A case of a function; JSON has no tuples, so a returned tuple counts as a list."""
    if not isinstance(args, list):
        raise ValueError(f"has the input {args!r:.40} of a function, which is no list of its arguments")
    if _is_tagged([args, expected]):
        raise ValueError("has an object whose one key begins with $, which stands for something else here")
    case = {"args": args, "expected": expected}
    return case | {"via": "list"} if isinstance(expected, list) else case


def _is_tagged(value: Any) -> bool:
    """True if a value holds an object whose one key is one of `TAGS`."""
    if isinstance(value, dict):
        return (len(value) == 1 and next(iter(value)) in TAGS) or any(map(_is_tagged, value.values()))
    return isinstance(value, list) and any(map(_is_tagged, value))
