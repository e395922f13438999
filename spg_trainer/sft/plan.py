"""What a training on demonstrations starts from: its settings, none of which is refused, and its folder."""

from dataclasses import dataclass
from pathlib import Path

from spg_trainer.distributed import decide_on_main, raising_on_all, world_size
from spg_trainer.runs.folder import choose_folder
from spg_trainer.runs.tracking import check_trackers
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.plan import Plan, check_processes, plan
from spg_trainer.settings.resolve import Resolved


@dataclass(frozen=True, kw_only=True)
class SftPlan(Plan[SftCommand]):
    """The settings of `sft`, and where it trains."""

    folder: Path
    """The folder of the model, which need not be there yet."""
    checkpoint: Path | None
    """The checkpoint that the training continues from."""


def plan_sft(asked: SftCommand | Resolved[SftCommand]) -> SftPlan:
    """Refuses what a start can refuse before a model is opened, and chooses the folder; a plan stays as it is.

    All processes of a run call it together, and the first one chooses the folder. Raises SpgError or EnvError on all
    of them.
    """
    if isinstance(asked, SftPlan):
        return asked
    with raising_on_all():
        planned = plan(asked)
        check_processes(planned.config.model, world_size())
        check_trackers(planned.config.output.track)
    folder, checkpoint = decide_on_main(lambda: choose_folder(planned.config))
    return SftPlan(planned.config, planned.origins, folder=folder, checkpoint=checkpoint)
