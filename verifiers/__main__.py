"""`python -m verifiers TASK FILE`: a verdict for every line of a file. See docs/verifiers/command_line.md."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO

from verifiers import batch
from verifiers.command.fields import PRESETS, Columns, candidates, find_columns, without_repeated
from verifiers.command.flags import Parser, number_between
from verifiers.command.join import join, read_references
from verifiers.command.judge import Job, Judged, Outcome, judge_blocks
from verifiers.command.report import faults_text, summary, summary_text
from verifiers.errors import CommandError, VerifierError, plural
from verifiers.files import Block, BrokenFile, check_file, read_blocks
from verifiers.registry import MODES, Task, check_mode, find, name_in_file, tasks

# The fields of a verdict.
VERDICT = ("file", "line", "sample", *Outcome._fields, "verifier_rules", "error", "d1")
MAX_HELD_BYTES = 1 << 26  # the most bytes of verdicts that wait for the first line that can be judged
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
    except OSError as error:  # the disk is full; an error of reading never gets here
        place = f"{args.output}{PARTIAL}" if args.output else "standard output"
        sys.stderr.write(
            f"Stopped: the verdicts cannot be written to {place}: {error.strerror}. Make room there, or give another "
            "--output FILE.\n"
        )
        # As it ends, Python would try again to write the rest; so the rest is sent to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    parser = Parser(
        prog="python -m verifiers",
        description=(
            "Judges completions: writes one verdict for every line of a file to standard output, and a summary to "
            "standard error."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    text = f"the task that the completions answer: {', '.join(tasks())}; or ./mine.py:TASK"
    add("task", metavar="TASK", help=text)
    text = "a file: JSONL (.jsonl, .ndjson), a JSON array, .csv, .tsv or parquet, gzipped or not; - is stdin"
    add("files", metavar="FILE", nargs="*", help=text)
    text = "prepares the task now instead of at its first use, and compiles the kernels of all tasks"
    add("--prepare", action="store_true", help=text)
    text = (
        "lenient (default) accepts any notation of the value; strict accepts only the format of the prompt; flexible "
        "also judges completions that mark no answer, by the last number or formula of their last sentence that has one"
    )
    add("--mode", choices=MODES, default="lenient", help=text)
    text = "d1 also judges as the published code of d1 (also of SPG, wd1) does, and says where the two differ"
    add("--rules", choices=("d1",), help=text)
    text = "writes the verdicts to FILE, not to standard output (.gz: compressed)"
    add("--output", metavar="FILE", help=text)
    text = "columns of the file, or of --references, that are written beside each verdict; the column id always is"
    add("--keep", metavar="COLUMN", nargs="+", action="extend", default=[], help=text)
    text = "a column by whose values the summary also counts, e.g. --by level"
    add("--by", metavar="COLUMN", default="", help=text)
    text = "writes the summary as a line of JSON: to standard error or, with --output, to standard output"
    add("--json", action="store_true", help=text)
    text = "the number of processes that judge (1)"
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help=text)
    text = "the file has the field names of this tool (qa: answer, response)"
    add("--preset", choices=list(PRESETS), help=text)
    text = (
        "the field of the completion; `a.b` is field b inside field a; of a list, each completion is judged"
    )
    add("--completion-field", metavar="NAME", help=text)
    text = "the field of the reference (gsm8k: answer); FIELD=NAME, once for each, if the task has several"
    add("--answer-field", metavar="NAME", action="append", default=[], help=text)
    text = (
        "the field of the problem (math500); an answer must then also be worked out and in the form that the problem "
        "asks for; a column of the name problem is used unasked, '' leaves it out"
    )
    add("--problem-field", metavar="NAME", help=text)
    text = (
        "FIELD=VALUE: a setting of the task, e.g. decimal=, or unit=ml (gsm8k), choices=spam,ham (text); VALUE is a "
        "column, or the value for all lines"
    )
    add("--setting", metavar="FIELD=VALUE", action="append", default=[], help=text)
    text = "takes the references from this file, if they are not beside the completions; needs --on"
    add("--references", metavar="FILE", help=text)
    text = "the field that is equal in a completion and its reference, or its two names: custom_id=id"
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
    if (args.references is None) != (args.on is None):
        raise CommandError("--references FILE and --on FIELD go together: which file, and by which field.")
    keep = list(dict.fromkeys(["id", *args.keep]))
    if taken := [name for name in keep if name in VERDICT]:
        raise CommandError(f"--keep {taken[0]}: the verdict has a field of this name. Rename the column.")
    for path in args.files:
        check_file(path)
    known = candidates(task, args)  # {preset: the names of the columns}
    start = time.monotonic()
    total = Judged()
    unread: list[CommandError] = []
    blocks = read_blocks(args.files, _columns(args, task, known), unread)
    if args.references:
        key, _, key_there = args.on.partition("=")
        own = next(iter(known.values()))
        names = {field: several for field, several in own.items() if field != "completion"}
        # The id beside a verdict is the completion's.
        kept = [name for name in (*keep, args.by) if name not in ("id", "")]
        table = read_references(args.references, key_there or key, names, kept)
        blocks = join(blocks, key, table, args.references)
    first = [*islice(blocks, 1)]
    preset, columns, settings, notices = find_columns(task, args, known, first[0].lines if first else [])
    sys.stderr.writelines(f"{notice}\n" for notice in notices)
    blocks = chain(first, blocks)
    if preset == "lm-eval":
        blocks = without_repeated(blocks, total.tally)
    job = Job(args.task, args.mode, columns, settings, args.rules, keep, args.by)
    try:
        is_written = _write_verdicts(args, job, blocks, total)
    except KeyboardInterrupt:
        where = f", in {args.output}{PARTIAL}" if args.output else ""
        number = plural(total.tally["judged"] + total.tally["invalid"], "completion")
        sys.stderr.write(f"\nStopped: {number} judged{where}.\n")
        raise
    broken = sum(isinstance(error, BrokenFile) for error in unread)
    facts = summary(job, total, time.monotonic() - start, broken)
    sys.stderr.write(faults_text(total, is_written))
    if args.json:
        stream = sys.stderr if args.output is None else sys.stdout  # standard output then has verdicts alone
        stream.write(json.dumps(facts) + "\n")
        stream.flush()
    else:
        sys.stderr.write(summary_text(facts))
    sys.stderr.writelines(f"{error}\n" for error in unread)
    judged, invalid = total.tally["judged"], total.tally["invalid"]
    return 1 if broken or not judged or judged < invalid else 0


def _columns(args: argparse.Namespace, task: Task, known: dict[str, Columns]) -> set[str]:
    """The names of all columns that may be needed of a file."""
    names = {"id", *args.keep, args.by, *task.optional, *(args.on or "").split("=")}
    names.update(*(several for columns in known.values() for several in columns.values()))
    names.update(word.partition("=")[2] for word in args.setting)
    return names | {name.partition(".")[0] for name in names}  # the name `a.b` is field b in column a


def _write_verdicts(args: argparse.Namespace, job: Job, blocks: Iterable[Block], total: Judged) -> bool:
    """Writes all verdicts and adds them up. Returns False if no line can be judged, and nothing is written."""
    held: list[bytes] = []  # verdicts that wait for the first line that can be judged
    is_written = False
    with contextlib.closing(judge_blocks(job, blocks, args.workers)) as results, _output(args) as output:
        for judged in results:
            total.add(judged)
            held.append(judged.output.encode())
            if is_written or total.tally["judged"] or sum(map(len, held)) >= MAX_HELD_BYTES:
                output.writelines(held)
                held, is_written = [], True
    return is_written


@contextlib.contextmanager
def _output(args: argparse.Namespace) -> Iterator[IO[bytes]]:
    """The stream that the verdicts are written to."""
    if args.output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    exists = os.path.exists(args.output)
    read = [path for path in (*args.files, args.references) if path not in ("-", None)]
    if exists and any(os.path.samefile(path, args.output) for path in read):
        raise CommandError(f"--output {args.output} is a file that is to be read; give another name.")
    # A device or a pipe is written to directly.
    partial = args.output if exists and not os.path.isfile(args.output) else args.output + PARTIAL
    try:
        stream = gzip.open(partial, "wb", 4) if args.output.endswith(".gz") else open(partial, "wb")
    except OSError as error:
        raise CommandError(f"--output {args.output} cannot be written: {error.strerror}.") from error
    with stream:
        yield stream  # type: ignore[misc]
        is_written = partial == args.output or stream.tell() > 0
    if not is_written:
        os.remove(partial)
    elif partial != args.output:
        os.replace(partial, args.output)  # so that only a complete file has the name of --output


if __name__ == "__main__":
    sys.exit(main())
