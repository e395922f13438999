"""What a report reads of a run folder: settings, metrics of every step, evaluations, completions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import read_json
from spg_trainer.runs.folder import METRICS, SUMMARY, TIMINGS, RunFolder
from spg_trainer.settings.fields import Config
from spg_trainer.settings.sources import CONFIG, ENVIRONMENT, identity, read_config

Row = dict[str, Any]


@dataclass(frozen=True)
class Completions:
    """The completions of one step, or of one evaluation."""

    name: str
    """`before`, `after`, `step-000010` of an evaluation, `samples/step-000010`."""
    step: int | None
    """Finished steps of the model that wrote them; None for a model of no known step."""
    split: str
    """Which problems they answer."""
    rows: list[Row]
    figures: Row | None = None
    """The evaluation's results and settings; None for samples."""


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
    """By step."""
    samples: list[Completions]
    """By step."""

    @property
    def before_after(self) -> list[Completions]:
        """The first and the last evaluation on the run's own split, as far as there are."""
        made = {one.name: one for one in self.evaluations}
        return [made[name] for name in ("before", "after") if name in made]

    @property
    def kept_step(self) -> int | None:
        """The step that validation chose for model/; None where there was no choice."""
        validation = (self.summary or {}).get("validation")
        return validation["best_step"] if validation else None


def read_run(path: str | Path) -> Recorded:
    """The run in a folder. Raises ConfigError if it holds none, naming what is missing."""
    folder = RunFolder(path)
    place = folder.path
    if not (place / CONFIG).is_file():
        raise ConfigError(f"{place} holds no run: {CONFIG} is missing. Give a run folder, e.g. runs/NAME.")
    timings = {row["step"]: row for row in folder.rows(TIMINGS)}
    evaluations = []
    for file in (place / "eval").glob("*.json"):
        figures = read_json(file)
        if "correct" not in figures:  # an `eval` that has not finished
            continue
        rows = folder.rows(f"eval/{file.name}l")
        evaluations.append(
            Completions(file.stem, figures["step"], figures["settings"]["split"], rows, figures)
        )
    return Recorded(
        place,
        read_config(place / CONFIG),
        read_json(place / ENVIRONMENT) or {},
        [{**row, **timings.get(row["step"], {})} for row in folder.rows(METRICS)],
        read_json(place / SUMMARY),
        sorted(evaluations, key=lambda one: (one.step is None, one.step, one.name != "before", one.name)),
        [
            Completions(
                f"samples/{file.stem}", int(file.stem[5:]), "train", folder.rows(f"samples/{file.name}")
            )
            for file in sorted((place / "samples").glob("step-*.jsonl"))
        ],
    )


def group_by_setting(runs: list[Recorded]) -> dict[str, list[Recorded]]:
    """Runs that differ in their seed only, under task and algorithm, and what else tells it from others of these."""
    alike: dict[str, list[tuple[Recorded, Row]]] = {}
    for run in runs:
        settings = {k: v for k, v in identity(run.config, run.path).items() if k != "seed"}
        alike.setdefault(f"{run.config.env} {run.config.algorithm}", []).append((run, settings))
    groups: dict[str, list[Recorded]] = {}
    for label, members in alike.items():
        names = sorted({name for _, one in members for name in one})
        varied = [
            name for name in names if any(one.get(name) != members[0][1].get(name) for _, one in members)
        ]
        for run, one in members:
            values = [f"{name.rpartition('.')[2]}={one[name]}" for name in varied if name in one]
            groups.setdefault(" ".join([label, *values]), []).append(run)
    return groups
