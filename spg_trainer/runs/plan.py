"""What a training starts from: settings that are checked, a folder, and the checkpoint in it."""

from dataclasses import dataclass
from pathlib import Path

from spg_trainer.algorithms import find_algorithm
from spg_trainer.distributed import decide_on_main, raising_on_all
from spg_trainer.runs.folder import choose_folder
from spg_trainer.runs.tracking import check_trackers
from spg_trainer.settings.fields import Config
from spg_trainer.settings.plan import Plan, check_processes, plan
from spg_trainer.settings.resolve import Resolved


@dataclass(frozen=True, kw_only=True)
class RunPlan(Plan[Config]):
    """The settings of a training, none of which is refused, and where it writes."""

    folder: Path
    """The folder of the run, which need not exist yet."""
    goes_on: bool
    """Whether the folder holds a run, which continues."""
    checkpoint: Path | None
    """The checkpoint from which it continues, None = it begins anew."""


def plan_run(settings: Config | Resolved[Config], num_processes: int) -> RunPlan:
    """Makes the checks that need settings and files alone, then chooses the folder; a `RunPlan` stays as it is.

    All processes of a run call it together, and the first one chooses the folder. Raises SpgError or EnvError, on all
    processes, for settings that cannot work.
    """
    if isinstance(settings, RunPlan):
        return settings
    with raising_on_all():
        planned = plan(settings)
        config = planned.config
        check_processes(config.model, num_processes)
        check_trackers(config.output.track)
        find_algorithm(config.algorithm)  # refuses an unknown name; `build` makes the algorithm later
    folder, goes_on, checkpoint = decide_on_main(lambda: choose_folder(config))
    return RunPlan(config, planned.origins, folder=folder, goes_on=goes_on, checkpoint=checkpoint)
