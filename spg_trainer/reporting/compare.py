"""The `compare` command: settings x tasks x seeds, a run folder for each, none of them trained twice."""

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_origin

from spg_trainer import algorithms
from spg_trainer.cli import PROG, flags, parse, refuse_early
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.jobs import Job, run_jobs
from spg_trainer.reporting.results import Finished, draw_curves, markdown, pack, read_run, unpack
from spg_trainer.runs.checkpoint import latest_complete
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import CHOOSE_ANOTHER, check_writable, read_json, write_text
from spg_trainer.runs.folder import METRICS, SUMMARY
from spg_trainer.settings.checks import check, check_ranges
from spg_trainer.settings.fields import NO_END, CompareCommand, Config
from spg_trainer.settings.sources import CONFIG, MAY_CHANGE, differences, identity, read_config
from spg_trainer.settings.values import parse_pairs

TABLE, CURVES, RECORD = "compare.md", "curves.svg", "compare.json"
CHOOSING = {"eval.eval_steps"}
"""Settings that may change when a run is resumed, and yet decide which step becomes model/."""
OWN = {"env", "model", "algorithm", "seed", "max-minutes", "output-dir", "resume", "dry-run"}
"""Flags of training that `compare` gives itself."""


@dataclass(frozen=True)
class Planned:
    """One run of a comparison."""

    task: str
    setting: str
    folder: Path
    words: tuple[str, ...]
    """What is typed to start it."""
    config: Config
    recorded: dict[str, Any] | None = None
    """What compare.json holds of it."""

    @property
    def begun(self) -> bool:
        """Whether its folder holds a run, which then stands above what is recorded."""
        return (self.folder / CONFIG).is_file()

    @property
    def end(self) -> dict[str, Any] | None:
        """How it ended, if it has: its summary, or its record."""
        return read_json(self.folder / SUMMARY) if self.begun else self.recorded

    @property
    def finished(self) -> bool:
        """Whether it has done all its steps or minutes, or has ended itself before."""
        end = self.end
        if end is None or end["max_steps"] != self.config.max_steps:
            return False
        timed_out = end["ended_by"] == "max_minutes" and end["steps"] < end["max_steps"]
        return not timed_out or end["seconds"] > 60 * self.config.max_minutes - 1

    @property
    def result(self) -> Finished | None:
        """What a table says of it; None before it has finished."""
        if not self.finished:
            return None
        return read_run(self.folder) if self.begun else unpack(self.recorded)

    def refuse_other(self) -> None:
        """Raises SpgError if its folder, or without one the record, holds a run that this one cannot go on from.

        That is one of other settings, a longer one, or a shorter one whose rate has fallen.
        """
        now = self.settings
        if self.begun:
            config = read_config(self.folder / CONFIG)
            what, settings, before = str(self.folder), compared(config, self.folder), vars(config)
        elif self.recorded:
            what, before = f"{self.folder.name} in {self.folder.parent / RECORD}", self.recorded
            # Settings that have come since had their defaults; how models were chosen was not always recorded.
            settings = {**identity(Config(), self.folder), **before["settings"]}
            now = {name: value for name, value in now.items() if name in settings or name not in CHOOSING}
        else:
            return
        refusal = "Compare in another --output-dir."
        if changed := differences(settings, now):
            raise ConfigError(f"{what} is a run of other settings: {changed}. {refusal}")
        for name in ("max_steps", "max_minutes"):
            old, new = before[name], getattr(self.config, name)
            if old > new:
                raise ConfigError(
                    f"{what} is a run of --{name.replace('_', '-')} {old:g}, longer than {new:g}. {refusal}"
                )
        if self.config.optimizer.lr_schedule != "linear":
            return
        old, new, minutes = before["max_steps"], self.config.max_steps, self.config.max_minutes
        if old < new:
            raise ConfigError(
                f"{what} is a run of {old} steps over which its rate falls, not {new}. {refusal}"
            )
        if new >= NO_END and not self.finished and self.end and self.end["ended_by"] == "max_minutes":
            raise ConfigError(
                f"{what} is a run of fewer than {minutes:g} minutes, and its rate has fallen. {refusal}"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings by dotted name, as far as results depend on them."""
        return compared(self.config, self.folder)

    @property
    def record(self) -> dict[str, Any] | None:
        """It for compare.json; None before it has finished."""
        if (found := self.result) is None:
            return None
        if not self.begun:
            return self.recorded
        named = {"task": self.task, "setting": self.setting, "seed": self.config.seed}
        own = {"max_minutes": self.config.max_minutes, "settings": self.settings}
        return {**named, **pack(found), **own}

    def job(self) -> Job:
        """Its start or its continuation; of minutes, those that are left of all that it had."""
        limit, words = self.config.max_minutes, [*self.words]
        if limit:
            newest = latest_complete(self.folder)
            used = json.loads((newest / "state.json").read_text())["seconds"] / 60 if newest else 0.0
            words += ["--max-minutes", f"{max(limit - used, 1e-3):.4f}"]
        counted = None if limit else self.folder / METRICS
        total = round(60 * limit) if limit else self.config.max_steps
        words += ["--output-dir", str(self.folder), "--resume", "auto"]
        return Job(self.folder.name, tuple(words), self.folder / "run.log", total, counted)


def compare(command: CompareCommand, more: Sequence[str] = (), *, quiet: bool = False) -> int:
    """Trains what has not finished, then writes the table, to standard output too, and the curves.

    more: flags of every training. Returns 1 if a run failed (the others go on, the table is written), else 0. Raises
    SpgError, before anything is trained, for what a training would refuse and for folders of other runs.
    """
    check_ranges(command)
    runs = plan(command, more)
    for run in runs:
        run.refuse_other()
    folder = Path(command.output_dir)
    check_writable(folder, CHOOSE_ANOTHER)
    console = Console(quiet=quiet, file=sys.stderr, every_seconds=60.0)
    try:
        failed = [] if command.table_only else train_missing(runs, command, console)
    finally:
        write_records(folder / RECORD, runs)
    found: dict[tuple[str, str], list[Finished]] = {(run.task, run.setting): [] for run in runs}
    for run in runs:
        if result := run.result:
            found[run.task, run.setting].append(result)
    text = markdown(found, command.seeds, by_time=command.max_minutes > 0)
    write_text(folder / TABLE, text, CHOOSE_ANOTHER)
    draw_curves(found, folder / CURVES, by_time=command.max_minutes > 0)
    sys.stdout.write(text)
    console.say(f"Written: {folder / TABLE}, {folder / CURVES}, {folder / RECORD}")
    if failed:
        names = ", ".join(job.name for job in failed)
        console.say(f"{len(failed)} of {len(runs)} runs failed: {names}. The same command tries them again.")
    return int(bool(failed))


def compared(config: Config, folder: Path) -> dict[str, Any]:
    """What two runs must have in common to be one."""
    return identity(config, folder, MAY_CHANGE - CHOOSING)


def train_missing(runs: Sequence[Planned], command: CompareCommand, console: Console) -> list[Job]:
    """Trains what has not finished; returns what failed."""
    missing = [run for run in runs if not run.finished]
    on_cpu = not uses_gpu(runs[0].config)
    jobs = command.jobs or (cores() if on_cpu else 1)
    console.say(
        f"{len(runs)} runs in {command.output_dir}: {len(runs) - len(missing)} finished; {jobs} at once."
    )
    threads = {"OMP_NUM_THREADS": "1"} if on_cpu else {}
    unit = "seconds" if command.max_minutes else "steps"
    return run_jobs([run.job() for run in missing], jobs, console, environment=threads, unit=unit)


def plan(command: CompareCommand, more: Sequence[str] = ()) -> list[Planned]:
    """The runs of a comparison; each pair of a task and a setting is checked as a training would be.

    They are in the order in which they start: seed by seed, so that a table made early has all settings.
    """
    known = flags(Config)
    for word in more:
        flag = word.partition("=")[0].replace("_", "-").removeprefix("--")
        if word.startswith("--") and flag in OWN:
            raise ConfigError(f"--{flag} behind `--`: compare gives it to each run. Use compare's own flags.")
    for name, given in (("--env", command.env), ("--algorithms", command.algorithms)):
        if not given:
            raise ConfigError(
                f"{name} names none. Give one or more, e.g. `--env sudoku --algorithms spg wd1`."
            )
    if len(command.model) not in (1, len(command.env)):
        text = f"--model names {len(command.model)} models for {len(command.env)} tasks"
        raise ConfigError(f"{text}. Give one for all, or one for each.")
    models = command.model * len(command.env) if len(command.model) == 1 else command.model
    cells: dict[str, tuple[str, str, list[str], Config]] = {}
    for word, model in zip(command.env, models, strict=True):
        env, arguments = read_word("--env", word)
        task = label(env, arguments)
        task_words = ["--env", env, "--model", model, *pairs("--env-args", arguments)]
        for setting in command.algorithms:
            algorithm, chosen = read_word("--algorithms", setting)
            row = label(algorithm, chosen)
            own = {key: value for key, value in chosen.items() if key.replace("_", "-") in known}
            hyper = {key: value for key, value in chosen.items() if key not in own}
            words = [*task_words, "--algorithm", algorithm, *pairs("--algorithm-args", hyper), *more]
            words += [word for key, value in own.items() for word in as_flag(key, value, known)]
            if command.max_minutes and not any(word.startswith("--max-steps") for word in words):
                words += ["--max-steps", str(NO_END)]
            name = re.sub(r"[^\w.,=+-]+", "_", f"{task}-{row}")
            if name in cells:
                raise ConfigError(f"{task} with {row} is asked for twice. Leave one out, or rename one.")
            try:
                config = replace(parse(Config, words, PROG), config=None, max_minutes=command.max_minutes)
                check(config, algorithms.build(config.algorithm, config.hyper_parameters))
                cells[name] = (task, row, words, refuse_early(config))
            except ConfigError as error:
                raise ConfigError(f"{task} with {row}: {error}") from error
    folder = Path(command.output_dir)
    records = read_records(folder / RECORD)
    return [
        Planned(
            task,
            row,
            folder / f"{name}-s{seed}",
            (*words, "--seed", str(seed)),
            replace(config, seed=seed),
            records.get(f"{name}-s{seed}"),
        )
        for seed in range(command.seeds)
        for name, (task, row, words, config) in cells.items()
    ]


def read_records(file: Path) -> dict[str, dict[str, Any]]:
    """What compare.json holds, by the names of run folders; ConfigError if it cannot be read."""
    try:
        found = read_json(file) or {"settings": {}, "runs": {}}
        records = {
            name: {**run, "settings": {**found["settings"], **run["settings"]}}
            for name, run in found["runs"].items()
        }
        for record in records.values():
            unpack(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{file} is not what compare writes ({type(error).__name__}: {error})"
        raise ConfigError(f"{text}. Restore it, or remove it: it is made again from run folders.") from error
    return records


def write_records(file: Path, runs: Sequence[Planned]) -> None:
    """Adds what has finished to compare.json: a line for each run, settings that all share once; others stay."""
    records = read_records(file) | {run.folder.name: record for run in runs if (record := run.record)}
    settings = [record["settings"] for record in records.values()]
    shared = {
        name: value
        for name, value in (settings[0] if settings else {}).items()
        if all(other.get(name, ...) == value for other in settings)
    }
    lines = []
    for name, record in sorted(records.items()):
        own = {key: value for key, value in record["settings"].items() if key not in shared}
        text = json.dumps({**record, "settings": own}, separators=(",", ":"))
        lines.append(f"{json.dumps(name)}: {text}")
    text = ",\n".join(lines)
    write_text(file, f'{{"settings": {json.dumps(shared)},\n"runs": {{\n{text}\n}}}}\n', CHOOSE_ANOTHER)


def read_word(flag: str, word: str) -> tuple[str, dict[str, object]]:
    """`spg:negatives=elbo,num_masks=4` -> ("spg", {"negatives": "elbo", "num_masks": 4}); values may hold commas."""
    name, colon, rest = re.fullmatch(r"(.*?)(?:(:)(\w+=.*))?", word, re.S).groups()
    try:
        return name, parse_pairs(re.split(r",(?=\w+=)", rest)) if colon else {}
    except ValueError as error:
        raise ConfigError(f"{flag} {word}: {error}. Write NAME:KEY=VALUE,KEY=VALUE.") from error


def label(name: str, arguments: dict[str, object]) -> str:
    """What tables and folders call a task or a setting: without the path of a file."""
    behind = ",".join(f"{key}={value}" for key, value in arguments.items())
    return re.split(r"[:/]", name)[-1] + (f":{behind}" if behind else "")


def pairs(flag: str, values: dict[str, object]) -> list[str]:
    """A flag of KEY=VALUE pairs, or nothing."""
    return [flag, *(f"{key}={value}" for key, value in values.items())] if values else []


def as_flag(key: str, value: object, known: dict[str, tuple]) -> list[str]:
    """A setting of training as it is typed."""
    flag = key.replace("_", "-")
    if flag in OWN or get_origin(known[flag][1]) is dict:
        raise ConfigError(
            f"--algorithms NAME:{key}={value}: --{flag} cannot differ between the rows of a table."
        )
    if known[flag][1] is bool:
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def uses_gpu(config: Config) -> bool:
    """Whether runs take a GPU."""
    import torch

    return config.model.device != "cpu" and torch.cuda.is_available()
