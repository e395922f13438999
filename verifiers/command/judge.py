"""Judges blocks of lines, in this process or in workers: a verdict for each sample, a reason for each other line."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType
from typing import Any, NamedTuple

from verifiers import batch, d1
from verifiers.command.fields import Fields
from verifiers.command.read import (
    LacksField,
    as_text,
    columns_of,
    completions_in,
    integers_in,
    puzzle_in,
    read_sample,
)
from verifiers.errors import LineError, VerifierError, text_of_one
from verifiers.files import Block, read_line
from verifiers.references import ROWS_READ
from verifiers.registry import Mode, find, own_files, tasks_of_file, verify_batch
from verifiers.reward import unwrap
from verifiers.rule_comparison import compared
from verifiers.verdicts import DETAILS, RULES, Reason

SHOWN_CHARACTERS = 100  # characters that are shown of a completion without an answer
EXAMPLES = 3  # how many completions without an answer, or references compared as text, are shown
MAX_TRIED = 64  # in how many completions of a block without an answer mode `flexible` looks for one
MEMORY = None  # the address space of a worker has no limit
UNREAD_PROMPT = (
    'is malformed, and its column "prompt" has the head of the function, which was not read: if completions go on '
    "with it, give --answer-field prompt=prompt."
)
NO_COMPLETION = "has no completion (null, or an empty list); it counts as malformed."
_NULL_FIELDS = (
    '"correct": null, "score": null, "extracted": null, "reason": null, "decided_by": null, "mark": null'
)
_ENCODER = json.JSONEncoder()
NOT_FOUND = "No answer was found where this mode looks for one."
_AHEAD = 2  # blocks under way for each worker


def _field_of_row(field: str, value: Any) -> Any:
    """The reference `field` of the task `code`: `value` or, if this is a row of a published set, the row's `field`."""
    if not isinstance(value, dict):
        return value
    from verifiers.code.published import reference_of

    return reference_of(json.dumps(value, sort_keys=True))[field]


# {reference that a file may have in another form: the function that converts it}.
_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "problem": partial(unwrap, role="user"),
    "numbers": integers_in,
    **{field: partial(_field_of_row, field) for field in ("entry_point", "cases", "prompt")},
    "puzzle": puzzle_in,
}

# (correct, score, extracted, reason, decided_by, mark, detail), or a text on why there is no verdict.
Outcome = tuple[bool, float, str | None, str, str, str | None, str] | str


class Job(NamedTuple):
    """What to do with every line."""

    task: str
    mode: Mode
    fields: Fields
    settings: tuple[tuple[str, str], ...] = ()
    """(setting of the task, its value for all lines), for each setting that is no column."""
    rules: str | None = None
    """Other rules, such as "d1", whose verdicts are written beside ours; None for none."""
    keep: tuple[str, ...] = ()
    """Columns that are written beside the verdict, if a line has them."""
    by: str = ""
    """The column by whose values right completions are counted; "" for none."""


class Judged(NamedTuple):
    """The result of judging a block.

    Attributes:
        label: the file, as in `Block`.
        output: a line of JSON for each completion, and for each line that has no verdict.
        tally: counts of `judged`, `correct`, `invalid`, `score` (a sum), and of `reasons.ok`, `tiers.text`, ...;
            `lists.3/4` is the number of lines that have a list of 4 completions, 3 of them right;
            `by.level.2` and `right_by.level.2` are completions, and right ones, of lines whose column `level` is 2;
            counts by other rules have `compared`'s names; `columns.level` is the number of blocks with this column.
        problems: {fault of lines: the numbers of these lines}.
        kinds: {fault that names a value of its line: the fault without the value, which is the same for other lines}.
        examples: the first few ends of completions in which no answer was found (`unanswered`), and of those of them in
            which mode `flexible` finds an answer (`unmarked`).
        references, places: what `how_read` takes, of the judged lines; empty for blocks behind the first ROWS_READ
            lines.
    """

    label: str
    output: str
    tally: dict[str, float]
    problems: dict[str, list[int]]
    kinds: Mapping[str, str] = MappingProxyType({})
    examples: Mapping[str, list[str]] = MappingProxyType({})
    references: Mapping[str, list[Any]] = MappingProxyType({})
    places: Sequence[str] = ()


