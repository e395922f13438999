"""The `diff` command: two evaluations on the same problems, compared in pairs: what was fixed and what broke."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.habits import shares
from spg_trainer.evaluation.statistics import Mean, mean_over, reason_of, sign_test
from spg_trainer.runs.files import as_path, read_json, read_lines
from spg_trainer.runs.progress import Console
from spg_trainer.settings.configs import DiffCommand

SHOWN = 20
"""How many fixed problems are listed at most, and how many broken ones."""
Groups = dict[int, list[dict[str, Any]]]
"""Problem -> the rows of its completions."""


@dataclass(frozen=True)
class Difference:
    """How evaluation B compares with A on the P problems that are in both."""

    problems: tuple[int, ...]
    """Their indices, ascending."""
    a: Mean
    """Solved rate of A."""
    b: Mean
    """Solved rate of B."""
    gain: Mean
    """B - A, problem by problem."""
    fixed: tuple[int, ...]
    """Problems that B solves and A does not; with several completions of a problem, that B solves more often than A."""
    broken: tuple[int, ...]
    """Problems that A solves and B does not, or that A solves more often."""
    p: float
    """Two-sided exact sign test (McNemar) on the problems that changed."""


def diff(a: str | Path, b: str | Path) -> Difference:
    """How evaluation B differs from A, paired by problem.

    a, b: each a file of eval/, or a run folder for its evaluation after the training. Raises ConfigError for a place
    that holds no evaluation, and for evaluations of other problems.
    """
    return difference(*(group_by_problem(evaluation_file(str(as_path(place, "diff")))) for place in (a, b)))


def run_diff(command: DiffCommand) -> Difference:
    """Compares two evaluations as `diff` does, and prints the difference."""
    if len(command.evaluations) != 2:
        raise ConfigError(f"diff needs two evaluations, A B, not {len(command.evaluations)}.")
    files = [evaluation_file(place) for place in command.evaluations]
    a, b = [group_by_problem(file) for file in files]
    result = difference(a, b)
    console = Console()
    for name, file, rate in zip("AB", files, (result.a, result.b), strict=True):
        low, high = rate.rate_interval
        console.say(
            f"{name}  {rate.value:.3f} [{low:.3f}, {high:.3f}] of {len(result.problems)} problems  {file}"
        )
    for name, file, groups in zip("AB", files, (a, b), strict=True):
        figures = read_json(file.with_suffix(".json")) or {}
        # The counts of habits are of all problems of a file, so they are shown only if all are compared.
        if len(groups) > len(result.problems):
            console.say(f"{name} has {len(groups)} problems; those that both have are compared.")
        elif figures.get("follows"):
            console.say(f"{name} follows: {shares(figures['follows'], figures['n'])}")
    console.say(
        f"B - A  {result.gain.shown_gain}: {len(result.fixed)} fixed, "
        f"{len(result.broken)} broken, p = {result.p:.2g} (exact sign test on the problems that changed)"
    )
    for what, changed in (("fixed", result.fixed), ("broken", result.broken)):
        if changed:
            shown = " ".join(f"{i} ({reasons(a[i])} -> {reasons(b[i])})" for i in changed[:SHOWN])
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            console.say(f"{what}: {shown}{more}")
    return result


def evaluation_file(place: str) -> Path:
    """The file of completions that `place` names: itself, a file of eval/, or eval/after of the run folder `place`."""
    path = Path(place)
    file = path / "eval" / "after.jsonl" if path.is_dir() else path.with_suffix(".jsonl")
    if not file.is_file():
        raise ConfigError(f"{place}: there is no {file}. Give a file of eval/, or a run folder.")
    return file


def group_by_problem(file: Path) -> Groups:
    """The rows of an evaluation's file, problem by problem; ConfigError for rows of another kind."""
    groups: Groups = defaultdict(list)
    for row in read_lines(file):
        if not {"index", "prompt", "correct", "reason"} <= row.keys():
            raise ConfigError(f"{file} does not hold the completions of an evaluation. Give a file of eval/.")
        groups[row["index"]].append(row)
    return groups


def difference(a: Groups, b: Groups) -> Difference:
    """B against A on the problems that are in both; ConfigError if there are none, or they are other problems."""
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ConfigError("The evaluations have no problem in common. Evaluate both with one --num-problems.")
    for index in common:
        if a[index][0]["prompt"] != b[index][0]["prompt"]:
            text = f"Problem {index} is not the same in both"
            raise ConfigError(f"{text}. Evaluate both with the same --env, --env-args and --split.")

    def solved_rate(rows: list[dict[str, Any]]) -> float:
        return float(np.mean([row["correct"] for row in rows]))

    rates_a = np.array([solved_rate(a[index]) for index in common])
    rates_b = np.array([solved_rate(b[index]) for index in common])
    change = rates_b - rates_a
    fixed = tuple(np.array(common)[change > 0].tolist())
    broken = tuple(np.array(common)[change < 0].tolist())
    more, fewer = max(len(fixed), len(broken)), min(len(fixed), len(broken))
    one_sided_p = sign_test(lost=more, won=fewer)
    return Difference(
        problems=tuple(common),
        a=mean_over(rates_a[None]),  # (1, P), as of one seed
        b=mean_over(rates_b[None]),
        gain=mean_over(change[None]),
        fixed=fixed,
        broken=broken,
        p=min(1.0, 2 * one_sided_p),
    )


def reasons(rows: list[dict[str, Any]]) -> str:
    """The reasons of a problem's verdicts, each once."""
    return "/".join(dict.fromkeys(map(reason_of, rows)))
