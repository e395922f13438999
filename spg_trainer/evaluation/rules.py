"""`eval --rules`: judges the completions of an evaluation also by other rules, those of published evaluation code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings.packages import verifiers

if TYPE_CHECKING:
    from envs import TextEnv


def check_rules(rules: Sequence[str], env: "TextEnv") -> None:
    """Raises ConfigError if rules that `--rules` names do not judge the task of an environment."""
    for name in rules:
        if name == "ours":
            continue
        verifiers.registry.find("gsm8k", name)  # loads the rules, all of which have gsm8k
        tasks = getattr(verifiers, name).TASKS
        if task_of(env) not in tasks:
            wrong = f"{env.spec_name} is none of the tasks that these rules have"
            raise ConfigError(f"--rules {name}: {wrong}, {', '.join(tasks)}. Leave the flag out.")


def figures_by_rules(rules: str, env: "TextEnv", rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The solved rate of an evaluation's rows by other rules, and how often their verdicts differ from ours.

    A row's completion ends before its first end token; the published code also reads what follows that token.
    """
    task, tally = task_of(env), Counter()
    verifiers.registry.find(task, rules)  # loads the rules
    for row in rows:
        problem = env.problem(row["index"])
        finding = getattr(verifiers, rules).judge(
            task, row["completion"], {**problem.metadata, **problem.reference}
        )
        tally.update(verifiers.other_rules.compared(row["correct"], finding))
    return verifiers.other_rules.comparison_facts(rules, task, tally)


def comparison_text(facts: Mapping[str, Any]) -> list[str]:
    """The lines that show what `figures_by_rules` found."""
    return verifiers.other_rules.comparison_text(facts)


def task_of(env: "TextEnv") -> str:
    """The task of `verifiers` that judges an environment's completions."""
    return getattr(env, "verifier", "") or env.spec_name.partition("[")[0]
