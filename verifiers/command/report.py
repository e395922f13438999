"""The summary of a run."""

from __future__ import annotations

from collections import Counter
from math import comb
from typing import Any

from verifiers.command.judge import Job
from verifiers.statistics import wilson_interval


def summary(job: Job, tally: Counter[str], seconds: float, compiling: float) -> dict[str, Any]:
    """The facts of a run, as they are written with --json; `compiling` of its seconds were spent on that."""
    n, lines = tally["judged"], tally["judged"] + tally["invalid"]
    lists = counts(tally, "lists")
    return {
        "task": job.task,
        "mode": job.mode,
        "n": n,
        "correct": tally["correct"],
        "accuracy": tally["correct"] / n if n else None,
        "interval": list(wilson_interval(tally["correct"], n)) if n else None,
        **({"rules": beside(job, tally)} if job.rules else {}),
        **(pass_at(lists) if lists else {}),
        "mean_score": tally["score"] / n if n else None,
        "reasons": counts(tally, "reasons"),
        "tiers": counts(tally, "tiers"),
        "invalid_lines": tally["invalid"],
        "broken_files": tally["broken"],
        "seconds": round(seconds, 3),
        "compiling_seconds": round(compiling, 3),
        "lines_per_second": round(lines / (seconds - compiling), 1) if seconds > compiling else None,
    }


def beside(job: Job, tally: Counter[str]) -> dict[str, Any]:
    """What other rules made of the same completions, and how they read those on which they differ from ours."""
    n, right, of = tally["rules.n"], tally["rules.right"], tally["rules.of"]
    differ: dict[str, dict[str, int]] = {}
    for name, count in counts(tally, "differ").items():
        how, _, who = name.rpartition(".")
        differ.setdefault(how, {"ours": 0, "d1": 0})[who] = count
    unit = "empty cells" if job.task == "sudoku" else "completions"
    rate = right / of if of else None
    return {
        "rules": job.rules,
        "n": n,
        "right": right,
        "of": of,
        "unit": unit,
        "rate": rate,
        "differ": differ,
    }


def counts(tally: Counter[str], kind: str) -> dict[str, int]:
    """The most frequent one first."""
    prefix = kind + "."
    return {name[len(prefix) :]: n for name, n in tally.most_common() if name.startswith(prefix)}


def pass_at(lists: dict[str, int]) -> dict[str, dict[str, Any]]:
    """ "pass_at": "k" -> mean over the lines with a list of the chance that k of its completions hold a right one.

    k = 1, 2, 4, ... and n, the length of the shortest list; a list of n with c right counts 1 - C(n-c, k) / C(n, k)
    (Chen et al., arXiv 2107.03374, equation 1). Completions without a verdict are left out of their list.
    "pass_at_of": over how many lines it is the mean, and how many completions they have.
    """
    rows = [(*map(int, name.split("/")), lines) for name, lines in lists.items()]
    shortest, total = min(n for _, n, _ in rows), sum(lists.values())
    sizes = sorted({shortest, *(2**power for power in range(shortest.bit_length()))})
    chances = {
        str(k): sum(lines * (1 - comb(n - right, k) / comb(n, k)) for right, n, lines in rows) / total
        for k in sizes
    }
    completions = sum(n * lines for _, n, lines in rows)
    return {"pass_at": chances, "pass_at_of": {"lines": total, "completions": completions}}


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + "s" * (n != 1)


def summary_text(facts: dict[str, Any]) -> str:
    n, right, (low, high) = facts["n"], facts["correct"], facts["interval"] or (0.0, 1.0)
    rate = f"{right:,} right, {right / n:.2%} [{low:.2%}, {high:.2%}]" if n else "none judged"
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    if "rules" in facts:
        lines += beside_text(facts["rules"])
    for name in ("reasons", "tiers"):
        if facts[name]:
            lines.append(f"  {name:8}" + ", ".join(f"{key} {count:,}" for key, count in facts[name].items()))
    if "pass_at" in facts:
        chances = ", ".join(f"pass@{k} {chance:.2%}" for k, chance in facts["pass_at"].items())
        of, samples = facts["pass_at_of"].values()
        lines.append(f"  {chances}, of the {plural(of, 'line')} with several completions, {samples:,} in all")
        lines.append(f"  {right / n:.2%} right, of all {n:,} completions")
    if n and abs(facts["mean_score"] - facts["accuracy"]) > 1e-12:
        lines.append(f"  mean score {facts['mean_score']:.4f}")
    if facts["invalid_lines"]:
        lines.append(f"  {plural(facts['invalid_lines'], 'line')} without a verdict (not counted above)")
    if facts["broken_files"]:
        lines.append(f"  {plural(facts['broken_files'], 'file')} broke off (what follows is not counted)")
    compiling = f", {facts['compiling_seconds']:.1f} s of them compiling once"
    times = f"{facts['seconds']:.1f} s" + compiling * (facts["compiling_seconds"] > 0)
    lines.append(f"  {facts['lines_per_second'] or 0:,.0f} lines/s, {times}")
    return "\n".join(lines) + "\n"


def beside_text(other: dict[str, Any]) -> list[str]:
    """The rate of other rules, and a table of how they read the completions on which they differ."""
    rate = f"{other['rate']:.2%}" if other["of"] else "no rate"
    lines = [
        f"  rules of {other['rules']}: {other['right']:,} of {other['of']:,} {other['unit']} right, {rate}"
    ]
    rows = [(how, who["ours"], who["d1"]) for how, who in other["differ"].items()]
    if not rows:
        return [*lines, "  every verdict is the same"]
    rows.append(("all", sum(ours for _, ours, _ in rows), sum(d1 for _, _, d1 in rows)))
    title = f"right by one of the two alone, by what {other['rules']} read"
    width = max(len(title), *(len(how) + 2 for how, _, _ in rows))
    lines.append(f"  {title:{width}}  ours  {other['rules']:>5}")
    return [*lines, *(f"    {how:{width - 2}} {ours:>5,}  {theirs:>5,}" for how, ours, theirs in rows)]
