"""The training loop, top to bottom: problems, rollouts, rewards, advantages, updates, records, checkpoints.

A step is one rollout and its `num_iterations` updates. Checkpoints are written between rollouts only, and every random
stream is keyed by what it is for, so a resumed run goes on exactly where it was.
"""

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import torch

from spg_trainer import distributed
from spg_trainer.errors import CheckpointError, ConfigError, ProcessLost, ScoringFailed, TrainingError
from spg_trainer.models.shard import trains_parts, unsharded
from spg_trainer.rollout.collect import gather_groups
from spg_trainer.rollout.tokens import ended
from spg_trainer.runs.checkpoint import latest_complete
from spg_trainer.runs.files import write_text
from spg_trainer.runs.progress import Console
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.seeding import derive, gpus
from spg_trainer.settings import packages
from spg_trainer.settings.configs import Config
from spg_trainer.settings.types import json_document
from spg_trainer.tensors import Rows
from spg_trainer.training import evaluations, records
from spg_trainer.training.advice import form_warning, look_at_base, look_at_groups, new_warnings
from spg_trainer.training.best_model import keep_start_if_worse, write_best_model
from spg_trainer.training.criteria import rate
from spg_trainer.training.metrics import (
    EPISODES,
    counting_choices,
    fidelity_means,
    fidelity_sums,
    rollout_metrics,
    router_load,
)
from spg_trainer.training.optimize import optimizer_step, sum_gradients
from spg_trainer.training.plan import Plan, settle
from spg_trainer.training.run import OnStep, Run
from spg_trainer.training.schedule import DECAYS_LATE, learning_rate
from spg_trainer.training.setup import finished_summary, of_python, open_run, refuse_keywords
from spg_trainer.training.update import (
    EXTREMES,
    Update,
    credit,
    gradient,
    means,
    of_all_processes,
    plan_updates,
)

USER = "user"
"""What `reason_to_end` returns if the user or a launcher asked the run to stop."""
MAX_SKIPPED = 3
"""A run stops after so many updates in a row whose loss or gradient is not finite."""


@torch.inference_mode(False)  # weights that are made in inference mode can have no gradient
@packages.envs.own_files.each_file_once()  # an edit of the user's files during a run waits for the next run
def train(
    config: Config | Plan | None = None,
    *,
    quiet: bool = False,
    on_step: OnStep | None = None,
    **others: object,
) -> dict[str, Any]:
    """Trains until the settings end the run, and returns what summary.json holds.

    config: start from `defaults(Config, env=..., model=...)`, which knows the recipes; or a plan, from `settle`.
    quiet: nothing is printed. on_step: called in the first process as `on_step(metrics, rows)` after each step.
    metrics is its row of metrics.jsonl; rows are those of all its completions, as in samples/, each also with
    "completion_ids" and "unmask_logps". Both are copies, so that nothing that the function does to them changes the
    run. If it returns "stop", the run ends as after its last step. A dict of numbers is recorded in the step's row,
    each under "user/" and its name. Raises SpgError for settings, model, environment or disk that cannot work; finished
    steps are saved first. others: refused with a hint, since all settings belong in the first argument.
    """
    refuse_keywords(others)
    if quiet not in (None, True, False):  # None counts as not given; the text "false" would count as true
        raise ConfigError(f"train(quiet={quiet!r:.60}): should be True or False.")
    if on_step is not None and not takes_two(on_step):
        raise ConfigError(
            f"on_step={on_step!r:.60}: should be a function, which is called as on_step(metrics, rows)."
        )
    planned = config if isinstance(config, Plan) else settle(of_python(config))
    finished = finished_summary(planned)
    if finished is not None:
        Console(quiet=quiet).say(records.nothing_to_do(finished, planned.folder))
        return finished
    run = replace(open_run(planned, quiet=quiet), on_step=on_step)
    # Reward functions may ask for the step and the number of steps.
    telling_the_step = packages.envs.authoring.reward_functions.reports.during(
        run.state.step, run.config.max_steps
    )
    try:
        stopping_here = stopping_between_steps(run.stop, run.console)
        with (
            run.console,
            telling_the_step,
            stopping_here,
            distributed.naming_the_lost(run.config.timeout_minutes),
        ):
            before = evaluations.evaluate_once(run, "before", step=0)
            evaluations.run_validation(run)
            ended_by = make_steps(run)
            if ended_by == USER:
                # All processes raise this error, and `raised_by_all` notes that on the error. Without the note,
                # processes that share one model would not save a checkpoint together (`save_finished_steps`).
                raise distributed.raised_by_all(KeyboardInterrupt())
            evaluations.run_validation(run, last=True)
            records.save_checkpoint(run)
            step_of_model = write_best_model(run)
            after = evaluations.evaluate_once(run, "after", step=step_of_model)
            # A run that validates a loss is not judged by solved rates, since its texts may teach something else.
            is_judged = before and after and run.config.validates == "solved"
            worse = keep_start_if_worse(run, step_of_model) if is_judged else None
            look_at_groups(run)
    except BaseException as error:
        save_finished_steps(run, error)
        raise
    finally:
        run.trackers.finish()
        run.folder.release()
    summary = records.write_summary(run, before, after, step_of_model, ended_by, worse)
    records.write_report(run)
    for line in records.closing_lines(summary, run.config):
        run.console.say(line)
    if worse:
        run.console.warn(records.worse_line(summary))
    return summary


