"""`python -m verifiers TASK FILE`: a verdict for every line of a file. See docs/verifiers/command_line.md."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any

from verifiers import batch
from verifiers.command.fields import (
    PRESETS,
    Fields,
    candidates,
    completion_of,
    likely_flags,
    recognise,
    with_problem,
    with_settings,
    without_repeated,
)
from verifiers.command.flags import Parser, number_between
from verifiers.command.join import join, read_references, split_key
from verifiers.command.judge import (
    EXAMPLES,
    Job,
    Judged,
    judge_blocks,
)
from verifiers.command.report import counts, summary, summary_text
from verifiers.errors import CommandError, VerifierError, did_you_mean, plural
from verifiers.files import Block, Source
from verifiers.references import ROWS_READ, how_read
from verifiers.registry import MODES, check_mode, find, name_in_file, tasks
from verifiers.score import DATA_SOURCES

# The fields of a verdict.
VERDICT = (
    "file",
    "line",
    "sample",
    "correct",
    "score",
    "extracted",
    "reason",
    "decided_by",
    "mark",
    "verifier_rules",
    "detail",
    "error",
    "d1",
)
MAX_REPORTED = 10  # how many problems standard error names; the output names the problem of every line
MAX_HELD_BYTES = 1 << 26  # the most bytes of verdicts that wait for the first line that can be judged
MAX_LINES_NAMED = 5  # how many lines with the same problem standard error names
PARTIAL = ".partial"  # added to the name of --output while it is being written
_EPILOG = """\
examples:
  python -m verifiers sudoku runs/my-run/samples/step-000100.jsonl > verdicts.jsonl
  python -m verifiers gsm8k completions.parquet --answer-field solution --output verdicts.jsonl --workers 4
  python -m verifiers countdown samples.jsonl --answer-field numbers=nums --answer-field target=goal

For each line of the file, in order, one JSON line is written: line, correct, score, extracted, reason,
decided_by and, unless it is right, detail, which gives the reason in words. A line that cannot be judged has
"correct": null and an "error". The summary says how many there were, and leaves them out of the rate.
If no line can be judged, no verdicts are written: one sentence says why, and which flags may help.
Exit status: 0 if it ran, 1 if a file is truncated or most lines could not be judged, 2 if a task, a file or a flag
is unknown.

`python -m verifiers serve` answers requests for verdicts over HTTP; `python -m verifiers serve --help` says how.

`verifiers.compute_score`, the reward of verl, takes the name of a task as its data source, or one of these names:
{sources}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] == "serve":
        from verifiers.serve.command import main as serve

        return serve(words[1:])
    args = _parser().parse_intermixed_args(words or ["--help"])
    try:
        return _run(args)
    except VerifierError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:  # the program that read the verdicts has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # no process started, or the disk is full; an error of reading never gets here
        text = str(error)
        if error.errno is not None:
            place = f"{args.output}{PARTIAL}" if args.output else "standard output"
            other = "with another --output" if args.output else "with --output FILE"
            text = f"the verdicts cannot be written to {place}: {error.strerror}. Make room there, or write them "
            text += f"elsewhere {other}"
            # As it ends, Python would try again to write the rest; so the rest is sent to nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(f"Stopped: {text}.\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    sources = "\n".join(f"  {source}: {task}" for source, task in DATA_SOURCES.items())
    parser = Parser(
        prog="python -m verifiers",
        description=(
            "Judges completions: writes one verdict for every line of a file to standard output, and a summary to "
            "standard error."
        ),
        epilog=_EPILOG.format(sources=sources),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "task",
        metavar="TASK",
        help=f"the task that the completions answer: {', '.join(tasks())}; or ./mine.py:TASK",
    )
    formats = (
        "JSONL (.jsonl, .ndjson), a JSON array, .csv, .tsv or parquet, gzipped or not; - is JSONL from stdin"
    )
    add("files", metavar="FILE", nargs="*", help=f"a file: {formats}")
    text = "prepares the task now instead of at its first use, and compiles the kernels of all tasks"
    add("--prepare", action="store_true", help=text)
    text = (
        "lenient (default) accepts any notation of the value; strict accepts only the format of the prompt; "
    )
    text += (
        "flexible also judges completions that mark no answer, by the last number or formula of their last "
    )
    text += "sentence that has one"
    add("--mode", choices=MODES, default="lenient", help=text)
    text = "d1 also judges as the published evaluation code of d1 does (as SPG and wd1 do), and says where the two "
    text += "differ"
    add("--rules", choices=("d1",), help=text)
    text = "writes the verdicts to FILE, not to standard output (.gz: compressed)"
    add("--output", metavar="FILE", help=text)
    text = "columns of the file, or of --references, that are written beside each verdict; the column id always is"
    add("--keep", metavar="COLUMN", nargs="+", action="extend", default=[], help=text)
    text = "a column by whose values the summary also counts, e.g. --by level"
    add("--by", metavar="COLUMN", action="append", default=[], help=text)
    text = (
        "writes the summary as one line of JSON: to standard output if --output takes the verdicts, else to "
    )
    text += "standard error, so that standard output has verdicts alone"
    add("--json", action="store_true", help=text)
    text = "the number of processes that judge (1)"
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help=text)
    text = "the file has the field names of this tool (qa: answer, response)"
    add("--preset", choices=list(PRESETS), help=text)
    text = "the field that holds the completion; `a.b` is field b inside field a; if the field holds a list, each "
    text += "completion in it is judged"
    add("--completion-field", metavar="NAME", help=text)
    text = "the field that holds the reference, if it is not named as the task expects (gsm8k: answer); FIELD=NAME, "
    text += "once for each, if the task has several references"
    add("--answer-field", metavar="NAME", action="append", default=[], help=text)
    text = "the field that holds the problem (math500); an answer must then also be worked out and in the form that "
    text += "the problem asks for; a column of the name problem is used unasked, '' leaves it out"
    add("--problem-field", metavar="NAME", help=text)
    text = "FIELD=VALUE: a setting of the task, e.g. decimal=, or unit=ml (gsm8k), choices=spam,ham (text); VALUE is "
    text += "a column, or the value for all lines"
    add("--setting", metavar="FIELD=VALUE", action="append", default=[], help=text)
    text = "takes the references from this file, if they are not beside the completions; needs --on"
    add("--references", metavar="FILE", help=text)
    text = "the field that is equal in a completion and its reference; `custom_id=id` if it is called custom_id in the "
    text += "completions and id in the references"
    add("--on", metavar="FIELD", help=text)
    return parser


