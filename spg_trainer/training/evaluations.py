"""Makes the evaluations of a run: one before the training, one after it, and the validations in between.

A validation either solves problems (`solved_problems`), or measures the loss of completions that are given and held out
from training (`validation_loss`). `criteria.py` judges them, and `best_model.py` writes the weights that they choose.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from spg_trainer import distributed
from spg_trainer.algorithms import Algorithm
from spg_trainer.errors import CheckpointError, TrainingError, plural
from spg_trainer.evaluation.evaluate import (
    BATCH,
    Evaluation,
    evaluate_checked,
    note_of_fewer_problems,
    problems_to_ask,
)
from spg_trainer.models import Policy
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.sampler import RolloutStopped
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.packages import envs
from spg_trainer.settings.weights import is_embedded
from spg_trainer.training.prepare import prepare
from spg_trainer.training.records import record_evaluation, save_checkpoint
from spg_trainer.training.run import Run
from spg_trainer.training.update import Update, logps_without_graph, plan_updates


def run_validation(run: Run, last: bool = False) -> None:
    """Validates the finished step if a validation is due: every --eval-steps, and at the end of the run (`last`).

    If the step is the best so far, its checkpoint is saved; if it is worse than the start, a warning says so.
    """
    settings, state = run.config.eval, run.state
    is_due = settings.eval_steps and (last or run.due(settings.eval_steps))
    if not is_due or state.step in state.validations:
        return
    state.validations[state.step] = MEASURES[run.config.validates](run, f"step-{state.step:06d}")
    if run.criterion.best_step(state.validations) == state.step:
        save_checkpoint(run)
    if warning := run.criterion.warning(state.validations):
        run.console.warn(warning)


def solved_problems(run: Run, name: str) -> list[bool]:
    """Whether the present weights solve each validation problem; written to eval/NAME."""
    result = evaluate_weights(run, name, "validation", run.state.step, run.config.eval.validation_problems)
    return [row["correct"] for row in result.rows]


def validation_loss(run: Run, name: str) -> float:
    """The loss of the held-out completions, in nats a token; written to eval/NAME.

    A step on given completions has measured it, for its row of metrics; then it is not measured again.
    """
    row = run.state.history[-1] if run.state.history else {}
    loss = row.get("validation/loss")
    if loss is None or row["step"] != run.state.step:
        loss = held_out_loss(run)
    with distributed.raising_on_all():
        run.folder.write_evaluation(name, {"step": run.state.step, "loss": loss}, [])
    run.console.say(f"step {run.state.step}: validation loss {loss:.4f}")
    return loss


MEASURES = {"solved": solved_problems, "loss": validation_loss}
"""{`Config.validates`: what measures the present weights for a validation, and writes it to eval/NAME}."""


def held_out_loss(run: Run) -> float:
    """The loss of the held-out completions in nats a token, always under the same masks.

    Raises TrainingError for a loss that is not finite.
    """
    config, step = run.config, run.state.step
    distributed.begin_phase(f"the validation after step {step}")
    with unsharded(run.policy.model):
        # The held-out completions as one step; their advantages are not needed.
        _, held_out = prepare(run, run.source.held_out())
        with distributed.raising_on_all():
            purpose = (
                "masks",
                "validation",
            )  # without the number of a step, so that masks are the same each time
            (update,) = plan_updates(
                run.policy, run.algorithm, held_out, config.batch, seed=config.seed, purpose=purpose
            )
            own = loss_without_gradient(run.policy, run.algorithm, update)
        loss = distributed.sum_metrics({"loss": own})["loss"]
    if not math.isfinite(loss):  # on every process, as the loss is a sum over all
        rate = config.optimizer.learning_rate
        raise distributed.raised_by_all(
            TrainingError(f"The validation loss after step {step} is {loss}. Lower $learning_rate={rate}.")
        )
    return loss


def loss_without_gradient(policy: Policy, algorithm: Algorithm, update: Update) -> float:
    """What this process adds to the loss of an update, measured without making the update."""
    total = 0.0
    with torch.no_grad():
        for micro in update.micro_batches:
            logps, _ = logps_without_graph(policy, micro)
            total += float(algorithm.loss(logps, micro.masks, micro).loss)
    return total if update.is_counted_here else 0.0


def evaluate_once(run: Run, name: str, step: int) -> dict[str, Any] | None:
    """The figures of the evaluation called `name`, "before" or "after" the training, on --eval-split.

    Usually the evaluation is made now. If the run was resumed and has made it already, the figures are read from its
    file. The result is None in three cases:

    - There is no task to evaluate on.
    - It is "before", and the model is new: it solves nothing.
    - It is "before", and the run was resumed with --accept-changed-code: other code has judged the start, so its
      figures cannot be compared with those of "after".

    step: the step whose weights the policy has. Raises CheckpointError if the file of "before" is lost and the run has
    made a step, because the weights of the start are gone.
    """
    is_fresh = name == "before" and is_embedded(run.config.model.model, "new")
    if run.config.eval.eval_split not in run.splits or is_fresh:
        return None
    figures = distributed.decide_on_main(lambda: evaluated_already(run.folder, name, step))
    if figures:
        return figures
    if name == "before" and run.state.step > 0:
        if distributed.decide_on_main(lambda: run.folder.folder_of_other_start):
            return None
        text = f"{run.folder.evaluation_path(name)} is missing and cannot be made again after step {run.state.step}"
        raise CheckpointError(f"{text}. Restore it, or start a new run with another $output_dir.")
    settings = run.config.eval
    result = evaluate_weights(run, name, settings.eval_split, step, settings.eval_problems)
    return {"step": step, **result.summary()}


def evaluated_already(folder: RunFolder, name: str, step: int) -> Mapping[str, Any] | None:
    """The figures of the weights of `step` if they are in the file of the evaluation `name`, else None.

    If the weights after the training are those of the start, their evaluation is the one before it, and is copied.
    """
    figures = folder.figures(name)
    # A run that had ended and then went on has figures of "after" for an earlier step; they are made anew.
    if figures and figures["step"] == step and "correct" in figures:
        return figures
    if name == "after" and step == 0 and (before := folder.figures("before")):
        folder.write_evaluation(name, before, folder.completions("before"))
        return before
    return None


def begin_evaluation(folder: RunFolder, name: str, step: int, batch: int) -> list[dict[str, Any]]:
    """Notes which step the evaluation `name` is about to measure; returns the completions that it has already.

    An evaluation that was interrupted has some, and the rest should be decoded in the same batches as without the
    interruption. After a kill, the file may end in the middle of a batch; such a part is dropped, and the whole batches
    are kept, each of `batch` completions over all processes. An evaluation that was asked to stop has noted how many
    completions it has (`stopped_with`), and all of these are kept.
    """
    begun, rows = folder.figures(name), []
    if begun and begun["step"] == step:
        rows = folder.completions(name)
        in_whole_batches = len(rows) - len(rows) % batch
        rows = rows[: max(in_whole_batches, begun.get("stopped_with", 0))]
    folder.write_evaluation(name, {"step": step}, rows)
    return rows


def stopped_evaluation(run: Run, name: str, step: int, count: int) -> BaseException:
    """Notes how many of its `count` completions a stopped evaluation has, and returns the error to raise.

    The error is a KeyboardInterrupt if the user asked to stop, and a TrainingError if --max-minutes was over.
    """

    def note() -> int:
        rows = run.folder.completions(name)
        run.folder.write_evaluation(name, {"step": step, "stopped_with": len(rows)}, rows)
        return len(rows)

    finished = distributed.decide_on_main(note)
    text = f"The evaluation {name} has {finished:,} of {plural(count, 'completion')}, which are kept"
    if any(distributed.gather([run.stop.requested])):
        run.console.say(f"{text}.")
        return KeyboardInterrupt()
    return TrainingError(
        f"{text}: $max_minutes={run.config.max_minutes:g} is over before the first step. Go on with "
        f"$resume={run.folder.path} and more $max_minutes, or evaluate fewer problems with $eval_problems."
    )


def evaluate_weights(run: Run, name: str, split: str, step: int, num_problems: int) -> Evaluation:
    """The evaluation of the present weights, those of `step`, at temperature 0; it is also written to eval/NAME."""
    distributed.begin_phase(f"the evaluation {name}")
    env = run.splits[split]
    with distributed.raising_on_all():
        problems, skipped = problems_to_ask(run.player.room, env, num_problems, run.config.overlong)
    count = len(problems)  # `evaluate_checked` finds the same problems again
    # The note is "" unless the split has fewer different problems than `num_problems`.
    if step == 0 and (note := note_of_fewer_problems(env, split, num_problems, count + skipped)):
        run.console.say(note)
    batch = BATCH * run.accelerator.num_processes
    earlier_rows = distributed.decide_on_main(lambda: begin_evaluation(run.folder, name, step, batch))
    # --max-minutes stops only the evaluation before the training. When the time is over later, the run makes no more
    # steps, but still its last validation and the evaluation "after", without a limit.
    limit = 60 * run.config.max_minutes if name == "before" else 0

    def is_late() -> bool:
        return limit > 0 and time.monotonic() - run.state.started > limit

    try:
        progress = run.console.progress(count, f"eval {name} ({split})")
        telling_the_step = envs.authoring.reward_functions.reports.during(step, run.config.max_steps)
        with unsharded(run.policy.model), telling_the_step, progress as advance:
            result = evaluate_checked(
                replace(run.player, sampling=replace(run.config.rollout, temperature=0.0)),
                env,
                split=split,
                num_problems=num_problems,
                overlong=run.config.overlong,
                accelerator=run.accelerator,
                advance=advance,
                rows=earlier_rows,
                keep=partial(run.folder.add_completions, name),
                stops=lambda: run.stop.requested or is_late(),
            )
    except RolloutStopped as stopped:
        raise distributed.raised_by_all(stopped_evaluation(run, name, step, count)) from stopped
    # `step` had these weights; the trackers log them at the step that the run has reached, which may be a later one.
    record_evaluation(run.folder, run.trackers, name, result, step=step, logged_at=run.state.step)
    by_task = "".join(
        f"; {task} {figures['solved']:.3f} of {figures['n']}" for task, figures in result.tasks.items()
    )
    run.console.say(f"{env.spec_name} {split} {name}: {result.solved}{by_task}")
    return result
