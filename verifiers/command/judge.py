"""Judges blocks of lines, in this process or in workers: a verdict for each sample, a reason for each other line."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType
from typing import Any, NamedTuple

from verifiers import batch, d1
from verifiers.command.fields import Columns, advice
from verifiers.command.read import (
    LacksField,
    as_text,
    columns_of,
    completions_in,
    integers_in,
    puzzle_in,
    read_sample,
)
from verifiers.errors import CommandError, LineError, VerifierError, text_of_one
from verifiers.files import Block, read_line
from verifiers.reading.answer import regions
from verifiers.references import ROWS_READ
from verifiers.registry import Mode, find, own_files, tasks_of_file, verify_batch
from verifiers.reward import unwrap
from verifiers.rule_comparison import compared
from verifiers.verdicts import DETAILS, RULES, Reason, Verdicts

SHOWN_CHARACTERS = 100  # characters that are shown of a completion without an answer
EXAMPLES = 3  # how many completions without an answer are shown
MAX_REPORTED = 10  # how many problems standard error names; the output names the problem of every line
MAX_TRIED = 64  # in how many completions of a block without an answer mode `flexible` looks for one
MEMORY = None  # the address space of a worker has no limit
NO_COMPLETION = "has no completion (null, or an empty list); it counts as malformed."
NOT_FOUND = "No answer was found where this mode looks for one."
_NULL_FIELDS = (
    '"correct": null, "score": null, "extracted": null, "reason": null, "decided_by": null, "mark": null'
)
_ENCODER = json.JSONEncoder()
_VALUES = re.compile(r"'[^']*'|\d+")  # what one line's text of a problem has, and another's has not
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


class Job(NamedTuple):
    """What to do with every line."""

    task: str
    mode: Mode
    columns: Columns
    settings: dict[str, str]
    """{setting of the task: its value for all lines}, for each setting that is no column."""
    rules: str | None = None
    """Other rules, such as "d1", whose verdicts are written beside ours; None for none."""
    keep: Sequence[str] = ()
    """Columns that are written beside the verdict, if a line has them."""
    by: str = ""
    """The column by whose values right completions are counted; "" for none."""


@dataclass
class Judged:
    """The result of judging lines; the results of blocks add up."""

    output: str = ""
    """A line of JSON for each completion, and for each line that has no verdict; `add` leaves it as it is."""
    tally: Counter[str] = field(default_factory=Counter)
    """Counts of `judged`, `correct`, `invalid`, `score` (a sum), and of `reasons.ok`, `tiers.text`, ...; `unit` counts
    answers that are wrong only for their unit, and `thinking` completions without an answer that think to their end.
    `lists.3/4` is the number of lines that have a list of 4 completions, 3 of them right; `by.2` and `right_by.2` are
    completions, and right ones, of lines whose column `Job.by` is 2; counts by other rules have `compared`'s names."""
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    """{what is wrong with lines, without values of a line: (what is wrong with the first such line, how many there
    are)}, at most MAX_REPORTED; the last one, "", has the number of lines with another fault."""
    unmarked: list[str] = field(default_factory=list)
    """The ends of the first completions without an answer in which mode `flexible` finds one."""
    references: dict[str, list[Any]] = field(default_factory=dict)
    """What `how_read` takes, of the judged lines, with `places`; of blocks that begin in the first ROWS_READ lines."""
    places: list[str] = field(default_factory=list)

    def add(self, other: Judged) -> None:
        """Adds the result of the next block."""
        self.tally.update(other.tally)
        for kind, (text, count) in other.faults.items():
            self.add_fault(kind, text, count)
        self.unmarked = list(dict.fromkeys(self.unmarked + other.unmarked))[:EXAMPLES]
        if len(self.places) <= ROWS_READ:
            self.places += other.places
            for name, values in other.references.items():
                self.references.setdefault(name, []).extend(values)

    def add_fault(self, kind: str, text: str, count: int = 1) -> None:
        """Adds what is wrong with lines; kind, text: as in `faults`."""
        if kind not in self.faults and len(self.faults) >= MAX_REPORTED:
            kind, text = "", ""
        first, others = self.faults.get(kind, (text, 0))
        self.faults[kind] = first, others + count


class Sample(NamedTuple):
    """A completion of a file, or a line from which none can be read."""

    number: int
    """Its line, as in `Block`."""
    kept: dict[str, Any]
    """The columns of its line that are kept."""
    place: int = 0
    """Its place in the list of its line, from 1 on; 0 if the line has no list."""
    completion: object = None
    references: Mapping[str, Any] = MappingProxyType({})


class Outcome(NamedTuple):
    """A verdict, as the line of the output has it."""

    correct: bool
    score: float
    extracted: str | None
    reason: str
    decided_by: str
    mark: str | None
    detail: str


