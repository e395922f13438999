"""The summary of a run, and the lines on which two verdict files disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verifiers.command.judge import Job, Judged, Outcome, Tally, recorded_verdict
from verifiers.command.lines import LineError, Source, is_summary, lines_of, read_line
from verifiers.statistics import wilson_interval


def summary(job: Job, tally: Tally, seconds: float, comparison: Comparison | None) -> dict[str, Any]:
    """The facts of a run, as they are written with --json."""
    n, lines = tally.judged, tally.judged + tally.invalid
    facts: dict[str, Any] = {
        "task": job.task,
        "mode": job.mode,
        "n": n,
        "correct": tally.correct,
        "accuracy": tally.correct / n if n else None,
        "interval": list(wilson_interval(tally.correct, n)) if n else None,
        "mean_score": tally.score / n if n else None,
        "reasons": dict(tally.reasons.most_common()),
        "tiers": dict(tally.tiers.most_common()),
        "invalid_lines": tally.invalid,
        "seconds": round(seconds, 3),
        "lines_per_second": round(lines / seconds, 1) if seconds > 0 else None,
    }
    if comparison is not None:
        facts["compared"] = comparison.facts()
    return facts


def summary_text(facts: dict[str, Any]) -> str:
    n, (low, high) = facts["n"], facts["interval"] or (0.0, 1.0)
    rate = (
        f"{facts['correct']:,} right, {facts['accuracy']:.2%} [{low:.2%}, {high:.2%}]" if n else "none judged"
    )
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    for name in ("reasons", "tiers"):
        if facts[name]:
            lines.append(
                f"  {name:8}" + ", ".join(f"{key or '?'} {count:,}" for key, count in facts[name].items())
            )
    if n and abs(facts["mean_score"] - facts["accuracy"]) > 1e-12:
        lines.append(f"  mean score {facts['mean_score']:.4f}")
    if facts["invalid_lines"]:
        lines.append(f"  {facts['invalid_lines']:,} lines without a verdict (not counted above)")
    if "compared" in facts:
        lines.append(
            "  {disagree:,} of {lines:,} lines disagree: {here:,} right here only, {there:,} there only, "
            "{unjudged:,} without a verdict on one side".format(**facts["compared"])
        )
    lines.append(f"  {facts['lines_per_second'] or 0:,.0f} lines/s, {facts['seconds']:.1f} s")
    return "\n".join(lines) + "\n"


@dataclass
class Comparison:
    """The verdicts of another file, line by line beside ours."""

    other: Source
    lines: int = 0
    here: int = 0
    """Right in our verdicts only."""
    there: int = 0
    """Right in the other file only."""
    unjudged: int = 0
    """A verdict on one side, none on the other."""
    missing: int = 0
    """Lines that one of the files has and the other has not."""

    def __post_init__(self) -> None:
        self._rows = _verdict_rows(self.other)

    def facts(self) -> dict[str, int]:
        """The counts; call `rest` before."""
        return {
            "lines": self.lines,
            "disagree": self.here + self.there + self.unjudged,
            "here": self.here,
            "there": self.there,
            "unjudged": self.unjudged,
            "missing": self.missing,
        }

    def disagreements(self, judged: Judged) -> bytes:
        """Our lines that the other file judges otherwise, each with the other verdict, as JSON lines."""
        different = []
        for line, ours in zip(judged.output.splitlines(), judged.marks, strict=True):
            theirs, outcome = next(self._rows, ("", None))
            if not theirs:
                self.missing += 1
                continue
            self.lines += 1
            if ours == theirs:
                continue
            self.here += (ours, theirs) == ("1", "0")
            self.there += (ours, theirs) == ("0", "1")
            self.unjudged += "-" in (ours, theirs)
            different.append(json.dumps({**json.loads(line), "other": _shown(outcome)}) + "\n")
        return "".join(different).encode()

    def rest(self) -> str:
        """Count the lines that only the other file has; the sentence about them, or ""."""
        more = sum(1 for _ in self._rows)
        self.missing += more
        if not self.missing:
            return ""
        which = "more" if more else "fewer"
        return f"{self.other.path} has {self.missing:,} lines {which}; only the others were compared.\n"


def _verdict_rows(source: Source) -> Iterator[tuple[str, Outcome]]:
    for block in source.blocks():
        for line in lines_of(block):
            try:
                row = read_line(line)
                if is_summary(row):
                    continue
                outcome = recorded_verdict(row)
            except LineError as error:
                outcome = str(error)
            if isinstance(outcome, tuple):
                yield ("1" if outcome[0] else "0"), outcome
            else:
                yield "-", outcome


def _shown(outcome: Outcome) -> dict[str, Any]:
    if not isinstance(outcome, tuple):
        return {"correct": None, "error": outcome}
    names = ("correct", "score", "extracted", "reason", "decided_by")
    return {name: value for name, value in zip(names, outcome, strict=True) if value != ""}
