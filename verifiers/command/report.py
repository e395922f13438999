"""What a run of `python -m verifiers` says: what is wrong with lines, and the summary."""

from __future__ import annotations

from collections import Counter
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
    told = []
    for text, count in sorted(total.faults.values(), key=lambda fault: -fault[1]):
        more = f" Also {plural(count - 1, 'more line')}." if count > 1 else ""
        told.append(f"{text}{more}\n")
    if told and not is_written:
        number = total.tally["invalid"]
        who = "The only line cannot" if number == 1 else f"None of the {number:,} lines can"
        told[0] = f"{who} be judged, so no verdicts are written: {told[0]}"
    if others:
        told.append(f"... and {plural(others, 'more line')} with another problem\n")
    return "".join(told)


def summary(job: Job, total: Judged, seconds: float, broken: int) -> dict[str, Any]:
    """The facts of a run, as --json writes them. broken: how many files could not be read to their end."""
    tally = total.tally
    n = tally["judged"]
    return {
        "task": job.task,
        "mode": job.mode,
        "verifier_rules": RULES,
        **rate_facts(tally["correct"], n),
        "rules": comparison_facts(job.rules, job.task, tally) if job.rules else None,
        "by": facts_by(job.by, tally) if job.by else None,
        **pass_at(counts(tally, "lists")),
        "mean_score": tally["score"] / n if n else None,
        "reasons": counts(tally, "reasons"),
        "tiers": counts(tally, "tiers"),
        "unmarked": total.unmarked,
        "references": how_read(job.task, total.references, total.places),
        "refused_for_unit": tally["unit"],
        "unended_thinking": tally["thinking"],
        "invalid_lines": tally["invalid"],
        "repeated_lines": tally["repeated"],
        "broken_files": broken,
        "seconds": round(seconds, 3),
        "lines_per_second": round((n + tally["invalid"]) / seconds, 1) if seconds else None,
    }


def counts(tally: Counter[str], kind: str) -> dict[str, int]:
    """{name: count} of the entries "KIND.name" of a tally, the most frequent first."""
    prefix = kind + "."
    return {name[len(prefix) :]: n for name, n in tally.most_common() if name.startswith(prefix)}


def rate_facts(right: int, n: int) -> dict[str, Any]:
    """How many of n completions are right, the rate, and its interval; None for the last two without completions."""
    return {
        "n": n,
        "correct": right,
        "accuracy": right / n if n else None,
        "interval": list(wilson_interval(right, n)) if n else None,
    }


def facts_by(column: str, tally: Counter[str]) -> dict[str, Any] | None:
    """{"column": its name, "groups": {value of the column: the `rate_facts` of the lines with this value}}.

    None if no line has a value.
    """
    completions, right = counts(tally, "by"), counts(tally, "right_by")
    if completions.keys() <= {"null"}:
        return None
    return {
        "column": column,
        "groups": {value: rate_facts(right[value], n) for value, n in completions.items()},
    }


def by_text(facts: dict[str, Any]) -> list[str]:
    """A heading, and a line for each of the largest groups of `facts_by`; --json has all groups."""
    shown = list(facts["groups"].items())[:SHOWN_GROUPS]
    width = max((len(value) for value, _ in shown), default=0)
    lines = [f"  by {facts['column']}:"]
    for value, group in shown:
        low, high = group["interval"]
        rate = f"{group['correct']:,} of {group['n']:,}, {group['accuracy']:.2%} [{low:.2%}, {high:.2%}]"
        lines.append(f"    {value:{width}}  {rate}")
    more = len(facts["groups"]) - len(shown)
    return lines + ([f"    and {more:,} more values; --json has all"] if more else [])


def pass_at(lists: dict[str, int]) -> dict[str, Any]:
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
    num_lines = sum(lists.values())
    sizes = sorted({shortest, *(2**power for power in range(shortest.bit_length()))})

    def chance(k: int) -> float:
        """pass@k, the mean over all lines."""
        return sum(lines * (1 - comb(n - right, k) / comb(n, k)) for right, n, lines in groups) / num_lines

    return {
        "pass_at": {str(k): chance(k) for k in sizes},
        "pass_at_of": {"lines": num_lines, "completions": sum(n * lines for _, n, lines in groups)},
    }


def summary_text(facts: dict[str, Any]) -> str:
    """The summary as lines for a terminal. facts: what `summary` returns."""
    n, right, reasons = facts["n"], facts["correct"], facts["reasons"]
    rate = "none judged"
    if n:
        low, high = facts["interval"]
        rate = f"{right:,} right, {right / n:.2%} [{low:.2%}, {high:.2%}]"
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    if facts["rules"]:
        lines += comparison_text(facts["rules"])
    for name in ("reasons", "tiers"):
        if facts[name]:
            lines.append(f"  {name:8}" + ", ".join(f"{key} {count:,}" for key, count in facts[name].items()))
    if "no_answer" in reasons and facts["task"] != "code":
        lines.append(f"  no_answer: {DETAILS[Reason.NO_ANSWER]}")
    if reasons and {"no_answer", "malformed"}.issuperset(reasons):
        lines.append(
            "  No answer can be read: do the completions stand in another field? --completion-field names it"
        )
    if "malformed" in reasons:
        unread = 'what cannot be read stands under "extracted" in its line, unless its marks are wrong'
        lines.append(f"  malformed: {unread}")
    if facts["by"]:
        lines += by_text(facts["by"])
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
    for name, noun, text in _COUNTED:
        if facts[name]:
            lines.append(f"  {plural(facts[name], noun)} {text}")
    lines.append(f"  {facts['lines_per_second'] or 0:,.0f} lines/s, {facts['seconds']:.1f} s")
    return "\n".join(lines) + "\n"


# (fact of the summary, what it counts, what is true of these): a line of the summary if there are any.
_COUNTED = (
    ("refused_for_unit", "wrong answer", "equal to the reference, but in a unit that the problem has not"),
    ("unended_thinking", "completion", "without an answer: thinking begins and never ends"),
    ("invalid_lines", "line", "without a verdict (not counted above)"),
    (
        "repeated_lines",
        "line",
        "with the completion of an earlier one, as another filter of lm-eval logs it (not counted above)",
    ),
    ("broken_files", "file", "broke off (what follows is not counted)"),
)
