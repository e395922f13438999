"""`python -m verifiers TASK FILE`: a verdict for every line of a file. See docs/verifiers/command_line.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from verifiers import _compile
from verifiers._cli_judge import PATIENCE, REPORTED, Job, Judged, Tally
from verifiers._cli_read import CommandError, Source
from verifiers._cli_report import Comparison, summary, told, wilson
from verifiers.errors import UnknownTaskError
from verifiers.registry import MODES, find, tasks

if TYPE_CHECKING:
    from verifiers.registry import Task

_PARQUET_ROWS = 1024
_EPILOG = """\
examples:
  python -m verifiers sudoku runs/my-run/samples/step-000100.jsonl > verdicts.jsonl
  python -m verifiers gsm8k completions.parquet --answer-field solution --output verdicts.jsonl --workers 4
  zcat completions.jsonl.gz | python -m verifiers math500 - --mode strict --json --output verdicts.jsonl
  python -m verifiers countdown samples.jsonl --answer-field numbers=nums --answer-field target=goal
  python -m verifiers gsm8k samples.jsonl --compare older-verdicts.jsonl

One JSON line goes out for each line that came in, in order: line, correct, score, extracted, reason,
decided_by. A line that cannot be judged has "correct": null and an "error", and is counted apart.
Exit status: 0 when it ran, 1 when a file broke off, 2 when a task, a file or a flag is unknown.
"""
Say = Callable[[str], None]
Show = Callable[[Tally, int, int], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_intermixed_args(arguments)
    _compile.be_patient(PATIENCE)
    try:
        return _run(args)
    except (CommandError, UnknownTaskError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:  # whoever read the verdicts has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # reading never gets here: the disk is full, or a file is gone
        sys.stderr.write(f"stopped: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _compile.be_patient(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verifiers",
        description="Is this completion right? One verdict for every line of a file, and a summary.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("task", metavar="TASK", help=f"what the lines are about: {', '.join(tasks())}")
    add("files", metavar="FILE", nargs="+", help="JSONL, gzipped JSONL or parquet; - is standard input")
    add(
        "--mode",
        choices=MODES,
        default="lenient",
        help="strict: the prompt's format exactly; lenient (default): any accepted notation of the value",
    )
    add("--output", metavar="FILE", help="write the verdicts here, not to standard output (.gz compresses)")
    add("--json", action="store_true", help="write the summary as one line of JSON to standard output")
    add("--workers", metavar="N", type=_positive, default=1, help="judge in N processes (1: in this one)")
    add(
        "--completion-field",
        metavar="NAME",
        default="completion",
        help="where the completion is (completion)",
    )
    add(
        "--answer-field",
        metavar="NAME",
        action="append",
        default=[],
        help="where the reference is, instead of the task's own name; FIELD=NAME where it has several",
    )
    add(
        "--compare",
        metavar="OTHER",
        help="list the lines whose verdict differs from that of this verdict file",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; use 1 or more")
    return value


def _run(args: argparse.Namespace) -> int:
    from verifiers._cli_pool import Pool

    task = find(args.task)
    several = len(args.files) > 1
    sources = [
        Source(path, label=path if several else "", parquet=_parquet(args, task)) for path in args.files
    ]
    if args.compare and several:
        raise CommandError("--compare compares one FILE with one other; give one FILE.")
    comparison = Comparison(Source(args.compare, parquet=_parquet(args, task))) if args.compare else None
    job = Job(
        task.name, args.mode, args.completion_field, _references(task, args.answer_field), bool(comparison)
    )
    tally, reported, start = Tally(), 0, time.monotonic()
    with (
        _output(args) as (verdicts, found),
        _progress(args, start) as (say, show),
        Pool(job, args.workers) as pool,
    ):
        for judged in pool.map(block for source in sources for block in source.blocks()):
            if verdicts is not None:
                verdicts.write(judged.output)
            if comparison is not None:
                found.write(comparison.disagreements(judged))
            tally.add(judged.tally)
            reported += _report(judged, say, REPORTED - reported)
            show(tally, sum(source.position for source in sources), sum(source.size for source in sources))
    seconds = time.monotonic() - start
    if tally.invalid > reported:
        sys.stderr.write(f"... and {tally.invalid - reported:,} more lines without a verdict.\n")
    if comparison is not None:
        sys.stderr.write(comparison.rest())
    facts = summary(job, tally, seconds, comparison)
    sys.stdout.flush()
    if args.json:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(told(facts))
    broken = [source for source in (*sources, *([comparison.other] if comparison else [])) if source.failure]
    for source in broken:
        sys.stderr.write(f"{source.path}: {source.failure}\n")
    return 1 if broken else 0


def _references(task: Task, given: list[str]) -> dict[str, str]:
    """Reference field -> name in the file, from the values of --answer-field."""
    names = {field: field for field in task.fields}
    for text in given:
        field, equals, name = text.partition("=")
        if equals and field in names and name:
            names[field] = name
        elif len(names) == 1:
            names = {field: text for field in names}
        else:
            forms = " ".join(f"--answer-field {field}=NAME" for field in names)
            raise CommandError(
                f'--answer-field {text}: task "{task.name}" has {len(names)} fields; use {forms}.'
            )
    return names


def _report(judged: Judged, say: Say, most: int) -> int:
    """Says which lines have no verdict; returns how many it named."""
    problems = judged.problems[: max(most, 0)]
    for number, problem in problems:
        say(f"{judged.label}{', ' if judged.label else ''}line {number} {problem}")
    return len(problems)


@contextlib.contextmanager
def _output(args: argparse.Namespace) -> Iterator[tuple[IO[bytes] | None, IO[bytes]]]:
    """(where the verdicts go, where disagreements go)."""
    standard = sys.stdout.buffer
    if args.output is None:
        yield (None if args.compare else standard), standard
        standard.flush()
        return
    for path in (*args.files, *([args.compare] if args.compare else [])):
        if os.path.exists(args.output) and os.path.exists(path) and os.path.samefile(path, args.output):
            raise CommandError(f"--output {args.output} is a file that is to be read; give another name.")
    try:
        stream: IO[bytes] = open(args.output, "wb")
    except OSError as error:
        raise CommandError(f"--output {args.output} cannot be written: {error.strerror}.") from error
    with stream, contextlib.ExitStack() as stack:
        if args.output.endswith(".gz"):
            import gzip

            stream = stack.enter_context(gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=4))  # type: ignore[assignment]
        yield stream, standard
        standard.flush()


def _parquet(args: argparse.Namespace, task: Task) -> Callable[[str], Iterator[bytes]]:
    """A reader of parquet files that gives the columns of interest as blocks of JSON lines."""
    wanted = {args.completion_field, *_references(task, args.answer_field).values()}
    if args.compare:
        wanted |= {"line", "correct", "score", "extracted", "reason", "decided_by", "error"}

    def read(path: str) -> Iterator[bytes]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise CommandError(f"{path} is parquet, which needs pyarrow: pip install pyarrow.") from error
        try:
            with pyarrow.parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
                columns = [name for name in file.schema_arrow.names if name in wanted]
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns, use_threads=False):
                    rows = batch.to_pylist() if columns else [{}] * batch.num_rows
                    yield "".join(json.dumps(row, default=_plain) + "\n" for row in rows).encode()
        except pyarrow.ArrowException as error:
            raise OSError(f"not readable as parquet: {error}") from error

    return read


def _plain(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def _progress(args: argparse.Namespace, start: float) -> Iterator[tuple[Say, Show]]:
    """(says a line on standard error, shows where we are); the latter only where a person can see it."""

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    def show(tally: Tally, position: int, size: int) -> None:
        return

    if not sys.stderr.isatty() or (sys.stdout.isatty() and args.output is None and not args.compare):
        yield say, show
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        yield say, show
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading", total=None)

        def update(tally: Tally, position: int, size: int) -> None:
            progress.update(bar, description=_state(tally, start), completed=position, total=size or None)

        yield (lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)), update


def _state(tally: Tally, start: float) -> str:
    lines = tally.judged + tally.invalid
    low, high = wilson(tally.correct, tally.judged)
    rate = f"{tally.correct / tally.judged:.1%} [{low:.1%}, {high:.1%}]" if tally.judged else "-"
    return f"{lines:,} lines  {lines / max(time.monotonic() - start, 1e-9):,.0f}/s  right {rate}"


if __name__ == "__main__":
    sys.exit(main())
