"""The summary of a run, and the lines on which two verdict files disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import comb
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
        **({"pass_at": pass_at(tally)} if tally.groups else {}),
        "mean_score": tally.score / n if n else None,
        "reasons": dict(tally.reasons.most_common()),
        "tiers": dict(tally.tiers.most_common()),
        "invalid_lines": tally.invalid,
        "seconds": round(seconds, 3),
        "lines_per_second": round(lines / seconds, 1) if seconds > 0 else None,
    }
    if comparison is not None:
        facts["compared"] = comparison.counts
    return facts


def pass_at(tally: Tally) -> dict[str, float]:
    """ "k" -> mean over the lines with a list of the chance that k of its completions hold a right one.

    k = 1, 2, 4, ... and n, the length of the shortest list; a list of n with c right counts 1 - C(n-c, k) / C(n, k)
    (Chen et al., arXiv 2107.03374, equation 1). Completions without a verdict are left out of their list.
    """
    lists = [(*map(int, group.split("/")), lines) for group, lines in tally.groups.items()]
    shortest = min(n for _, n, _ in lists)
    sizes = sorted({shortest, *(2**power for power in range(shortest.bit_length()))})
    total = sum(lines for _, _, lines in lists)
    return {
        str(k): sum(lines * (1 - comb(n - right, k) / comb(n, k)) for right, n, lines in lists) / total
        for k in sizes
    }


def summary_text(facts: dict[str, Any]) -> str:
    n, right, (low, high) = facts["n"], facts["correct"], facts["interval"] or (0.0, 1.0)
    rate = f"{right:,} right, {right / n:.2%} [{low:.2%}, {high:.2%}]" if n else "none judged"
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    for name in ("reasons", "tiers"):
        if facts[name]:
            counts = ", ".join(f"{key or '?'} {count:,}" for key, count in facts[name].items())
            lines.append(f"  {name:8}{counts}")
    if "pass_at" in facts:
        chances = ", ".join(f"pass@{k} {chance:.2%}" for k, chance in facts["pass_at"].items())
        lines.append(f"  {chances}")
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


class Comparison:
    """The verdicts of another file, line by line beside ours.

    `counts`: lines in both files; those that disagree: right `here` or `there` only, or without a verdict on one side
    alone (`unjudged`); lines `missing` in one of the files.
    """

    def __init__(self, other: Source) -> None:
        self.other = other
        self.counts = dict.fromkeys(("lines", "disagree", "here", "there", "unjudged", "missing"), 0)
        self._rows = _verdict_rows(other)

    def disagreements(self, judged: Judged) -> bytes:
        """Our lines that the other file judges otherwise, each with the other verdict, as JSON lines."""
        different = []
        for line, ours in zip(judged.output.splitlines(), judged.marks, strict=True):
            theirs, outcome = next(self._rows, ("", None))
            if not theirs:
                self.counts["missing"] += 1
                continue
            self.counts["lines"] += 1
            if ours == theirs:
                continue
            self.counts["disagree"] += 1
            self.counts["unjudged" if "-" in (ours, theirs) else "here" if ours == "1" else "there"] += 1
            different.append(json.dumps({**json.loads(line), "other": _shown(outcome)}) + "\n")
        return "".join(different).encode()

    def rest(self) -> str:
        """Count the lines that only the other file has; the sentence about them, or ""."""
        more = sum(1 for _ in self._rows)
        self.counts["missing"] += more
        if not self.counts["missing"]:
            return ""
        which = "more" if more else "fewer"
        return f"{self.other.path} has {self.counts['missing']:,} lines {which}; only the others were compared.\n"


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
