"""Rows of published sets as references: their assertions become calls with expected values.

A test is Python, so it is run in a guest instead of being parsed into cases. Every assertion of a known form is turned
into a record of the call, of the expected value, and of their comparison; loops, helpers and the reference run as they
are.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from verifiers.code.inputs_outputs import read_inputs_outputs
from verifiers.code.task import job_of, run
from verifiers.code.values import VIEWS, plain, python_source, read_cases, read_reply

# Runs before the tests. `_recorded` has the records, and `_lost` counts the assertions of which there is none.
_PRELUDE = """
import copy as _copy
_recorded, _lost = [], 0
def _record(*case):
    _recorded.append(_copy.deepcopy(case))
def _cases():
    return [_lost, _recorded]
"""


class Published(NamedTuple):
    """A row of a published set; `tests` and `reference` are Python, "" for none.

    `entry_point`: the function that is tested; "" for a whole program. `setup`: the code before a program, such as
    imports; for HumanEval it is the prompt. `shown_tests`: the tests that the prompt shows; "" if the prompt is code to
    be continued. `around`: for an infilling, the code before and behind the missing part; the reference is then the
    whole program. `split`: the split under which the set is published; "" if the row does not say. `cases`: the tests,
    if they are inputs with outputs. `num_shown`: how many of these cases the prompt shows.
    """

    entry_point: str
    prompt: str
    setup: str
    tests: str = ""
    shown_tests: str = ""
    reference: str = ""
    around: tuple[str, str] | None = None
    split: str = ""
    cases: tuple[dict[str, Any], ...] = ()
    num_shown: int = 0


def read_row(row: Mapping[str, Any]) -> Published:
    """Reads a row with the columns of HumanEval, HumanEval-infilling, MBPP, KodCode, AceCode or `inputs_outputs`.

    Raises ValueError for any other row.
    """
    if fields := read_inputs_outputs(row):
        return Published(**fields)
    if isinstance(row.get("suffix"), str) and "entry_point" in row and "test" in row:  # HumanEval-infilling
        entry, missing = row["entry_point"], str(row["canonical_solution"])
        middle = missing.rstrip("\n")  # line breaks at its end belong to the code behind the missing part
        before, behind = str(row["prompt"]), missing[len(middle) :] + row["suffix"]
        if "[MASK" in before + behind:
            raise ValueError("has a program with '[MASK' in it, which is how a hole is written")
        split = "test" if "HumanEval/" in str(row.get("task_id")) else ""
        tests, program = f"{row['test']}\ncheck({entry})", before + middle + behind
        around = before, behind
        return Published(entry, before, setup="", tests=tests, reference=program, around=around, split=split)
    if "entry_point" in row and "test" in row:  # HumanEval
        prompt, entry = str(row["prompt"]), row["entry_point"]
        reference = prompt + str(row.get("canonical_solution") or "")
        tests = f"{row['test']}\ncheck({entry})"
        return Published(entry, prompt, setup=prompt, tests=tests, reference=reference)
    listed = row.get("test_list") or row.get("test_cases")
    text = next((row[name] for name in ("text", "prompt", "question") if isinstance(row.get(name), str)), "")
    if listed:  # MBPP, AceCode
        imports = row.get("test_setup_code") or row.get("test_imports") or ""
        setup = imports if isinstance(imports, str) else "\n".join(imports)
        tests, shown = "\n".join(listed), "\n".join(listed[:3])  # three, as in lm-evaluation-harness
        reference = str(row.get("code") or "")
        return Published(called(tests), text, setup, tests, shown_tests=shown, reference=reference)
    if isinstance(row.get("test"), str):  # KodCode
        names = [info["function_name"] for info in row.get("test_info") or [] if info.get("function_name")]
        entry = names[0] if names else called(row["test"])
        tests, reference = row["test"], str(row.get("solution") or "")
        return Published(entry, text, setup="", tests=tests, shown_tests=tests, reference=reference)
    raise ValueError("has no tests: test, test_list or test_cases, or problem and tests")


@lru_cache(1024)
def reference_of(row: str) -> dict[str, Any]:
    """The fields of `verify("code", ...)` for a row given as JSON.

    If not all tests are calls, `cases` is None. If the row cannot be read, all fields are None.
    """
    try:
        read = read_row(json.loads(row))
    except (ValueError, TypeError, KeyError):
        return dict.fromkeys(("entry_point", "cases", "prompt"))
    ((cases, other_tests),) = cases_of([read])
    # The field `prompt` is the code before a completion: the setup, which is the row's own prompt for HumanEval.
    return {"entry_point": read.entry_point, "cases": None if other_tests else cases, "prompt": read.setup}


def called(tests: str) -> str:
    """The name of the first function that an assertion calls, apart from built-in ones; "" if none calls one."""
    built_in = {*VIEWS, "abs", "sorted", "list", "len", "all", "any", "round", "str", "int", "float"}
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for test in (node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Assert)):
            for node in ast.walk(test):
                match node:
                    case ast.Call(ast.Name(name)) if name not in built_in:
                        return name
    return ""


def cases_of(rows: Sequence[Published]) -> list[tuple[list[dict[str, Any]], int]]:
    """(the distinct cases, how many assertions are no cases) of each row; the tests run in guests, in parallel."""
    jobs, replies = {}, {}  # by the place of a row
    for place, row in enumerate(rows):
        if row.cases:
            continue
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            sources = [row.setup, row.reference, _PRELUDE, recording_tests(row.tests, row.entry_point)]
            jobs[place] = job_of_calls(sources, "_cases", [{"args": []}])
    replies_to_jobs = run(list(jobs.values())) if jobs else []
    for place, reply in zip(jobs, replies_to_jobs, strict=True):
        replies[place] = read_reply("".join(reply.get("replies", ())))
    return [
        (list(row.cases), 0) if row.cases else _read_cases(replies.get(place))
        for place, row in enumerate(rows)
    ]


def job_of_calls(sources: list[str], entry: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The job of a worker that runs trusted code and reports what `entry` returns for each of the calls."""
    cases = read_cases([{"expected": None, **call} for call in calls])
    # Trusted code gets as much fuel as a judged program whose reference used 10**9 instructions. `keep`: the returned
    # values are reported. Nobody looks at whether they meet the cases, so `lenient` changes nothing.
    return job_of(10**9, entry=entry, sources=sources, cases=cases, lenient=True, keep=True)


