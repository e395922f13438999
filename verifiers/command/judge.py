"""One block of lines judged: a verdict for every line that holds a sample, a reason for every other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from verifiers.command.lines import Block, LineError, is_summary, lines_of, read_line
from verifiers.errors import VerifierError
from verifiers.registry import Mode, verify, verify_batch
from verifiers.reward import unwrap

ROWS_BEFORE_COMPILING = 2500  # are judged while numba is imported; a first compilation takes much longer
REPORTED = 100  # problems that are spelled out on standard error; the output names all of them


@dataclass(frozen=True)
class Job:
    """What is to be done with every line."""

    task: str
    mode: Mode
    completion: str
    """Name of the completion's field."""
    references: dict[str, str]
    """Reference field of the task -> its name in the file."""
    accept_verdicts: bool = False
    """Take a line that holds `correct` and no completion as the verdict that it is."""


@dataclass
class Tally:
    """Counts over the lines seen so far."""

    judged: int = 0
    correct: int = 0
    invalid: int = 0
    """Lines without a verdict: no JSON, a field missing, an invalid reference."""
    score: float = 0.0
    """Sum over the judged lines."""
    reasons: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Tally:
        """The tally whose attributes went through JSON."""
        return cls(**{**facts, "reasons": Counter(facts["reasons"]), "tiers": Counter(facts["tiers"])})

    def add(self, other: Tally) -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


class Judged(NamedTuple):
    """What came of a block."""

    label: str
    output: bytes
    """One line of JSON for each line of the block."""
    marks: str
    """One character for each line: "1" correct, "0" not, "-" no verdict."""
    tally: Tally
    problems: list[tuple[int, str]]
    """(number, what is wrong) of the first REPORTED lines without a verdict."""


# (correct, score, extracted, reason, decided_by), or why there is no verdict, or None for a line to leave out
Outcome = tuple[bool, float, str | None, str, str] | str | None


def judge_block(job: Job, block: Block) -> Judged:
    """Judge every line of a block; whatever is wrong with a line concerns that line alone."""
    outcomes: list[Outcome] = []
    rows: list[int] = []
    completions: list[object] = []
    references: dict[str, list[Any]] = {name: [] for name in job.references}
    for line in lines_of(block):
        try:
            row = read_line(line)
            if job.accept_verdicts and job.completion not in row:
                outcomes.append(None if is_summary(row) else recorded_verdict(row))
                continue
            values = [
                unwrap(_get(row, name, "problem"), "user")
                if field == "problem"
                else _get(row, name, "answer")
                for field, name in job.references.items()
            ]
            completion = unwrap(_get(row, job.completion, "completion"))
        except LineError as error:
            outcomes.append(str(error))
            continue
        rows.append(len(outcomes))
        outcomes.append("")
        completions.append(completion)
        for column, value in zip(references.values(), values, strict=True):
            column.append(value)
    judged = _judge(job, completions, references) if rows else []
    for row, outcome in zip(rows, judged, strict=True):
        outcomes[row] = outcome
    return _report_lines(block, outcomes)


def unjudged_block(block: Block, why: str) -> Judged:
    return _report_lines(block, [why] * len(lines_of(block)))


def recorded_verdict(row: dict[str, Any]) -> Outcome:
    """The verdict that a line of a verdict file holds; raises LineError where it holds none."""
    correct = row.get("correct")
    if correct is None and "correct" in row:
        return str(row.get("error") or 'has "correct": null.')
    if correct not in (0, 1):
        raise LineError('lacks "correct": true or false.')
    score, extracted = row.get("score"), row.get("extracted")
    return (
        bool(correct),
        float(score if isinstance(score, int | float) else correct),
        extracted if isinstance(extracted, str) else None,
        str(row.get("reason", "")),
        str(row.get("decided_by", "")),
    )


def _get(row: dict[str, Any], name: str, flag: str) -> Any:
    if name in row:
        return row[name]
    there = ", ".join(list(row)[:24]) or "nothing"
    raise LineError(f'lacks "{name}"; it has {there}. Name the right field with --{flag}-field.')


def _judge(job: Job, completions: list[object], references: dict[str, list[Any]]) -> list[Outcome]:
    """A batch with an invalid reference raises: then its halves are judged apart."""
    try:
        verdicts = verify_batch(job.task, completions, mode=job.mode, **references)
    except Exception:
        if len(completions) == 1:
            return [_judge_one(job, completions[0], {name: column[0] for name, column in references.items()})]
        outcomes: list[Outcome] = []
        middle = len(completions) // 2
        for half in (slice(middle), slice(middle, None)):
            parts = {name: column[half] for name, column in references.items()}
            outcomes += _judge(job, completions[half], parts)
        return outcomes
    columns = (verdicts.correct.tolist(), verdicts.score.tolist(), verdicts.extracted)
    return list(zip(*columns, verdicts.reasons, verdicts.tiers, strict=True))


def _judge_one(job: Job, completion: object, reference: dict[str, Any]) -> Outcome:
    try:
        verdict = verify(job.task, completion, mode=job.mode, **reference)
    except VerifierError as error:
        return f"has an invalid reference: {error}"
    except Exception as error:  # a task from outside that breaks its contract must not end a long run
        return f"made the task fail: {type(error).__name__}: {error}"
    return verdict.correct, verdict.score, verdict.extracted, str(verdict.reason), str(verdict.decided_by)


def _report_lines(block: Block, outcomes: list[Outcome]) -> Judged:
    tally, marks, problems, lines = Tally(), [], [], []
    before = f'{{"file": {_quoted(block.label)}, "line": ' if block.label else '{"line": '
    for number, outcome in enumerate(outcomes, block.first):
        if outcome is None:
            continue
        if isinstance(outcome, str):
            tally.invalid += 1
            marks.append("-")
            if len(problems) < REPORTED:
                problems.append((number, outcome))
            lines.append(
                f'{before}{number}, "correct": null, "score": null, "extracted": null, "reason": null, '
                f'"decided_by": null, "error": {_quoted(outcome)}}}\n'
            )
            continue
        correct, score, extracted, reason, tier = outcome
        tally.score += score
        tally.reasons[reason] += 1
        tally.tiers[tier] += 1
        marks.append("1" if correct else "0")
        lines.append(
            f'{before}{number}, "correct": {"true" if correct else "false"}, "score": {score!r}, '
            f'"extracted": {"null" if extracted is None else _quoted(extracted)}, '
            f'"reason": {_quoted(reason)}, "decided_by": {_quoted(tier)}}}\n'
        )
    tally.judged = len(marks) - tally.invalid
    tally.correct = marks.count("1")
    return Judged(block.label, "".join(lines).encode(), "".join(marks), tally, problems)
