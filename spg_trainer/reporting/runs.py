"""Reads what reports and tables need from a run folder: settings, metrics of every step, evaluations, completions."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.habits import change_of_shares
from spg_trainer.evaluation.statistics import lost_components
from spg_trainer.runs.files import as_path, read_json, read_lines
from spg_trainer.runs.folder import METRICS, SUMMARY, TIMINGS
from spg_trainer.runs.inputs import read_inputs
from spg_trainer.runs.resume import identity
from spg_trainer.settings.configs import Config
from spg_trainer.settings.recorded import CONFIG, ENVIRONMENT, read_config
from spg_trainer.settings.types import flatten, plain, without_folders

Row = dict[str, Any]
MADE_WITH = ("versions", "base_model")
"""Keys of a run's environment.json; if it lacks one, the key is looked up in summary.json."""


@dataclass(frozen=True)
class Completions:
    """The completions of one step, or of one evaluation."""

    name: str
    """`before`, `after` or `step-000010` for an evaluation, `samples/step-000010` for samples."""
    step: int | None
    """How many steps the model that wrote them had been trained; None if that is not known."""
    split: str
    """The split whose problems they answer."""
    rows: list[Row]
    figures: Row | None = None
    """The evaluation's results and settings; None for samples."""

    @property
    def correct(self) -> np.ndarray:
        """(completions,) 1 for each that is right, else 0."""
        return np.array([row["correct"] for row in self.rows], float)


@dataclass(frozen=True)
class Recorded:
    """A run, finished or not, as its folder has it."""

    path: Path
    config: Config
    environment: Row
    metrics: list[Row]
    """Rows of metrics.jsonl, with those of timings.jsonl laid over them."""
    summary: Row | None
    """None as long as the run is not finished."""
    evaluations: list[Completions]
    """Sorted by step."""

    @cached_property
    def samples(self) -> list[Completions]:
        """The sampled completions, those of a step together; sorted by step."""
        found = []
        for file in sorted(self.path.glob("samples/step-*.jsonl")):
            step = int(file.stem.removeprefix("step-"))
            found.append(Completions(f"samples/{file.stem}", step, "train", read_lines(file)))
        return found

    @property
    def before_after(self) -> list[Completions]:
        """The evaluations before and after the training; fewer than two if the run does not have both."""
        by_name = {evaluation.name: evaluation for evaluation in self.evaluations}
        return [by_name[name] for name in ("before", "after") if name in by_name]

    @property
    def follows(self) -> str:
        """A line on how many completions follow each habit, a plausible way to answer that is often wrong.

        The completions are those of `before_after`, which must not be empty.
        """
        figures_of_each = [evaluation.figures for evaluation in self.before_after]
        counts_of_each = [figures["follows"] for figures in figures_of_each]
        return change_of_shares(counts_of_each, figures_of_each[-1]["n"])

    @property
    def lost(self) -> dict[str, tuple[float, float]]:
        """{component: (mean before, mean after)} of what the run unlearned; empty until the run is finished."""
        if len(self.before_after) < 2:
            return {}
        before, after = (evaluation.rows for evaluation in self.before_after)
        return lost_components(before, after) if len(before) == len(after) else {}

    @property
    def method(self) -> str:
        """The name of the algorithm, without the folders of its file."""
        return without_folders(self.config.algorithm)

    @property
    def task(self) -> str:
        """The task that was learned, or the file or data set of texts (--data)."""
        return without_folders(self.config.data or self.config.env)

    @property
    def max_steps(self) -> int:
        """How many steps were asked for."""
        return self.config.max_steps

    @property
    def block_length(self) -> int:
        """How many tokens a block of the run's completions has."""
        return self.config.rollout.block_length

    @property
    def made_with(self) -> Row:
        """The versions of packages, and the model that the run began with, under the names of `MADE_WITH`."""
        return {name: self.environment.get(name) or (self.summary or {}).get(name) for name in MADE_WITH}

    @property
    def kept_step(self) -> int | None:
        """The step that was chosen for model/; None where there was no choice."""
        summary = self.summary or {}
        # Validations choose a step. summary["worse"] is the record of an end that lost against the start.
        choices = (summary.get(name) for name in ("validation", "worse"))
        return summary["kept_step"] if any(choices) else None

    @property
    def chosen(self) -> str:
        """Which step became model/, and why, as a sentence; "" where there was no choice."""
        summary = self.summary or {}
        kept, worse = self.kept_step, summary.get("worse")
        if worse and kept == 0:
            return (
                f"model/ is the start: step {summary['eval_after']['step']} solves fewer problems ({worse['lost']} "
                f"lost, {worse['won']} won, p = {worse['p']:.2g})."
            )
        return f"model/ is {summary['validation']['chosen']}." if summary.get("validation") else ""


