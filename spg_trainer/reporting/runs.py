"""What a report reads of a run folder: settings, figures of every step, evaluations, completions."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spg_trainer.adapters import settle
from spg_trainer.config import Config
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.files import read_json
from spg_trainer.run_folder import METRICS, SUMMARY, TIMINGS, RunFolder
from spg_trainer.settings import CONFIG, ENVIRONMENT, defaults, flatten, identity, read_config

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
    last = metrics[-1]["step"] if metrics else 0
    evaluations = [_evaluation(folder, file, last) for file in sorted((place / "eval").glob("*.json"))]
    files = sorted((place / "samples").glob("step-*.jsonl"))
    return Recorded(
        place,
        read_config(place / CONFIG),
        read_json(place / ENVIRONMENT) or {},
        metrics,
        read_json(place / SUMMARY),
        sorted(evaluations, key=lambda one: (one.step is None, one.step, one.name != "before")),
        [
            Completions(f"samples/{f.stem}", int(f.stem[5:]), "train", folder.rows(f"samples/{f.name}"))
            for f in files
        ],
    )


def _evaluation(folder: RunFolder, file: Path, last: int) -> Completions:
    figures = read_json(file)
    named = {"before": 0, "after": last}.get(file.stem)
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


def changed_settings(run: Recorded) -> list[tuple[str, Any, Any]] | str:
    """(name, preset, this run) of every setting that differs from the preset; why that is not known, if so."""
    config, model = run.config, run.config.model
    named = {
        "env": config.env,
        "model": model.model,
        "algorithm": config.algorithm,
        "lora_r": str(model.lora_r),
    }
    try:
        both = [defaults(Config, **named), config]
        theirs, ours = (flatten(asdict(replace(c, model=settle(c.model, run.path)))) for c in both)
    except SpgError as error:
        return str(error)
    names = [name for name in {**theirs, **ours} if not name.startswith("output.")]
    pairs = [(name, theirs.get(name, "-"), ours.get(name, "-")) for name in names]
    return [(name, preset, here) for name, preset, here in pairs if preset != here]