def make_steps(run: Run) -> str:
    """Makes one step after the other and saves checkpoints where they are due; returns what `reason_to_end` says."""
    while not (ended_by := reason_to_end(run)):
        train_step(run)
        if run.saves:
            records.save_checkpoint(run)
    run.console.end_steps()
    return ended_by


def save_finished_steps(run: Run, error: BaseException) -> None:
    """Writes a checkpoint of the last finished step of a run that an error ends, and says how to go on.

    Nothing is written in three cases: the weights have changed since that step; the run was resumed and has made no
    step since; or processes are missing that would have to write the checkpoint together with this one.
    """
    # With --shard each process has only its part of the model (`lockstep` is set with `--shard layer`). The other
    # processes are not here if only this one met the error.
    divided = trains_parts(run.policy.model) or distributed.lockstep is not None
    others_are_missing = isinstance(error, ProcessLost) or distributed.is_inside_pass
    others_are_missing = others_are_missing or (divided and not distributed.is_raised_by_all(error))
    # The error of a disk that refused to write has a cause (`runs.files.writing`), that of a lost checkpoint has none.
    disk_refused = isinstance(error, CheckpointError) and error.__cause__ is not None
    # A disk that has refused a checkpoint may refuse this one too, which is no further error.
    refusal_allowed = suppress(CheckpointError) if disk_refused else nullcontext()
    # The checkpoint from which a run was resumed is there already.
    has_made_steps = run.state.step > run.state.resumed_at
    if run.state.consistent and has_made_steps and not others_are_missing:
        # A launcher asks this process to stop when another one has ended: that must not cut the checkpoint short.
        with stopping_between_steps(run.stop, run.console), refusal_allowed:
            records.save_checkpoint(run)
    if disk_refused or isinstance(error, KeyboardInterrupt):
        newest = latest_complete(run.folder.path)
        text = f"No step is saved yet; begin again, in the same folder, with {run.folder.go_on}"
        if newest:
            text = f"{newest} is saved; continue with {run.folder.go_on}"
        run.console.say(text)
    if isinstance(error, ScoringFailed):  # its remedy is to change the code of the environment
        # In a message, `$name` is a setting: it is shown as a flag or as a keyword (`errors.py`).
        error.go_on = f"$resume={shlex.quote(str(run.folder.path))} $accept_changed_code"


