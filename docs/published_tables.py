"""Writes the tables of published.md: `python docs/published_tables.py`, after a change of recipes or of published.yaml.

Our values are read from the recipes, so a table always says what a run has. published.yaml holds what sources state.
On the page, a table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spg_trainer.algorithms import ALGORITHMS, build
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import default_alpha
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.types import flatten, plain

PAGE = Path(__file__).with_name("published.md")
MODEL = "GSAI-ML/LLaDA-8B-Instruct"
FACTS: dict[str, Any] = yaml.safe_load(PAGE.with_suffix(".yaml").read_text(encoding="utf-8"))
QUIET = {
    "score_tail": False,
    "edit_noise": 0.0,
    "edit_weight": 1.0,
    "epsilon_high": None,
    "sharpness": 1.5,
    "elbo_bonus": 0.0,
    "score_temperature": 1.0,
    "end_tokens": "any",
}
"""Settings of algorithms that a row leaves out while they have these values."""
IN_COLUMNS = ("masking", "num_masks", "p_mask_prompt", "advantage", "epsilon", "beta", "block_length")
"""Settings of algorithms that have a column, or that the text above a table explains."""
WIDTH = 150


@cache
def recipe(name: str, task: str = "gsm8k") -> dict[str, Any]:
    """{setting: value} of a training of LLaDA by its recipes; the algorithm's settings replace those of the run."""
    return {**run_settings(name, task), **own_settings(name, task)}


@cache
def run_settings(name: str, task: str) -> dict[str, Any]:
    """{setting: value} of a run, without files and evaluations; alpha and dropout are as they are trained."""
    of_others = ("env", "algorithm_args", "eval.", "output.")
    leaves = flatten(plain(config(name, task)))
    found = {key.rpartition(".")[2]: value for key, value in leaves.items() if not key.startswith(of_others)}
    found["lora_targets"] = " ".join(found["lora_targets"])  # in published.yaml, a list is several values
    if not found["lora_r"]:  # all weights are trained
        del found["lora_alpha"], found["lora_targets"]
    elif found["lora_alpha"] is None:
        found["lora_alpha"] = default_alpha(found["lora_r"])
    found["lora_dropout"] = found["lora_dropout"] or 0.0
    return found


@cache
def own_settings(name: str, task: str) -> dict[str, Any]:
    """The hyper-parameters of an algorithm."""
    return asdict(build(name, config(name, task).hyper_parameters))


@cache
def config(name: str, task: str) -> Config:
    return defaults(Config, env=task, model=MODEL, algorithm=name)


def written(value: object) -> str:
    """A value as the tables write it: `3e-06`, `true`."""
    return f"{value:.10g}" if isinstance(value, float) else str(value).lower()


