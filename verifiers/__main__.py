"""`python -m verifiers TASK FILE`: a verdict for every line of a file. See docs/verifiers/command_line.md."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any

from verifiers import batch
from verifiers.command.fields import PRESETS, candidates, find_columns, without_repeated
from verifiers.command.flags import Parser, number_between
from verifiers.command.join import Table, join, read_references
from verifiers.command.judge import VERDICT, Job, Judged, judge_blocks
from verifiers.command.report import faults_text, summary, summary_text
from verifiers.errors import CommandError, VerifierError, plural
from verifiers.files import Block, BrokenFile, check_file, objects_of, read_blocks
from verifiers.registry import MODES, check_mode, find, name_in_file, tasks

FIELDS = ("file", "line", "sample", *VERDICT, "verifier_rules", "detail", "error", "d1")
"""The fields that a line of the output may have, besides columns that are kept."""
MAX_HELD_BYTES = 1 << 26  # the most bytes of verdicts that wait for the first line that can be judged
PARTIAL = ".partial"  # added to the name of --output while it is being written
_EPILOG = """\
examples:
  python -m verifiers sudoku runs/my-run/samples/step-000100.jsonl > verdicts.jsonl
  python -m verifiers gsm8k completions.parquet --answer-field solution --output verdicts.jsonl --workers 4
  python -m verifiers countdown samples.jsonl --answer-field numbers=nums --answer-field target=goal

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
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # of writing; an error of reading never gets here
        # As it ends, Python would try again to write the rest; so the rest is sent to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the program that read the verdicts has closed the pipe
            return 0
        place = f"{args.output}{PARTIAL}" if args.output else "standard output"
        why = f"the verdicts cannot be written to {place}: {error.strerror}"
        sys.stderr.write(f"Stopped: {why}. Make room there, or give another --output FILE.\n")
        return 1