def train_step(run: Run) -> None:
    """Makes one step: its rollout and its updates, which are then recorded, validated and shown.

    `run.state.step` is the number of finished steps, so this step's own number only after its updates.
    """
    state, started_at = run.state, time.monotonic()
    lockstep = distributed.lockstep
    # With `--shard layer` a process whose own passes are done makes further passes, so that the others can go on.
    for_others_before = lockstep.for_others if lockstep else 0
    # If a process is lost from here on, `naming_the_lost` says that it was lost during the rollout.
    distributed.begin_phase(f"the rollout of step {state.step + 1}")
    with unsharded(run.policy.model):
        scored = run.source.collect(state.step)
        sampled_at = time.monotonic()
        metrics = {}
        if run.source.env is not None:  # the completions are sampled, not given
            metrics = rollout_metrics(scored, ended(run.policy, scored))
            if state.step == 0:
                look_at_base(run, scored, metrics)
                if text := form_warning(run.algorithm, run.source.env.reward_weights, metrics):
                    run.console.warn(text)
        metrics |= look_at_decoding(run, scored)
        # The advantage of each completion, and the rows that the updates go through.
        advantages, learned_rows = credit(run, scored.learned(run.config.batch.num_generations))
        distributed.begin_phase(f"the updates of step {state.step + 1}")
        with counting_choices(run.policy.model) as choices:
            metrics |= apply_updates(run, learned_rows)
    state.step += 1
    # No checkpoint may be saved until `record_step` has written the row of this step.
    state.consistent = False
    # --pools draws a problem less often if its groups were all right or all wrong.
    if run.source.pools is not None:
        problems, correct = gather_groups(scored, scored.problem.numpy(), scored.correct)  # (P, G) each
        problem_of_group = problems[:, 0]  # all completions of a group are of one problem
        metrics |= run.source.pools.note(problem_of_group, correct)
    seconds_of_rollout = sampled_at - started_at
    timings = {"rollout": seconds_of_rollout, "update": time.monotonic() - sampled_at}
    if "num_tokens" in metrics:
        timings["tokens_per_second"] = metrics["num_tokens"] / seconds_of_rollout
    # The numbers that were used. Once memory has run out, they are `most_copies` and `most_rows` (`models/policy.py`).
    timings["per_device_batch_size"] = run.policy.most_copies or run.config.batch.per_device_batch_size
    if run.player.rows_per_forward is not None:
        timings["rows_per_forward"] = run.policy.most_rows or run.player.rows_per_forward
    if lockstep:
        timings |= distributed.sum_metrics(
            {"passes_for_others": float(lockstep.for_others - for_others_before)}
        )
    # How often each expert was chosen. These figures depend on the batching, since padding chooses experts, too. Hence
    # they are not among the metrics, which another batching must not change.
    if choices:
        timings |= router_load(distributed.sum_metrics(choices))
    if run.config.validates == "loss" and run.due(run.config.eval.eval_steps):
        metrics |= evaluations.measure_loss(run)
    records.record_step(run, scored, advantages, metrics, timings)
    evaluations.run_validation(run)
    seconds_left = None  # no limit
    if run.config.max_minutes:
        seconds_left = max(0.0, 60 * run.config.max_minutes - (time.monotonic() - state.started))
    total_steps, _ = run.steps_and_decay_start
    newest_row = state.history[-1]
    run.console.step(
        {**newest_row, **timings, **validation_figures(run)}, total=total_steps, seconds_left=seconds_left
    )
    if run.due(run.config.output.sample_steps):
        text = run.source.render_turns(scored.problems[0], *scored.dialogue(0))
        run.console.say(f"{sample_label(run, scored)}\n{text}")
    # `comparable` leaves out the rows of `history` that other code of the task has judged.
    for warning in new_warnings(state.comparable, run.algorithm.right_groups_teach):
        run.console.warn(warning)


def takes_two(function: object) -> bool:
    """Whether something can be called with two arguments, as far as its signature says."""
    try:
        signature(function).bind(None, None)  # type: ignore[arg-type]
    except TypeError:  # also of what cannot be called
        return False
    except ValueError:  # a function written in C need not say what it takes
        pass
    return True


def sample_label(run: Run, scored: Rows) -> str:
    """The line above a step's first completion: "A completion of step 10, problem 3 of sudoku: wrong, reward 0.00"."""
    problem = scored.problems[0]
    # The first that is not empty: the problem's task in a mixture, the task of the source, or the name of the source.
    task = problem.task or getattr(run.source, "task", "") or run.source.spec_name
    which = f"A completion of step {run.state.step}, problem {int(scored.problem[0])} of {task}"
    return f"{which}: {scored.reason[0] or 'no reason given'}, reward {float(scored.rewards[0]):.2f}"


def validation_figures(run: Run) -> dict[str, Any]:
    """What the live line shows of validations: the solved rate of the newest one.

    Before the first validation, the line shows nothing of them. If validations measure a loss, the line shows the
    lowest loss so far, and the training loss of the last steps.
    """
    state = run.state
    if run.config.validates == "loss":
        lowest = min(state.validations.values(), default=None)
        return {"mean_loss": recent_loss(state.history), "best_loss": lowest}
    if not state.validations:
        return {}
    newest = max(state.validations)
    return {"validation": rate(state.validations[newest])}


def recent_loss(history: Sequence[Mapping[str, Any]]) -> float:
    """The mean training loss of the last hundred steps, without those whose loss is not finite; NaN if none is left.

    history: rows of metrics.jsonl, oldest first.
    """
    losses = [row["loss"] for row in history[-100:]]
    finite = [loss for loss in losses if loss is not None and np.isfinite(loss)]
    return sum(finite) / len(finite) if finite else float("nan")


