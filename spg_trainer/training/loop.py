"""The training loop, top to bottom: problems, rollouts, rewards, advantages, updates, records, checkpoints.

A step is one rollout and its `num_iterations` updates. Checkpoints are written between rollouts only, and every random
stream is keyed by what it is for, so a resumed run goes on exactly where it was.
"""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np
import torch

from spg_trainer import distributed
from spg_trainer.architecture.experts import counting_choices, router_load
from spg_trainer.distributed import (
    begin,
    gather,
    is_on_all,
    naming_the_lost,
    on_all,
    raising_on_all,
    sum_metrics,
)
from spg_trainer.errors import CheckpointError, ConfigError, ProcessLost, ScoringFailed, plural
from spg_trainer.evaluation.habits import count_habits
from spg_trainer.evaluation.teaching import sft_command
from spg_trainer.models.shard import trains_parts, unsharded
from spg_trainer.rollout.scored import Groups, Scored, sample_rows
from spg_trainer.rollout.tokens import ended
from spg_trainer.runs.checkpoint import latest_complete
from spg_trainer.runs.stop import stopping
from spg_trainer.seeding import derive, gpus
from spg_trainer.settings.fields import Config
from spg_trainer.settings.resolve import Resolved
from spg_trainer.settings.weights import unseen
from spg_trainer.training.credit import credit
from spg_trainer.training.evaluations import evaluate_once, run_validation, validate_loss, write_best_model
from spg_trainer.training.fidelity import fidelity_means, fidelity_sums
from spg_trainer.training.metrics import rollout_metrics
from spg_trainer.training.micro_batches import Step, Update
from spg_trainer.training.optimize import count_skipped, learning_rate, optimizer_step, sum_gradients
from spg_trainer.training.records import (
    closing_lines,
    record_step,
    save_checkpoint,
    write_report,
    write_summary,
)
from spg_trainer.training.run import Run
from spg_trainer.training.setup import start
from spg_trainer.training.update import gradient, means, plan_updates
from spg_trainer.training.validation import rate, stale
from spg_trainer.training.warnings import form_warning, new_warnings

USER = "user"
"""What `reason_to_end` returns where somebody asked to stop."""
KNOWS_NOTHING = 256
"""A run asks for --force if none of at least so many first completions is right; of fewer, that may be chance."""


def train(config: Config | Resolved[Config], *, quiet: bool = False) -> dict[str, Any]:
    """Trains to the end of the settings and returns what summary.json holds.

    config: every setting; start from `defaults(Config, env=..., model=...)`, which knows the recipes. quiet: nothing is
    printed. Raises SpgError for settings, model, environment or disk that cannot work; finished steps are saved first.
    """
    run = start(config, quiet=quiet)
    try:
        with run.console, stopping_between_steps(run), naming_the_lost(run.config.timeout_minutes):
            before = evaluate_once(run, "before", 0)
            run_validation(run)
            if (ended_by := make_steps(run)) == USER:
                raise on_all(KeyboardInterrupt())  # marked, so that processes may still save together
            run_validation(run, last=True)
            save_checkpoint(run)
            after = evaluate_once(run, "after", write_best_model(run))
    except BaseException as error:
        save_finished_steps(run, error)
        raise
    finally:
        run.trackers.finish()
        run.folder.release()
    summary = write_summary(run, before, after, ended_by)
    write_report(run)
    for line in closing_lines(summary, run.config, run.splits["train"]):
        run.console.say(line)
    return summary


def make_steps(run: Run, save: Callable[[Run], object] = save_checkpoint) -> str:
    """Trains step by step, with its checkpoints; returns what ended it, as `reason_to_end`. save: writes one."""
    while not (ended_by := reason_to_end(run)):
        train_step(run)
        if run.saves:
            save(run)
    run.console.end_steps()
    return ended_by


def save_finished_steps(run: Run, error: BaseException) -> None:
    """Writes a checkpoint of the last finished step of a run that an error ends, and says how to go on.

    Nothing is written where the weights have changed since that step, nor where this process cannot write it alone.
    Where the error is of a disk that refused a checkpoint, it may refuse this one too, which is no further error.
    """
    # Of a sharded model each process has only its part, and the others may be elsewhere.
    divided = trains_parts(run.policy.model) or distributed.lockstep is not None
    others_are_missing = isinstance(error, ProcessLost) or (divided and not is_on_all(error))
    go_on = f"--resume {shlex.quote(str(run.folder.path))}"
    # What a disk refuses is raised from the disk's own error (`runs.files.writing`), a checkpoint that is gone is not.
    disk_refused = isinstance(error, CheckpointError) and error.__cause__ is not None
    if run.state.consistent and run.state.step and not others_are_missing:
        # A launcher asks this process to stop when another one has ended: that must not cut the checkpoint short.
        with stopping_between_steps(run), suppress(CheckpointError) if disk_refused else nullcontext():
            save_checkpoint(run)
    if disk_refused or isinstance(error, KeyboardInterrupt):
        newest = latest_complete(run.folder.path)
        kept = f"{newest} is saved" if newest else "Nothing is saved yet"
        run.console.say(f"{kept}; continue with {go_on}")
    if isinstance(error, ScoringFailed):  # its remedy is to change the code of the environment
        error.go_on = f"{go_on} --accept-changed-code"