def _parser() -> Parser:
    parser = Parser(
        prog="python -m verifiers",
        description="Judges completions: writes one verdict for every line of a file, and a summary to standard error.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("task", metavar="TASK", help=f"one of {', '.join(tasks())}; or ./mine.py:TASK")
    text = "a file: JSONL (.jsonl, .ndjson), a JSON array, .csv, .tsv or parquet, gzipped or not; - is stdin"
    add("files", metavar="FILE", nargs="*", help=text)
    add("--prepare", action="store_true", help="prepares the task now, and compiles the kernels of all tasks")
    text = "lenient (default): any notation; strict: the prompt's format; flexible: also a last value without a mark"
    add("--mode", choices=MODES, default="lenient", help=text)
    add("--rules", choices=("d1",), help="also judges as the published code of d1, SPG, wd1 does; compares")
    add("--output", metavar="FILE", help="takes the verdicts instead of standard output (.gz: compressed)")
    text = "columns of the file, or of --references, that are written beside each verdict; the column id always is"
    add("--keep", metavar="COLUMN", nargs="+", action="extend", default=[], help=text)
    add("--by", metavar="COLUMN", default="", help="a column whose values the summary counts apart: level")
    add("--json", action="store_true", help="the summary as a line of JSON; with --output to standard output")
    add("--workers", metavar="N", type=number_between(1, 1024), default=1, help="processes that judge (1)")
    add("--preset", choices=[*PRESETS][1:], help="the fields have the names of this tool (qa: response)")
    add("--completion-field", metavar="NAME", help="the field of the completion; a.b: field b inside a")
    text = "the field of the reference (gsm8k: answer); FIELD=NAME, once for each, if the task has several"
    add("--answer-field", metavar="NAME", action="append", default=[], help=text)
    add("--problem-field", metavar="NAME", help="the field of the problem (math500); '' leaves it out")
    text = "a setting of the task, e.g. decimal=, or unit=ml (gsm8k); VALUE is a column, or the value for all lines"
    add("--setting", metavar="FIELD=VALUE", action="append", default=[], help=text)
    add("--references", metavar="FILE", help="takes the references from this file; needs --on")
    add("--on", metavar="FIELD", help="the field that is equal in both files, or its two names: custom_id=id")
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
    if taken := [name for name in keep if name in FIELDS]:
        raise CommandError(f"--keep {taken[0]}: the verdict has a field of this name. Rename the column.")
    for path in args.files:
        check_file(path)
    known = candidates(task, args)  # {preset: the names of the columns}
    start = time.monotonic()
    total, unread = Judged(), list[CommandError]()
    counts = total.counts["lines"]
    key, _, key_there = (args.on or "").partition("=")
    table: Table = {}
    if args.references:
        # The id beside a verdict is the completion's.
        kept = [name for name in (*keep, args.by) if name not in ("id", "")]
        table = read_references(args.references, key_there or key, next(iter(known.values())), kept)
    wanted = {*keep, args.by, key, *task.optional, *(word.partition("=")[2] for word in args.setting)}
    wanted.update(name for columns in known.values() for several in columns.values() for name in several)
    blocks = read_blocks(args.files, wanted, unread)
    first = [*islice(blocks, 1)]
    preset, columns, settings, notices = find_columns(task, args, known, objects_of(first), table)
    sys.stderr.writelines(f"{notice}\n" for notice in notices)
    blocks = chain(first, blocks)
    if preset == "lm-eval":
        blocks = without_repeated(blocks, counts)
    if table:
        blocks = join(blocks, key, table, args.references)
    job = Job(args.task, args.mode, columns, settings, args.rules, keep, args.by)
    try:
        is_written = _write_verdicts(args, job, blocks, total)
    except KeyboardInterrupt:
        where = f", in {args.output}{PARTIAL}" if args.output else ""
        judged = counts["judged"] + counts["invalid"]
        sys.stderr.write(f"\nStopped: {plural(judged, 'completion')} judged{where}.\n")
        raise
    broken = sum(isinstance(error, BrokenFile) for error in unread)
    facts = summary(job, total, time.monotonic() - start, broken)
    sys.stderr.write(faults_text(total, is_written))
    if args.json:
        # With --output, standard output has the summary alone; else it has the verdicts alone.
        stream = sys.stderr if args.output is None else sys.stdout
        stream.write(json.dumps(facts) + "\n")
        stream.flush()
    else:
        sys.stderr.write(summary_text(facts))
    sys.stderr.writelines(f"{error}\n" for error in unread)
    return 1 if broken or not counts["judged"] or counts["judged"] < counts["invalid"] else 0


def _write_verdicts(args: argparse.Namespace, job: Job, blocks: Iterable[Block], total: Judged) -> bool:
    """Writes all verdicts and adds them up. Returns False if no line can be judged, and nothing is written."""
    held, is_written = b"", False  # held: verdicts that wait for the first line that can be judged
    stream, partial = _output(args)
    with contextlib.closing(judge_blocks(job, blocks, args.workers)) as results, stream as output:
        for judged in results:
            total.add(judged)
            held += judged.output.encode()
            if is_written or total.counts["lines"]["judged"] or len(held) >= MAX_HELD_BYTES:
                output.write(held)
                held, is_written = b"", True
        output.flush()
    if partial and is_written:
        os.replace(partial, args.output)  # so that only a complete file has the name of --output
    elif partial:
        os.remove(partial)
    return is_written


def _output(args: argparse.Namespace) -> tuple[contextlib.AbstractContextManager[Any], str]:
    """(the stream that the verdicts are written to, the name of its file until it is complete or "")."""
    if args.output is None:
        return contextlib.nullcontext(sys.stdout.buffer), ""
    exists = os.path.exists(args.output)
    if exists and any(
        os.path.samefile(path, args.output) for path in {*args.files, args.references} - {"-", None}
    ):
        raise CommandError(f"--output {args.output} is a file that is to be read; give another name.")
    # A device or a pipe is written to directly.
    partial = "" if exists and not os.path.isfile(args.output) else args.output + PARTIAL
    try:
        path = partial or args.output
        return gzip.open(path, "wb", 4) if args.output.endswith(".gz") else open(path, "wb"), partial
    except OSError as error:
        raise CommandError(f"--output {args.output} cannot be written: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
