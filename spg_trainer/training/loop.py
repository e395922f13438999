"""A run, from top to bottom: open, evaluate, make steps, keep the best weights, evaluate again.

A step of RL is one rollout and its updates. `supervised.py` has the steps of a run whose completions are given.
Checkpoints are written between rollouts only, and every random stream is keyed by what it is for, so a resumed run goes
on exactly where it was.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.tokens import ended
from spg_trainer.runs.progress import Console
from spg_trainer.settings import packages
from spg_trainer.settings.configs import Config
from spg_trainer.training import records, supervised
from spg_trainer.training.evaluations import evaluate_once, run_validation
from spg_trainer.training.fidelity import decoding_fidelity
from spg_trainer.training.finish import ending_well, finish_run, finish_step, reason_to_end
from spg_trainer.training.first_rollout import check_first_rollout
from spg_trainer.training.importance import engine_metrics
from spg_trainer.training.metrics import rollout_metrics
from spg_trainer.training.plan import Plan
from spg_trainer.training.prepare import prepare
from spg_trainer.training.run import OnStep, Run
from spg_trainer.training.setup import finished_summary, open_run, plan_of
from spg_trainer.training.timings import StepTimings
from spg_trainer.training.update import apply, metrics_of_step, plan_updates, updating


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
    plan = plan_of(config, quiet, on_step, others)
    if summary := finished_summary(plan):
        Console(quiet=quiet).say(records.nothing_to_do(summary, plan.folder))
        return summary
    run = replace(open_run(plan, quiet=quiet), on_step=on_step)
    with ending_well(run):
        before = evaluate_once(run, "before", step=0)
        run_validation(run)
        ended_by = train_by_rl(run) if run.config.samples else supervised.train_on_given(run)
        summary = finish_run(run, before, ended_by)
    records.show_ending(run, summary)
    return summary


def train_by_rl(run: Run) -> str:
    """Makes steps of RL until something ends the run, and returns what does."""
    while not (ended_by := reason_to_end(run)):
        train_step(run)
    return ended_by


def merged_if_asked(run: Run) -> AbstractContextManager[None]:
    """Inside, adapters are multiplied into their base if --merge-for-rollouts asks for it."""
    if not run.config.model.merge_for_rollouts:
        return nullcontext()
    from spg_trainer.models.lora import merged_for_rollouts  # it imports peft, which is slow

    return merged_for_rollouts(run.policy.model)


def train_step(run: Run) -> None:
    """A step of RL: a rollout, its updates, and what is recorded of them.

    `run.state.step` is the number of finished steps, so this step's own number only after its updates.
    """
    config, timings, purpose = run.config, StepTimings(run), ("masks", run.state.step)
    with unsharded(run.policy.model):
        with timings.rollout(), merged_if_asked(run):
            rows = run.source.collect(run.state.step)  # completions with their rewards
        metrics = rollout_metrics(rows, ended(run.policy, rows))
        if run.state.step == 0:
            check_first_rollout(run, rows, metrics)
        metrics |= decoding_fidelity(run, rows) | engine_metrics(config, rows)
        rows, learned = prepare(run, rows)  # the advantages, and the rows that change the loss
        with timings.updates():
            updates = plan_updates(  # masks, old and reference log-probabilities
                run.policy, run.algorithm, learned, config.batch, seed=config.seed, purpose=purpose
            )
            with updating(run):  # loss, gradient, optimizer
                metrics |= metrics_of_step(run, [apply(run, update) for update in updates])
    run.state.count_step()
    metrics |= run.source.note_results(rows)
    finish_step(run, rows, metrics, timings.row(metrics["num_tokens"]))  # record, validate, show, save