def differences(states: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Values that a source states and the recipe does not have, each as "`lora_dropout` 0.05".

    states: {setting: value, or a list of values}. Raises ValueError for a name that is no setting of the recipe.
    """
    if unknown := states.keys() - ours.keys():
        raise ValueError(f"published.yaml: {', '.join(sorted(unknown))}: no such setting")
    found = []
    for name, stated in states.items():
        values = stated if isinstance(stated, list) else [stated]
        others = [written(value) for value in values if value != ours[name]]
        if others:
            found.append(f"`{name}` {' or '.join(others)}")
    return found


def training_table() -> list[list[str]]:
    """One row for each algorithm: the settings of its run on GSM8K, their source, and what differs from it."""
    rows = [
        "algorithm|rate|decay, beta2, clip|trained|temperature (T)|tokens/steps/block|prompts x group|updates|steps|"
        "source|differences".split("|")
    ]
    for name in ALGORITHMS:
        facts, s = FACTS["algorithms"][name], recipe(name)
        run = run_settings(name, "gsm8k")
        floor = f" to {s['lr_floor']:g}" if s["lr_floor"] else ""
        rate = f"{s['learning_rate']:g}" + (
            f", {s['lr_schedule']}{floor}" if s["lr_schedule"] != "constant" else ""
        )
        trained = "all"
        if s["lora_r"]:
            layers = ", ".join(name.removesuffix("_proj") for name in s["lora_targets"].split())
            trained = f"LoRA {s['lora_r']}/{s['lora_alpha']} on {layers}"
        sampler = [f"{s['temperature']:g}"]
        sampler += [f"top-p {s['top_p']:g}"] * (s["top_p"] < 1) + [f"top-k {s['top_k']}"] * (s["top_k"] > 0)
        sampler += [s["remasking"]] * (s["remasking"] != "low_confidence")
        differs = "; ".join([*differences(facts.get("states", {}), s), *filter(None, [facts.get("differs")])])
        said = [f"Differs: {differs}."] * bool(differs)
        said += [f"Not known: {facts['not_known']}."] if "not_known" in facts else []
        rows.append(
            [
                f"`{name}`",
                rate,
                f"{s['weight_decay']:g}, {s['adam_beta2']:g}, {s['max_grad_norm']:g}",
                trained + ", `--ref-copy`" * s["ref_copy"],
                ", ".join(sampler),
                f"{s['max_completion_length']}/{s['diffusion_steps']}/{run['block_length']}",
                f"{s['prompts_per_step']} x {s['num_generations']}",
                str(s["num_iterations"] * s["num_minibatches"]),
                str(s["max_steps"]),
                facts["source"],
                " ".join(said),
            ]
        )
    return rows


def algorithm_table() -> list[list[str]]:
    """One row for each algorithm: its own settings on GSM8K."""
    rows = ["algorithm|masks|advantage|`epsilon`|`beta`|others|warm-up|source".split("|")]
    for name in ALGORITHMS:
        facts, own = FACTS["algorithms"][name], own_settings(name, "gsm8k")
        others = [
            f"`{key}` {written(value)}"
            for key, value in own.items()
            if key not in IN_COLUMNS and not (key in QUIET and value == QUIET[key])
        ]
        masks = ", ".join(written(own[key]) for key in ("masking", "num_masks", "p_mask_prompt"))
        columns = [written(own[key]) if key in own else "-" for key in ("advantage", "epsilon", "beta")]
        warm_up = f"{run_settings(name, 'gsm8k')['warmup_steps']} ({facts['warm_up']})"
        rows.append([f"`{name}`", masks, *columns, ", ".join(others), warm_up, facts["own"]])
    return rows


def other_tasks_table() -> list[list[str]]:
    """What differs on other tasks. Raises ValueError if the algorithms of a row differ from each other."""
    rows = ["task|algorithms|differs from GSM8K|source".split("|")]
    for task, groups in FACTS["other_tasks"].items():
        named = {name for group in groups if group["algorithms"] != "others" for name in group["algorithms"]}
        for group in groups:
            others = group["algorithms"] == "others"
            names = [name for name in ALGORITHMS if name not in named] if others else group["algorithms"]
            found = {
                name: ", ".join(differences(recipe(name, task), recipe(name))) or "nothing" for name in names
            }
            if len({*found.values()}) > 1:
                raise ValueError(f"published.yaml: {task}: algorithms of one row differ: {found}")
            listed = "others" if others else ", ".join(f"`{name}`" for name in names)
            rows.append([f"`{task}`", listed, found[names[0]], group["source"]])
    return rows


def systems_table() -> list[list[str]]:
    """Which reward, prompt and problems each system has."""
    rows = ["system|`--algorithm`|reward|prompt|problems for training|held-out rows".split("|")]
    for facts in FACTS["systems"]:
        names = ", ".join(f"`{name}`" for name in facts["algorithms"])
        keys = ("reward", "prompt", "problems", "held_out")
        rows.append([facts["system"], names, *(facts[key] for key in keys)])
    return rows


def commands() -> list[str]:
    """The commands of each block, below a comment that names their systems and algorithms."""
    lines = []
    for block, words_of_task in FACTS["commands"].items():
        systems = [facts for facts in FACTS["systems"] if facts["commands"] == block]
        first, *others = [name for facts in systems for name in facts["algorithms"]]
        heading = "; ".join(facts["system"] for facts in systems)
        if others:
            heading += f": the same with --algorithm {', '.join(others)}"
        lines += textwrap.wrap(heading, WIDTH - 2, initial_indent="# ", subsequent_indent="#   ")
        for task, words in words_of_task.items():
            command = (
                f"python -m spg_trainer --env {task} --model {MODEL} --algorithm {first} {words}".rstrip()
            )
            lines += textwrap.wrap(
                command, WIDTH - 2, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
            )
    return lines


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as Markdown; the first is the heading."""
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def as_code(lines: Iterable[str]) -> str:
    """Commands as a block; a line that goes on ends with a backslash."""
    lines = list(lines)
    ended = [
        line + " \\" * (following.startswith("    ") and not line.startswith("#"))
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
    ]
    return "\n".join(["```", *ended, "```"])


TABLES: dict[str, Callable[[], str]] = {
    "systems": lambda: as_table(systems_table()),
    "commands": lambda: as_code(commands()),
    "training": lambda: as_table(training_table()),
    "algorithms": lambda: as_table(algorithm_table()),
    "other tasks": lambda: as_table(other_tasks_table()),
}


def with_tables(text: str) -> str:
    """The page's text with new tables; raises ValueError for a name that is not in `TABLES`."""

    def made(found: re.Match[str]) -> str:
        if found[1] not in TABLES:
            raise ValueError(f"{found[1]!r} is no table; use one of {', '.join(TABLES)}")
        return f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (.*?) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
