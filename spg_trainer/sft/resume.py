"""From which checkpoint a training on demonstrations goes on; RL goes on from the newest, or from a named one.

The learning rate of `sft` falls towards its end, and one that becomes longer goes on from before the fall. Which of its
settings may change is said in `runs/pin.py`, as for RL.
"""

from dataclasses import replace
from pathlib import Path

from spg_trainer.errors import ConfigError
from spg_trainer.runs import checkpoint
from spg_trainer.runs.files import incomplete, read_json
from spg_trainer.runs.folder import METRICS, SUMMARY
from spg_trainer.runs.pin import refuse_another, refuse_changed_hub, second_stage
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.recorded import SFT, read_config
from spg_trainer.sft.fit import Fit
from spg_trainer.training.loop import USER
from spg_trainer.training.setup import restore


def resume(fit: Fit, newest: Path | None) -> Fit:
    """Loads the newest checkpoint, or where a training becomes longer, that from before its learning rate decayed.

    Raises ConfigError if the folder was begun with other settings, or there is nothing left to do.
    """
    folder, command = fit.folder.path, fit.command
    before = read_config(folder / SFT, SftCommand)
    refuse_changed_hub(folder, fit.train.origin)
    refuse_another(folder, command)
    if newest:
        fit = replace(fit, run=restore(fit.run, newest))
    has_stalled, has_finished = fit.progress.stalled is not None, is_finished(fit)
    is_longer = command.steps > before.steps
    if has_finished and not (has_stalled or is_longer):
        longer = f"--steps {2 * before.steps} (not under --patience 0)"
        raise ConfigError(f"{folder} is finished. Go on with {longer}, or {second_stage(folder)}.")
    # Where the rate has begun to decay too early for what is asked now, the updates since are made again.
    decay_start = fit.progress.decay_start(replace(fit.run.config, max_steps=before.steps))
    decayed_too_early = has_finished or (is_longer and not has_stalled)
    if fit.step > decay_start and decayed_too_early:
        fit = replace(fit, run=restore(fit.run, checkpoint.require_up_to(folder, decay_start)))
    if has_finished and has_stalled:
        fit.progress.stalled, fit.progress.stale = None, 0
    fit.progress.ended_early = False
    return fit


def is_finished(fit: Fit) -> bool:
    """Whether the folder holds the evaluated model of a training that nobody stopped.

    One of an older version has neither a summary nor rows of its updates.
    """
    folder = fit.folder.path
    summary = read_json(folder / SUMMARY)
    if summary is None and (folder / METRICS).is_file():
        return False
    stopped = summary["ended_by"] == USER if summary else fit.progress.ended_early
    return incomplete(folder) is None and not stopped
