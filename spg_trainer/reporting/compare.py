"""The `compare` command: trains every setting on every task with every seed, and writes tables of the results.

Each run has a folder and a process of its own (`python -m spg_trainer.reporting.compare WORDS`), which never outlives
this one. The intervals and p of the tables are computed in evaluation/statistics.py.
"""

import csv
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from spg_trainer.reporting.runs import Recorded, read_run
from spg_trainer.runs.files import check_place, write_text
from spg_trainer.runs.folder import SUMMARY
from spg_trainer.runs.inputs import file_settings, find_inputs
from spg_trainer.runs.progress import Console
from spg_trainer.runs.resume import MAY_CHANGE, refuse_other_settings, settings_before
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import CONFIG
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.task import join_arguments, join_names, parse_tasks
from spg_trainer.settings.types import flatten, plain, read_word, settings_of

OWN_FLAGS = {"--env", "--model", "--algorithm", "--seed", "--output-dir", "--resume"}
"""Flags of training that `compare` gives to each run itself, so they cannot be among the shared ones."""
HEAD = (
    "task",
    "setting",
    "runs",
    "before",
    "after",
    "gain",
    "after, of each seed",
    "trained",
    "below start",
    "steps",
    "seconds",
)
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
LOG = "run.log"
"""The file in a run's folder that has its output."""
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
        sys.stdout.write(table_of_differences(settings_by_task(runs)) or "The settings are equal.\n")
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
    differing = table_of_differences(settings_by_task(runs))
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


def settings_by_task(runs: Sequence[Planned]) -> dict[str, dict[str, Config]]:
    """{task: {setting: the settings of its first run}}."""
    tasks: dict[str, dict[str, Config]] = {run.task: {} for run in runs}
    for run in runs:
        tasks[run.task].setdefault(run.setting, run.config)
    return tasks


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
                settings_before(run.folder),
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
    results = [HEAD, ["---"] * len(HEAD)]
    for task, settings in tasks.items():
        for setting, runs in settings.items():
            no_figures = ["-"] * (len(HEAD) - 3)  # the first three columns are no figures
            figures = figures_of(runs) if runs else no_figures
            results.append([task, setting, f"{len(runs)}/{seeds}", *figures])
    differences = [[*AGAINST], ["---"] * len(AGAINST)]
    for task, settings in tasks.items():
        (first_setting, base), *others = settings.items()
        for setting, runs in others:
            differences.append([task, f"{setting} - {first_setting}", *against(base, runs)])
    has_differences = len(differences) > 2  # more than the two lines of its head
    tables = [results, differences] if has_differences else [results]
    texts = ["".join(f"| {' | '.join(line)} |\n" for line in table) for table in tables]
    return "\n".join(texts) + NOTE


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
        for setting, runs in settings.items():
            for run in runs:
                after = float(run.before_after[-1].correct.mean())
                before = float(run.before_after[0].correct.mean()) if len(run.before_after) == 2 else None
                gain = None if before is None else after - before
                done = run.summary["steps"], run.summary["seconds"]
                figures = (before, after, gain, sampled_rate(run), *done)
                values = (task, setting, run.config.seed, *figures, run.path.name)
                rows.append(dict(zip(ROW, values, strict=True)))
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


def table_of_differences(tasks: Mapping[str, Mapping[str, Config]]) -> str:
    """The settings in which the columns of each task differ, as a Markdown table; "" where there are none.

    tasks: {task: {column: its settings}}. "-" stands for a setting that a column does not have.
    """
    tables = []
    for task, columns in tasks.items():
        values = {name: all_settings(config) for name, config in columns.items()}
        names = dict.fromkeys(name for settings in values.values() for name in settings)
        differing = []
        for name in names:
            shown = [str(settings.get(name, "-")) for settings in values.values()]
            if len(set(shown)) > 1:
                differing.append([name, *shown])
        if differing:
            head = [f"{task}: settings that differ", *columns]
            tables.append([head, ["---"] * len(head), *differing])
    texts = ["".join(f"| {' | '.join(row)} |\n" for row in table) for table in tables]
    return "\n".join(texts)


def all_settings(config: Config) -> dict[str, Any]:
    """{dotted name: value} of all settings of a training but `OF_A_RUN`, with all hyper-parameters of its algorithm."""
    arguments = asdict(algorithms.build(config.algorithm, config.hyper_parameters))
    if "block_length" in arguments and "block_length" not in config.algorithm_args:
        arguments["block_length"] = config.rollout.block_length  # 0 if the run has yet to choose it
    return flatten(plain(replace(config, algorithm_args=arguments)), ignore=OF_A_RUN)


def run_jobs(
    jobs: Mapping[Path, Sequence[str]], at_once: int, console: Console, done: Callable[[], None]
) -> list[Path]:
    """Runs a training for each folder, with its output in FOLDER/run.log; returns the folders whose runs failed.

    jobs: {folder: the words of the command line, without the folder}. at_once: how many run at once; 0 = one for each
    CPU core, on a GPU just one. done: called after each run that has ended well; an error that it raises ends the
    others.

    At a signal to stop (`runs/stop.py`) the children save their step and end; at a second signal they end at once. Then
    KeyboardInterrupt is raised.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    at_once = at_once or (1 if on_gpu else cores)
    environment = {} if on_gpu else {"OMP_NUM_THREADS": "1"}  # each run has a core of its own
    waiting, running, failed = list(jobs), dict[Path, subprocess.Popen](), list[Path]()

    def start_waiting() -> None:
        while waiting and len(running) < at_once:
            folder = waiting.pop(0)
            running[folder] = start_process(folder, jobs[folder], environment)

    # At the first signal we stop waiting for the runs to end, and at the second for them to save.
    with stopping(StopRequest(at_once=True), tell=lambda: None):
        try:
            with console.progress(len(jobs), "runs") as advance:
                start_waiting()
                for folder in running:
                    console.say(f"Started: {folder}/{LOG}")
                while running:
                    time.sleep(0.2)
                    ended = [folder for folder, process in running.items() if process.poll() is not None]
                    for folder in ended:
                        if status := running.pop(folder).returncode:
                            failed.append(folder)
                            lines = (folder / LOG).read_text("utf-8", errors="replace").splitlines()
                            console.say("\n  ".join([f"{folder} failed ({status}), {LOG}:", *lines[-8:]]))
                        else:
                            done()
                        advance(len(jobs) - len(waiting) - len(running), f"{len(running)} running")
                    start_waiting()
        except KeyboardInterrupt:
            console.say(
                f"Stopping: {len(running)} running, each saves its step. Ctrl-C again ends them at once."
            )
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
            raise
        finally:
            for process in running.values():
                process.communicate()  # closes the child's input, which ends the child
    return failed


def start_process(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """The process of a training, with variables added to those of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "spg_trainer.reporting.compare", *words, "--output-dir", str(folder)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,  # it closes when we end, for whatever reason, and tells the child
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on once
        )


def main() -> int:
    """Runs the trainer's command line in a run's process, and returns its exit status.

    When standard input is closed, the process ends at once, even within a step.
    """
    from spg_trainer.cli import main as trainer

    def end_with_parent() -> None:
        if not os.read(0, 1):  # waits until the parent, which writes nothing, closes standard input
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    return trainer()


if __name__ == "__main__":
    sys.exit(main())
