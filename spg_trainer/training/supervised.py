"""The steps of a run whose completions are given: demonstrations (`sft`) or a file of pairs (--pairs).

A step has the parts of one of RL, but no rollout. A run on demonstrations is judged by its loss on demonstrations that
it does not learn from (`evaluations.held_out_loss`).
"""

from spg_trainer.models.shard import unsharded
from spg_trainer.training import evaluations
from spg_trainer.training.finish import finish_step, reason_to_end
from spg_trainer.training.prepare import prepare
from spg_trainer.training.run import Run
from spg_trainer.training.timings import StepTimings
from spg_trainer.training.update import apply, metrics_of_step, plan_updates, updating


def train_on_given(run: Run) -> str:
    """Makes steps on given completions until something ends the run, and returns what does."""
    while not (ended_by := reason_to_end(run)):
        train_step(run)
    return ended_by


def train_step(run: Run) -> None:
    """A step on given completions: their updates, and what is recorded of them."""
    config, policy, timings, purpose = run.config, run.policy, StepTimings(run), ("masks", run.state.step)
    with unsharded(policy.model):
        with timings.rollout():
            rows = run.source.collect(run.state.step)
        rows, learned = prepare(run, rows)
        with timings.updates():
            updates = plan_updates(
                policy, run.algorithm, learned, config.batch, seed=config.seed, purpose=purpose
            )
            with updating(run):
                metrics = metrics_of_step(run, [apply(run, update) for update in updates])
    run.state.count_step()
    seconds = timings.row()
    if config.validates == "loss" and run.due(config.eval.eval_steps):
        metrics["validation/loss"] = evaluations.held_out_loss(run)
    finish_step(run, rows, metrics, seconds)