def look_at_decoding(run: Run, scored: Rows) -> dict[str, float]:
    """Metrics that say how far a step's decoding is from exact decoding. Call this before the weights change.

    The result is {} in four cases: the metrics are not due (--sample-steps); the run decodes exactly, without
    `shortcuts`; an engine samples, whose noise cannot be drawn again; or completions are given, not sampled.
    """
    config, steps_before = run.config, run.state.step
    # `run.due` looks at the step that was finished last, and this step is not finished yet.
    this_step, every = steps_before + 1, config.output.sample_steps
    is_due = every > 0 and (this_step % every == 0 or this_step == config.max_steps)
    by_itself = run.source.env is not None and not config.rollout_engine
    if not is_due or not config.rollout.shortcuts or not by_itself:
        return {}
    # Later batches of a step (--max-rollout-batches) are not looked at, since their noise has other keys.
    first_batch = config.batch.prompts_per_step * config.batch.num_generations
    with distributed.raising_on_all():
        sums = fidelity_sums(run.player, scored, steps_before, episodes=min(EPISODES, first_batch))
    return fidelity_means(distributed.gather([sums]))


def apply_updates(run: Run, learned_rows: Rows) -> dict[str, float]:
    """Makes the updates (optimizer steps) of a step and returns the means of their metrics.

    A minibatch makes no update if nothing is learned from any of its completions.
    """
    config, device, steps_before = run.config, run.policy.device, run.state.step
    teaches = [totals["scored_completions"] > 0 for totals in learned_rows.totals_of_minibatches]
    if not any(teaches):
        return {
            "grad_norm": 0.0,
            "grad_norm_max": 0.0,
            "updates_skipped": 0,
            "learning_rate": next_rate(run),
        }
    updates = plan_updates(
        run.policy, run.algorithm, learned_rows, config.batch, seed=config.seed, number=steps_before
    )
    has_dropout = config.model.lora_dropout > 0
    skipped_before = run.state.skipped
    # Dropout can draw only from torch's global stream, so this stream gets a seed of the step here, and its old state
    # afterwards.
    with torch.random.fork_rng(gpus(device), enabled=has_dropout):
        if has_dropout:
            torch.manual_seed(derive(config.seed, "dropout", steps_before, run.accelerator.process_index))
        run.policy.model.train()
        try:
            # An iteration makes an update of each minibatch, in order; then the next iteration follows. So the update
            # at a position is of minibatch `position % len(teaches)`.
            of_updates = [
                one_update(run, update, position)
                for position, update in enumerate(updates)
                if teaches[position % len(teaches)]
            ]
        except BaseException:
            # A checkpoint that is written now is of the last finished step, and so must not count this step's skips.
            run.state.skipped = skipped_before
            raise
        run.policy.model.eval()
    return metrics_of_step(of_updates)


def metrics_of_step(of_updates: Sequence[dict[tuple[str, str], float]]) -> dict[str, float]:
    """The metrics of a step: the mean over its updates, or the extreme of a metric that is one.

    Values that are not finite, as those of skipped updates, are left out; if no other is left, the metric is NaN.
    of_updates: {(name, what the metric is per): its value in an update}.
    """
    step: dict[str, float] = {}
    for name, per in of_updates[-1]:
        values = [metrics[name, per] for metrics in of_updates]
        finite = [value for value in values if math.isfinite(value)]
        step[name] = float(EXTREMES.get(per, np.mean)(finite)) if finite else math.nan
    norms = [norm for update in of_updates if math.isfinite(norm := update["grad_norm", "update"])]
    step["grad_norm_max"] = max(norms, default=math.nan)
    step["updates_skipped"] = sum(not update["is_applied", "update"] for update in of_updates)
    del step["is_applied"]
    return step


