"""The `diff` command: two evaluations on the same problems, compared in pairs: what was fixed and what broke."""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.habits import shares
from spg_trainer.evaluation.statistics import Mean, mean_over, reason_of, sign_test
from spg_trainer.runs.files import as_path, read_json, read_lines
from spg_trainer.runs.inputs import TASK_COPIES, read_inputs
from spg_trainer.runs.progress import Console
from spg_trainer.settings.configs import DiffCommand

SHOWN = 20
"""How many fixed problems are listed at most, and how many broken ones."""
COMPLETION_COLUMNS = frozenset(
    "step env task index generation prompt completion rewards reward correct reason extracted reveal_step tokens "
    "confidence length ended turns truncated logged traceback advantage set_aside".split()
)
"""The columns of a row that are about its completion; all others are the problem's reference."""
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
    judges: str = ""
    """In what the judges of A and B differ, which may be what fixed and broke problems; "" if nothing recorded does."""


def diff(a: str | Path, b: str | Path) -> Difference:
    """How evaluation B differs from A, paired by problem.

    a, b: each a file of eval/, or a run folder for its evaluation after the training. Raises ConfigError for a place
    that holds no evaluation, and for evaluations of other problems.
    """
    files = [evaluation_file(str(as_path(place, "diff"))) for place in (a, b)]
    groups = [group_by_problem(file) for file in files]
    return replace(difference(*groups), judges=judges_differ(files, groups))


def run_diff(command: DiffCommand) -> Difference:
    """Compares two evaluations as `diff` does, and prints the difference."""
    if len(command.evaluations) != 2:
        raise ConfigError(f"diff needs two evaluations, A B, not {len(command.evaluations)}.")
    files = [evaluation_file(place) for place in command.evaluations]
    a, b = [group_by_problem(file) for file in files]
    result = replace(difference(a, b), judges=judges_differ(files, [a, b]))
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
    if result.judges:
        console.warn(
            f"A and B were not judged alike, which may be all that changed: {result.judges}. To compare two models, "
            "evaluate both with the same --env, --verifier and --reward."
        )
    for what, changed in (("fixed", result.fixed), ("broken", result.broken)):
        if changed:
            shown = " ".join(f"{i} ({reasons(a[i])} -> {reasons(b[i])})" for i in changed[:SHOWN])
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            console.say(f"{what}: {shown}{more}")
    return result


def judges_differ(files: list[Path], groups: list[Groups]) -> str:
    """In what the task, its code, the reward's components or the references of evaluations A and B differ; or ""."""
    found = []
    judges, rules = [], []
    for file, problems in zip(files, groups, strict=True):
        figures = read_json(file.with_suffix(".json")) or {}
        inputs = read_inputs(file.absolute().parent.parent).values()
        code = {Path(one.path).name: one.sha256 for one in inputs if one.copy.startswith(TASK_COPIES)}
        # An argument may name one file by several paths.
        env = re.sub(r"[^\s\[,=+]*/", "", figures.get("settings", {}).get("env", ""))
        components = sorted(
            {name for rows in problems.values() for row in rows for name in row.get("rewards", ())}
        )
        rules.append(figures.get("verifier_rules"))
        judges.append((env, figures.get("code", code), components))
    (env_a, code_a, components_a), (env_b, code_b, components_b) = judges
    if env_a and env_b and env_a != env_b:
        found.append(f"A is of {env_a}, B of {env_b}")
    elif components_a != components_b:
        found.append(f"A pays {', '.join(components_a)}, B {', '.join(components_b)}")
    if None not in rules and rules[0] != rules[1]:
        found.append("the verifiers' rules are number {} for A, {} for B".format(*rules))
    if changed := [name for name in code_a.keys() & code_b.keys() if code_a[name] != code_b[name]]:
        found.append(f"{', '.join(sorted(changed))} has another content")
    a, b = groups
    for index in sorted(a.keys() & b.keys()):
        row_a, row_b = a[index][0], b[index][0]
        for name in sorted((row_a.keys() & row_b.keys()) - COMPLETION_COLUMNS):
            if row_a[name] != row_b[name]:
                found.append(
                    f"{name} of problem {index} is {row_a[name]!r:.60} in A, {row_b[name]!r:.60} in B"
                )
                return "; ".join(found)
    return "; ".join(found)


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
