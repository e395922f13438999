"""What follows a step, why a run ends, and what follows its last step, an error or a signal."""

import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from spg_trainer import distributed
from spg_trainer.errors import CheckpointError, ProcessLost, ScoringFailed
from spg_trainer.models.shard import trains_parts
from spg_trainer.runs.checkpoint import latest_complete
from spg_trainer.runs.progress import Console
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.settings import packages
from spg_trainer.tensors import Rows
from spg_trainer.training import records
from spg_trainer.training.advice import say_what_rl_would_find
from spg_trainer.training.best_model import keep_start_if_worse, write_best_model
from spg_trainer.training.evaluations import evaluate_once, run_validation
from spg_trainer.training.run import Run
from spg_trainer.training.schedule import DECAYS_LATE


def finish_step(run: Run, rows: Rows, metrics: dict[str, Any], timings: dict[str, Any]) -> None:
    """Records a step that `run.state` counts as finished, validates and saves where that is due, and shows it.

    rows: the completions of this process with their advantages. metrics, timings: the rows of metrics.jsonl and
    timings.jsonl, without `step`.
    """
    config, state = run.config, run.state
    records.record_step(run, rows, metrics, timings)
    run_validation(run)
    seconds_left = None  # no limit
    if config.max_minutes:
        seconds_left = max(0.0, 60 * config.max_minutes - (time.monotonic() - state.started))
    total_steps, _ = run.steps_and_decay_start
    figures = run.criterion.live_figures(state.validations, state.history)
    shown = {**state.history[-1], **timings, **figures}
    run.console.step(shown, total=total_steps, seconds_left=seconds_left)
    if run.due(config.output.sample_steps):
        text = run.source.render_turns(rows.problems[0], *rows.dialogue(0))
        run.console.say(f"{sample_label(run, rows)}\n{text}")
    if run.saves:
        records.save_checkpoint(run)


def sample_label(run: Run, rows: Rows) -> str:
    """The line above a step's first completion: "A completion of step 10, problem 3 of sudoku: wrong, reward 0.00"."""
    problem = rows.problems[0]
    # The first that is not empty: the problem's task in a mixture, the task of the source, or the name of the source.
    task = problem.task or getattr(run.source, "task", "") or run.source.spec_name
    which = f"A completion of step {run.state.step}, problem {int(rows.problem[0])} of {task}"
    return f"{which}: {rows.reason[0] or 'no reason given'}, reward {float(rows.rewards[0]):.2f}"


def reason_to_end(run: Run) -> str:
    """What ends the run before its next step: the name of a setting, or `on_step`; "" if the run goes on.

    Raises KeyboardInterrupt, on all processes, if the user or a launcher asked the run to stop.
    """
    seconds_allowed = 60 * run.config.max_minutes  # 0 = no limit
    is_late = seconds_allowed > 0 and time.monotonic() - run.state.started > seconds_allowed
    # Each process has the states of all, so all decide alike.
    states = distributed.gather([(is_late, run.stop.requested)])
    if any(was_asked for _, was_asked in states):
        # Marked, so that processes that share one model save a checkpoint together (`save_finished_steps`).
        raise distributed.raised_by_all(KeyboardInterrupt())
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


def finish_run(run: Run, before: dict[str, Any] | None, ended_by: str) -> dict[str, Any]:
    """Saves and evaluates the best weights of a run that has made its last step; returns what summary.json holds.

    before: the figures of the evaluation before the training; None if there is none. ended_by: what `reason_to_end`
    returned.
    """
    run.console.end_steps()
    run_validation(run, last=True)
    records.save_checkpoint(run)
    step_of_model = write_best_model(run)
    after = evaluate_once(run, "after", step=step_of_model)
    # A run that validates a loss is not judged by solved rates, since its texts may teach something else.
    is_judged = before and after and run.config.validates == "solved"
    worse = keep_start_if_worse(run, step_of_model) if is_judged else None
    say_what_rl_would_find(run)
    return records.write_summary(run, before, after, step_of_model, ended_by, worse)


@contextmanager
def ending_well(run: Run) -> Iterator[None]:
    """Inside, a run is made: a signal ends it between steps, and its finished steps are saved if an error ends it."""
    # Reward functions may ask for the step and the number of steps.
    telling_the_step = packages.envs.authoring.reward_functions.reports.during(
        run.state.step, run.config.max_steps
    )
    stopping_here = stopping_between_steps(run.stop, run.console)
    naming_the_lost = distributed.naming_the_lost(run.config.timeout_minutes)
    try:
        with run.console, telling_the_step, stopping_here, naming_the_lost:
            yield
    except BaseException as error:
        save_finished_steps(run, error)
        raise
    finally:
        run.trackers.finish()
        run.folder.release()


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


def stopping_between_steps(stop: StopRequest, console: Console) -> AbstractContextManager[None]:
    """Inside, a signal of `runs/stop.py: SIGNALS` ends the run after the current step; a second one ends it at once.

    In an evaluation, the first signal ends the run after the current denoising step, and the completions that are
    finished are kept. A run of several processes finishes the current batch of completions first, so that the processes
    stay together.
    """
    text = "Stopping after this step, or in this evaluation; what is done is saved."
    return stopping(stop, lambda: console.say(f"{text}{stop.how_at_once}"))