def one_update(run: Run, update: Update, number: int) -> dict[tuple[str, str], float]:
    """Makes one update; returns {(name of a metric, what it is per): value}, and whether the update was applied.

    number: the update's number in its step.

    The gradient is computed, summed over the processes and clipped, and the optimizer makes its step. If the gradient
    is not finite, the update is skipped and counted.
    """
    with unsharded(run.policy.model):
        # The user's code of a step may have switched gradients off.
        with distributed.raising_on_all(), torch.enable_grad():
            sums = gradient(run.policy, run.algorithm, update)
        sum_gradients(run.policy.model)
    # The metrics of a loss that compares all completions of an update are sums over episodes. Those of other losses are
    # sums over completions, of which an episode has one for each turn.
    counts = update.totals if run.algorithm.compares == "update" else update.counts
    sums = of_all_processes(sums)
    metrics = means(sums, counts)
    rate = next_rate(run)
    norm, applied = optimizer_step(
        run.optimizer,
        run.parameters,
        loss=metrics["loss"],
        learning_rate=rate,
        max_grad_norm=run.config.optimizer.max_grad_norm,
        before_change=run.state.will_change,
    )
    if applied:
        run.state.updates += 1
        if run.moves_reference and run.state.updates % run.algorithm.ref_model_sync_steps == 0:
            run.policy.move_reference(run.algorithm.ref_model_mixup_alpha)
    else:
        count_skipped(run, update.completions if update.is_counted_here else [], number)
    figures = {(name, per): metrics[name] for name, per in sums if name}
    of_update = {"grad_norm": norm, "learning_rate": rate, "is_applied": applied}
    return figures | {(name, "update"): value for name, value in of_update.items()}


def count_skipped(run: Run, completions: Sequence[tuple[int, int]], number: int) -> None:
    """Counts an update that was skipped because its loss or gradient is not finite.

    The next finite update sets the count back to 0. After `MAX_SKIPPED` skipped updates in a row, the completions of
    the last one are written to a file, and TrainingError is raised.

    completions: (problem, generation) of each completion that this process counts in the update. number: the update's
    number in its step.
    """
    run.state.skipped += 1
    if run.state.skipped < MAX_SKIPPED:
        return
    completions_of_all = distributed.gather(list(completions))
    file = run.folder.path / f"nonfinite-step-{run.state.step}.json"
    if distributed.rank() == 0:
        batch = {"step": run.state.step, "update": number, "index_generation": completions_of_all}
        write_text(file, json_document(batch))
    rate = run.config.optimizer.learning_rate
    text = (
        f"The loss or its gradient was NaN or infinite {MAX_SKIPPED} times in a row; the weights are those of the last "
        f"finite update. {file} names the batch. Lower $learning_rate={rate} or $max_grad_norm in a new run; "
        "$model with the path of a checkpoint begins from its weights."
    )
    # Marked, since all processes raise it: they may still save together.
    raise distributed.raised_by_all(TrainingError(text))


def next_rate(run: Run) -> float:
    """The learning rate of the next update."""
    total, decay_start = run.steps_and_decay_start
    batch = run.config.batch
    return learning_rate(
        run.config.optimizer,
        updates=run.state.updates,
        step=run.state.step,
        total=total,
        decay_start=decay_start,
        per_step=batch.num_iterations * batch.num_minibatches,
    )


def reason_to_end(run: Run) -> str:
    """What ends the run before its next step: the name of a setting, `on_step` or `USER`; "" if the run goes on."""
    seconds_allowed = 60 * run.config.max_minutes  # 0 = no limit
    is_late = seconds_allowed > 0 and time.monotonic() - run.state.started > seconds_allowed
    # Each process has the states of all, so all decide alike.
    states = distributed.gather([(is_late, run.stop.requested)])
    if any(was_asked for _, was_asked in states):
        return USER
    if any(one_is_late for one_is_late, _ in states):
        return "max_minutes"
    if run.state.told_to_stop:
        return "on_step"
    # With warmup_stable_decay, --patience does not end the run at once: the learning rate falls first, and
    # `steps_and_decay_start` then says where the run ends.
    falls_first = run.config.optimizer.lr_schedule == DECAYS_LATE
    validations_without_gain = run.criterion.stale(run.state.validations)
    if not falls_first and 0 < run.config.eval.patience <= validations_without_gain:
        return "patience"
    total, _ = run.steps_and_decay_start
    if run.state.step < total:
        return ""
    # `total` is less than --max-steps if --patience made the learning rate fall early.
    return "max_steps" if total == run.config.max_steps else "patience"


def stopping_between_steps(stop: StopRequest, console: Console) -> AbstractContextManager[None]:
    """Inside, a signal of `runs/stop.py: SIGNALS` ends the run after the current step; a second one ends it at once.

    In an evaluation, the first signal ends the run after the current denoising step, and the completions that are
    finished are kept. A run of several processes finishes the current batch of completions first, so that the processes
    stay together.
    """
    text = "Stopping after this step, or in this evaluation; what is done is saved."
    return stopping(stop, lambda: console.say(f"{text}{stop.how_at_once}"))
