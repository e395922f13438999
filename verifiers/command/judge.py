"""Judges blocks of lines, in this process or in workers: a verdict for each sample, a reason for each other line."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from verifiers import batch, d1
from verifiers.command.fields import flags_of
from verifiers.command.read import Columns, as_text, columns_of, read_completions
from verifiers.errors import CommandError, LineError, VerifierError, text_of_one
from verifiers.files import Block, read_line
from verifiers.reading.answer import regions
from verifiers.references import ROWS_READ
from verifiers.registry import Mode, find, own_files, tasks_of_file, verify_batch
from verifiers.rule_comparison import compared
from verifiers.verdicts import DETAILS, RULES, Outcome, Reason, Verdicts, outcomes_of

SHOWN_CHARACTERS = 100  # characters that are shown of a completion without an answer
EXAMPLES = 3  # how many completions without an answer are shown
MAX_REPORTED = 10  # how many problems standard error names; the output names the problem of every line
MAX_TRIED = 64  # in how many completions of a block without an answer mode `flexible` looks for one
MEMORY = None  # the address space of a worker has no limit
NO_COMPLETION = "has no completion (null, or an empty list); it counts as malformed."
NOT_FOUND = "No answer was found where this mode looks for one."
VERDICT = Outcome._fields[:-1]
"""The fields of every line of the output; a line without a verdict has null there."""
_VALUES = re.compile(r"'[^']*'|\d+")  # what one line's text of a problem has, and another's has not
_encode = json.JSONEncoder().encode


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
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """`lines` counts what is `judged`, `correct`, `invalid` and `repeated`, the `score` (a sum), and completions
    without an answer that think to their end (`thinking`). `reasons` and `tiers` are those of the verdicts, `by` the
    values of the column `Job.by` and `right_by` those of right completions, `lists` lists of completions: "3/4" for 4
    completions, 3 of them right. `rules` is what `compared` counts."""
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    """{what is wrong with lines, without values of a line: (what is wrong with the first such line, how many there
    are)}, at most MAX_REPORTED; the last one, "", has the number of lines with another fault."""
    unmarked: list[str] = field(default_factory=list)
    """The ends of the first completions without an answer in which mode `flexible` finds one."""
    references: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    """What `how_read` takes, of the judged lines of blocks that begin in the first ROWS_READ lines."""

    def add(self, other: Judged) -> None:
        """Adds the result of the next block."""
        for kind, counter in other.counts.items():
            self.counts[kind].update(counter)
        for kind, (text, count) in other.faults.items():
            self.add_fault(kind, text, count)
        self.unmarked = list(dict.fromkeys(self.unmarked + other.unmarked))[:EXAMPLES]
        if len(self.references) <= ROWS_READ:
            self.references += other.references

    def add_fault(self, kind: str, text: str, count: int = 1) -> None:
        """Adds what is wrong with lines; kind, text: as in `faults`."""
        if kind not in self.faults and len(self.faults) >= MAX_REPORTED:
            kind, text = "", ""
        first, others = self.faults.get(kind, (text, 0))
        self.faults[kind] = first, others + count


class Sample(NamedTuple):
    """A completion of a file, or a line from which none can be read."""

    line: dict[str, Any]
    """The line of the output: first what identifies the sample and what is kept of its row, then also its verdict."""
    completion: object = None
    references: Mapping[str, Any] = {}
    group: str = ""
    """The value of the column `Job.by`."""


def judge_block(job: Job, block: Block) -> Judged:
    """Judges every line of a block; a fault of a line does not affect other lines."""
    samples = list(_samples(job, block))
    _judge(job, [sample for sample in samples if "error" not in sample.line])
    judged = Judged()
    counts = judged.counts
    for line, completion, references, _ in samples:
        if job.rules and references:
            finding = None
            with suppress(VerifierError):  # the reference is invalid
                finding = d1.judge(job.task, completion, references)
            counts["rules"].update(compared(line["correct"], finding))
            line["d1"] = finding and {"correct": finding.right == finding.of, **finding._asdict()}
        fault = line.get("error") or (NO_COMPLETION if completion is None or completion == [] else "")
        if fault:
            judged.add_fault(block.label + _VALUES.sub("", fault), f"{_place(line)} {fault}")
    judged.output = "".join([f"{_encode(sample.line)}\n" for sample in samples])
    verdicts = [sample for sample in samples if "error" not in sample.line]
    unanswered = [sample for sample in verdicts if sample.line["reason"] == Reason.NO_ANSWER]
    lists: dict[int, list[bool]] = defaultdict(list)  # {line: which completions of its list are right}
    for sample in verdicts:
        if "sample" in sample.line:
            lists[sample.line["line"]].append(sample.line["correct"])
    counts["reasons"].update([sample.line["reason"] for sample in verdicts])
    counts["tiers"].update([sample.line["decided_by"] for sample in verdicts])
    counts["by"].update([sample.group for sample in verdicts])
    counts["right_by"].update([sample.group for sample in verdicts if sample.line["correct"]])
    counts["lists"].update(f"{sum(rights)}/{len(rights)}" for rights in lists.values())
    counts["lines"].update(
        judged=len(verdicts),
        correct=counts["right_by"].total(),
        score=sum(sample.line["score"] for sample in verdicts),  # may be a fraction
        invalid=len(samples) - len(verdicts),
        thinking=sum(regions(str(sample.completion)).unended >= 0 for sample in unanswered),
    )
    judged.unmarked = _read_by_flexible(job, unanswered[:MAX_TRIED])
    if block.rows[0][0] <= ROWS_READ:
        firsts = [sample for sample in verdicts if sample.line.get("sample", 1) == 1]
        judged.references = [(_place(sample.line), sample.references) for sample in firsts]
    return judged


def _place(line: Mapping[str, Any]) -> str:
    """Where the row of a line of the output stands."""
    return f"{line['file']}, line {line['line']}" if "file" in line else f"line {line['line']}"


def _samples(job: Job, block: Block) -> Iterator[Sample]:
    """The completions of a block, and its other lines with an error."""
    flags = flags_of(job.columns)
    for number, row_line in block.rows:
        line: dict[str, Any] = {"file": block.label, "line": number} if block.label else {"line": number}
        row: Mapping[str, Any] = {}
        try:
            row = read_line(row_line)
            completions, references = read_completions(row, job.columns, flags)
        except LineError as error:
            line |= columns_of(row or error.columns, job.keep)
            line.update(dict.fromkeys(VERDICT), error=str(error))
            yield Sample(line)
            continue
        kept = columns_of(row, job.keep)
        group = as_text(columns_of(row, (job.by,)).get(job.by)) if job.by else ""
        references |= job.settings
        for place, completion in enumerate(completions, 1):
            in_list = {"sample": place} if len(completions) > 1 else {}
            yield Sample({**line, **in_list, **kept}, completion, references, group)


def _judge(job: Job, samples: Sequence[Sample]) -> None:
    """Adds the verdict on each sample, or why there is none, to its line of the output.

    If judging them raises, as for an invalid reference, each half is judged alone.
    """
    try:
        verdicts = _verified(job, samples, job.mode)
    except Exception as error:  # also of a user's own task, which must not end a long run
        if len(samples) > 1:
            middle = len(samples) // 2
            _judge(job, samples[:middle])
            _judge(job, samples[middle:])
            return
        why = f"made the task fail: {type(error).__name__}: {error}"
        if isinstance(error, VerifierError):
            why = f"has an invalid reference: {text_of_one(error)}"
        samples[0].line.update(dict.fromkeys(VERDICT), error=why)
        return
    for sample, (*values, detail) in zip(samples, outcomes_of(verdicts), strict=True):
        sample.line.update(zip(VERDICT, values, strict=True), verifier_rules=RULES)
        if not values[0]:  # what no answer means is long; the summary has it once
            sample.line["detail"] = NOT_FOUND if detail == DETAILS[Reason.NO_ANSWER] else detail


def _verified(job: Job, samples: Sequence[Sample], mode: Mode) -> Verdicts:
    """The verdicts on samples."""
    task = find(job.task)
    # Not the fields that only other rules need.
    names = [name for name in (*task.fields, *task.optional) if name in job.columns or name in job.settings]
    columns = {name: [sample.references[name] for sample in samples] for name in names}
    return verify_batch(job.task, [sample.completion for sample in samples], mode=mode, **columns)


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
        yield from (judge_block(job, block) for block in blocks)
        return
    from verifiers.worker import Workers, WorkerUnavailable

    # A block may take any time.
    workers = Workers(__name__, size=processes, soft=None, hard=None, settings={"files": [*own_files]})
    threads = ThreadPoolExecutor(processes, thread_name_prefix="verifiers-command")

    def judge(block: Block) -> Judged:
        """A worker's result for a block; if the worker fails, no line of the block has a verdict."""
        try:
            reply = workers.ask({"job": job, "block": block})
        except WorkerUnavailable as error:
            raise CommandError(f"{error}.") from error
        if "counts" in reply:
            return Judged(**reply)
        lost = LineError(f"was not judged: its worker process failed on this part ({reply['detail']}).")
        return judge_block(job, block._replace(rows=[(number, lost) for number, _ in block.rows]))

    under_way: deque[Future[Judged]] = deque()
    try:
        for block in blocks:
            under_way.append(threads.submit(judge, block))
            if len(under_way) >= 2 * processes:
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
