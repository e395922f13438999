"""The `sft` command: a base model from an environment's demonstrations and habits.

`runs/plan.py` refuses settings and chooses the folder, `prepare.py` opens tasks and model, `resume.py` goes on from a
checkpoint, `publish.py` measures and writes the finished model. What is learned is in `demonstrations.py`, and
`source.py` shows it to the training loop.

The steps, the folder, its checkpoints and who else may write there are those of a training (`training/`). What differs
is how it ends: the model is published in the folder itself, also where the user stops the training, whereas nothing at
all is left of a new folder if an error ends it before a checkpoint.
"""

from pathlib import Path

from spg_trainer.distributed import (
    begin,
    gather,
    make_accelerator,
    naming_the_lost,
    on_all,
    raising_on_all,
    world_size,
)
from spg_trainer.errors import plural
from spg_trainer.runs.console import Console
from spg_trainer.runs.machine import crowded_cores
from spg_trainer.runs.plan import plan_run
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.plan import plan
from spg_trainer.settings.resolve import Resolved
from spg_trainer.sft.demonstrations import known_rules, normalised
from spg_trainer.sft.fit import ALGORITHM, Fit
from spg_trainer.sft.prepare import prepare
from spg_trainer.sft.publish import publish
from spg_trainer.sft.resume import resume
from spg_trainer.training.evaluations import validate_loss
from spg_trainer.training.loop import USER, make_steps, save_finished_steps
from spg_trainer.training.records import save_checkpoint
from spg_trainer.training.setup import open_folder


def sft(settings: SftCommand | Resolved[SftCommand], *, quiet: bool = False) -> Path:
    """Trains a model on demonstrations and writes it with environment.json and a model card; returns its folder.

    settings: with the origins of its values, as `resolve` returns them, a block length of the recipes gives way where
    it does not fit; without, it counts as asked for.

    Raises ConfigError for settings that cannot work, CheckpointError if the folder cannot be written (checked before
    the training), TrainingError if losses or gradients are not finite; finished updates are saved first.
    KeyboardInterrupt if the user ended it, once the model so far is written.
    """
    checked = plan(settings)
    command = checked.config
    accelerator = make_accelerator(command.model.device, command.timeout_minutes)
    planned = plan_run(checked, world_size())  # only now can several processes agree
    path, console = planned.folder, Console(quiet=quiet, word=ALGORITHM)
    fit = prepare(planned, accelerator, console)
    for note in (fit.policy.note, fit.train.notice, fit.skipped, crowded_cores(fit.policy.device)):
        if note:
            console.warn(note)
    if planned.goes_on:
        with raising_on_all():
            fit = resume(fit, planned.checkpoint)
        console.say(f"Continuing {path} from update {fit.step}.")
    run = fit.run
    run.source.collect(fit.step)  # demonstrations that do not fit are told before anything else
    console.say(introduction(fit))
    open_folder(run, fit.command, planned.goes_on, run.record)
    try:
        run.trackers.open(command.output.track, path, fit.command)
        with (
            console,
            stopping(run.stop, lambda: console.say(what_stops(run.stop))),
            naming_the_lost(command.timeout_minutes),
        ):
            ended_by = make_steps(run)
            by_launcher = any(gather([run.stop.by_launcher]))  # all processes end alike
            fit.progress.ended_early = fit.step < run.total_steps
            save_checkpoint(run)  # before the validation, which one that was never stopped does not have
            # A launcher soon kills what it has asked to end: the checkpoint is what this leaves.
            if by_launcher:
                raise on_all(KeyboardInterrupt())
            if fit.progress.ended_early:
                look_at_the_last(fit)
            run.stop.requested, run.stop.at_once = False, True
            begin("the evaluation of the model")
            publish(fit, stopped=ended_by == USER)
    except BaseException as error:
        save_finished_steps(run, error)
        raise
    finally:
        run.trackers.finish()
        if not planned.goes_on:
            fit.folder.discard()
        fit.folder.release()
    if ended_by == USER:  # no error: the model is written
        raise on_all(KeyboardInterrupt())
    return path


def look_at_the_last(fit: Fit) -> None:
    """Validates the last update that was made until the user asked to stop, and says how to go on."""
    run = fit.run
    if fit.step % run.config.eval.eval_steps:
        validate_loss(run, last=True)
    again = f"python -m spg_trainer {run.folder.go_on}"
    run.console.say(f"Stopped after update {fit.step}; go on with: {again}")


def what_stops(stop: StopRequest) -> str:
    """What is said when somebody asks to stop."""
    if stop.by_launcher:
        return "Stopping after this update; its checkpoint will be written for --resume, and no model."
    return "Stopping after this update; the model so far will be written. Press Ctrl-C again to stop at once."


def introduction(fit: Fit) -> str:
    """One line: what is learned, by how large a model, from how many demonstrations and where."""
    c, size = fit.command, sum(p.numel() for p in fit.policy.model.parameters())
    by_task = []
    for task, rules in known_rules(fit.train).items():
        of_task = normalised({name: share for name, share in fit.mix.items() if name in rules})
        shares = ", ".join(f"{name} {share:.0%}" for name, share in of_task.items())
        by_task.append(f"{task}: {shares}" if fit.train.parts else shares)
    mix = "; ".join(by_task)
    turns = " (of an episode, each turn is one)" if fit.train.max_turns > 1 else ""
    return (
        f"{fit.train.spec_name} ({mix}), model {c.model.model} of {size:,} parameters on {fit.policy.device}; up to "
        f"{plural(c.steps, 'update')} of {plural(c.batch.batch_size, 'demonstration')}, "
        f"{c.rollout.max_completion_length} tokens each"
        f"{turns}."
    )
