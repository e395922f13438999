"""One block of lines judged: a verdict for every line that holds a sample, a reason for every other."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from verifiers.command.fields import Names, completions_in, find_field, is_absent, read_sample
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
    completion: Names
    """Names of the completion's field."""
    references: dict[str, Names]
    """Reference field of the task -> its names in the file."""
    accept_verdicts: bool = False
    """Take a line that holds `correct` and no completion as the verdict that it is."""


@dataclass
class Tally:
    """Counts over the lines seen so far."""

    judged: int = 0
    correct: int = 0
    invalid: int = 0
    """Lines (or completions of a list) without a verdict: no JSON, a field missing, an invalid reference."""
    score: float = 0.0
    """Sum over the judged lines."""
    reasons: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    """Lines with a list of completions: "right/judged" -> how many."""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Tally:
        """The tally whose attributes went through JSON."""
        return cls(**{**facts, **{name: Counter(facts[name]) for name in ("reasons", "tiers", "groups")}})

    def add(self, other: Tally) -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


class Judged(NamedTuple):
    """What came of a block."""

    label: str
    output: bytes
    """One line of JSON for each completion of the block."""
    marks: str
    """One character for each of those lines: "1" correct, "0" not, "-" no verdict."""
    tally: Tally
    problems: list[tuple[int, str]]
    """(number, what is wrong) of the first REPORTED lines without a verdict."""


# (correct, score, extracted, reason, decided_by), or why there is no verdict
Outcome = tuple[bool, float, str | None, str, str] | str


def judge_block(job: Job, block: Block) -> Judged:
    """Judge every line of a block; whatever is wrong with a line concerns that line alone."""
    # of each outcome: the line, and which completion of a list, from 1, or 0
    places: list[tuple[int, int]] = []
    outcomes: list[Outcome] = []
    rows: list[int] = []
    completions: list[object] = []
    references: dict[str, list[Any]] = {name: [] for name in job.references}
    first, firsts = job.completion[0], [names[0] for names in job.references.values()]
    for number, line in enumerate(lines_of(block), block.first):
        try:
            row = read_line(line)
            if job.accept_verdicts and is_absent(find_field(row, job.completion)):
                if not is_summary(row):
                    outcomes.append(recorded_verdict(row))
                    places.append((number, 0))
                continue
            try:
                value, values = row[first], [row[name] for name in firsts]
            except KeyError:
                value, values = read_sample(row, job.completion, job.references.values())
            if "problem" in job.references:
                prompt = list(job.references).index("problem")
                values[prompt] = unwrap(values[prompt], "user")
        except LineError as error:
            places.append((number, 0))
            outcomes.append(str(error))
            continue
        found = (value,) if type(value) is str else completions_in(value)
        for place, completion in enumerate(found, 1):
            places.append((number, place if len(found) > 1 else 0))
            rows.append(len(outcomes))
            outcomes.append("")
            completions.append(completion)
            for column, reference in zip(references.values(), values, strict=True):
                column.append(reference)
    judged = _judge(job, completions, references) if rows else []
    for place, outcome in zip(rows, judged, strict=True):
        outcomes[place] = outcome
    return _report_lines(block.label, places, outcomes)


def unjudged_block(block: Block, why: str) -> Judged:
    places = [(number, 0) for number, _ in enumerate(lines_of(block), block.first)]
    return _report_lines(block.label, places, [why] * len(places))


def recorded_verdict(row: dict[str, Any]) -> Outcome:
    """The verdict that a line of a verdict file holds; raises LineError where it holds none."""
    correct = row.get("correct")
    if correct is None and "correct" in row:
        return str(row.get("error") or 'has "correct": null.')
    if correct not in (0, 1):
        raise LineError('lacks "correct": true or false.')
    score, extracted = row.get("score"), row.get("extracted")
    if not isinstance(score, int | float):
        score = correct
    elif not abs(score) <= sys.float_info.max:
        raise LineError('has a "score" that is no finite number.')
    return (
        bool(correct),
        float(score),
        extracted if isinstance(extracted, str) else None,
        str(row.get("reason", "")),
        str(row.get("decided_by", "")),
    )


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


def _report_lines(label: str, places: list[tuple[int, int]], outcomes: list[Outcome]) -> Judged:
    tally, marks, problems, lines = Tally(), [], [], []
    before = f'{{"file": {_quoted(label)}, "line": ' if label else '{"line": '
    groups: dict[int, list[str]] = {}  # line -> marks of its list
    for (number, sample), outcome in zip(places, outcomes, strict=True):
        place = f'{number}, "sample": {sample}' if sample else number
        if isinstance(outcome, str):
            tally.invalid += 1
            mark = "-"
            if len(problems) < REPORTED:
                problems.append((number, outcome))
            lines.append(
                f'{before}{place}, "correct": null, "score": null, "extracted": null, "reason": null, '
                f'"decided_by": null, "error": {_quoted(outcome)}}}\n'
            )
        else:
            correct, score, extracted, reason, tier = outcome
            tally.score += score
            tally.reasons[reason] += 1
            tally.tiers[tier] += 1
            mark = "1" if correct else "0"
            lines.append(
                f'{before}{place}, "correct": {"true" if correct else "false"}, "score": {score!r}, '
                f'"extracted": {"null" if extracted is None else _quoted(extracted)}, '
                f'"reason": {_quoted(reason)}, "decided_by": {_quoted(tier)}}}\n'
            )
        marks.append(mark)
        if sample:
            groups.setdefault(number, []).append(mark)
    for group in groups.values():
        if judged := len(group) - group.count("-"):
            tally.groups[f"{group.count('1')}/{judged}"] += 1
    tally.judged = len(marks) - tally.invalid
    tally.correct = marks.count("1")
    return Judged(label, "".join(lines).encode(), "".join(marks), tally, problems)
