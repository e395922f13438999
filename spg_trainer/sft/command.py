"""The `sft` command: a base model from an environment's demonstrations and habits.

What is learned is in `demonstrations.py`, and `source.py` shows it to the training loop.
"""

import math
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spg_trainer.algorithms.mle import MLE
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.distributed import (
    begin,
    decide_on_main,
    make_accelerator,
    naming_the_lost,
    on_all,
    own_device,
    raising_on_all,
    rank,
    world_size,
)
from spg_trainer.errors import ConfigError, ScoringFailed, plural
from spg_trainer.evaluation.environment import make_env
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.evaluation.habits import HabitCounts, count_habits
from spg_trainer.models import Policy, divide_policy, new_policy, open_policy
from spg_trainer.models.shard import unsharded
from spg_trainer.models.states import base_model, trainable_parameters
from spg_trainer.rollout.checks import check_names, check_pattern
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import COMPLETE, incomplete, read_json, write_folder, writing
from spg_trainer.runs.folder import METRICS, SUMMARY, RunFolder, choose_folder
from spg_trainer.runs.identity import SFT_MAY_CHANGE, refuse_changes, second_stage
from spg_trainer.runs.machine import crowded_cores
from spg_trainer.runs.own_code import data_of, refuse_changed_data, refuse_changed_hub
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.runs.tracking import Trackers, check_trackers
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.packages import envs
from spg_trainer.settings.places import STARTED, as_begun
from spg_trainer.settings.plan import Plan, check_processes, plan
from spg_trainer.settings.recorded import ENVIRONMENT, SFT, read_config, record_of, task_record
from spg_trainer.settings.resolve import FLAG, TRAINING, Resolved
from spg_trainer.settings.task import task_words
from spg_trainer.settings.weights import is_embedded
from spg_trainer.sft import off_mix
from spg_trainer.sft.demonstrations import completion_length, known_rules, mix_shares, normalised
from spg_trainer.sft.fit import ALGORITHM, Fit, training_config
from spg_trainer.sft.fitting import check_lengths
from spg_trainer.sft.model_card import Measured, model_card
from spg_trainer.sft.source import Demonstrations
from spg_trainer.training.evaluations import validate_loss
from spg_trainer.training.loop import USER, make_steps
from spg_trainer.training.optimize import make_optimizer
from spg_trainer.training.records import (
    load_checkpoint,
    record_evaluation,
    save_checkpoint,
    save_report,
    summary_of,
)
from spg_trainer.training.run import Run, TrainingState

if TYPE_CHECKING:
    from accelerate import Accelerator

VALIDATION = 512
"""Validation demonstrations of which the loss is measured, always under the same masks."""
EVAL_PROBLEMS = 256
"""Problems of each split that a finished model is evaluated on, at most; some test splits have thousands."""
GROUPS, GENERATIONS = 32, 8
"""Validation problems, at most, and completions of each, that show whether RL would find right and wrong answers to
compare."""
BLOCK_LENGTH = "rollout.block_length"
FEWEST = 2 * GENERATIONS
"""Episodes that are evaluated, at least."""


def sft(asked: SftCommand | Resolved[SftCommand], *, quiet: bool = False) -> Path:
    """Trains a model on demonstrations and writes it with environment.json and a model card; returns its folder.

    asked: with the origins of its values, as `resolve` returns them, a block length of the recipes gives way where it
    does not fit; without, it counts as asked for.

    Raises ConfigError for settings that cannot work, CheckpointError if the folder cannot be written (checked before
    the training), TrainingError if losses or gradients are not finite; KeyboardInterrupt if the user ended it, once the
    model so far is written.
    """
    planned = plan(asked)
    command = planned.config
    accelerator = make_accelerator(command.model.device, command.timeout_minutes)
    check_processes(command.model, world_size())
    with raising_on_all():
        check_trackers(command.output.track)
    path, newest = decide_on_main(lambda: choose_folder(command))
    fit = prepare(planned, path, accelerator, Console(quiet=quiet, word=ALGORITHM))
    run, console = fit.run, fit.run.console
    for note in (fit.policy.note, fit.train.notice, fit.skipped, crowded_cores(fit.policy.device)):
        if note:
            console.warn(note)
    going_on = decide_on_main(lambda: fit.folder.holds_run)
    if going_on:
        with raising_on_all():
            fit = resume(fit, newest)
            run = fit.run
        console.say(f"Continuing {path} from update {fit.step}.")
    run.source.collect(fit.step)  # demonstrations that do not fit are told before anything else
    console.say(introduction(fit))
    with raising_on_all():
        begin_folder(fit, going_on)
    run.state.history = decide_on_main(fit.folder.history)
    try:
        run.trackers.open(command.output.track, path, fit.command)
        with (
            console,
            stopping(run.stop, lambda: console.say(what_stops(run.stop))),
            naming_the_lost(command.timeout_minutes),
        ):
            stopped = make_steps(run, lambda _: save(fit)) == USER
            if stopped:
                end(fit)
            # A launcher soon kills what it has asked to end: the checkpoint is what this leaves.
            if run.stop.by == signal.SIGTERM:
                raise KeyboardInterrupt
            run.stop.asked, run.stop.at_once = False, True
            if command.eval.patience:
                fit.policy.model.load_state_dict(run.state.best, strict=False)
            begin("the evaluation of the model")
            publish(fit, stopped)
            if stopped:
                raise on_all(KeyboardInterrupt())
    except ScoringFailed as error:  # of the evaluation: the training before it is saved
        error.go_on = f"sft --resume {shlex.quote(str(path))} --accept-changed-code"
        raise
    finally:
        run.trackers.finish()
        if not going_on:
            fit.folder.discard()
        fit.folder.release()
    return path