def train_step(run: Run) -> None:
    """One rollout and its updates, recorded, validated and shown."""
    state, started = run.state, time.monotonic()
    lockstep = distributed.lockstep
    for_others_before = lockstep.for_others if lockstep else 0
    begin(f"the rollout of step {state.step + 1}")
    with unsharded(run.policy.model):
        scored = run.source.collect(state.step)
        sampled = time.monotonic()
        (rewards,) = scored.of_groups(scored.rewards)
        metrics = {}
        if run.source.env is not None:  # completions that are given to be learned say nothing of the model
            metrics = rollout_metrics(scored, ended(run.policy, scored.rollouts))
        if state.step == 0 and run.source.env is not None:
            look_at_base(run, scored, rewards)
            if text := form_warning(run.algorithm, run.source.env.reward_weights, metrics):
                run.console.warn(text)
        metrics |= look_at_decoding(run, scored)
        learned = scored.learned(run.config.batch.num_generations)
        # Where groups are chosen, all have one size: --max-rollout-batches does not go with --explore.
        learned_rewards = rewards if scored.chosen is None else rewards[scored.chosen]
        advantages, step = credit(run, learned, learned_rewards)
        begin(f"the updates of step {state.step + 1}")
        with counting_choices(run.policy.model) as choices:
            metrics |= apply_updates(run, step)
    state.consistent, state.step = False, state.step + 1  # a checkpoint of this step needs its row
    if run.source.pools is not None:
        # What the rollout noted of its problems counts from the next step on.
        metrics |= run.source.pools.keep()
    timings = {"rollout": sampled - started, "update": time.monotonic() - sampled}
    if "num_tokens" in metrics:
        timings["tokens_per_second"] = metrics["num_tokens"] / (sampled - started)
    if lockstep:
        timings |= sum_metrics({"passes_for_others": float(lockstep.for_others - for_others_before)})
    if choices:  # all choices of a pass, also those of padding: they depend on the batching
        timings |= router_load(sum_metrics(choices))
    metrics |= validate_loss(run)
    record_step(run, scored, advantages, metrics, timings)
    run_validation(run)
    limit = 60 * run.config.max_minutes
    run.console.step(
        {**state.history[-1], **timings, **shown_of_validation(run)},
        total=run.total_steps,
        seconds_left=max(0.0, limit - (time.monotonic() - run.started)) if limit else None,
    )
    if run.due(run.config.output.sample_steps):
        run.console.say(run.source.render_turns(scored.problems[0], *scored.dialogue(0)))
    for warning in new_warnings(state.history, run.algorithm.right_groups_teach):
        run.console.warn(warning)


def shown_of_validation(run: Run) -> dict[str, Any]:
    """What the live line shows of validation: the solved share of the newest one.

    Where a loss is validated: the lowest so far, and beside it the training loss of the last steps.
    """
    state = run.state
    if run.held_out is not None:
        return {"mean_loss": recent_loss(state.history), "best_loss": state.progress.best_loss}
    newest = state.validations[max(state.validations)] if state.validations else None
    return {"validation": newest and rate(newest)}


def recent_loss(history: Sequence[Mapping[str, Any]]) -> float:
    """The mean training loss of the last hundred steps. history: rows of metrics.jsonl, oldest first."""
    losses = [row["loss"] for row in history[-100:]]
    finite = [loss for loss in losses if loss is not None and np.isfinite(loss)]
    return sum(finite) / len(finite) if finite else float("nan")


def look_at_base(run: Run, scored: Scored, rewards: Groups) -> None:
    """Says before the first update what the model does: RL picks among the behaviours that it has.

    rewards: of the groups of all processes. Raises ConfigError, unless --force is given, if there is nothing to learn
    from: no completion is right and no group has unequal rewards. Of fewer than `KNOWS_NOTHING` completions that may be
    chance and is no error, except of an embedded model that was made for another task.
    """
    rows = gather(sample_rows(scored, policy=run.policy, env=run.source, step=0))
    with raising_on_all():
        base = count_habits(run.source.env, rows)
    run.console.say(f"Before step 1: {base.shares}; {base.signal}.")
    if base.mixed:
        return
    config, settings = run.config, run.config.rollout
    command = sft_command(run.splits["train"], config.env, config.env_args, config.model.model)
    remedy = (
        "Raise --temperature, --num-generations or --max-rollout-batches, or teach the model the task first with "
        f"`{command}`."
    )
    if not settings.draws_noise:
        remedy = "At --temperature 0 all completions of a problem are the same: raise it."
    cannot_be_chance = base.completions >= KNOWS_NOTHING or unseen(config.model.model, config.env)
    teaches_nothing = base.follows["right"] == 0 and not any(np.ptp(group) for group in rewards)
    if teaches_nothing and cannot_be_chance and not config.force:
        each = f"{base.completions // base.groups} of each of {plural(base.groups, 'problem')}"
        raise ConfigError(
            f"before step 1 the model wrote {base.completions} completions, {each}, and none of {base.completions} is "
            "right. As all completions of a problem earn the same, the run would have nothing to learn from. "
            f"{remedy} If the model is right now and then, but less often than that, train all the same: "
            f"--resume {shlex.quote(str(run.folder.path))} --force."
        )
    goes_on = ""
    if teaches_nothing and not cannot_be_chance:
        goes_on = (
            f" None of {base.completions} completions is right. So few may miss what the model does now and then, so "
            f"the run goes on; it would end here if none of {KNOWS_NOTHING} or more were right."
        )
    run.console.warn(
        f"before step 1: no group is mixed, with both right and wrong completions.{goes_on} {remedy}"
    )