def _run(args: argparse.Namespace) -> int:
    """Judges the files that the arguments name; returns the exit status."""
    if args.task not in tasks() and (named := [word for word in args.files if word in tasks()]):
        raise CommandError(f"The task comes first: python -m verifiers {named[0]} {args.task}")
    args.task = name_in_file(args.task)
    task = find(args.task)
    check_mode(args.mode, task)
    if task.prepare is not None:
        task.prepare()
    if args.prepare:
        batch.prepare_kernels()
        if not args.files:
            return 0
    if not args.files:
        raise CommandError(f"What is to be judged? python -m verifiers {args.task} FILE")
    known = candidates(task, args)  # {preset: the names of the columns}
    args.keep = list(dict.fromkeys(["id", *args.keep]))
    if taken := [name for name in args.keep if name in VERDICT]:
        raise CommandError(f"--keep {taken[0]}: the verdict has a field of this name. Rename the column.")
    if len(args.by) > 1:
        raise CommandError(
            f"--by {' --by '.join(args.by)}: the summary counts by one column. Give one of them."
        )
    names = {*args.keep, *args.by, *(args.on or "").split("=")}
    names.update(*(several for fields in known.values() for several in fields.names()))
    names.update(word.partition("=")[2] for word in args.setting)
    args.by = args.by[0] if args.by else ""  # from here on, one column, or "" for none
    if args.problem_field is None and "problem" in task.optional:
        names.add("problem")
    columns = names | {name.partition(".")[0] for name in names}  # the name `a.b` is field b in column a
    sources = [Source(path, columns, label=path if len(args.files) > 1 else "") for path in args.files]
    start = time.monotonic()
    blocks = (block for source in sources for block in source.blocks())
    tally: Counter[str] = Counter()
    plan = _joined if args.references or args.on else _plan
    job, blocks = plan(args, known, blocks, tally)
    try:
        examples = _judge(args, job, blocks, tally)
    except KeyboardInterrupt:
        where = f", in {args.output}{PARTIAL}" if args.output else ""
        number = plural(tally["judged"] + tally["invalid"], "completion")
        sys.stderr.write(f"\nStopped: {number} judged{where}.\n")
        raise
    tally["broken"] = sum(bool(source.failure) for source in sources)
    facts = summary(job, tally, time.monotonic() - start, examples)
    _hint(job, facts["reasons"], examples["unanswered"])
    _tell_absent(args, counts(tally, "columns"))
    if args.json:
        stream = sys.stderr if args.output is None else sys.stdout  # standard output then has verdicts alone
        stream.write(json.dumps(facts) + "\n")
        stream.flush()
    else:
        sys.stderr.write(summary_text(facts))
    for source in sources:
        if problem := source.failure or ("it holds no rows." if source.empty else ""):
            sys.stderr.write(f"{source.path}: {problem}\n")
    has_failed = tally["broken"] or not tally["judged"] or tally["judged"] < tally["invalid"]
    return 1 if has_failed else 0


