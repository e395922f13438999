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
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer import algorithms
from spg_trainer.errors import ConfigError, as_flag, did_you_mean, written
from spg_trainer.evaluation.statistics import Mean, mean_over
from spg_trainer.reporting.curves import Groups, draw_solved
from spg_trainer.reporting.jobs import run_jobs
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
from spg_trainer.settings.task import join_arguments, join_names, parse_tasks
from spg_trainer.settings.types import flatten, plain, read_word, settings_of

OWN_FLAGS = {"--env", "--model", "--algorithm", "--seed", "--output-dir", "--resume"}
"""Flags of training that `compare` gives to each run itself, so they cannot be among the shared ones."""
FIGURES = ("before", "after", "gain", "after, of each seed", "trained", "below start", "steps", "seconds")
HEAD = ("task", "setting", "runs", *FIGURES)
"""The columns of the table of results, which has a row for each task and setting."""
AGAINST = ("task", "setting against the first", "difference", "of each seed", "p")
"""The columns of the table of differences."""
ROW = ("task", "setting", "seed", "before", "after", "gain", "trained", "steps", "seconds", "folder")
"""The columns of compare.csv, which has a row for each run."""
NOTE = """
before, after: greedy solved rate of the evaluated problems; gain: after - before. Brackets: 95% intervals over seeds
and problems (of one run, over problems alone); a difference that is equal for all seeds and problems has no interval.
trained: mean solved rate of the completions sampled in training. below start: runs that ended below their start.
steps, seconds: of a whole run, the mean, beside other jobs of the machine.
difference: of the solved rates after training, paired by seed and problem. p: of the hypothesis that the difference is
0, by the t-test that gives the interval; one seed has no p, since it says nothing of others. compare.csv has a row for
each run.
"""
OF_A_RUN = frozenset("algorithm seed dry_run output.output_dir output.resume".split())
"""Settings that differ between the runs of a comparison anyway; the list leaves them out."""


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
    finished = compare(command, shared)
    return int(not command.dry_run and len(finished) < len(plan_runs(command, shared)))