class _Item(NamedTuple):
    """A line of the output before it is judged. place: of the completion in its line's list, from 1 on; 0: no list."""

    number: int
    place: int
    kept: Mapping[str, Any]
    error: str


def judge_block(job: Job, block: Block) -> Judged:
    """Judges every line of a block; a fault of a line does not affect other lines."""
    items: list[_Item] = []
    completions: list[object] = []
    references: dict[str, list[Any]] = {name: [] for name in job.fields.references}
    problems: dict[str, list[int]] = {}
    kinds: dict[str, str] = {}
    wanted = job.fields.names()
    columns_to_keep = [*job.keep, job.by] if job.by else job.keep
    columns_seen: set[str] = (
        set()
    )  # all columns of the block's first line, and the kept columns of the others
    with_unread_prompt: set[int] = set()  # numbers of lines with a prompt of code that no flag names
    for number, line in zip(block.numbers, block.lines, strict=True):
        kept: Mapping[str, Any] = {}
        try:
            sample = read_line(line)
            kept = columns_of(sample, columns_to_keep)
            columns_seen.update(kept if columns_seen else sample, kept)
            value, *values = read_sample(sample, wanted)
        except LineError as error:
            advice = f" {job.fields.advice(error.places)}" if isinstance(error, LacksField) else ""
            if error.kind:
                kinds[str(error)] = error.kind
            columns_seen.update(error.columns)
            items.append(_Item(number, 0, kept or error.columns, f"{error}{advice}"))
            continue
        if value is None or value == []:
            problems.setdefault(NO_COMPLETION, []).append(number)
        if _has_unread_prompt(job, sample):
            with_unread_prompt.add(number)
        of_line = [value] if type(value) is str else completions_in(value)
        for place, completion in enumerate(of_line, 1):
            items.append(_Item(number, place if len(of_line) > 1 else 0, kept, ""))
            completions.append(completion)
            for (name, column), reference in zip(references.items(), values, strict=True):
                column.append(_CONVERTERS[name](reference) if name in _CONVERTERS else reference)
    # First the other rules, because `_findings` removes the references that only these rules need.
    findings = _findings(job, completions, references)
    references |= {name: [value] * len(completions) for name, value in job.settings}
    outcomes = _judge(job, completions, references)
    judged = _lines_and_counts(job, block.label, items, iter(outcomes), iter(findings))
    reasons = [None if isinstance(outcome, str) else outcome[3] for outcome in outcomes]
    judged.problems.update(problems)
    numbers = [item.number for item in items if not item.error]  # of the completions
    if with_unread_prompt:
        malformed = {n for n, reason in zip(numbers, reasons, strict=True) if reason == Reason.MALFORMED}
        if lines := sorted(malformed & with_unread_prompt):
            judged.problems[UNREAD_PROMPT] = lines
    unanswered = [index for index, reason in enumerate(reasons) if reason == Reason.NO_ANSWER]
    judged.tally.update(
        {f"columns.{name}": 1 for name in columns_seen},
        unit=_count_units_refused(job, references, outcomes),
        thinking=sum(_thinks_to_its_end(completions[index]) for index in unanswered),
    )
    examples = {
        "unanswered": [_end_of(completions[index]) for index in unanswered[:EXAMPLES]],
        "unmarked": _readable(job, completions, references, unanswered[:MAX_TRIED]),
    }
    label = f"{block.label}, " if block.label else ""
    places = {
        row: f"{label}line {numbers[row]}"
        for row, reason in enumerate(reasons)
        if block.numbers[0] <= ROWS_READ and reason and (not row or numbers[row] != numbers[row - 1])
    }
    read = {name: [column[row] for row in places] for name, column in references.items()}
    return judged._replace(kinds=kinds, examples=examples, references=read, places=list(places.values()))


def _count_units_refused(job: Job, references: dict[str, list[Any]], outcomes: Iterable[Outcome]) -> int:
    """How many answers of MATH are wrong only for their unit, which the problem neither asks for nor has."""
    if find(job.task).name != "math500" or "problem" not in references:
        return 0
    from verifiers.math500.task import is_refused_for_unit

    columns = zip(references["answer"], references["problem"], outcomes, strict=True)
    return sum(
        is_refused_for_unit(outcome[2], answer, problem)
        for answer, problem, outcome in columns
        if not isinstance(outcome, str) and outcome[3] == Reason.WRONG and outcome[2] and problem
    )


