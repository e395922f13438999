"""What a run of `python -m verifiers` says: what is wrong with lines, and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

from verifiers.command.judge import Job, Judged
from verifiers.errors import plural
from verifiers.references import how_read
from verifiers.rule_comparison import comparison_facts, comparison_text
from verifiers.statistics import wilson_interval
from verifiers.verdicts import DETAILS, RULES, Reason

SHOWN_GROUPS = 20


def faults_text(total: Judged, is_written: bool) -> str:
    """What is wrong with lines, most frequent first. is_written: False if no line can be judged, without output."""
    _, others = total.faults.pop("", ("", 0))
    faults = sorted(total.faults.values(), key=lambda fault: -fault[1])
    told = [f"{text} Also {plural(n - 1, 'more line')}." if n > 1 else text for text, n in faults]
    if told and not is_written:
        number = total.counts["lines"]["invalid"]
        who = "The only line cannot" if number == 1 else f"None of the {number:,} lines can"
        told[0] = f"{who} be judged, so no verdicts are written: {told[0]}"
    if others:
        told.append(f"... and {plural(others, 'more line')} with another problem")
    return "".join(f"{text}\n" for text in told)


def summary(job: Job, total: Judged, seconds: float, broken: int) -> dict[str, Any]:
    """The facts of a run, as --json writes them. broken: how many files could not be read to their end."""
    lines = total.counts["lines"]
    n = lines["judged"]
    return {
        "task": job.task,
        "mode": job.mode,
        "verifier_rules": RULES,
        **_rate_facts(lines["correct"], n),
        "rules": comparison_facts(job.rules, job.task, total.counts["rules"]) if job.rules else None,
        "by": _facts_by(job.by, total),
        **_pass_at(total.counts["lists"]),
        "mean_score": lines["score"] / n if n else None,
        "reasons": dict(total.counts["reasons"].most_common()),
        "tiers": dict(total.counts["tiers"].most_common()),
        "unmarked": total.unmarked,
        "references": how_read(job.task, total.references),
        "unended_thinking": lines["thinking"],
        "invalid_lines": lines["invalid"],
        "repeated_lines": lines["repeated"],
        "broken_files": broken,
        "seconds": round(seconds, 3),
        "lines_per_second": round((n + lines["invalid"]) / seconds, 1) if seconds else None,
    }


def _rate_facts(right: int, n: int) -> dict[str, Any]:
    """How many of n completions are right, the rate, and its interval; None for the last two without completions."""
    if not n:
        return {"n": 0, "correct": 0, "accuracy": None, "interval": None}
    return {"n": n, "correct": right, "accuracy": right / n, "interval": list(wilson_interval(right, n))}


def _facts_by(column: str, total: Judged) -> dict[str, Any] | None:
    """{"column": its name, "groups": {value of the column: the `_rate_facts` of the lines with this value}}.

    The largest group is first. None if no column is named or no line has a value.
    """
    if not column or total.counts["by"].keys() <= {"null"}:
        return None
    right, groups = total.counts["right_by"], total.counts["by"].most_common()
    return {"column": column, "groups": {value: _rate_facts(right[value], n) for value, n in groups}}


def _pass_at(lists: Mapping[str, int]) -> dict[str, Any]:
    """{"pass_at": {k: pass@k}, "pass_at_of": {"lines": how many have a list, "completions": how many these hold}}.

    pass@k is the chance that at least one of k completions of a line is right, as the mean over the lines with a list
    of completions. k is 1, 2, 4, ... up to the length of the shortest list, and this length. A list of n completions
    with c right ones counts 1 - C(n-c, k) / C(n, k) (Chen et al., arXiv 2107.03374, equation 1). Completions without a
    verdict are left out. lists: {"3/4": how many lines have a list of 4 completions, 3 of them right}; without lists,
    both facts are None.
    """
    if not lists:
        return {"pass_at": None, "pass_at_of": None}
    # (right completions of a list, its length, how many lines have such a list).
    groups = [(*map(int, name.split("/")), lines) for name, lines in lists.items()]
    shortest = min(n for _, n, _ in groups)
    num_lines, completions = sum(lists.values()), sum(n * lines for _, n, lines in groups)
    chances = {}
    for k in sorted({shortest, *(2**power for power in range(shortest.bit_length()))}):
        total = sum(lines * (1 - comb(n - right, k) / comb(n, k)) for right, n, lines in groups)
        chances[str(k)] = total / num_lines
    return {"pass_at": chances, "pass_at_of": {"lines": num_lines, "completions": completions}}


def summary_text(facts: dict[str, Any]) -> str:
    """The summary as lines for a terminal. facts: what `summary` returns."""
    n, right, reasons = facts["n"], facts["correct"], facts["reasons"]
    rate = f"{right:,} right, {_rate_text(facts)}" if n else "none judged"
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    if facts["rules"]:
        lines += comparison_text(facts["rules"])
    for name in ("reasons", "tiers"):
        if facts[name]:
            lines.append(f"  {name:8}" + ", ".join(f"{key} {count:,}" for key, count in facts[name].items()))
    if "no_answer" in reasons and facts["task"] != "code":
        lines.append(f"  no_answer: {DETAILS[Reason.NO_ANSWER]}")
    if reasons and {"no_answer", "malformed"}.issuperset(reasons):
        lines.append("  No answer is read: do the completions stand in another field? (--completion-field)")
    if "malformed" in reasons:
        unread = 'what cannot be read stands under "extracted" in its line, unless its marks are wrong'
        lines.append(f"  malformed: {unread}")
    if facts["by"]:
        groups = facts["by"]["groups"]
        shown = list(groups.items())[:SHOWN_GROUPS]
        width = max(len(value) for value, _ in shown)
        lines.append(f"  by {facts['by']['column']}:")
        for value, group in shown:
            lines.append(f"    {value:{width}}  {group['correct']:,} of {group['n']:,}, {_rate_text(group)}")
        if len(groups) > SHOWN_GROUPS:
            lines.append(f"    and {len(groups) - SHOWN_GROUPS:,} more values; --json has all")
    if facts["pass_at"]:
        chances = ", ".join(f"pass@{k} {chance:.2%}" for k, chance in facts["pass_at"].items())
        num_lines, completions = facts["pass_at_of"]["lines"], facts["pass_at_of"]["completions"]
        of = f"of the {plural(num_lines, 'line')} with several completions, {completions:,} in all"
        lines += [f"  {chances}, {of}", f"  {right / n:.2%} right, of all {n:,} completions"]
    if n and abs(facts["mean_score"] - facts["accuracy"]) > 1e-12:
        lines.append(f"  mean score {facts['mean_score']:.4f}")
    if facts["unmarked"]:
        who = f"{plural(reasons['no_answer'], 'completion')} without a marked answer"
        lines.append(f"  {who}: --mode flexible reads a value in some, which end in:")
        lines += [f"    {end}" for end in facts["unmarked"]]
    lines += [f"  {sentence}" for sentence in facts["references"]]
    for name, (noun, what) in _COUNTED.items():
        if facts[name]:
            lines.append(f"  {plural(facts[name], noun)} {what}")
    lines.append(f"  {facts['lines_per_second'] or 0:,.0f} lines/s, {facts['seconds']:.1f} s")
    return "\n".join(lines) + "\n"


def _rate_text(facts: dict[str, Any]) -> str:
    """The rate of `_rate_facts`, with its interval."""
    low, high = facts["interval"]
    return f"{facts['accuracy']:.2%} [{low:.2%}, {high:.2%}]"


# {fact of the summary: (what it counts, what is true of these)}: a line of the summary if there are any.
_COUNTED = {
    "unended_thinking": ("completion", "without an answer: thinking begins and never ends"),
    "invalid_lines": ("line", "without a verdict (not counted above)"),
    "repeated_lines": ("line", "with the completion of an earlier one, for another filter (not counted)"),
    "broken_files": ("file", "broke off (what follows is not counted)"),
}