def _read_cases(recorded: Any) -> tuple[list[dict[str, Any]], int]:
    """(the distinct cases, how many assertions are no cases) from what `_cases` of the prelude returned.

    recorded: no list if the tests could not be run, which counts as one assertion that is no case.
    """
    if not isinstance(recorded, list):
        return [], 1
    other_tests, records = recorded
    cases: dict[str, dict[str, Any]] = {}
    for record in records:
        try:
            compare, via, rel, absolute, expected, args, kwargs = plain(record)
        except TypeError:
            other_tests += 1  # the record has a value that is not plain data
            continue
        case = {"args": list(args), "expected": expected}
        more = {"kwargs": kwargs, "compare": compare, "via": via, "rel": rel, "abs": absolute}
        # A field that has its default is left out.
        case |= {name: value for name, value in more.items() if value not in ("", "equal", None, {})}
        cases.setdefault(python_source(case), case)
    return list(cases.values()), other_tests


def recording_tests(tests: str, entry: str) -> str:
    """The tests with calls of `_record` in place of assertions, and a call behind each function named `test...`."""
    body = []
    for statement in _Recorder(entry).visit(ast.parse(tests)).body:
        body.append(statement)
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test"):
            body.append(ast.parse(f"{statement.name}()").body[0])
    # `_lost` also counts the statements that raise.
    handlers = ast.parse("try: pass\nexcept Exception: _lost += 1").body[0].handlers
    guarded = [ast.Try([statement], handlers, [], []) for statement in body]
    return ast.unparse(ast.fix_missing_locations(ast.Module(guarded, [])))


class _Form(NamedTuple):
    """A test: its call, and the fields of its case, which `values.Case` explains.

    `expected`, `rel` and `absolute` are Python source. `via`: "set" or "tuple", to which the test converts the result
    of the call before it compares; "" for neither.
    """

    call: ast.Call
    compare: str
    expected: str = "None"
    via: str = ""
    rel: str = "None"
    absolute: str = "None"


class _Recorder(ast.NodeTransformer):
    """Replaces each assertion on a call of `entry` by a call of `_record`."""

    def __init__(self, entry: str) -> None:
        self.names = (entry, "candidate")  # HumanEval's tests call the function "candidate"

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        """A statement for each test in an assertion, which may join several with `and`; a constant is no test."""
        is_joined = isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And)
        tests = node.test.values if is_joined else [node.test]
        return [self._record(test) for test in tests if not isinstance(test, ast.Constant)] or [ast.Pass()]

    def _record(self, test: ast.expr) -> ast.stmt:
        """The statement that records a test; a test of unknown form is counted as lost."""
        form = self._form(test)
        if form is None:
            return ast.parse("globals()['_lost'] = _lost + 1").body[0]
        args = ast.unparse(ast.Tuple(form.call.args, ast.Load()))
        kwargs = ast.unparse(ast.Call(ast.Name("dict"), [], form.call.keywords))
        comparison = f"{form.compare!r}, {form.via!r}, {form.rel}, {form.absolute}"
        return ast.parse(f"_record({comparison}, {form.expected}, {args}, {kwargs})").body[0]

    def _form(self, test: ast.expr) -> _Form | None:
        """What a test compares; None for a test of unknown form."""
        match test:
            case ast.Call() if self._calls(test):
                return _Form(test, "truthy")
            case ast.UnaryOp(ast.Not(), call) if self._calls(call):
                return _Form(call, "falsy")
            case ast.Call(ast.Name("isclose") | ast.Attribute(attr="isclose"), [call, expected], words):
                if self._calls(call):
                    keywords = {word.arg: ast.unparse(word.value) for word in words}
                    rel, absolute = keywords.get("rel_tol", "1e-9"), keywords.get("abs_tol", "0.0")
                    return _Form(call, "close", ast.unparse(expected), rel=rel, absolute=absolute)
            case ast.Compare(
                ast.Call(ast.Name("abs"), [ast.BinOp(one, ast.Sub(), other)]), [ast.Lt() | ast.LtE()], [limit]
            ):
                for call, expected in ((one, other), (other, one)):
                    if self._calls(call):
                        absolute = ast.unparse(limit)
                        return _Form(call, "close", ast.unparse(expected), rel="0.0", absolute=absolute)
            case ast.Compare(one, [ast.Eq() | ast.Is()], [other]):
                for call, expected in ((one, other), (other, one)):
                    if self._calls(call):
                        return _Form(call, "equal", ast.unparse(expected))
                    match call:
                        case ast.Call(ast.Name("set" | "tuple" as via), [inside]) if self._calls(inside):
                            return _Form(inside, "equal", ast.unparse(expected), via=via)
        return None

    def _calls(self, node: ast.expr) -> bool:
        """True if a node is a call of the tested function."""
        match node:
            case ast.Call(ast.Name(name), args):
                return name in self.names and not any(isinstance(arg, ast.Starred) for arg in args)
        return False
