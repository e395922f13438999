"""Sends a step's metrics to the trackers asked for with --track.

The run folder is the record, and a tracker only shows it. A tracker that fails is dropped with a message, because a
lost connection must not cost a step.
"""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.distributed import rank
from spg_trainer.errors import ConfigError
from spg_trainer.runs.files import read_json, write_text
from spg_trainer.settings.types import flatten, json_document, to_json

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

_log = logging.getLogger(__name__)
PROJECT = "spg-trainer"
TRACKED = "trackers.json"
"""File in a run's folder: {tracker: the name or id by which it knows the run}."""
COLUMNS = ["prompt", "completion", "reward", "correct", "reason"]
"""The columns of a table of completions."""
TABLE_ROWS = 32
"""The most rows of such a table."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError unless the packages of all trackers are installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"$track={name}: the package is not installed. Run `pip install {name}`.")


class Trackers:
    """The trackers of a run that still work; on rank 0 only."""

    def __init__(self) -> None:
        self._trackers: list[GeneralTracker] = []

    def open(self, names: Sequence[str], folder: Path, config: Any) -> None:
        """Starts accelerate's trackers with the run's settings.

        TensorBoard writes to RUN/tensorboard, W&B to RUN/wandb, trackio to its own store. In W&B and trackio all runs
        are in the project `spg-trainer` ($WANDB_PROJECT for W&B), under the names of their folders. A resumed run
        continues in its tracker, too: RUN/trackers.json has the name by which each tracker knows the run.
        """
        if rank() or not names:
            return
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        earlier = read_json(folder / TRACKED) or {}  # only a resumed run has this file
        settings = flatten(to_json(config))
        for setting, value in settings.items():
            if not isinstance(value, bool | int | float | str):  # a list or None becomes text
                settings[setting] = str(value)
        # {tracker: (the project, for TensorBoard the name of its folder; keywords of accelerate's tracker)}
        options = {
            "tensorboard": ("tensorboard", {"logging_dir": str(folder)}),
            "wandb": (os.environ.get("WANDB_PROJECT", PROJECT), {"name": folder.name, "dir": str(folder)}),
            "trackio": (PROJECT, {"name": folder.name, "embed": False}),
        }
        if "wandb" in earlier:
            _, keywords = options["wandb"]
            keywords.update(id=earlier["wandb"], resume="allow")
        if "trackio" in earlier:
            _, keywords = options["trackio"]
            keywords.update(name=earlier["trackio"], resume="allow")
        for name in names:
            project, keywords = options[name]
            self._trackers.append(LOGGER_TYPE_TO_CLASS[name](project, **keywords))
        self._each(lambda tracker: tracker.start())
        # The name by which a started tracker knows the run: W&B's id for it, elsewhere the name of its folder.
        started = {tracker.name: folder.name for tracker in self._trackers}
        started |= {
            tracker.name: str(tracker.run.id) for tracker in self._trackers if tracker.name == "wandb"
        }
        write_text(folder / TRACKED, json_document(earlier | started))
        self._each(lambda tracker: tracker.store_init_configuration(settings))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Sends the numbers of a step."""
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self._each(lambda tracker: tracker.log(numbers, step=step))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Sends the first completions of a step or an evaluation, with their rewards."""
        data = [[str(row[column]) for column in COLUMNS] for row in rows[:TABLE_ROWS]]
        self._each(lambda tracker: _send_table(tracker, name, data, step))

    def finish(self) -> None:
        """Closes the trackers, which then send what they have not sent yet."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, action: "Callable[[GeneralTracker], None]") -> None:
        """Calls `action` with each tracker; one for which it fails is dropped, with a message."""
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:  # a tracker's client may raise anything
                self._trackers.remove(tracker)
                _log.warning("Tracker %s failed and is no longer used: %s", tracker.name, error)


def _send_table(tracker: "GeneralTracker", name: str, data: list[list[str]], step: int) -> None:
    """Sends a table in the tracker's own form; TensorBoard's is Markdown."""
    if tracker.name == "tensorboard":
        lines = []
        for row in [COLUMNS, ["---"] * len(COLUMNS), *data]:
            cells = [cell.replace("|", "\\|").replace("\n", "<br>") for cell in row]
            lines.append(f"| {' | '.join(cells)} |")
        tracker.writer.add_text(name, "\n".join(lines), step)
    elif tracker.name == "trackio":
        import trackio

        tracker.log({name: trackio.Table(columns=COLUMNS, data=data)}, step=step)
    else:
        tracker.log_table(name, columns=COLUMNS, data=data, step=step)