def _joined(
    args: argparse.Namespace, known: dict[str, Fields], blocks: Iterator[Block], _: Counter[str]
) -> tuple[Job, Iterator[Block]]:
    """The job and its lines, if the references are in a file of their own."""
    first = next(blocks, Block("", [], []))
    if not (args.references and args.on):
        raise CommandError("--references FILE and --on FIELD go together: which file, and by which field.")
    completion_key, reference_key = split_key(args.on)
    own_fields = next(iter(known.values()))  # of the task or, if a flag names a preset, of the preset
    kept = [*args.keep, args.by] if args.by else args.keep
    # The id beside a verdict is the completion's.
    kept_of_references = [name for name in kept if name != "id"]
    table = read_references(args.references, reference_key, own_fields.references, kept_of_references)
    completion = completion_of(known, first.lines)
    blocks = join(chain([first], blocks), completion, completion_key, table, args.references, kept)
    fields = Fields(("completion",), {name: (name,) for name in own_fields.references})
    _, settings = with_settings(find(args.task), args.setting, fields, lines=())
    return Job(args.task, args.mode, fields, settings, args.rules, tuple(args.keep), args.by), blocks


def _plan(
    args: argparse.Namespace, known: dict[str, Fields], blocks: Iterator[Block], tally: Counter[str]
) -> tuple[Job, Iterator[Block]]:
    """The job and its lines, if the references are beside the completions.

    The first lines of the file show by which names its columns go. tally: counts the lines that are left out because
    they are repeated.
    """
    first = next(blocks, Block("", [], []))
    preset = recognise(known, first.lines)
    if preset and args.preset is None:
        sys.stderr.write(f"Read as a file of {preset}; --preset or --completion-field would say otherwise.\n")
    fields = with_problem(find(args.task), args, known[preset], first.lines)
    if fields != known[preset]:
        what = "answers must be worked out, and in the form that the problem asks for"
        if find(args.task).name == "choice":
            what = "an answer may also be the text of an option that the problem lists"
        sys.stderr.write(f"The column problem is used: {what}. --problem-field '' leaves it out.\n")
    fields, settings = with_settings(find(args.task), args.setting, fields, first.lines)
    blocks = chain([first], blocks)
    if preset == "lm-eval":
        blocks = without_repeated(blocks, lambda: tally.update(repeated=1))
    return Job(args.task, args.mode, fields, settings, args.rules, tuple(args.keep), args.by), blocks


def _judge(
    args: argparse.Namespace, job: Job, blocks: Iterable[Block], tally: Counter[str]
) -> dict[str, list[str]]:
    """Writes all verdicts, adds to the counts, and says what is wrong with lines; returns the first examples."""
    faults: dict[tuple[str, str], Fault] = {}
    examples: dict[str, list[str]] = {"unanswered": [], "unmarked": []}
    references: dict[str, list[Any]] = {name: [] for name in (*job.fields.references, *dict(job.settings))}
    places: list[str] = []
    # Until a line can be judged, the output waits here. From then on, this is None, and the output is written at once.
    waiting: list[bytes] | None = []
    with contextlib.closing(judge_blocks(job, blocks, args.workers)) as results, _output(args) as output:
        for judged in results:
            tally.update(judged.tally, problems=sum(map(len, judged.problems.values())))
            for name, found in examples.items():
                found[:] = list(dict.fromkeys((*found, *judged.examples.get(name, ()))))[:EXAMPLES]
            if len(places) <= ROWS_READ:
                places += judged.places
                for name, values in judged.references.items():
                    references.setdefault(name, []).extend(values)
            new = _add_faults(judged, faults)
            if waiting is None:
                _tell(new)
                output.write(judged.output.encode())
                continue
            waiting.append(judged.output.encode())
            if tally["judged"] or sum(map(len, waiting)) >= MAX_HELD_BYTES:
                _tell(faults)
                output.writelines(waiting)
                waiting = None
    examples["references"] = how_read(job.task, references, places)
    if waiting is not None and faults:  # no line could be judged
        _tell_none(job, faults, tally["invalid"])
        if len(faults) == 1:  # the text of `_tell_none` is about all lines
            return examples
    for (label, _), fault in faults.items():
        if fault.count > 1:
            first, *others = map(str, fault.lines)
            more = ", ".join([*others, "..."] if fault.count > len(fault.lines) else others)
            sys.stderr.write(f"{label}{plural(fault.count - 1, 'more line')} as line {first}: {more}\n")
    if untold := tally["problems"] - sum(fault.count for fault in faults.values()):
        sys.stderr.write(f"... and {plural(untold, 'more line')} with another problem\n")
    return examples