def compare(command: CompareCommand, shared: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Trains what has not finished, then writes the table (also to standard output) and the curves.

    Returns the rows of compare.csv, one for each finished run, with the columns `ROW`: rates before and after training
    and their gain, the mean rate of the completions sampled in training (None where there is none), steps and seconds.

    shared: flags of every training. If a run fails, the others go on, and it has no row. Raises SpgError, before
    anything is started, for what a training would refuse and for folders of other runs.
    """
    if not isinstance(command, CompareCommand):
        raise ConfigError(
            f"compare takes settings, CompareCommand(env=..., algorithms=...), not {command!r:.60}. The folders of "
            "finished runs are for report."
        )
    if isinstance(shared, str) or not isinstance(shared, Sequence):
        raise ConfigError(
            f"shared={shared!r:.60}: should be a list with the words of the flags of every training, e.g. "
            '["--max-steps", "20"].'
        )
    runs = plan_runs(command, shared)
    if command.dry_run:
        sys.stdout.write(table_of_differences(runs) or "The settings are equal.\n")
        return []
    check_place(Path(command.output_dir))
    console = Console(file=sys.stderr, every_seconds=60.0)
    missing = [run for run in runs if not (run.folder / SUMMARY).is_file()]
    console.say(f"{len(runs)} runs in {command.output_dir}, {len(missing)} to train.")
    refuse(runs)  # before any run is started, since a run that has begun locks its folder
    jobs = {run.folder: (*run.words, "--seed", str(run.config.seed), "--resume", "auto") for run in missing}
    folder = Path(command.output_dir)
    failed = run_jobs(jobs, command.jobs, console, done=partial(write_tables, runs, folder))
    tasks = write_tables(runs, folder)
    draw_solved(tasks, folder / "curves.svg")
    sys.stdout.write((folder / "compare.md").read_text(encoding="utf-8"))
    console.say(f"Written: {folder}/compare.md, {folder}/compare.csv, {folder}/curves.svg")
    if failed:
        console.say(f"{len(failed)} of {len(runs)} runs failed. The same command tries them again.")
    return rows_of_runs(tasks)


def write_tables(runs: Sequence[Planned], folder: Path) -> dict[str, dict[str, list[Recorded]]]:
    """Writes compare.md and compare.csv of the finished runs; returns {task: {setting: its finished runs}}."""
    tasks: dict[str, dict[str, list[Recorded]]] = {run.task: {} for run in runs}
    for run in runs:
        finished = tasks[run.task].setdefault(run.setting, [])
        if (run.folder / SUMMARY).is_file():
            finished.append(read_run(run.folder))
    text = markdown(tasks, len({run.config.seed for run in runs}))
    differing = table_of_differences(runs)
    write_text(folder / "compare.md", f"{text}\n{differing}" if differing else text)
    write_text(folder / "compare.csv", as_csv(rows_of_runs(tasks)))
    return tasks


def seeds_of(command: CompareCommand) -> Sequence[int]:
    """The seeds of a comparison: a single number is how many there are, several numbers are the seeds themselves.

    Raises ConfigError for no seed, and for a seed that is named twice.
    """
    seeds = command.seeds
    if len(seeds) == 1:
        seeds = tuple(range(seeds[0]))
    if not seeds or min(seeds) < 0 or len({*seeds}) < len(seeds):
        shown = " ".join(map(str, command.seeds))
        raise ConfigError(
            f"--seeds {shown}: should be a number of seeds, at least 1, or several different seeds, e.g. 3 4 5."
        )
    return seeds


def plan_runs(command: CompareCommand, shared: Sequence[str] = ()) -> list[Planned]:
    """The runs of a comparison: those of all settings with the first seed, then with the next seed, and so on.

    In this order, even an early table has all settings. Raises ConfigError for a task, setting or hyper-parameter that
    does not exist.
    """
    for name in ("env", "algorithms", "model", "seeds"):
        if isinstance(value := getattr(command, name), str | int):
            raise ConfigError(f"CompareCommand({name}={value!r}): should be a tuple, {name}=({value!r},).")
        if name != "seeds" and (others := [word for word in value if not isinstance(word, str)]):
            raise ConfigError(
                f"CompareCommand({name}=...): {others[0]!r:.60} should be text, as each run is a process of its own. A "
                "class of yours is named by its file, ./FILE.py:NAME."
            )
    models = command.model * len(command.env) if len(command.model) == 1 else command.model
    if len(models) != len(command.env):
        raise ConfigError(f"--model: {len(models)} for {len(command.env)} tasks. Give one, or one for each.")
    seeds, root, runs = seeds_of(command), Path(command.output_dir), list[Planned]()
    for (task, model), setting in product(zip(command.env, models, strict=True), command.algorithms):
        tasks = parse_tasks(task)
        env, env_args = join_names(tasks), join_arguments(tasks)
        algorithm, settings = read_word("--algorithms", setting)
        words = [*shared, *words_of(algorithm, settings)]  # the last of equal flags counts
        if refused := {word.partition("=")[0] for word in words} & OWN_FLAGS:
            raise ConfigError(f"{min(refused)}: compare gives it to each run. Use compare's own flags.")
        words += ["--env", env, "--model", model, "--algorithm", algorithm]
        for key, value in env_args.items():
            words += ["--env-args", f"{key}={value}"]
        task_and_setting = label(env, env_args), label(algorithm, settings)
        with naming(*task_and_setting):
            config = resolve(Config, words).config
            check(config)
            envs.make(config.env, split="train", **config.env_args)  # checked before torch is loaded
            algorithms.build(config.algorithm, config.hyper_parameters)
        runs.append(Planned(*task_and_setting, tuple(words), config, root))
    if not runs or len({run.folder for run in runs}) < len(runs):
        raise ConfigError("--env and --algorithms need at least one name each, and none twice.")
    return [replace(run, config=replace(run.config, seed=seed)) for seed in seeds for run in runs]


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
            # A user may change these two to resume a run. `compare` may not, as they decide which weights model/ has.
            may_change = MAY_CHANGE - {"max_steps", "eval.eval_steps"}
            refuse_other_settings(
                run.folder,
                read_config(run.folder / CONFIG),
                config,
                find_inputs(file_settings(config)),
                may_change,
            )


@contextmanager
def naming(task: str, setting: str) -> Iterator[None]:
    """Inside, an error's message begins with the task and setting whose runs it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{task} with {setting}: {written(error)}") from error


def label(name: str, arguments: dict[str, object]) -> str:
    """The name of a task or a setting in tables and folders, without the path of a file.

    E.g. "Mine:lr=2" of the name "work/mine.py:Mine" with the arguments {"lr": 2}.
    """
    pairs = ",".join(f"{key}={value}" for key, value in arguments.items())
    *_, last_name = re.split(r"[:/]", name)
    return last_name + (f":{pairs}" if pairs else "")


def words_of(algorithm: str, settings: dict[str, object]) -> list[str]:
    """The settings of an algorithm as words of a command line.

    A setting of training becomes its flag; any other becomes a hyper-parameter, --algorithm-args NAME=VALUE.
    """
    words, known = list[str](), settings_of(Config)
    for name, value in settings.items():
        if (of_training := name.replace("-", "_")) in known:
            if isinstance(value, bool):
                words.append(as_flag(of_training if value else f"no_{of_training}"))
            else:
                words += [as_flag(of_training), f"{value}"]
            continue
        hyper_parameters = [field.name for field in fields(algorithms.get(algorithm))]
        if name not in hyper_parameters:
            others = algorithms.registry.algorithms_with(name)
            hint = did_you_mean(name, [*hyper_parameters, *known])
            if others:
                hint = f"These algorithms have it: {others}."
            raise ConfigError(f"--algorithms {algorithm}:{name}={value}: no such setting. {hint}".rstrip())
        words += ["--algorithm-args", f"{name}={value}"]
    return words


def markdown(tasks: Mapping[str, Groups], seeds: int) -> str:
    """The tables of the finished runs and their differences, and what the columns mean. seeds: how many there are."""
    results, differences = list[Sequence[str]](), list[Sequence[str]]()
    for task, settings in tasks.items():
        first_setting, base = next(iter(settings.items()))
        for setting, runs in settings.items():
            figures = figures_of(runs) if runs else ["-"] * len(FIGURES)
            results.append([task, setting, f"{len(runs)}/{seeds}", *figures])
            if setting != first_setting:
                differences.append([task, f"{setting} - {first_setting}", *against(base, runs)])
    tables = [table(HEAD, results), *([table(AGAINST, differences)] if differences else [])]
    return "\n".join(tables) + NOTE


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rows])