def _thinks_to_its_end(completion: object) -> bool:
    """True if a completion opens a block of thinking that never ends."""
    from verifiers.reading.answer import regions

    return isinstance(completion, str) and regions(completion).unended >= 0


def _readable(
    job: Job, completions: list[object], references: dict[str, list[Any]], rows: list[int]
) -> list[str]:
    """The ends of the first completions without an answer in which mode `flexible` finds one. rows: of those tried."""
    if job.mode != "lenient" or "flexible" not in find(job.task).modes:
        return []
    tried = {name: [column[row] for row in rows] for name, column in references.items()}
    found = verify_batch(job.task, [completions[row] for row in rows], mode="flexible", **tried).extracted
    ends = (_end_of(completions[row]) for row, text in zip(rows, found, strict=True) if text is not None)
    return list(islice(ends, EXAMPLES))


def _end_of(completion: object) -> str:
    """How a completion ends before its first end token, as it is shown."""
    from verifiers.reading.answer import regions

    read_part: object = completion
    if isinstance(completion, str):
        read_part = completion[: regions(completion).cut]
    return repr(read_part)[-SHOWN_CHARACTERS:]


def _has_unread_prompt(job: Job, sample: dict[str, Any]) -> bool:
    """True if a line of the task `code` has the head of its function in a column "prompt", which no flag names."""
    if job.task != "code" or "prompt" in job.fields.references:
        return False
    return f"def {sample.get('entry_point')}(" in str(sample.get("prompt"))


def _findings(
    job: Job, completions: list[object], references: dict[str, list[Any]]
) -> list[d1.Finding | None]:
    """The other rules' finding on each completion (None if the reference is invalid); [] without other rules.

    Removes from `references` the fields that only these rules need.
    """
    if job.rules is None:
        return []
    task = find(job.task)
    found: list[d1.Finding | None] = []
    for row, completion in enumerate(completions):
        try:
            reference = {name: column[row] for name, column in references.items()}
            found.append(d1.judge(job.task, completion, reference))
        except VerifierError:
            found.append(None)
    for name in set(references) - {*task.fields, *task.optional}:
        del references[name]
    return found


def _judge(job: Job, completions: list[object], references: dict[str, list[Any]]) -> list[Outcome]:
    """The outcomes of completions. If judging them raises, as for an invalid reference, each half is judged alone."""
    try:
        verdicts = verify_batch(job.task, completions, mode=job.mode, **references)
    except Exception as error:  # also of a user's own task, which must not end a long run
        if len(completions) == 1 and isinstance(error, VerifierError):
            return [f"has an invalid reference: {text_of_one(error)}"]
        if len(completions) == 1:
            return [f"made the task fail: {type(error).__name__}: {error}"]
        middle = len(completions) // 2
        first = {name: column[:middle] for name, column in references.items()}
        second = {name: column[middle:] for name, column in references.items()}
        return _judge(job, completions[:middle], first) + _judge(job, completions[middle:], second)
    numbers_and_texts = (verdicts.correct.tolist(), verdicts.score.tolist(), verdicts.extracted)
    words = (verdicts.reasons, verdicts.tiers, verdicts.marks, verdicts.details)
    return list(zip(*numbers_and_texts, *words, strict=True))


