"""The summary of a run of `python -m verifiers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

from verifiers.command.judge import Job
from verifiers.errors import plural
from verifiers.registry import find
from verifiers.rule_comparison import comparison_facts, comparison_text
from verifiers.statistics import wilson_interval
from verifiers.verdicts import DETAILS, NO_MARK, RULES, Reason

SHOWN_GROUPS = 20


def summary(
    job: Job,
    tally: Counter[str],
    seconds: float,
    examples: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The facts of a run, as --json writes them.

    tally, examples: the sums of those of all `verifiers.command.judge.Judged`; `references` of the examples are the
    sentences of `how_read`.
    """
    n = tally["judged"]
    lines = n + tally["invalid"]
    # {"RIGHT/COMPLETIONS": how many lines have a list of so many completions, and so many right ones among them}.
    lines_with_lists = counts(tally, "lists")
    return {
        "task": job.task,
        "mode": job.mode,
        "verifier_rules": RULES,
        "n": n,
        "correct": tally["correct"],
        "accuracy": tally["correct"] / n if n else None,
        "interval": list(wilson_interval(tally["correct"], n)) if n else None,
        **({"rules": comparison_facts(job.rules, job.task, tally)} if job.rules else {}),
        # If no line has the column, there are no groups to report: all lines would be in one without a value.
        **({"by": facts_by(job.by, tally)} if job.by and tally[f"columns.{job.by}"] else {}),
        **(pass_at(lines_with_lists) if lines_with_lists else {}),
        "mean_score": tally["score"] / n if n else None,
        "reasons": counts(tally, "reasons"),
        "tiers": counts(tally, "tiers"),
        **({"unmarked": examples["unmarked"]} if examples["unmarked"] else {}),
        **({"references": examples["references"]} if examples["references"] else {}),
        **({"refused_for_unit": tally["unit"]} if tally["unit"] else {}),
        **({"unended_thinking": tally["thinking"]} if tally["thinking"] else {}),
        "invalid_lines": tally["invalid"],
        **({"repeated_lines": tally["repeated"]} if tally["repeated"] else {}),
        "broken_files": tally["broken"],
        "seconds": round(seconds, 3),
        "lines_per_second": round(lines / seconds, 1) if seconds else None,
    }


def counts(tally: Counter[str], kind: str) -> dict[str, int]:
    """{name: count} of the entries "KIND.name" of a tally, the most frequent first."""
    prefix = kind + "."
    return {name[len(prefix) :]: n for name, n in tally.most_common() if name.startswith(prefix)}


def facts_by(column: str, tally: Counter[str]) -> dict[str, Any]:
    """{"column": its name, "groups": {value of the column: how many were judged and right, the rate, its interval}}.

    A group is the completions whose lines have the same value.
    """
    right = counts(tally, f"right_by.{column}")
    groups = {
        value: {
            "n": n,
            "correct": right.get(value, 0),
            "accuracy": right.get(value, 0) / n,
            "interval": list(wilson_interval(right.get(value, 0), n)),
        }
        for value, n in counts(tally, f"by.{column}").items()
    }
    return {"column": column, "groups": groups}


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


def where_answers_are(task: str, mode: str) -> str:
    """A sentence on where a task looks for an answer, for completions that have none."""
    if mode == "strict":
        return "No closed <answer> block with an answer was found."
    reads_sentences = find(task).name not in ("countdown", "sudoku", "json")
    return DETAILS[Reason.NO_ANSWER] if reads_sentences else f"{NO_MARK}."


