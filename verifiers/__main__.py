"""`python -m verifiers TASK FILE`: a verdict for every line of a file. See docs/verifiers/command_line.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import IO

import verifiers
from verifiers import batch
from verifiers.command.fields import PRESETS, Names, Preset, columns_of, reference_names
from verifiers.command.judge import REPORTED, ROWS_BEFORE_COMPILING, Job, Tally
from verifiers.command.lines import CommandError, Source
from verifiers.command.pool import judge_blocks
from verifiers.command.report import Comparison, summary, summary_text
from verifiers.errors import UnknownTaskError
from verifiers.registry import MODES, Task, find, tasks
from verifiers.statistics import wilson_interval

_VERDICT_COLUMNS = {"line", "correct", "score", "extracted", "reason", "decided_by", "error"}
_EPILOG = """\
examples:
  python -m verifiers sudoku runs/my-run/samples/step-000100.jsonl > verdicts.jsonl
  python -m verifiers gsm8k completions.parquet --answer-field solution --output verdicts.jsonl --workers 4
  zcat completions.jsonl.gz | python -m verifiers math500 - --mode strict --json --output verdicts.jsonl
  python -m verifiers countdown samples.jsonl --answer-field numbers=nums --answer-field target=goal
  python -m verifiers gsm8k samples_gsm8k.jsonl --preset lm-eval
  python -m verifiers gsm8k samples.jsonl --compare older-verdicts.jsonl

One JSON line goes out for each line that came in, in order: line, correct, score, extracted, reason,
decided_by. A line that cannot be judged has "correct": null and an "error", and is counted apart.
Exit status: 0 when it ran, 1 when a file broke off or nothing was judged, 2 when a task, a file or a flag is unknown.
"""
Log = Callable[[str], None]
Update = Callable[[Tally, int, int], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_intermixed_args(arguments)
    batch.delay_compilation(ROWS_BEFORE_COMPILING)
    try:
        _reopen_closed_streams()
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
        batch.delay_compilation(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verifiers",
        description="Is this completion right? One verdict for every line of a file, and a summary.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"spg-trainer {verifiers.__version__}")
    add("task", metavar="TASK", help=f"what the lines are about: {', '.join(tasks())}")
    add(
        "files",
        metavar="FILE",
        nargs="+",
        help="JSONL, a JSON array, .csv, .tsv or parquet, gzipped or not; - is standard input",
    )
    add(
        "--mode",
        choices=MODES,
        default="lenient",
        help="strict: the prompt's format exactly; lenient (default): any accepted notation of the value",
    )
    add("--output", metavar="FILE", help="write the verdicts here, not to standard output (.gz compresses)")
    add("--json", action="store_true", help="write the summary as one line of JSON to standard output")
    add("--workers", metavar="N", type=_positive, default=1, help="judge in N processes (1: in this one)")
    add("--preset", choices=list(PRESETS), help="field names as that tool writes them (qa: answer, response)")
    add(
        "--completion-field",
        metavar="NAME",
        help="the completion's field (default: completion); a.b is b inside a; a list is judged one by one",
    )
    add(
        "--answer-field",
        metavar="NAME",
        action="append",
        default=[],
        help="where the reference is, instead of the task's own name; FIELD=NAME where it has several",
    )
    add(
        "--problem-field",
        metavar="NAME",
        help="where the problem is: a copy of it is then no answer (math500)",
    )
    add("--compare", metavar="OTHER", help="list the lines that this verdict file judges otherwise")
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; use 1 or more")
    return value


def _reopen_closed_streams() -> None:
    """Open /dev/null for each stream that the caller closed (`2>&-`), so that no file of ours takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = open(os.devnull)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def _run(args: argparse.Namespace) -> int:
    task = find(args.task)
    preset = PRESETS.get(args.preset)
    completion = preset.completion if preset else ("completion",)
    if args.completion_field is not None:
        completion = (args.completion_field,)
    references = _references(task, preset, args.answer_field)
    if args.problem_field is not None:
        if "problem" not in task.optional:
            raise CommandError(f'--problem-field {args.problem_field}: task "{task.name}" takes no problem.')
        references["problem"] = (args.problem_field,)
    columns = columns_of([*completion, *chain.from_iterable(references.values())])
    columns |= _VERDICT_COLUMNS if args.compare else set()
    several = len(args.files) > 1
    sources = [Source(path, columns, label=path if several else "") for path in args.files]
    if args.compare and several:
        raise CommandError("--compare compares one FILE with one other; give one FILE.")
    if sys.stdout is None and (args.json or args.compare or args.output is None):
        raise OSError("standard output is closed; give --output FILE, without --json and --compare.")
    comparison = Comparison(Source(args.compare, columns)) if args.compare else None
    job = Job(task.name, args.mode, completion, references, accept_verdicts=bool(comparison))
    tally, reported, start = Tally(), 0, time.monotonic()
    blocks = (block for source in sources for block in source.blocks())
    with (
        _output(args) as (verdicts, differences),
        _progress(args, start) as (log, update),
        contextlib.closing(judge_blocks(job, blocks, args.workers)) as results,
    ):
        for judged in results:
            if verdicts is not None:
                verdicts.write(judged.output)
            if comparison is not None:
                differences.write(comparison.disagreements(judged))
            if not tally.judged and set(judged.tally.reasons) == {"malformed"}:
                names = " or ".join(completion)
                log(
                    f'{judged.tally.judged:,} answers and all malformed: is "{names}" the field of the completion?'
                )
            tally.add(judged.tally)
            for number, problem in judged.problems[: REPORTED - reported]:
                log(f"{judged.label}{', ' if judged.label else ''}line {number} {problem}")
                reported += 1
            update(tally, sum(source.position for source in sources), sum(source.size for source in sources))
    seconds = time.monotonic() - start
    if tally.invalid > reported:
        sys.stderr.write(f"... and {tally.invalid - reported:,} more lines without a verdict.\n")
    if comparison is not None:
        sys.stderr.write(comparison.rest())
    facts = summary(job, tally, seconds, comparison)
    if args.json:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(summary_text(facts))
    broken = [source for source in (*sources, *([comparison.other] if comparison else [])) if source.failure]
    for source in broken:
        sys.stderr.write(f"{source.path}: {source.failure}\n")
    return 1 if broken or not tally.judged else 0


