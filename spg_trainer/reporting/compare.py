"""The `compare` command: trains every setting on every task with every seed, and writes tables of the results.

Each run has a folder and a process of its own (reporting/jobs.py). The intervals and p of the tables are computed in
evaluation/statistics.py.
"""

import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer import algorithms
from spg_trainer.algorithms.registry import has_hyper_parameter
from spg_trainer.errors import ConfigError, as_flag, written
from spg_trainer.evaluation.statistics import mean_over
from spg_trainer.reporting.curves import Groups, draw_solved
from spg_trainer.reporting.jobs import LOG, run_jobs
from spg_trainer.reporting.runs import Recorded, read_run
from spg_trainer.runs.files import check_place, write_text
from spg_trainer.runs.folder import SUMMARY
from spg_trainer.runs.inputs import file_settings, find_inputs
from spg_trainer.runs.progress import Console
from spg_trainer.runs.resume import MAY_CHANGE, refuse_other_settings
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import CONFIG, read_config
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.task import join_arguments, join_names, parse_tasks, task_words
from spg_trainer.settings.types import check_values, flatten, plain, read_word, settings_of, validate

OWN_FLAGS = {"--env", "--model", "--algorithm", "--seed", "--output-dir", "--resume"}
"""Flags of training that `compare` gives to each run itself, so they cannot be among the shared ones."""
OF_A_RUN = frozenset("algorithm seed dry_run output.output_dir output.resume".split())
"""Settings that differ between the runs of a comparison anyway; the list of differences leaves them out."""
FIGURES = ("before", "after", "gain", "after, of each seed", "trained", "below start", "steps", "seconds")
"""The figures of a setting on a task, in the table of results."""
NOTE = """
before, after: greedy solved rate of the evaluated problems; gain: after - before. Brackets: 95% intervals over seeds
and problems (of one run, over problems alone); a difference that is equal for all seeds and problems has no interval.
trained: mean solved rate of the completions sampled in training. below start: runs that ended below their start.
steps, seconds: of a whole run, the mean, beside other jobs of the machine.
difference: of the solved rates after training, paired by seed and problem. p: of the hypothesis that the difference is
0, by the t-test that gives the interval; one seed has no p, since it says nothing of others. compare.csv has a row for
each run.
"""


@dataclass(frozen=True)
class Planned:
    """One run of a comparison."""

    task: str
    setting: str
    words: tuple[str, ...]
    """The words of the command line that starts the run, without seed and folder."""
    config: Config
    root: Path
    """The folder of the comparison."""

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.root / re.sub(r"[^\w.,=+-]+", "_", f"{self.task}-{self.setting}-s{self.config.seed}")


def run_compare(command: CompareCommand, shared: Sequence[str] = ()) -> int:
    """Compares as `compare` does; returns 1 if a run failed, else 0."""
    finished = len(compare(command, shared))
    planned = len(command.env) * len(command.algorithms) * len(seeds_of(command))
    return int(not command.dry_run and finished < planned)