def look_at_decoding(run: Run, scored: Scored) -> dict[str, float]:
    """Every --sample-steps, how far decoding that is not exact is from it; before the weights change."""
    config, step = run.config, run.state.step
    every = config.output.sample_steps
    due = every > 0 and ((step + 1) % every == 0 or step + 1 == config.max_steps)
    if not due or not config.rollout.shortcuts or run.source.env is None:
        return {}
    with raising_on_all():
        sums = fidelity_sums(run.policy, scored, config.rollout, config.seed, step, run.rows_per_forward)
    return fidelity_means(gather([sums]))


def apply_updates(run: Run, step: Step) -> dict[str, float]:
    """The optimizer steps of a step, none for minibatches without an active completion; returns their mean metrics."""
    config, device, number = run.config, run.policy.device, run.state.step
    active = [totals["learned_completions"] > 0 for totals in step.totals]  # of each minibatch
    if not any(active):
        return {"grad_norm": 0.0, "learning_rate": next_rate(run)}
    updates = plan_updates(run.policy, run.algorithm, step, config.batch, seed=config.seed, number=number)
    dropout, skipped_before = config.model.lora_dropout > 0, run.state.skipped
    with torch.random.fork_rng(gpus(device), enabled=dropout):  # dropout knows the global stream only
        if dropout:
            torch.manual_seed(derive(config.seed, "dropout", number, run.accelerator.process_index))
        run.policy.model.train()
        try:
            metrics = [
                one_update(run, update, position)
                for position, update in enumerate(updates)
                if active[position % len(active)]  # each iteration goes through all minibatches
            ]
        except BaseException:
            run.state.skipped = (
                skipped_before  # a checkpoint that is written now is of the last finished step
            )
            raise
        run.policy.model.eval()
    return {name: float(np.mean([m[name] for m in metrics])) for name in metrics[-1]}


def one_update(run: Run, update: Update, number: int) -> dict[str, float]:
    """Gradient, sum over the processes, clip, optimizer step if all is finite. number: of the update in its step."""
    with unsharded(run.policy.model):
        with raising_on_all():
            sums = gradient(run.policy, run.algorithm, update)
        sum_gradients(run.policy.model)
    # A loss that compares the completions of the whole update is a sum over episodes, any other one over their turns.
    counts = update.totals if run.algorithm.compares == "update" else update.counts
    metrics, rate = means(sum_metrics(sums), counts), next_rate(run)
    stepped = optimizer_step(
        run.optimizer,
        run.parameters,
        loss=metrics["loss"],
        learning_rate=rate,
        max_grad_norm=run.config.optimizer.max_grad_norm,
        before_change=run.state.will_change,
    )
    if stepped.applied:
        run.state.updates += 1
        if run.moves_reference and run.state.updates % run.algorithm.ref_model_sync_steps == 0:
            run.policy.move_reference(run.algorithm.ref_model_mixup_alpha)
    else:
        count_skipped(run, update.completions, number)
    return {**metrics, "grad_norm": stepped.norm, "learning_rate": rate}


def next_rate(run: Run) -> float:
    """The learning rate of the next update."""
    if run.held_out is not None:
        return run.state.progress.learning_rate(run.state.step, run.config)
    share_done = run.state.step / run.config.max_steps
    return learning_rate(run.config.optimizer, updates=run.state.updates, share_done=share_done)


def reason_to_end(run: Run) -> str:
    """What ends the run before its next step: a flag, `USER` where a process was asked to stop, or nothing yet."""
    limit = 60 * run.config.max_minutes
    late = limit > 0 and time.monotonic() - run.started > limit
    late, stop = map(any, zip(*gather([(late, run.stop.asked)]), strict=True))  # all processes end alike
    if stop:
        return USER
    if late:
        return "max_minutes"
    if run.held_out is None and 0 < run.config.eval.patience <= stale(run.state.validations):
        return "patience"
    return "max_steps" if run.state.step >= run.total_steps else ""


def stopping_between_steps(run: Run) -> AbstractContextManager[None]:
    """The first Ctrl-C or SIGTERM ends the run after the current step; a second one ends it at once.

    In an evaluation the first one ends a single process at once; several processes finish the evaluation, to stay
    together.
    """
    text = "Stopping after this step or evaluation; steps are saved. Press Ctrl-C again to stop at once."
    return stopping(run.stop, lambda: run.console.say(text))