def against(base: Sequence[Recorded], runs: Sequence[Recorded]) -> list[str]:
    """How much more a setting solves after training than another, over the seeds and problems that both have.

    base: the finished runs of that other setting. runs: those of the setting itself.

    Returns the last three columns of `AGAINST`. The interval is over seeds, so that it holds for other seeds, too.
    """
    # {seed: (problems,) bool, which problems are solved after training}
    base_solved = {run.config.seed: run.before_after[-1].correct for run in base}
    solved = {run.config.seed: run.before_after[-1].correct for run in runs}
    pairs = [(base_solved[seed], solved[seed]) for seed in sorted(base_solved.keys() & solved.keys())]
    shapes = {correct.shape for pair in pairs for correct in pair}
    if len(shapes) != 1:  # no seed in common, or not the same problems
        return ["-"] * 3
    change = np.stack([of_setting - of_base for of_base, of_setting in pairs])  # (seeds, problems)
    gain, gains_of_seeds = mean_over(change), " ".join(f"{value:+.3f}" for value in change.mean(1))
    p = gain.p if len(pairs) > 1 else None
    return [gain.shown_gain, gains_of_seeds, "-" if p is None else f"{float(p):.2g}"]


def figures_of(runs: Sequence[Recorded]) -> list[str]:
    """The figures of the runs of one setting on one task: the columns of `HEAD` from the fourth on.

    A run whose start was judged by other code has no figures before training, and is not compared with its start.
    """
    after = np.stack([run.before_after[-1].correct for run in runs])
    start, gain, worse = "-", "-", "-"
    if all(len(run.before_after) == 2 for run in runs):
        before = np.stack([run.before_after[0].correct for run in runs])
        change = mean_over(after - before)
        start = shown_rate(mean_over(before))
        gain = change.shown_gain
        worse = f"{(after.mean(1) < before.mean(1)).sum()}/{len(runs)}"
    trained = [rate for run in runs if (rate := sampled_rate(run)) is not None]
    return [
        start,
        shown_rate(mean_over(after)),
        gain,
        " ".join(f"{rate:.3f}" for rate in after.mean(1)),
        f"{np.mean(trained):.3f}" if trained else "-",
        worse,
        f"{np.mean([run.summary['steps'] for run in runs]):.0f}",
        f"{np.mean([run.summary['seconds'] for run in runs]):.0f}",
    ]


def shown_rate(rate: Mean) -> str:
    """A solved rate and its interval, e.g. "0.957 [0.925, 0.976]"."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(rate.value, *rate.rate_interval)


def sampled_rate(run: Recorded) -> float | None:
    """The mean solved rate of the completions sampled in training; None if given completions were learned from."""
    rates = [step["correct"] for step in run.metrics if "correct" in step]
    return float(np.mean(rates)) if rates else None


def rows_of_runs(tasks: Mapping[str, Groups]) -> list[dict[str, Any]]:
    """The rows of compare.csv, one for each finished run."""
    rows = []
    for task, settings in tasks.items():
        for setting, run in ((setting, run) for setting, runs in settings.items() for run in runs):
            rates = [float(evaluation.correct.mean()) for evaluation in run.before_after]
            before, after = (None, *rates)[-2:]
            figures = (before, after, None if before is None else after - before, sampled_rate(run))
            done = (run.summary["steps"], run.summary["seconds"], run.path.name)
            rows.append(dict(zip(ROW, (task, setting, run.config.seed, *figures, *done), strict=True)))
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The content of compare.csv; rates have six digits, and a missing one is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ROW)
    rates = ("before", "after", "gain", "trained")
    for row in rows:
        writer.writerow(
            f"{value:.6g}" if name in rates and value is not None else value for name, value in row.items()
        )
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
            tables.append(table([f"{task}: settings that differ", *columns], differing))
    return "\n".join(tables)