def begin_folder(fit: Fit, going_on: bool) -> None:
    """Makes the folder, or cuts in it what is later than the checkpoint that it goes on from; others are kept out."""
    if going_on:
        fit.folder.truncate_after(fit.step)
        if fit.command.output.accept_changed_code:  # from now on it is this code that may not change
            fit.folder.record(**fit.run.record)
    else:
        fit.folder.create(fit.settings, fit.run.record)


def save(fit: Fit) -> None:
    """Writes a checkpoint of the finished updates; a finished model that it goes on from is finished no longer."""
    fit.progress.ended_early |= fit.run.stop.asked and fit.step < fit.run.total_steps
    save_checkpoint(fit.run)
    # Only now: a kill before leaves the finished model, and the settings that say how long it was trained.
    with raising_on_all():
        if rank() == 0:
            (fit.folder.path / COMPLETE).unlink(missing_ok=True)
        fit.folder.config(fit.settings)


def end(fit: Fit) -> None:
    """Keeps what was learned until somebody asked to stop: the best weights, and a checkpoint to go on from."""
    run, step = fit.run, fit.step
    writes_model, complete = run.stop.by != signal.SIGTERM, step >= run.total_steps
    fit.progress.ended_early = not complete
    save(fit)  # before the validation, which one that was never stopped does not have
    again = f"python -m spg_trainer sft --resume {shlex.quote(str(fit.folder.path))}"
    if not complete:
        if step % run.config.eval.eval_steps and writes_model:
            validate_loss(run, last=True)
        without = "" if writes_model else ", without a model"
        run.console.say(f"Stopped after update {step}{without}; go on with: {again}")
    elif not writes_model:
        run.console.say(f"All {step} updates are made, and the model is not written yet: {again}")


def what_stops(stop: StopRequest) -> str:
    """What is said when somebody asks to stop."""
    if stop.by == signal.SIGTERM:
        return "Stopping after this update; its checkpoint will be written for --resume, and no model."
    return "Stopping after this update; the model so far will be written. Press Ctrl-C again to stop at once."


def introduction(fit: Fit) -> str:
    """One line: what is learned, by how large a model, from how many demonstrations and where."""
    c, size = fit.command, sum(p.numel() for p in fit.policy.model.parameters())
    each = []
    for task, rules in known_rules(fit.train).items():
        own = normalised({name: share for name, share in fit.mix.items() if name in rules})
        shares = ", ".join(f"{name} {share:.0%}" for name, share in own.items())
        each.append(f"{task}: {shares}" if fit.train.parts else shares)
    mix = "; ".join(each)
    turns = " (of an episode, each turn is one)" if fit.train.max_turns > 1 else ""
    return (
        f"{fit.train.spec_name} ({mix}), model {c.model.model} of {size:,} parameters on {fit.policy.device}; up to "
        f"{plural(c.steps, 'update')} of {plural(c.batch.batch_size, 'demonstration')}, "
        f"{c.rollout.max_completion_length} tokens each"
        f"{turns}."
    )


