"""Rows of published sets as references: their assertions become calls with expected values.

A test is Python, so it is not read but run, in a guest: every assertion of a known form is turned into a record of the
call, of what is expected and of how the two are compared; loops, helpers and the reference run as they stand.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from verifiers.code.task import job_of, run
from verifiers.code.values import NO_VALUE, built, read_cases, read_reply

_PRELUDE = """
import copy as _copy
_recorded, _lost = [], 0
def _record(*case):
    _recorded.append(_copy.deepcopy(case))
def _cases():
    return [_lost, _recorded]
"""
_VIEWS = ("set", "tuple")


class Published(NamedTuple):
    """What a row of a published set says; `tests` and `reference` are Python, "" for none."""

    entry_point: str
    prompt: str
    setup: str
    tests: str
    reference: str

    @property
    def shows_tests(self) -> bool:
        """If the prompt is a sentence, beside which the tests are shown, and no code to go on with."""
        return self.prompt != self.setup


def read_row(row: Mapping[str, Any]) -> Published:
    """A row with the columns of HumanEval, MBPP, KodCode or AceCode; raises ValueError for any other."""
    if "entry_point" in row and "test" in row:  # HumanEval
        setup, tests = str(row["prompt"]), f"{row['test']}\ncheck({row['entry_point']})"
        return Published(
            row["entry_point"], setup, setup, tests, setup + str(row.get("canonical_solution") or "")
        )
    listed = row.get("test_list") or row.get("test_cases")
    text = next((row[name] for name in ("text", "prompt", "question") if isinstance(row.get(name), str)), "")
    if listed:  # MBPP, AceCode
        imports = row.get("test_setup_code") or row.get("test_imports") or ""
        setup = imports if isinstance(imports, str) else "\n".join(imports)
        tests = "\n".join(listed)
        return Published(called(tests), text, setup, tests, str(row.get("code") or ""))
    if isinstance(row.get("test"), str):  # KodCode
        names = [info["function_name"] for info in row.get("test_info") or [] if info.get("function_name")]
        entry = names[0] if names else called(row["test"])
        return Published(entry, text, "", row["test"], str(row.get("solution") or ""))
    raise ValueError("has no tests: test, test_list or test_cases")


@lru_cache(1024)
def reference_of(row: str) -> dict[str, Any]:
    """The fields of `verify("code", ...)` of a row, given as JSON; None for each where its tests are not all calls."""
    try:
        read = read_row(json.loads(row))
    except (ValueError, TypeError, KeyError):
        return dict.fromkeys(("entry_point", "cases", "prompt"))
    ((cases, lost),) = cases_of([read])
    return {"entry_point": read.entry_point, "cases": None if lost else cases, "prompt": read.setup}


def called(tests: str) -> str:
    """The name of the function that the first assertion calls, "" where there is none."""
    built_in = {*_VIEWS, "abs", "sorted", "list", "len", "all", "any", "round", "str", "int", "float"}
    try:
        found = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Assert)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    names = (
        n.func.id
        for node in found
        for n in ast.walk(node)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    )
    return next((name for name in names if name not in built_in), "")


def cases_of(rows: Sequence[Published]) -> list[tuple[list[dict[str, Any]], int]]:
    """The different cases of each row, and how many of its assertions are none; judged side by side in guests."""
    jobs, replies = {}, {}
    for place, row in enumerate(rows):
        try:
            sources = [row.setup, row.reference, _PRELUDE, recording(row.tests, row.entry_point)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        jobs[place] = {**job_of("_cases", sources, read_cases([{"expected": []}]), True, 10**9), "keep": True}
    for place, reply in zip(jobs, run(list(jobs.values())) if jobs else (), strict=True):
        replies[place] = read_reply(reply["replies"][0].encode()) if reply.get("replies") else None
    return [_read_cases(replies.get(place)) for place in range(len(rows))]


def _read_cases(recorded: Any) -> tuple[list[dict[str, Any]], int]:
    if not isinstance(recorded, list):
        return [], 1
    lost, cases = built(recorded[0]), {}
    for record in recorded[1]:
        try:
            compare, view, rel, absolute, expected, args, kwargs = built(record)
        except NO_VALUE:
            lost += 1  # a value that is no plain data
            continue
        case = {"args": list(args), "expected": expected}
        more = {"kwargs": kwargs, "compare": compare, "via": view, "rel": rel, "abs": absolute}
        case |= {
            name: value for name, value in more.items() if value not in ("", "equal", None) and value != {}
        }
        cases.setdefault(repr(case), case)
    return list(cases.values()), lost


def recording(tests: str, entry: str) -> str:
    """The tests with a record in the place of each assertion; functions called `test...` are called."""
    body = []
    for statement in _Recorder(entry).visit(ast.parse(tests)).body:
        body.append(statement)
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test"):
            body.append(ast.parse(f"{statement.name}()").body[0])
    guarded = [
        ast.Try([one], ast.parse("try: pass\nexcept Exception: _lost += 1").body[0].handlers, [], [])
        for one in body
    ]
    return ast.unparse(ast.fix_missing_locations(ast.Module(guarded, [])))


class _Recorder(ast.NodeTransformer):
    """Turns assertions on calls of `entry` into records of them."""

    def __init__(self, entry: str) -> None:
        self.names = (entry, "candidate")

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        tests = (
            node.test.values
            if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And)
            else [node.test]
        )
        return [self._statement(test) for test in tests if not isinstance(test, ast.Constant)] or [ast.Pass()]

    def _statement(self, test: ast.expr) -> ast.stmt:
        form = self._form(test)
        if form is None:
            return ast.parse("globals()['_lost'] = _lost + 1").body[0]
        call, expected, compare, view, rel, absolute = form
        record = ast.parse(f"_record({compare!r}, {view!r}, {rel}, {absolute}, {expected}, (), {{}})").body[0]
        record.value.args[5] = ast.Tuple(call.args, ast.Load())
        record.value.args[6] = ast.Call(ast.Name("dict", ast.Load()), [], call.keywords)
        return record

    def _form(self, test: ast.expr) -> tuple[ast.Call, str, str, str, str, str] | None:
        """(call, expected, compare, view, rel, abs), the last four but one as source; None for no known form."""
        if call := self._call(test):
            return call, "None", "truthy", "", "None", "None"
        if (
            isinstance(test, ast.UnaryOp)
            and isinstance(test.op, ast.Not)
            and (call := self._call(test.operand))
        ):
            return call, "None", "falsy", "", "None", "None"
        if (
            isinstance(test, ast.Call)
            and ast.unparse(test.func) in ("math.isclose", "isclose")
            and len(test.args) > 1
        ):
            given = {word.arg: ast.unparse(word.value) for word in test.keywords}
            if call := self._call(test.args[0]):
                tolerances = given.get("rel_tol", "1e-9"), given.get("abs_tol", "0.0")
                return call, ast.unparse(test.args[1]), "close", "", *tolerances
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            return None
        left, right = test.left, test.comparators[0]
        if (
            isinstance(test.ops[0], ast.Lt | ast.LtE)
            and ast.unparse(left).startswith("abs(")
            and len(left.args) == 1
        ):
            inside = left.args[0]
            if isinstance(inside, ast.BinOp) and isinstance(inside.op, ast.Sub):
                for one, other in ((inside.left, inside.right), (inside.right, inside.left)):
                    if call := self._call(one):
                        return call, ast.unparse(other), "close", "", "0.0", ast.unparse(right)
        if isinstance(test.ops[0], ast.Eq | ast.Is):
            for one, other in ((left, right), (right, left)):
                if call := self._call(one):
                    return call, ast.unparse(other), "equal", "", "None", "None"
                seen = isinstance(one, ast.Call) and ast.unparse(one.func) in _VIEWS and len(one.args) == 1
                if seen and (call := self._call(one.args[0])):
                    return call, ast.unparse(other), "equal", ast.unparse(one.func), "None", "None"
        return None

    def _call(self, node: ast.expr) -> ast.Call | None:
        """The node, if it calls the function."""
        mine = isinstance(node, ast.Call) and ast.unparse(node.func) in self.names
        return node if mine and not any(isinstance(arg, ast.Starred) for arg in node.args) else None