def _lines_and_counts(
    job: Job,
    label: str,
    items: list[_Item],
    outcomes: Iterator[Outcome],
    findings: Iterator[d1.Finding | None],
) -> Judged:
    """The output, counts and problems of items; the other fields of `Judged` stay empty.

    outcomes, findings: of the items that have no error, in their order; no findings without other rules.
    """
    tally: Counter[str] = Counter()
    lines: list[str] = []
    problems: dict[str, list[int]] = {}
    beginning = f'{{"file": {_quoted(label)}, "line": ' if label else '{"line": '
    lists: dict[int, list[bool]] = {}  # {line: which completions of its list are right}
    for number, place, kept, error in items:
        outcome = error or next(outcomes)
        d1_field = ""
        if job.rules and not error:
            finding = next(findings)
            tally.update(compared(None if isinstance(outcome, str) else outcome[0], finding))
            d1_field = f', "d1": {json.dumps(_facts(finding))}'
        head = f'{beginning}{number}, "sample": {place}' if place else f"{beginning}{number}"
        for name in job.keep:
            if name in kept:
                head += f", {_quoted(name)}: {_ENCODER.encode(kept[name])}"
        if isinstance(outcome, str):
            problems.setdefault(outcome, []).append(number)
            tally["invalid"] += 1
            lines.append(f'{head}, {_NULL_FIELDS}, "error": {_quoted(outcome)}{d1_field}}}\n')
            continue
        correct, score, extracted, reason, tier, mark, detail = outcome
        if detail == DETAILS[Reason.NO_ANSWER]:  # which is long; the summary has it once
            detail = NOT_FOUND
        mark_text = f'"{mark}"' if mark else "null"
        detail_field = "" if correct else f', "detail": {_quoted(detail)}'
        if job.by:
            value = as_text(kept.get(job.by))
            tally[f"by.{job.by}.{value}"] += 1
            tally[f"right_by.{job.by}.{value}"] += correct
        for name, count in ("judged", 1), ("correct", correct), ("score", score):
            tally[name] += count
        tally[f"reasons.{reason}"] += 1
        tally[f"tiers.{tier}"] += 1
        lines.append(
            f'{head}, "correct": {"true" if correct else "false"}, "score": {score!r}, '
            f'"extracted": {"null" if extracted is None else _quoted(extracted)}, '
            f'"reason": "{reason}", "decided_by": "{tier}", "mark": {mark_text}, '
            f'"verifier_rules": {RULES}{detail_field}{d1_field}}}\n'
        )
        if place:
            lists.setdefault(number, []).append(correct)
    tally.update(f"lists.{sum(rights)}/{len(rights)}" for rights in lists.values())
    return Judged(label, "".join(lines), tally, problems)


def _facts(finding: d1.Finding | None) -> dict[str, Any] | None:
    """A finding in the form that is written beside our verdict; None if there is no finding."""
    if finding is None:
        return None
    return {"correct": finding.right == finding.of, **finding._asdict()}


def judge_blocks(job: Job, blocks: Iterable[Block], processes: int) -> Iterator[Judged]:
    """Yields the result of each block, in the order of the blocks; reads at most a few blocks ahead.

    processes: how many processes judge; 1 = this process alone, else other ones. Close the iterator to end these.
    """
    if processes == 1:
        for block in blocks:
            yield judge_block(job, block)
        return
    from verifiers.worker import Workers, WorkerUnavailable

    settings = {"files": list(own_files)}
    workers = Workers(
        __name__, size=processes, soft=None, hard=None, settings=settings
    )  # a block may take any time
    threads = ThreadPoolExecutor(processes, thread_name_prefix="verifiers-command")

    def judge(block: Block) -> Judged:
        """A worker's result for a block; if the worker fails, no line of the block has a verdict."""
        try:
            reply = workers.ask({"job": job, "block": block})
        except WorkerUnavailable as error:
            raise OSError(str(error)) from error  # `main` shows it in one line
        if "tally" in reply:
            return Judged(**reply)
        lost = f"was not judged: its worker process failed on this part of the file ({reply['detail']})."
        items = [_Item(number, 0, {}, lost) for number in block.numbers]
        return _lines_and_counts(job, block.label, items, iter(()), iter(()))

    under_way: deque[Future[Judged]] = deque()
    try:
        for block in blocks:
            under_way.append(threads.submit(judge, block))
            if len(under_way) >= _AHEAD * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        workers.close(for_good=True)  # so that no thread waits for an answer
        threads.shutdown(cancel_futures=True)


def prepare(files: Sequence[str]) -> Callable[[dict], dict]:
    """Returns the function that a worker process answers with: from a job and a block to the fields of `Judged`.

    `verifiers.worker` calls this once in each worker process. files: Python files that register tasks.
    """
    for file in files:
        tasks_of_file(file)
    batch.MAX_THREADS = 1  # the cores are shared out between processes already
    return lambda request: judge_block(request["job"], request["block"])._asdict()