def _references(task: Task, preset: Preset | None, given: list[str]) -> dict[str, Names]:
    """Reference field -> names in the file, from the preset and the values of --answer-field."""
    names = reference_names(preset, task.fields)
    for text in given:
        field, equals, name = text.partition("=")
        if equals and field in names and name:
            names[field] = (name,)
        elif len(names) == 1:
            names = {field: (text,) for field in names}
        else:
            forms = " ".join(f"--answer-field {field}=NAME" for field in names)
            raise CommandError(
                f'--answer-field {text}: task "{task.name}" has {len(names)} fields; use {forms}.'
            )
    return names


@contextlib.contextmanager
def _output(args: argparse.Namespace) -> Iterator[tuple[IO[bytes] | None, IO[bytes] | None]]:
    """(where the verdicts go, where disagreements go)."""
    standard = sys.stdout.buffer if sys.stdout else None
    with contextlib.ExitStack() as stack:
        verdicts = None if args.compare else standard
        if args.output is not None:
            verdicts = stack.enter_context(_open_output(args))
        yield verdicts, standard
        if standard:
            standard.flush()


@contextlib.contextmanager
def _open_output(args: argparse.Namespace) -> Iterator[IO[bytes]]:
    for path in (*args.files, *([args.compare] if args.compare else [])):
        if os.path.exists(args.output) and os.path.exists(path) and os.path.samefile(path, args.output):
            raise CommandError(f"--output {args.output} is a file that is to be read; give another name.")
    try:
        stream: IO[bytes] = open(args.output, "wb")
    except OSError as error:
        raise CommandError(f"--output {args.output} cannot be written: {error.strerror}.") from error
    with stream:
        if not args.output.endswith(".gz"):
            yield stream
            return
        import gzip

        with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=4) as compressed:
            yield compressed  # type: ignore[misc]


@contextlib.contextmanager
def _progress(args: argparse.Namespace, start: float) -> Iterator[tuple[Log, Update]]:
    """(writes a line to standard error, updates the progress bar); the bar shows on a terminal only."""
    if not sys.stderr.isatty() or (args.output is None and not args.compare and sys.stdout.isatty()):
        yield (lambda text: sys.stderr.write(text + "\n")), (lambda tally, position, size: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading", total=None)

        def update(tally: Tally, position: int, size: int) -> None:
            progress.update(bar, description=_state(tally, start), completed=position, total=size or None)

        yield (lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)), update


def _state(tally: Tally, start: float) -> str:
    lines = tally.judged + tally.invalid
    low, high = wilson_interval(tally.correct, tally.judged)
    rate = f"{tally.correct / tally.judged:.1%} [{low:.1%}, {high:.1%}]" if tally.judged else "-"
    return f"{lines:,} lines  {lines / max(time.monotonic() - start, 1e-9):,.0f}/s  right {rate}"


if __name__ == "__main__":
    sys.exit(main())
