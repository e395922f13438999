"""The task `code`: completions and their references, as jobs of worker processes."""

from __future__ import annotations

import ast
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from verifiers import batch
from verifiers.code import interpreter
from verifiers.code.program import imported, locate, reads_input, ways_to_run, without_prose
from verifiers.code.values import NOTHING, PRINTED, Case, arguments, plain_reply, python_source, read_cases
from verifiers.errors import invalid_reference
from verifiers.limit import deadline
from verifiers.verdicts import ERROR, GRAMMAR, MALFORMED, OK, PROBE, TEXT, TIMEOUT, Reason

if TYPE_CHECKING:
    from verifiers.worker import Workers

FUEL = 2 * 10**9  # the instructions that every program may use: a fifth of a second
TIMES_REFERENCE = 20  # how many times the reference's instructions a program may use, if these are known
# The time limit by the clock, in case the fuel does not end a program; 1 s per 10**9 instructions is added.
IDLE_SECONDS = 10.0
SHOWN_REPLY = 3000  # the most characters of a returned value that a model is told
SLOW_IMPORTS = ("matplotlib", "networkx", "pandas", "sklearn", "sympy")
"""Modules whose import alone takes more instructions than FUEL."""
_REQUIRED, _OPTIONAL = ("entry_point", "cases"), ("prompt", "reference_fuel")
FIELDS = _REQUIRED + _OPTIONAL
# A reply's outcome is a reason, from `judge`, or one of these texts, from `Workers.ask`.
_OUTCOMES = {"timeout": TIMEOUT, "error": ERROR}


@cache
def workers() -> Workers:
    """The processes in which programs are judged; each loads the interpreter in 0.4 s."""
    from verifiers.worker import Workers

    size = 1 if batch.MAX_THREADS == 1 else batch.cpus()
    # No soft limit, at which a worker itself would give up: fuel ends the programs.
    return Workers("verifiers.code.judge", size=size, soft=None, hard=IDLE_SECONDS)


@cache
def prepare() -> None:
    """Makes a worker ready; the interpreter is compiled if it is missing or cannot be loaded.

    Raises `InterpreterMissing`, which says what to install or what is in the way.
    """
    interpreter.prepare()
    # Taken before the trial: if another process makes the interpreter anew meanwhile, `make_anew` sees the difference.
    seen = interpreter.kept()
    problem, crashes = _start_problem()
    if problem:
        workers().close()
        interpreter.make_anew(seen, problem, crashes)
        problem, _ = _start_problem()
    if problem:
        message = f"The sealed interpreter in {interpreter.cache_folder()} cannot be loaded: {problem}"
        raise interpreter.InterpreterMissing(message, argument="task", value="code")


def _start_problem() -> tuple[str, bool]:
    """(why no worker starts, whether the worker crashed); ("", False) if one starts."""
    from verifiers.worker import WorkerUnavailable

    try:
        no_program: dict[str, Any] = {}  # such a job only asks whether the interpreter could be loaded
        reply = workers().ask(no_program)
    except WorkerUnavailable as error:
        return str(error), False
    crashed = reply["outcome"] == "error"
    return reply["detail"] if crashed else "", crashed