def prepare(asked: Plan[SftCommand], path: Path, accelerator: "Accelerator", console: Console) -> Fit:
    """Everything that training needs, before its first update."""
    command = asked.config
    device = own_device(command.model.device, accelerator)
    with raising_on_all():
        # Where the model will be evaluated: without problems there, nothing is begun.
        evaluated = {split: make_env(command, split) for split in ("test", "validation") if command.env}
        if command.data:
            train, validation = (envs.Texts(command.data, split) for split in ("train", "validation"))
        else:
            train, validation = make_env(command, "train"), evaluated["validation"]
            envs.checking.try_scoring(train)
        mix = mix_shares(command.mix, train)
        command = replace(command, model=settle(command.model))
        policy = base_policy(command, device)
        if not command.rollout.max_completion_length:
            length = completion_length(policy, train, mix)
            # Whole blocks, if it is sft that was given their length; that of a training gives way to the texts.
            if not asked.origins.get(BLOCK_LENGTH, FLAG).startswith(TRAINING):
                length += -length % max(1, command.rollout.block_length)
            command = replace(command, rollout=replace(command.rollout, max_completion_length=length))
        skipped = check_lengths(policy, [train, validation], mix, command)
        pattern = base_model(policy.model).pattern
        command = without_other_blocks(command, pattern, asked.origins)
        sampling = eval_sampling(command, pattern)
    if command.model.is_divided:
        divide_policy(policy, command.model, device)
    config, algorithm = training_config(command, sampling), MLE()
    with raising_on_all():
        optimizer = make_optimizer(config.optimizer, trainable_parameters(policy.model))
    read = {name: what for name, what in (("data", data_of(command)), ("origin", dict(train.origin))) if what}
    run = Run(
        config=config,
        state=TrainingState(),
        policy=policy,
        algorithm=algorithm,
        optimizer=optimizer,
        source=Demonstrations(train, policy, config, mix, command.batch.batch_size),
        splits={"train": train, **evaluated},
        folder=RunFolder(path, SFT),
        console=console,
        trackers=Trackers(),
        accelerator=accelerator,
        rows_per_forward=None,
        held_out=Demonstrations(validation, policy, config, mix, VALIDATION),
        record={**task_record(command, sampling, **read), STARTED: os.getcwd()},
    )
    return Fit(run, command, mix, skipped)


def resume(fit: Fit, newest: Path | None) -> Fit:
    """The training as a checkpoint of the folder has it; where it becomes longer, as it was before its rate decayed.

    Raises ConfigError if the folder was begun with other settings, or there is nothing left to do.
    """
    folder, command = fit.folder.path, fit.command
    before, record = read_config(folder / SFT, SftCommand), folder / ENVIRONMENT
    if not record.is_file():  # one of an earlier version has it in its checkpoints alone
        record = (newest or folder) / ENVIRONMENT
    refuse_changed_data(record, command)
    refuse_changed_hub(record, fit.train.origin)
    # A cosine is of one length only.
    extensible = before.eval.patience > 0 and command.eval.patience > 0
    ignored = SFT_MAY_CHANGE if extensible else SFT_MAY_CHANGE - {"steps", "eval.patience"}
    refuse_changes(folder / SFT, command, ignored, record=record)
    began = record_of(folder)
    begun, made = as_begun(command, before, began), dict(fit.run.record)
    made[STARTED] = began.get(STARTED, made[STARTED])
    if "env" in made:
        made |= {"env": begun.env, "env_args": dict(begun.env_args)}
    state = load_checkpoint(newest, fit.policy, fit.run.optimizer) if newest else fit.run.state
    fit = replace(fit, begun=begun, run=replace(fit.run, state=state, record=made))
    if fit.step > command.steps:
        raise ConfigError(f"{folder} is at update {fit.step}, later than --steps {command.steps}.")
    stalled, finished = fit.progress.stalled is not None, is_finished(fit)
    if finished and not (extensible and (stalled or command.steps > before.steps)):
        longer = f"--steps {2 * before.steps} (not under --patience 0)"
        raise ConfigError(f"{folder} is finished. Go on with {longer}, or {second_stage(folder)}.")
    start = fit.progress.decay_start(replace(fit.run.config, max_steps=before.steps))
    if fit.step > start and (finished or (command.steps > before.steps and not stalled)):
        state = load_checkpoint(checkpoint.require_up_to(folder, start), fit.policy, fit.run.optimizer)
        fit = replace(fit, run=replace(fit.run, state=state))
    if finished and stalled:
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