def judge_block(job: Job, block: Block) -> Judged:
    """Judges every line of a block; a fault of a line does not affect other lines."""
    samples: list[Sample] = []
    errors: list[str] = []  # of each sample: why its line cannot be judged, or ""
    wanted, fields = [*job.columns.values()], [*job.columns][1:]
    converted = [field for field in fields if field in _CONVERTERS]
    columns_to_keep = [*job.keep, job.by] if job.by else job.keep
    for number, line in zip(block.numbers, block.lines, strict=True):
        row: dict[str, Any] = {}
        try:
            row = read_line(line)
            value, *values = read_sample(row, wanted)
        except LineError as error:
            samples.append(Sample(number, columns_of(row or dict(error.columns), columns_to_keep)))
            flags = f" {advice(job.columns, error.places)}" if isinstance(error, LacksField) else ""
            errors.append(f"{error}{flags}")
            continue
        kept = columns_of(row, columns_to_keep)
        references = dict(zip(fields, values, strict=True))
        for name in converted:
            references[name] = _CONVERTERS[name](references[name])
        texts = [value] if type(value) is str else completions_in(value)
        for place, text in enumerate(texts, 1):
            samples.append(Sample(number, kept, place if len(texts) > 1 else 0, text, references))
            errors.append("")
    outcomes = iter(_judge(job, [sample for sample, error in zip(samples, errors, strict=True) if not error]))
    results = [(sample, error or next(outcomes)) for sample, error in zip(samples, errors, strict=True)]
    judged = _lines_and_counts(job, block.label, results)
    verdicts = [(sample, outcome) for sample, outcome in results if isinstance(outcome, Outcome)]
    unanswered = [sample for sample, outcome in verdicts if outcome.reason == Reason.NO_ANSWER]
    judged.tally["thinking"] = sum(regions(str(sample.completion)).unended >= 0 for sample in unanswered)
    judged.unmarked = _read_by_flexible(job, unanswered[:MAX_TRIED])
    if find(job.task).name == "math500":
        judged.tally["unit"] = sum(_is_refused_for_unit(sample, outcome) for sample, outcome in verdicts)
    if block.numbers[0] <= ROWS_READ:
        firsts = [sample for sample, _ in verdicts if sample.place <= 1]
        judged.places = [f"{block.label}, line {sample.number}".removeprefix(", ") for sample in firsts]
        judged.references = _columns(job, firsts)
    return judged


def _judge(job: Job, samples: list[Sample]) -> list[Outcome | str]:
    """The outcome of each sample, or a text on why there is none.

    If judging them raises, as for an invalid reference, each half is judged alone.
    """
    try:
        verdicts = _verified(job, samples, job.mode)
    except Exception as error:  # also of a user's own task, which must not end a long run
        if len(samples) == 1 and isinstance(error, VerifierError):
            return [f"has an invalid reference: {text_of_one(error)}"]
        if len(samples) == 1:
            return [f"made the task fail: {type(error).__name__}: {error}"]
        middle = len(samples) // 2
        return _judge(job, samples[:middle]) + _judge(job, samples[middle:])
    return [*outcomes_of(verdicts)]


def outcomes_of(verdicts: Verdicts) -> list[Outcome]:
    """Each verdict as an `Outcome`."""
    numbers_and_texts = (verdicts.correct.tolist(), verdicts.score.tolist(), verdicts.extracted)
    words = (verdicts.reasons, verdicts.tiers, verdicts.marks, verdicts.details)
    return list(map(Outcome, *numbers_and_texts, *words))


def _verified(job: Job, samples: Sequence[Sample], mode: Mode) -> Verdicts:
    """The verdicts on samples."""
    return verify_batch(
        job.task, [sample.completion for sample in samples], mode=mode, **_columns(job, samples)
    )


def _columns(job: Job, samples: Sequence[Sample]) -> dict[str, list[Any]]:
    """{reference field of the task: its values}, without those that only other rules need."""
    task = find(job.task)
    names = [name for name in job.columns if name in (*task.fields, *task.optional)]
    columns = {name: [sample.references[name] for sample in samples] for name in names}
    return columns | {name: [value] * len(samples) for name, value in job.settings.items()}