def run(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The replies of `judge` to the jobs, in order; logs a problem that keeps a job from being judged."""
    from verifiers.worker import WorkerUnavailable

    prepare()
    until = deadline()

    def ask(job: dict[str, Any]) -> dict[str, Any]:
        try:
            return workers().ask(job, until)
        except WorkerUnavailable as error:
            return {"outcome": "error", "detail": str(error)}

    with ThreadPoolExecutor(workers().size, thread_name_prefix="verifiers-code") as threads:
        replies = list(threads.map(ask, jobs))
    problem = next((reply["detail"] for reply in replies if reply["outcome"] == "error"), None)
    if problem is not None:
        logging.getLogger("verifiers").warning("code: some programs end as reason=error: %s", problem)
    return replies


def job_of(reference_fuel: int, **program: Any) -> dict[str, Any]:
    """A worker's job: the arguments of `judge`, and `hard`, the job's limit in seconds of processor time."""
    fuel = max(FUEL, TIMES_REFERENCE * reference_fuel)
    return {"program": {**program, "fuel": fuel}, "hard": IDLE_SECONDS + fuel / 1e9}


def first_failure(program: str, reference: dict[str, Any], shown: int) -> str:
    """A sentence on the first of the `shown` cases that a program fails, and on its result; "" if it fails none."""
    columns: list[list[Any] | None] = [[reference.get(name)] for name in FIELDS]
    ((entry, cases, prompt, fuel),) = _references(num_rows=1, columns=columns, row=None)
    if not (shown_cases := cases[:shown]):
        return ""
    ways = _ways(program, entry, prompt, lenient=True)
    # keep: the reply also has which cases are met, and the returned values.
    (reply,) = run([job_of(fuel, entry=entry, **ways, cases=shown_cases, lenient=True, keep=True)])
    # Sentences quote the cases as they were given. The program may have ended before it was called for each.
    outcomes = zip(reference["cases"], reply.get("met", ()), reply.get("replies", ()), strict=False)
    for case, met, text in outcomes:
        if met:
            continue
        if not entry:
            printed = plain_reply(text)
            result = "ends in an error" if printed is NOTHING else f"prints {printed!r:.100}"
            return f"With the input {case['stdin']!r:.200} the program {result}."
        args, kwargs = arguments(case)
        call = ", ".join(
            [*map(python_source, args), *(f"{name}={python_source(value)}" for name, value in kwargs.items())]
        )
        if len(text) > SHOWN_REPLY:
            result = "returns a long value"
        else:
            value = plain_reply(text)
            result = "returns no value" if value is NOTHING else f"returns {value!r:.100}"
        return f"{entry}({call:.200}) {result}."
    return ""


@lru_cache(4096)
def is_code(prompt: str) -> bool:
    """True if a prompt is Python, also if it ends behind the head of a function, as in HumanEval."""
    for text in (prompt, f"{prompt}\n    pass\n"):
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            ast.parse(text)
            return True
    return False


def _ways(text: str, entry: str, prompt: str, lenient: bool) -> dict[str, Any]:
    """Two arguments of `judge` for a text: `sources`, and `instead`, the lists to try in order if these do not compile.

    lenient: prose before the program may also be left out.
    """
    texts = [text, *(without_prose(text, entry) if lenient else ())]
    sources, *fallbacks = [way for program in texts for way in ways_to_run(program, entry, prompt, lenient)]
    return {"sources": sources, "instead": fallbacks}


def explain(extracted: str | None, reason: str, entry_point: str = "", **reference: Any) -> str:
    """A sentence on the fault of a program: which module it lacks, that its imports alone take too long, ..."""
    if reason == Reason.NO_ANSWER:
        return "The completion holds no program."
    if reason == Reason.MALFORMED:
        return "The program is no Python that compiles, or it is too long."
    if reason == Reason.WRONG and entry_point and reads_input(extracted or ""):
        return "The program reads input outside of its functions, and there is none: it ends before a call."
    names = imported(extracted or "")
    if reason == Reason.ERROR and (missing := [name for name in names if name not in interpreter.modules()]):
        return f"The program needs {', '.join(missing)}, which the sealed interpreter does not have."
    if reason == Reason.TIMEOUT and (long := [name for name in names if name in SLOW_IMPORTS]):
        return f"Importing {', '.join(long)} alone takes more instructions than a program may use."
    if reason == Reason.RULE_BROKEN:
        lacks = f"does not define {entry_point}, or " if entry_point else ""
        return f"The program {lacks}ends before its cases do."
    if reason == Reason.WRONG:
        what = f"{entry_point} returns another value" if entry_point else "The program prints something else"
        return f"{what} than a case, or ends in an error."
    return ""


def _references(num_rows: int, columns: list[list[Any] | None], row: int | None) -> list[tuple]:
    """(entry point, cases, prompt, fuel) of each row; a list of cases that rows share is read once.

    row: for a completion that is judged alone, the row that errors name; None if it has none.
    """
    cases_by_id: dict[int, list[Case]] = {}
    references = []
    full_columns = [column or [None] * num_rows for column in columns]
    for place, (entry, cases, prompt, fuel) in enumerate(zip(*full_columns, strict=True)):
        index = row if num_rows == 1 else place
        names = entry.split(".") if isinstance(entry, str) else []
        is_name = 1 <= len(names) <= 2 and all(map(str.isidentifier, names))
        is_whole_program = isinstance(entry, str) and entry == ""
        if not is_name and not is_whole_program:
            problem = "is no name of a function, such as 'add', or of a method, such as 'Solution.add'"
            raise invalid_reference("entry_point", entry, problem, index)
        if id(cases) not in cases_by_id:
            try:
                cases_by_id[id(cases)] = read_cases(cases)
            except (ValueError, TypeError, OverflowError) as error:
                problem = "" if isinstance(error, ValueError) else "has a value that cannot be read: "
                raise invalid_reference("cases", cases, f"{problem}{error}", index) from error
        if any((case.compare == PRINTED) != is_whole_program for case in cases_by_id[id(cases)]):
            problem = "does not go with its cases: those with `stdin` are of whole programs, whose entry_point is ''"
            raise invalid_reference("entry_point", entry, problem, index)
        if not isinstance(prompt, str | None):
            raise invalid_reference("prompt", prompt, "is no text; give the code that is gone on with", index)
        if prompt and not is_code(prompt):  # a sentence, as in MBPP: no code to go on with
            prompt = None
        if fuel is not None and (isinstance(fuel, bool) or not isinstance(fuel, int) or fuel < 0):
            raise invalid_reference("reference_fuel", fuel, "is no number of instructions", index)
        references.append((entry, cases_by_id[id(cases)], prompt or "", fuel or 0))
    return references


def _judge_all(
    texts: list[str], lenient: bool, *columns: list[Any] | None, row: int | None = None
) -> batch.Columns:
    """The columns of the verdicts on all texts. row: as for `_references`."""
    import numpy as np

    prepare()  # also if no text has a program, so that a missing package is reported at once
    references = _references(len(texts), [*columns], row)
    reasons, tiers = np.empty((2, len(texts)), np.int8)
    scores, spans = np.zeros(len(texts)), np.empty((len(texts), 2), np.int64)
    # A program that occurs several times in the batch is run once: {key of the program: its job}, {key: its places}.
    jobs: dict[tuple, dict[str, Any]] = {}
    places: dict[tuple, list[int]] = {}
    for place, (text, (entry, cases, prompt, fuel)) in enumerate(zip(texts, references, strict=True)):
        reason, start, end = locate(text, entry)
        reasons[place], tiers[place], spans[place] = reason, TEXT, batch.in_bytes(text, start, end)
        if reason == OK:
            ways = _ways(text[start:end], entry, prompt, lenient)
            key = (entry, id(cases), fuel, *ways["sources"])
            jobs.setdefault(key, job_of(fuel, entry=entry, **ways, cases=cases, lenient=lenient))
            places.setdefault(key, []).append(place)
    for key, reply in zip(places, run(list(jobs.values())) if jobs else (), strict=True):
        reason = _OUTCOMES.get(reply["outcome"], reply["outcome"])
        reasons[places[key]], scores[places[key]] = reason, reply.get("score", 0.0)
        tiers[places[key]] = GRAMMAR if reason == MALFORMED else PROBE
    return reasons, tiers, scores, spans


def _judge(text: str, lenient: bool, row: int | None, *reference: Any) -> batch.Judged:
    """The verdict on one completion."""
    columns = [None if value is None else [value] for value in reference]
    reasons, tiers, scores, spans = _judge_all([text], lenient, *columns, row=row)
    return int(reasons[0]), int(tiers[0]), float(scores[0]), *batch.in_characters(text, *spans[0].tolist())


TASK = replace(
    batch.text_task(
        "code", _REQUIRED, _judge, judge_all=_judge_all, optional=_OPTIONAL, marks_only=True, explain=explain
    ),
    prepare=prepare,
)