def base_policy(command: SftCommand, device: str | None = None) -> Policy:
    """The model to train: a new one of the embedded kind, or an existing one. device: None = that of the settings."""
    m, device = command.model, device or command.model.device
    if not is_embedded(m.model, "new"):
        return open_policy(m, env=command.env, seed=command.seed, device=device)
    sizes = {"hidden_size": command.hidden_size, "layers": command.num_layers, "heads": command.num_heads}
    policy = new_policy(
        m.model.partition(":")[2],
        device="cpu" if m.is_divided else device,
        seed=command.seed,
        ffn=command.intermediate_size,
        **sizes,
    )
    if m.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    return policy


def without_other_blocks(command: SftCommand, pattern: Pattern, origins: Mapping[str, str]) -> SftCommand:
    """The command without a training's block length, where that does not divide the length or attention has blocks.

    One that somebody asked for stays, and `eval_sampling` says what is wrong with it. One of a model that is resumed
    stays where it divides the length; of another length `resume` tells.
    """
    length, block = command.rollout.max_completion_length, command.rollout.block_length
    origin = origins.get(BLOCK_LENGTH, FLAG)  # without origins, as from Python, all is asked for
    does_not_divide = block > 0 and length % block > 0
    of_training = origin.startswith(TRAINING) and not pattern.is_full
    if of_training or (does_not_divide and origin not in (FLAG, command.config)):
        return replace(command, rollout=replace(command.rollout, block_length=0))
    return command


def eval_sampling(command: SftCommand, pattern: Pattern) -> Sampling:
    """Greedy decoding at the command's length, in its blocks or those of attention, or equal parts of these.

    Raises ConfigError for what cannot be decoded, before anything is trained.
    """
    r, length = command.rollout, command.rollout.max_completion_length
    whole = length if pattern.is_full else math.gcd(length, pattern.block_size)
    sampling = Sampling.of(length, r.block_length or whole, r.diffusion_steps, remasking=r.remasking)
    check_names(sampling)
    check_pattern(pattern, sampling)
    return sampling


