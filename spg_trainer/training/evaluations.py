"""The evaluations of a run: before, after, and on the way those that choose the step whose weights become model/.

On the way either problems are solved (`run_validation`), or the loss of given completions is measured
(`validate_loss`).
"""

import math
from dataclasses import replace
from typing import Any

from spg_trainer.distributed import begin, decide_on_main, on_all, raising_on_all, sum_metrics
from spg_trainer.errors import CheckpointError, TrainingError
from spg_trainer.evaluation.evaluate import Evaluation, evaluate, fewer, problems_to_ask
from spg_trainer.models.shard import unsharded
from spg_trainer.models.states import trainable_parameters
from spg_trainer.runs import checkpoint
from spg_trainer.runs.files import incomplete
from spg_trainer.training import validation
from spg_trainer.training.credit import credit
from spg_trainer.training.environment_json import environment_record
from spg_trainer.training.records import record_evaluation, save_checkpoint
from spg_trainer.training.run import Run
from spg_trainer.training.update import loss_without_gradient, plan_updates


def run_validation(run: Run, last: bool = False) -> float | None:
    """Validates the finished step, where its turn has come and this run has not; returns the solved rate.

    A new best is saved; a fall below the start is told. last: whether the run ends here, so that its turn has come.
    """
    settings, state = run.config.eval, run.state
    if run.held_out is not None or not settings.eval_steps or state.step in state.validations:
        return None
    if not (last or run.due(settings.eval_steps)):
        return None
    name = f"step-{state.step:06d}"
    result = evaluate_weights(run, name, "validation", state.step, settings.validation_problems)
    state.validations[state.step] = [row["correct"] for row in result.rows]
    if validation.best_step(state.validations) == state.step:
        save_checkpoint(run)
    if text := validation.warning(state.validations):
        run.console.warn(text)
    return result.correct


def validate_loss(run: Run, last: bool = False) -> dict[str, float]:
    """Measures and notes the loss of the held-out completions after the finished step, where its turn has come.

    Their masks are always the same. With patience the weights are kept where it is the lowest so far. Returns it as a
    metric, nats a token, or nothing. Raises TrainingError if it is not finite. last: whether the run ends here, so that
    its turn has come.
    """
    config, progress, step = run.config, run.state.progress, run.state.step
    if run.held_out is None or not (last or run.due(config.eval.eval_steps)):
        return {}
    begin(f"the validation after step {step}")
    with unsharded(run.policy.model):
        scored = run.held_out.collect("validation")
        _, held_out = credit(run, scored, *scored.of_groups(scored.rewards))
        with raising_on_all():
            (update,) = plan_updates(
                run.policy, run.algorithm, held_out, config.batch, seed=config.seed, number="validation"
            )
            own = loss_without_gradient(run.policy, run.algorithm, update)
    loss = sum_metrics({"loss": own})["loss"]
    if not math.isfinite(loss):
        rate = config.optimizer.learning_rate
        raise on_all(
            TrainingError(f"The validation loss after step {step} is {loss}. Lower --learning-rate {rate}.")
        )
    is_best = progress.note_validation(step, loss, config)
    if is_best and config.eval.patience:  # a cosine keeps its last weights
        weights = trainable_parameters(run.policy.model)
        run.state.best = {name: w.detach().cpu().clone() for name, w in weights.items()}
    best = "" if progress.best_step == step else f" (best {progress.best_loss:.4f} at {progress.best_step})"
    run.console.say(f"{run.config.algorithm} {step}: validation loss {loss:.4f}{best}")
    return {"validation/loss": loss}


def write_best_model(run: Run) -> int:
    """Writes model/ and returns its step: the best by validation, else the last. Its weights are loaded then."""
    step = decide_on_main(lambda: best_saved_step(run))
    if step != run.state.step:
        with raising_on_all():
            checkpoint.load(checkpoint.at_step(run.folder.path, step), run.policy)
    with raising_on_all():
        checkpoint.export(run.folder.path / "model", run.policy, {**environment_record(run), "step": step})
    return step


def best_saved_step(run: Run) -> int:
    """The best step whose weights are there, or the last; a better one whose checkpoint was lost is told."""
    validations, last = run.state.validations, run.state.step
    if not validations:
        return last
    best = validation.best_step(validations)
    lost = {
        step: problem
        for step in validations
        if step != last and (problem := incomplete(checkpoint.at_step(run.folder.path, step)))
    }
    if best not in lost:
        return best
    step = validation.best_step({step: solved for step, solved in validations.items() if step not in lost})
    place = checkpoint.at_step(run.folder.path, best)
    run.console.warn(f"{place}, the best step, {lost[best]}; model/ is step {step}.")
    return step


def evaluate_once(run: Run, name: str, step: int) -> dict[str, Any]:
    """The figures of an evaluation of `step`'s weights on --eval-split, read again where this run has made it.

    Raises CheckpointError if that of the base model was lost.
    """
    figures = decide_on_main(lambda: run.folder.figures(name))
    if figures and figures["step"] == step:
        return figures
    if name == "before" and run.state.step > 0:
        text = f"{run.folder.evaluation_path(name)} is missing and cannot be made again after step {run.state.step}"
        raise CheckpointError(f"{text}. Restore it, or start a new run with another --output-dir.")
    settings = run.config.eval
    result = evaluate_weights(run, name, settings.eval_split, step, settings.eval_problems)
    return {"step": step, **result.summary()}


def evaluate_weights(run: Run, name: str, split: str, step: int, num_problems: int) -> Evaluation:
    """Evaluates the weights of `step`, which are loaded greedily, and writes eval/NAME."""
    begin(f"the evaluation {name}")
    env = run.splits[split]
    with raising_on_all():
        asked, skipped = problems_to_ask(
            run.policy, env, num_problems, run.config.rollout, run.config.overlong
        )
    count = len(asked)
    if step == 0 and (text := fewer(env, split, num_problems, count + skipped)):
        run.console.say(text)
    run.stop.at_once = run.accelerator.num_processes == 1  # several processes stay together
    try:
        progress = run.console.progress(count, f"eval {name} ({split})")
        with unsharded(run.policy.model), progress as advance:
            result = evaluate(
                run.policy,
                env,
                replace(run.config.rollout, temperature=0.0),
                split=split,
                num_problems=num_problems,
                overlong=run.config.overlong,
                seed=run.config.seed,
                rows_per_forward=run.rows_per_forward,
                accelerator=run.accelerator,
                advance=advance,
            )
    finally:
        run.stop.at_once = False
    record_evaluation(run.folder, run.trackers, name, result, step=step, logged_at=run.state.step)
    each = "".join(f"; {task} {own['solved']:.3f} of {own['n']}" for task, own in result.tasks.items())
    run.console.say(f"{env.spec_name} {split} {name}: {result.solved}{each}")
    return result