def pass_at(lists: dict[str, int]) -> dict[str, dict[str, Any]]:
    """{"pass_at": {k: pass@k}, "pass_at_of": {"lines": how many have a list, "completions": how many these hold}}.

    pass@k is the chance that at least one of k completions of a line is right, as the mean over the lines with a list
    of completions. k is 1, 2, 4, ... up to the length of the shortest list, and this length. A list of n completions
    with c right ones counts 1 - C(n-c, k) / C(n, k) (Chen et al., arXiv 2107.03374, equation 1). Completions without a
    verdict are left out. lists: {"3/4": how many lines have a list of 4 completions, 3 of them right}.
    """
    # (right completions of a list, its length, how many lines have such a list).
    groups = [(*map(int, name.split("/")), lines) for name, lines in lists.items()]
    shortest = min(n for _, n, _ in groups)
    num_lines = sum(lists.values())
    sizes = sorted({shortest, *(2**power for power in range(shortest.bit_length()))})

    def chance(k: int) -> float:
        """pass@k, the mean over all lines."""
        return sum(lines * (1 - comb(n - right, k) / comb(n, k)) for right, n, lines in groups) / num_lines

    chances = {str(k): chance(k) for k in sizes}
    completions = sum(n * lines for _, n, lines in groups)
    return {"pass_at": chances, "pass_at_of": {"lines": num_lines, "completions": completions}}


def summary_text(facts: dict[str, Any]) -> str:
    """The summary as lines for a terminal. facts: what `summary` returns."""
    n, right = facts["n"], facts["correct"]
    rate = "none judged"
    if n:
        low, high = facts["interval"]
        rate = f"{right:,} right, {right / n:.2%} [{low:.2%}, {high:.2%}]"
    lines = [f"{facts['task']}, {facts['mode']}: {n:,} judged, {rate}"]
    if "rules" in facts:
        lines += comparison_text(facts["rules"])
    for name in ("reasons", "tiers"):
        if facts[name]:
            lines.append(f"  {name:8}" + ", ".join(f"{key} {count:,}" for key, count in facts[name].items()))
    if "no_answer" in facts["reasons"] and facts["task"] != "code":
        lines.append(f"  no_answer: {where_answers_are(facts['task'], facts['mode'])}")
    if "malformed" in facts["reasons"]:
        unread = 'what cannot be read stands under "extracted" in its line, unless its marks are wrong'
        lines.append(f"  malformed: {unread}")
    if "by" in facts:
        lines += by_text(facts["by"])
    if "pass_at" in facts:
        chances = ", ".join(f"pass@{k} {chance:.2%}" for k, chance in facts["pass_at"].items())
        num_lines, completions = facts["pass_at_of"]["lines"], facts["pass_at_of"]["completions"]
        lines.append(
            f"  {chances}, of the {plural(num_lines, 'line')} with several completions, {completions:,} in all"
        )
        lines.append(f"  {right / n:.2%} right, of all {n:,} completions")
    if n and abs(facts["mean_score"] - facts["accuracy"]) > 1e-12:
        lines.append(f"  mean score {facts['mean_score']:.4f}")
    if "unmarked" in facts:
        num_unanswered = facts["reasons"]["no_answer"]
        verb = "names" if num_unanswered == 1 else "name"
        lines.append(
            f"  {plural(num_unanswered, 'completion')} {verb} no marked answer. "
            "--mode flexible reads a value in some, which end in:"
        )
        lines += [f"    {end}" for end in facts["unmarked"]]
    lines += [f"  {sentence}" for sentence in facts.get("references", ())]
    if count := facts.get("refused_for_unit"):
        lines.append(
            f"  {plural(count, 'wrong answer')} equal to the reference, but in a unit that the problem has not"
        )
    if count := facts.get("unended_thinking"):
        lines.append(f"  {plural(count, 'completion')} without an answer: thinking begins and never ends")
    if facts["invalid_lines"]:
        lines.append(f"  {plural(facts['invalid_lines'], 'line')} without a verdict (not counted above)")
    if "repeated_lines" in facts:
        lines.append(
            f"  {plural(facts['repeated_lines'], 'line')} with the completion of an earlier one, as another filter of "
            "lm-eval logs it (not counted above)"
        )
    if facts["broken_files"]:
        lines.append(f"  {plural(facts['broken_files'], 'file')} broke off (what follows is not counted)")
    lines.append(f"  {facts['lines_per_second'] or 0:,.0f} lines/s, {facts['seconds']:.1f} s")
    return "\n".join(lines) + "\n"
