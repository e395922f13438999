"""The verdicts of other rules, such as d1's, beside ours: their counts, their rate, and where they differ from ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifiers.d1 import Finding


def compared(correct: bool | None, finding: Finding | None) -> dict[str, int]:
    """What one completion adds to the counts; nothing if the other rules have no finding.

    The counts are `rules.n`, `rules.right` and `rules.of`, and `differ.HOW.ours` or `differ.HOW.theirs` if only our
    verdict or only theirs is "right"; HOW is the `how` of the finding. correct: our verdict, None if there is none.
    """
    if finding is None:
        return {}
    counts = {"rules.n": 1, "rules.right": finding.right, "rules.of": finding.of}
    if correct is not None and correct != (finding.right == finding.of):
        counts[f"differ.{finding.how}.{'ours' if correct else 'theirs'}"] = 1
    return counts


def comparison_facts(rules: str, task: str, tally: Mapping[str, int]) -> dict[str, Any]:
    """How other rules judge the same completions, and how they read those that they judge differently from ours.

    "right" and "of" sum up the findings: how many things are right, and how many could be. "differ" is {how completions
    were read: {"ours": how many only our rules judge right, "theirs": how many only the other rules do}}.
    """
    right, total = tally.get("rules.right", 0), tally.get("rules.of", 0)
    differ: dict[str, dict[str, int]] = {}
    for name, count in Counter(tally).most_common():
        kind, _, rest = name.partition(".")
        if kind == "differ":
            how, _, who = rest.rpartition(".")
            differ.setdefault(how, {"ours": 0, "theirs": 0})[who] = int(count)
    return {
        "rules": rules,
        "n": tally.get("rules.n", 0),
        "right": right,
        "of": total,
        "unit": "empty cells" if task == "sudoku" else "completions",
        "rate": right / total if total else None,
        "differ": differ,
    }


def comparison_text(facts: Mapping[str, Any]) -> list[str]:
    """The rate of other rules, and a table of how they read the completions that they judge differently."""
    rules = facts["rules"]
    rate = f"{facts['rate']:.2%}" if facts["of"] else "no rate"
    lines = [f"  rules of {rules}: {facts['right']:,} of {facts['of']:,} {facts['unit']} right, {rate}"]
    rows = [(how, counts["ours"], counts["theirs"]) for how, counts in facts["differ"].items()]
    if not rows:
        return lines
    rows.append(("all", sum(ours for _, ours, _ in rows), sum(theirs for _, _, theirs in rows)))
    title = f"right by one of the two alone, by what {rules} read"
    width = max(len(title), *(len(how) + 2 for how, _, _ in rows))
    lines.append(f"  {title:{width}}  ours  {rules:>5}")
    return [*lines, *(f"    {how:{width - 2}} {ours:>5,}  {theirs:>5,}" for how, ours, theirs in rows)]