def _hint(job: Job, reasons: Mapping[str, int], unanswered: Sequence[str]) -> None:
    """Says what may be wrong if no answer could be read."""
    column = " or ".join(job.fields.completion)
    if list(reasons) == ["malformed"]:
        sys.stderr.write(f'All answers are malformed: is "{column}" the field of the completion?\n')
    if unanswered and {"no_answer", "malformed"}.issuperset(reasons):
        text = f'The first "{column}" without one ends in {unanswered[0]}.'
        sys.stderr.write(f"Nothing holds an answer that can be read. {text}\n")


def _tell_absent(args: argparse.Namespace, columns: Mapping[str, int]) -> None:
    """Says which columns named by a flag are in no line. columns: {column: how many blocks have it}."""
    for flag, names in (("--keep", args.keep), ("--by", [args.by] if args.by else [])):
        for name in names:
            if columns and name != "id" and name not in columns:
                near = did_you_mean(name, sorted(columns))
                sys.stderr.write(f"{flag} {name}: no line has this column. {near}".rstrip() + "\n")


@dataclass
class Fault:
    """What is wrong with several lines of a file."""

    text: str
    """What is wrong with the first of these lines."""
    count: int = 0
    """How many lines have this fault."""
    lines: list[int] = field(default_factory=list)
    """The numbers of the first `MAX_LINES_NAMED` lines with this fault."""


def _add_faults(judged: Judged, faults: dict[tuple[str, str], Fault]) -> dict[tuple[str, str], Fault]:
    """Adds the problems of lines to `faults`, {(file, what is wrong, without values of a line): its `Fault`}.

    Returns the new ones. Of more than MAX_REPORTED, none is added.
    """
    label, new = f"{judged.label}, " if judged.label else "", {}
    for text, numbers in judged.problems.items():
        key = (label, judged.kinds.get(text, text))
        if key not in faults:
            if len(faults) == MAX_REPORTED:
                continue
            faults[key] = new[key] = Fault(text)
        faults[key].count += len(numbers)
        faults[key].lines = [*faults[key].lines, *numbers][:MAX_LINES_NAMED]
    return new


def _tell(faults: Mapping[tuple[str, str], Fault]) -> None:
    """Says what is wrong with the first line of each fault."""
    for (label, _), fault in faults.items():
        sys.stderr.write(f"{label}line {fault.lines[0]} {fault.text}\n")


def _tell_none(job: Job, faults: Mapping[tuple[str, str], Fault], num_lines: int) -> None:
    """Says that no line can be judged, what is wrong with most lines, and which flags would name their columns.

    What is wrong with other lines follows.
    """
    most = max(faults, key=lambda key: faults[key].count)
    flags = likely_flags(find(job.task), faults[most].text)
    example = f" For example: {' '.join(flags)}." if flags else ""
    failure = f"None of the {num_lines:,} lines can be judged"
    if num_lines == 1:
        failure = "The only line cannot be judged"
    fault = f"{most[0]}line {faults[most].lines[0]} {faults[most].text}"
    sys.stderr.write(f"{failure}, so no verdicts are written: {fault}{example}\n")
    _tell({key: fault for key, fault in faults.items() if key != most})


@contextlib.contextmanager
def _output(args: argparse.Namespace) -> Iterator[IO[bytes]]:
    """The stream that the verdicts are written to."""
    if args.output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    paths_to_read = [path for path in args.files if path != "-"]
    if os.path.exists(args.output) and any(os.path.samefile(path, args.output) for path in paths_to_read):
        raise CommandError(f"--output {args.output} is a file that is to be read; give another name.")
    # A device or a pipe is written to directly.
    is_special = os.path.exists(args.output) and not os.path.isfile(args.output)
    partial = args.output if is_special else args.output + PARTIAL
    try:
        stream = gzip.open(partial, "wb", 4) if args.output.endswith(".gz") else open(partial, "wb")
    except OSError as error:
        raise CommandError(f"--output {args.output} cannot be written: {error.strerror}.") from error
    with stream:
        yield stream  # type: ignore[misc]
    if not is_special:
        os.replace(partial, args.output)  # so that only a complete file has the name of --output


if __name__ == "__main__":
    sys.exit(main())