def _lines_and_counts(job: Job, label: str, results: Iterable[tuple[Sample, Outcome | str]]) -> Judged:
    """The output, counts and faults of samples, each with its outcome or why there is none."""
    judged, lines, verdicts = Judged(), [], []
    tally = judged.tally
    beginning = f'{{"file": {_quoted(label)}, "line": ' if label else '{"line": '
    lists: dict[int, list[bool]] = {}  # {line: which completions of its list are right}
    for sample, outcome in results:
        number, kept, place, completion, references = sample
        d1_field = ""
        if job.rules and references:
            finding = _finding(job, sample)
            tally.update(compared(None if isinstance(outcome, str) else outcome.correct, finding))
            facts = finding and {"correct": finding.right == finding.of, **finding._asdict()}
            d1_field = f', "d1": {_ENCODER.encode(facts)}'
        head = f'{beginning}{number}, "sample": {place}' if place else f"{beginning}{number}"
        for name in job.keep:
            if name in kept:
                head += f", {_quoted(name)}: {_ENCODER.encode(kept[name])}"
        fault = (
            outcome
            if isinstance(outcome, str)
            else NO_COMPLETION
            if completion is None or completion == []
            else ""
        )
        if fault:
            where = f"{label}, " if label else ""
            judged.add_fault(where + _VALUES.sub("", fault), f"{where}line {number} {fault}")
        if isinstance(outcome, str):
            lines.append(f'{head}, {_NULL_FIELDS}, "error": {_quoted(outcome)}{d1_field}}}\n')
            tally["invalid"] += 1
            continue
        verdicts.append(outcome)
        correct, score, extracted, reason, tier, mark, detail = outcome
        if detail == DETAILS[Reason.NO_ANSWER]:  # which is long; the summary has it once
            detail = NOT_FOUND
        detail_field = "" if correct else f', "detail": {_quoted(detail)}'
        lines.append(
            f'{head}, "correct": {"true" if correct else "false"}, "score": {score!r}, '
            f'"extracted": {"null" if extracted is None else _quoted(extracted)}, '
            f'"reason": "{reason}", "decided_by": "{tier}", "mark": {_quoted(mark) if mark else "null"}, '
            f'"verifier_rules": {RULES}{detail_field}{d1_field}}}\n'
        )
        if job.by:
            value = as_text(kept.get(job.by))
            tally.update({f"by.{value}": 1, f"right_by.{value}": correct})
        if place:
            lists.setdefault(number, []).append(correct)
    judged.output = "".join(lines)
    tally["judged"] = len(verdicts)
    tally["correct"] = sum(verdict.correct for verdict in verdicts)
    tally["score"] = sum(verdict.score for verdict in verdicts)  # type: ignore[misc]  # a sum may be a fraction
    for reason, count in Counter(verdict.reason for verdict in verdicts).items():
        tally[f"reasons.{reason}"] = count
    for tier, count in Counter(verdict.decided_by for verdict in verdicts).items():
        tally[f"tiers.{tier}"] = count
    tally.update(f"lists.{sum(rights)}/{len(rights)}" for rights in lists.values())
    return judged


def _finding(job: Job, sample: Sample) -> d1.Finding | None:
    """The finding of other rules on a sample; None if its reference is invalid."""
    try:
        return d1.judge(job.task, sample.completion, sample.references)
    except VerifierError:
        return None


def _is_refused_for_unit(sample: Sample, outcome: Outcome) -> bool:
    """Whether an answer of MATH is wrong only for its unit, which the problem neither asks for nor has."""
    from verifiers.math500.task import is_refused_for_unit

    problem = sample.references.get("problem")
    if outcome.reason != Reason.WRONG or not outcome.extracted or not problem:
        return False
    return is_refused_for_unit(outcome.extracted, sample.references["answer"], problem)


def _read_by_flexible(job: Job, samples: Sequence[Sample]) -> list[str]:
    """The ends, before an end token, of the first samples without an answer in which mode `flexible` finds one."""
    if job.mode != "lenient" or "flexible" not in find(job.task).modes:
        return []
    found = _verified(job, samples, "flexible").extracted
    texts = [str(sample.completion) for sample, text in zip(samples, found, strict=True) if text is not None]
    return [repr(text[: regions(text).cut])[-SHOWN_CHARACTERS:] for text in texts[:EXAMPLES]]


def judge_blocks(job: Job, blocks: Iterable[Block], processes: int) -> Generator[Judged, None, None]:
    """Yields the result of each block, in the order of the blocks; reads at most a few blocks ahead.

    processes: how many processes judge; 1 = this process alone, else other ones. Close the iterator to end these.
    """
    if processes == 1:
        for block in blocks:
            yield judge_block(job, block)
        return
    from verifiers.worker import Workers, WorkerUnavailable

    settings = {"files": list(own_files)}
    # A block may take any time.
    workers = Workers(__name__, size=processes, soft=None, hard=None, settings=settings)
    threads = ThreadPoolExecutor(processes, thread_name_prefix="verifiers-command")

    def judge(block: Block) -> Judged:
        """A worker's result for a block; if the worker fails, no line of the block has a verdict."""
        try:
            reply = workers.ask({"job": job, "block": block})
        except WorkerUnavailable as error:
            raise CommandError(f"{error}.") from error
        if "tally" in reply:
            return Judged(**reply)
        lost = f"was not judged: its worker process failed on this part of the file ({reply['detail']})."
        return _lines_and_counts(job, block.label, [(Sample(n, {}), lost) for n in block.numbers])

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
    return lambda request: vars(judge_block(request["job"], request["block"]))
