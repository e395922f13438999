"""What a report reads of a run folder: settings, figures of every step, evaluations, completions."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spg_trainer import __version__
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.runs.files import read_json
from spg_trainer.runs.folder import METRICS, SUMMARY, TIMINGS, RunFolder
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.fields import Config
from spg_trainer.settings.sources import (
    CONFIG,
    ENVIRONMENT,
    PRESET,
    identity,
    read_config,
    recipe_of,
)
from spg_trainer.settings.values import flatten

Row = dict[str, Any]


@dataclass(frozen=True)
class Completions:
    """The completions of one step, or of one evaluation."""

    name: str
    """`before`, `after`, `step-000010` of an evaluation, `samples/step-000010`."""
    step: int | None
    """Finished steps of the model that wrote them; None for an evaluation made apart from the run."""
    split: str
    """Which problems they answer."""
    rows: list[Row]
    figures: Row | None = None
    """What the evaluation found; None for samples."""


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
    """By step; those made apart from the run are last."""
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
        found = (self.summary or {}).get("validation")
        return found["best_step"] if found else None


def read_run(path: str | Path) -> Recorded:
    """The run in a folder. Raises ConfigError if it holds none, naming what is missing."""
    folder = RunFolder(path)
    place = folder.path
    if not (place / CONFIG).is_file():
        raise ConfigError(f"{place} holds no run: {CONFIG} is missing. Give a run folder, e.g. runs/NAME.")
    timings = {row["step"]: row for row in folder.rows(TIMINGS)}
    metrics = [{**row, **timings.get(row["step"], {})} for row in folder.rows(METRICS)]
    summary = read_json(place / SUMMARY)
    chosen = (summary or {}).get("validation") or {}
    model_step = chosen.get("best_step", metrics[-1]["step"] if metrics else 0)
    evaluations = [_evaluation(folder, file, model_step) for file in sorted((place / "eval").glob("*.json"))]
    files = sorted((place / "samples").glob("step-*.jsonl"))
    return Recorded(
        place,
        read_config(place / CONFIG),
        read_json(place / ENVIRONMENT) or {},
        metrics,
        summary,
        sorted(evaluations, key=lambda one: (one.step is None, one.step, one.name != "before")),
        [
            Completions(f"samples/{f.stem}", int(f.stem[5:]), "train", folder.rows(f"samples/{f.name}"))
            for f in files
        ],
    )


def _evaluation(folder: RunFolder, file: Path, model_step: int) -> Completions:
    figures = read_json(file)
    named = {"before": 0, "after": model_step}.get(file.stem)
    step = figures.get("step", int(file.stem[5:]) if file.stem.startswith("step-") else named)
    return Completions(
        file.stem, step, figures["settings"]["split"], folder.rows(f"eval/{file.name}l"), figures
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
            more = [f"{name.rpartition('.')[2]}={one[name]}" for name in varied if name in one]
            groups.setdefault(" ".join([label, *more]), []).append(run)
    return groups


@dataclass(frozen=True)
class Changed:
    """How the settings of a run differ from the preset of its task."""

    rows: list[tuple[str, Any, Any]] | None
    """(name, preset, this run) of every setting that differs; None where the preset is not known."""
    note: str
    """That the preset may be a later one, or why it is not known; mostly nothing."""


def changed_settings(run: Recorded) -> Changed:
    """What differs from the preset that the run started from; from today's where it kept none."""
    kept, config = run.path / PRESET, run.config
    try:
        preset = read_config(kept) if kept.is_file() else recipe_of(config, run.path)
        config = replace(config, model=settle(config.model, run.path))
    except SpgError as error:
        return Changed(None, f"The preset cannot be read here: {error}")
    theirs, ours = flatten(asdict(preset)), flatten(asdict(config))
    names = [name for name in {**theirs, **ours} if not name.startswith("output.")]
    rows = [(name, theirs.get(name, "-"), ours.get(name, "-")) for name in names]
    note = (
        "" if kept.is_file() else f"Compared with the preset of spg-trainer {__version__}: the run kept none."
    )
    return Changed([row for row in rows if row[1] != row[2]], note)