def compare(command: CompareCommand, shared: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Trains what has not finished, then writes the table (also to standard output) and the curves.

    Returns the rows of compare.csv, one for each finished run: task, setting, seed, solved rates before and after
    training and their gain, that of the completions sampled in training, steps, seconds and folder.

    shared: flags of every training. If a run fails, the others go on, and it has no row. Raises SpgError, before
    anything is started, for what a training would refuse and for folders of other runs.
    """
    runs, folder = plan_runs(command, shared), Path(command.output_dir)
    if command.dry_run:
        sys.stdout.write(table_of_differences(runs) or "The settings are equal.\n")
        return []
    check_place(folder)
    console = Console(file=sys.stderr, every_seconds=60.0)
    missing = [run for run in runs if not (run.folder / SUMMARY).is_file()]
    console.say(f"{len(runs)} runs in {folder}, {len(missing)} to train; the output of each is in its {LOG}.")
    refuse(runs)  # before any run is started, since a run that has begun locks its folder
    jobs = {run.folder: (*run.words, "--seed", str(run.config.seed), "--resume", "auto") for run in missing}
    failed = run_jobs(jobs, command.jobs, console, done=partial(write_tables, runs, folder))
    finished = write_tables(runs, folder)
    draw_solved(finished, folder / "curves.svg")
    sys.stdout.write((folder / "compare.md").read_text(encoding="utf-8"))
    console.say(f"Written: {folder}/compare.md, {folder}/compare.csv, {folder}/curves.svg")
    if failed:
        console.say(f"{len(failed)} of {len(runs)} runs failed. The same command tries them again.")
    return rows_of_runs(finished)


def seeds_of(command: CompareCommand) -> Sequence[int]:
    """The seeds of a comparison: a single number is how many there are, several numbers are the seeds themselves."""
    return command.seeds if len(command.seeds) > 1 else range(*command.seeds)


def plan_runs(command: CompareCommand, shared: Sequence[str] = ()) -> list[Planned]:
    """The runs of a comparison: those of all settings with the first seed, then with the next seed, and so on.

    In this order, even an early table has all settings. Raises ConfigError for a task, setting or hyper-parameter that
    does not exist, and for a value of a wrong type.
    """
    if not isinstance(command, CompareCommand):
        raise ConfigError(
            f"compare takes settings, CompareCommand(env=..., algorithms=...), not {command!r:.60}. The folders of "
            "finished runs are for report."
        )
    check_values(command)
    validate(tuple[str, ...], [shared], f"shared={shared!r:.60}")
    if not (seeds := seeds_of(command)) or min(seeds) < 0 or len({*seeds}) < len(seeds):
        raise ConfigError(
            f"--seeds {' '.join(map(str, command.seeds))}: should be a number of seeds, at least 1, or several "
            "different seeds, e.g. 3 4 5."
        )
    models = command.model * len(command.env) if len(command.model) == 1 else command.model
    if len(models) != len(command.env):
        raise ConfigError(f"--model: {len(models)} for {len(command.env)} tasks. Give one, or one for each.")
    runs = list[Planned]()
    for (task, model), setting in product(zip(command.env, models, strict=True), command.algorithms):
        tasks = parse_tasks(task)
        env, env_args = join_names(tasks), join_arguments(tasks)
        algorithm, settings = read_word("--algorithms", setting)
        words = [*shared, *words_of(algorithm, settings)]  # the last of equal flags counts
        if refused := {word.partition("=")[0] for word in words} & OWN_FLAGS:
            raise ConfigError(f"{min(refused)}: compare gives it to each run. Use compare's own flags.")
        words += [*task_words(env, env_args), "--model", model, "--algorithm", algorithm]
        task_and_setting = label(env, env_args), label(algorithm, settings)
        with naming(*task_and_setting):
            config = resolve(Config, words).config
            check(config)
            envs.make(config.env, split="train", **config.env_args)  # checked before torch is loaded
            algorithms.build(config.algorithm, config.hyper_parameters)
        runs.append(Planned(*task_and_setting, tuple(words), config, Path(command.output_dir)))
    if not runs or len({run.folder for run in runs}) < len(runs):
        raise ConfigError("--env and --algorithms need at least one name each, and none twice.")
    return [replace(run, config=replace(run.config, seed=seed)) for seed in seeds for run in runs]


def words_of(algorithm: str, settings: Mapping[str, object]) -> list[str]:
    """The settings of an algorithm as words of a command line.

    A setting of training becomes its flag, also if it is a hyper-parameter, too; and so does a name that is neither,
    which the command line then refuses.
    """
    words = list[str]()
    for name, value in settings.items():
        setting = name.replace("-", "_")
        if setting not in settings_of(Config) and has_hyper_parameter(algorithm, name):
            words += ["--algorithm-args", f"{name}={value}"]
        elif isinstance(value, bool):
            words.append(as_flag(setting if value else f"no_{setting}"))
        else:
            words += [as_flag(setting), f"{value}"]
    return words


def label(name: str, arguments: Mapping[str, object]) -> str:
    """The name of a task or a setting in tables and folders, without the path of a file.

    E.g. "Mine:lr=2" of the name "work/mine.py:Mine" with the arguments {"lr": 2}.
    """
    pairs = ",".join(f"{key}={value}" for key, value in arguments.items())
    *_, last_name = re.split(r"[:/]", name)
    return last_name + (f":{pairs}" if pairs else "")


def refuse(runs: Sequence[Planned]) -> None:
    """Raises SpgError for what a training would refuse, and for folders of other runs."""
    settle = import_module("spg_trainer.training.plan").settle
    pinned = dict[tuple[str, str], Config]()  # the settings that all seeds of a task and setting share
    for run in runs:
        task_and_setting = run.task, run.setting
        with naming(*task_and_setting):
            if task_and_setting not in pinned:
                output = replace(run.config.output, output_dir=str(run.folder), resume="auto")
                pinned[task_and_setting] = settle(replace(run.config, output=output)).config
            if (run.folder / CONFIG).is_file():
                config = replace(pinned[task_and_setting], seed=run.config.seed)
                before, inputs = read_config(run.folder / CONFIG), find_inputs(file_settings(config))
                # A user may change these two to resume a run. `compare` may not: they decide which weights model/ has.
                may_change = MAY_CHANGE - {"max_steps", "eval.eval_steps"}
                refuse_other_settings(run.folder, before, config, inputs, may_change)


@contextmanager
def naming(task: str, setting: str) -> Iterator[None]:
    """Inside, an error's message begins with the task and setting whose runs it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{task} with {setting}: {written(error)}") from error


def write_tables(runs: Sequence[Planned], folder: Path) -> dict[str, dict[str, list[Recorded]]]:
    """Writes compare.md and compare.csv of the finished runs; returns {task: {setting: its finished runs}}."""
    finished: dict[str, dict[str, list[Recorded]]] = {}
    for run in runs:
        of_setting = finished.setdefault(run.task, {}).setdefault(run.setting, [])
        if (run.folder / SUMMARY).is_file():
            of_setting.append(read_run(run.folder))
    tables = [markdown(finished, len({run.config.seed for run in runs})), table_of_differences(runs)]
    write_text(folder / "compare.md", "\n".join(filter(None, tables)))
    write_text(folder / "compare.csv", as_csv(rows_of_runs(finished)))
    return finished


def markdown(finished: Mapping[str, Groups], seeds: int) -> str:
    """The tables of the finished runs and their differences, and what the columns mean. seeds: how many there are."""
    results: list[Sequence[str]] = [("task", "setting", "runs", *FIGURES)]
    differences: list[Sequence[str]] = [
        ("task", "setting against the first", "difference", "of each seed", "p")
    ]
    for task, settings in finished.items():
        first_setting, base = next(iter(settings.items()))
        for setting, runs in settings.items():
            figures = figures_of(runs) if runs else ["-"] * len(FIGURES)
            results.append([task, setting, f"{len(runs)}/{seeds}", *figures])
            if setting != first_setting:
                differences.append([task, f"{setting} - {first_setting}", *against(base, runs)])
    return "\n".join(table(rows) for rows in (results, differences) if rows[1:]) + NOTE


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, whose head is the first row."""
    head, *others = rows
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *others])


def figures_of(runs: Sequence[Recorded]) -> list[str]:
    """The `FIGURES` of the runs of one setting on one task.

    A run whose start was judged by other code has no figures before training, and is not compared with its start.
    """
    rows = [figures_of_run(run) for run in runs]
    after = np.stack([run.before_after[-1].correct for run in runs])  # (seeds, problems)
    start, gain, below = "-", "-", "-"
    if all(len(run.before_after) == 2 for run in runs):
        before = np.stack([run.before_after[0].correct for run in runs])
        start, gain = rate(before), mean_over(after - before).shown_gain
        below = f"{sum(row['gain'] < 0 for row in rows)}/{len(runs)}"
    of_seeds = " ".join(f"{row['after']:.3f}" for row in rows)
    sampled = [row["trained"] for row in rows if row["trained"] is not None]
    trained = f"{np.mean(sampled):.3f}" if sampled else "-"
    steps, seconds = (f"{np.mean([row[name] for row in rows]):.0f}" for name in ("steps", "seconds"))
    return [start, rate(after), gain, of_seeds, trained, below, steps, seconds]


def rate(solved: np.ndarray) -> str:
    """The rate of solved problems (seeds, problems) with its interval, e.g. "0.957 [0.925, 0.976]"."""
    mean = mean_over(solved)
    return "{:.3f} [{:.3f}, {:.3f}]".format(mean.value, *mean.rate_interval)


def against(base: Sequence[Recorded], runs: Sequence[Recorded]) -> list[str]:
    """How much more the runs of a setting solve after training than those of another (`base`), and the p of that.

    Only seeds and problems that both have are compared. The interval is over seeds, so that it holds for others, too.
    """
    # {seed: (problems,) 1 where solved after training} of both
    first, second = (
        {run.config.seed: run.before_after[-1].correct for run in group} for group in (base, runs)
    )
    seeds = sorted(first.keys() & second.keys())
    if len({solved[seed].shape for solved in (first, second) for seed in seeds}) != 1:
        return ["-"] * 3  # no seed in common, or not the same problems
    change = np.stack([second[seed] - first[seed] for seed in seeds])  # (seeds, problems)
    gain = mean_over(change)
    p = gain.p if len(seeds) > 1 else None
    of_seeds = " ".join(f"{value:+.3f}" for value in change.mean(1))
    return [gain.shown_gain, of_seeds, "-" if p is None else f"{float(p):.2g}"]


def figures_of_run(run: Recorded) -> dict[str, Any]:
    """The figures of a finished run in compare.csv; None stands for a rate that there is not.

    E.g. a run has no `trained`, the rate of the sampled completions, if it learned from given ones.
    """
    rates = [float(evaluation.correct.mean()) for evaluation in run.before_after]
    before, after = (None, *rates)[-2:]
    sampled = [step["correct"] for step in run.metrics if "correct" in step]
    return {
        "before": before,
        "after": after,
        "gain": None if before is None else after - before,
        "trained": float(np.mean(sampled)) if sampled else None,
        "steps": run.summary["steps"],
        "seconds": run.summary["seconds"],
        "folder": run.path.name,
    }


def rows_of_runs(finished: Mapping[str, Groups]) -> list[dict[str, Any]]:
    """The rows of compare.csv, one for each finished run."""
    return [
        {"task": task, "setting": setting, "seed": run.config.seed, **figures_of_run(run)}
        for task, settings in finished.items()
        for setting, runs in settings.items()
        for run in runs
    ]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The content of compare.csv, "" without a row; numbers have up to six decimals, and what is missing is empty."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(round(value, 6) if isinstance(value, float) else value for value in row.values())
    return text.getvalue()


def table_of_differences(runs: Sequence[Planned]) -> str:
    """A Markdown table for each task of what its settings do not share; "" where they share all.

    `OF_A_RUN` is left out. "-" stands for a hyper-parameter that an algorithm does not have.
    """
    values: dict[str, dict[str, dict[str, Any]]] = {}  # {task: {setting: {dotted name: value}}}
    for run in runs:
        config = run.config
        arguments = asdict(algorithms.build(config.algorithm, config.hyper_parameters))
        if "block_length" in arguments and "block_length" not in config.algorithm_args:
            arguments["block_length"] = config.rollout.block_length  # 0 if the run has yet to choose it
        settings = flatten(plain(replace(config, algorithm_args=arguments)), ignore=OF_A_RUN)
        values.setdefault(run.task, {}).setdefault(run.setting, settings)
    tables = []
    for task, columns in values.items():
        names = dict.fromkeys(name for settings in columns.values() for name in settings)
        rows = [[name, *(str(settings.get(name, "-")) for settings in columns.values())] for name in names]
        if differing := [row for row in rows if len({*row[1:]}) > 1]:
            tables.append(table([[f"{task}: settings that differ", *columns], *differing]))
    return "\n".join(tables)