def read_run(path: str | Path) -> Recorded:
    """The run in a folder. Raises ConfigError if it holds none, naming what is missing."""
    path = as_path(path, "read_run")
    if not path.is_dir():
        what = "that is a file" if path.exists() else f"there is no such folder (looked in {Path.cwd()})"
        raise ConfigError(f"{path}: {what}. Give a run folder, e.g. runs/NAME.")
    if not (path / CONFIG).is_file():
        example = next((str(file.parent) for file in sorted(path.glob(f"*/{CONFIG}"))), "runs/NAME")
        raise ConfigError(f"{path} holds no run: {CONFIG} is missing. Give a run folder, e.g. {example}.")
    timings = {row["step"]: row for row in read_lines(path / TIMINGS)}
    evaluations = []
    for file in path.glob("eval/*.json"):
        figures = read_json(file)
        if "correct" in figures:  # else an `eval` that has not finished
            rows, split = read_lines(file.with_suffix(".jsonl")), figures["settings"]["split"]
            evaluations.append(Completions(file.stem, figures["step"], split, rows, figures))

    def sort_key(evaluation: Completions) -> tuple[Any, ...]:
        """The key to sort by: the step, unknown steps last. Of the evaluations of a step, `before` is the first."""
        is_not_first = evaluation.name != "before"
        return evaluation.step is None, evaluation.step, is_not_first, evaluation.name

    return Recorded(
        path,
        config=read_config(path / CONFIG),
        environment=read_json(path / ENVIRONMENT) or {},
        metrics=[{**row, **timings.get(row["step"], {})} for row in read_lines(path / METRICS)],
        summary=read_json(path / SUMMARY),
        evaluations=sorted(evaluations, key=sort_key),
    )


def group_by_setting(runs: list[Recorded]) -> dict[str, list[Recorded]]:
    """{label: runs that differ in their seed only}.

    A label has the task, the algorithm, and the settings that tell these runs from others: "sudoku spg" if all runs of
    both have equal settings, else "sudoku spg learning_rate=1e-4".
    """
    if len(runs) == 1:
        return {f"{runs[0].task} {runs[0].method}": runs}
    all_settings = [settings_without_seed(run) for run in runs]
    # {(task, algorithm): the settings of each run of both}
    settings_to_compare: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run, settings in zip(runs, all_settings, strict=True):
        settings_to_compare.setdefault((run.task, run.method), []).append(settings)
    groups: dict[str, list[Recorded]] = {}
    for run, settings in zip(runs, all_settings, strict=True):
        words = [run.task, run.method]
        for name, value in sorted(settings.items()):
            if any(others.get(name) != value for others in settings_to_compare[run.task, run.method]):
                _, _, own_name = name.rpartition(".")
                words.append(f"{own_name}={shown_value(run, name, value)}")
        groups.setdefault(" ".join(words), []).append(run)
    return groups


def settings_without_seed(run: Recorded) -> dict[str, Any]:
    """{dotted name: setting} of all settings that tell one run from another (`pin.identity`), except the seed."""
    settings = identity(run.config, read_inputs(run.path))
    return {name: value for name, value in settings.items() if name != "seed"}


def shown_value(run: Recorded, name: str, value: Any) -> Any:
    """The value of a setting in a label; for a file, its name and the first 8 digits of its hash."""
    digest = re.search(r"[0-9a-f]{64}", str(value))
    if not digest:
        return value
    return f"{without_folders(flatten(plain(run.config))[name])}@{digest[0][:8]}"