def episodes_to_measure(fit: Fit) -> int:
    """So many that their turns are no more than the completions that were learned, though at least `FEWEST`.

    A model of few updates plays long games to their last turn: after one update on Taxi all would take many minutes.
    """
    learned = fit.step * fit.command.batch.batch_size
    return max(FEWEST, learned // fit.evaluated["validation"].max_turns)


def measure(fit: Fit) -> Measured:
    """What a finished model can do on the task, greedily, and at the temperature of the RL to come."""
    policy, command, results, most = fit.policy, fit.command, {}, episodes_to_measure(fit)
    accelerator, console = fit.run.accelerator, fit.run.console
    with unsharded(policy.model):
        for split, env in fit.evaluated.items():
            count = min(EVAL_PROBLEMS, len(env), most)
            with console.progress(count, f"eval {split}") as advance:
                shown = {
                    "split": split,
                    "num_problems": count,
                    "advance": advance,
                    "overlong": command.overlong,
                }
                results[split] = evaluate(policy, env, fit.sampling, **shown, accelerator=accelerator)
        validation = fit.evaluated["validation"]
        sampling = replace(fit.sampling, temperature=command.rollout.temperature)
        groups = {"num_problems": min(GROUPS, most // GENERATIONS), "num_generations": GENERATIONS}
        groups |= {"seed": command.seed, "split": "validation", "accelerator": accelerator}
        groups |= {"overlong": command.overlong}
        samples = evaluate(policy, validation, sampling, **groups)
        off_mix = shares_off_mix(fit, samples.rows, results["validation"].rows, groups)
    greedy = count_habits(validation, results["validation"].rows)
    return Measured(results, greedy, count_habits(validation, samples.rows), off_mix)


def shares_off_mix(
    fit: Fit,
    rows: Sequence[Mapping[str, Any]],
    greedy: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Any],
) -> list[str]:
    """What to tell of tasks whose completions are far from the mix; these are sampled once more, in random order.

    rows: completions as RL samples them. greedy: those of greedy decoding. groups: how `evaluate` sampled them.
    """
    env, told, drawn = fit.evaluated["validation"], [], None
    for task in env.parts or [""]:

        def counts(rows: Sequence[Mapping[str, Any]], task: str = task) -> HabitCounts:
            return count_habits(env, [row for row in rows if not task or row["task"] == task])

        sampled = counts(rows)
        mix = normalised({name: share for name, share in fit.mix.items() if name in sampled.follows})
        if off_mix.is_far(mix, sampled):
            in_random_order = replace(fit.sampling, temperature=1.0, remasking="random")
            drawn = drawn or evaluate(fit.policy, env, in_random_order, **groups)
            each = sampled, counts(drawn.rows), counts(greedy)
            told.append(off_mix.why(mix, *each, fit.command, fit.folder.path, task))
    return told


def record_result(fit: Fit, measured: Measured | None) -> None:
    """Writes eval/after and the validation of the model, of a task, and summary.json, as a training does."""
    p, command, run = fit.progress, fit.command, fit.run
    step = p.best_step if command.eval.patience else run.state.step
    for split, result in measured.results.items() if measured else ():
        name = "after" if split == "test" else f"step-{step:06d}"
        record_evaluation(fit.folder, run.trackers, name, result, step=step, logged_at=run.state.step)
    figures = {split: result.summary() for split, result in measured.results.items()} if measured else {}
    found = {
        **({"eval_after": figures["test"]} if figures else {}),
        "validation_loss": {"best": p.best_loss, "best_step": p.best_step},
        "kept_step": step,
        "model": str(fit.folder.path),
    }
    ended_by = USER if p.ended_early else "steps" if p.stalled is None else "patience"
    with raising_on_all():
        fit.folder.summary(summary_of(run, ended_by, found))


def write_files(fit: Fit, measured: Measured | None) -> None:
    """Writes the model with its card into its folder. measured: None before it is evaluated, and where it never is."""
    policy, folder, trained = fit.policy, fit.folder.path, fit.policy.model.dtype

    def write(place: Path, weights: checkpoint.Weights) -> None:
        checkpoint.write_model(place, policy, fit.run.record, weights)
        (place / SFT).write_text(fit.settings, encoding="utf-8")
        (place / "README.md").write_text(model_card(fit, measured), encoding="utf-8")

    if fit.command.save_dtype == "bfloat16":
        policy.model.to(torch.bfloat16)
    aside = folder / ".model"
    with raising_on_all():
        checkpoint.with_weights(
            policy, lambda weights: write_folder(aside, lambda place: write(place, weights))
        )
        if rank() == 0:
            with writing(folder):
                (folder / COMPLETE).unlink(missing_ok=True)
                for path in sorted(aside.iterdir(), key=lambda path: path.name == COMPLETE):  # that one last
                    os.replace(path, folder / path.name)
                aside.rmdir()
    if policy.model.dtype != trained:
        policy.model.to(trained)


def publish(fit: Fit, stopped: bool) -> None:
    """Writes the model into its folder, beside what it can go on from, evaluates it and says what it can do.

    stopped: whether somebody has asked to stop, who may ask again and end the evaluation: the model is there by then.
    """
    command, folder, p = fit.command, fit.folder.path, fit.progress
    console, trained = fit.run.console, fit.policy.model.dtype
    if command.save_dtype == "bfloat16":
        fit.policy.model.to(torch.bfloat16).to(trained)  # what is evaluated is what is saved
    if stopped and fit.evaluated:
        write_files(fit, None)
        console.say(f"The model so far is in {folder}; now it is evaluated.")
    measured = measure(fit) if fit.evaluated else None
    write_files(fit, measured)
    record_result(fit, measured)
    if not p.ended_early and rank() == 0:
        checkpoint.delete_after(folder, p.decay_start(fit.run.config))  # from there a longer training goes on
    if command.output.report and rank() == 0:
        save_report(folder, console)
    best = f"best validation loss {p.best_loss:.4f} after {p.best_step}"
    console.say(f"{plural(fit.step, 'update')}, {fit.run.elapsed_seconds / 60:.1f} minutes; {best}.")
    if measured is None:
        words = shlex.join(["--env", "ENV", "--model", str(folder)])
        console.say(f"The model is in {folder}. Train it: python -m spg_trainer {words}")
        return
    solved = "; ".join(f"{split} {result.solved}" for split, result in measured.results.items())
    sampled = measured.sampled
    console.say(f"{fit.evaluated['test'].spec_name}, greedy: {solved}.")
    console.say(f"At temperature {command.rollout.temperature:g}: {sampled.shares}; {sampled.signal}.")
    words = shlex.join([*task_words(command.env, command.env_args), "--model", str(folder)])
    for text in measured.off_mix:
        console.say(text)
    go_on = "Train it" if sampled.mixed and not measured.off_mix else "To train it as it is"
    console.say(f"The model is in {folder}. {go_on}: python -m spg_trainer {words}")
    if not sampled.mixed:
        console.warn(
            "no group is mixed, so RL has no right and wrong answers to compare. Train longer (--steps), or try "
            "another --mix or easier problems (--env-args)."
        )
