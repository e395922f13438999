"""Writes the weights that a run leaves in model/: those of its best step, or of its start if that solved more.

`criteria.py` says which step is the best.
"""

from dataclasses import replace
from typing import Any

import torch

from spg_trainer import distributed
from spg_trainer.errors import SpgError, written
from spg_trainer.models import open_policy
from spg_trainer.runs import checkpoint
from spg_trainer.runs.files import damaged, write_folder
from spg_trainer.training.criteria import end_below_start
from spg_trainer.training.plan import kept_weights
from spg_trainer.training.records import environment_record
from spg_trainer.training.run import Run


def write_best_model(run: Run) -> int:
    """Writes the weights of the best step to model/, gives them to the policy, and returns the number of the step.

    `best_saved_step` says which step is the best.
    """
    step = distributed.decide_on_main(lambda: best_saved_step(run))
    if step != run.state.step:
        with distributed.raising_on_all():
            checkpoint.load(checkpoint.folder_of_step(run.folder.path, step), run.policy)
    trained_dtype = run.policy.model.dtype
    if run.config.output.save_dtype == "bfloat16":
        run.policy.model.to(torch.bfloat16)
    with distributed.raising_on_all():
        checkpoint.export(run.folder.path / "model", run.policy, {**environment_record(run), "step": step})
    # The weights get their dtype back, but keep the written values, so that what is evaluated is what was written.
    if run.policy.model.dtype != trained_dtype:
        run.policy.model.to(trained_dtype)
    return step


def keep_start_if_worse(run: Run, step: int) -> dict[str, Any] | None:
    """Puts the start back into model/ if the trained model solves fewer of the problems by more than chance.

    If so, returns what `end_below_start` says and, as `kept`, the step in model/: 0, or with
    --keep-worse the step of the trained model. Otherwise returns None. step: the step of the trained model, which has
    been evaluated.
    """

    def judge() -> dict[str, Any] | None:
        before = [row["correct"] for row in run.folder.completions("before")]
        after = [row["correct"] for row in run.folder.completions("after")]
        is_start = step == 0
        how_much_worse = None if is_start else end_below_start(before, after)
        if how_much_worse is None:
            return None
        kept = step if run.config.eval.keep_worse else write_start(run, otherwise=step)
        return {**how_much_worse, "kept": kept}

    return distributed.decide_on_main(judge)


def write_start(run: Run, otherwise: int) -> int:
    """Writes the weights of the start to model/, in the main process alone; returns 0, the step that they have.

    The start is opened again as the run has opened it. If that is no longer possible, a warning says so, model/ keeps
    the step `otherwise`, and this step is returned.
    """
    config, path = run.config, run.folder.path
    try:
        own_copy = None
        if "reference" in run.algorithm.needs:
            # Without a checkpoint, a copy that is lost is no error.
            own_copy = kept_weights(config.model, path, checkpoint_folder=None)
        model = replace(config.model, model=str(own_copy) if own_copy else config.model.model)
        if model.is_divided:
            # This process opens the start whole, on the CPU. `auto` is float32 there, the type in which a divided run
            # keeps the weights that it trains; --dtype is only the type in which such a run computes.
            model = replace(model, shard="none", expert_parallel=1, dtype="auto")
        start = open_policy(model, env=config.env, seed=config.seed, device="cpu")
    except (SpgError, OSError, RuntimeError, ValueError, ImportError) as error:
        run.console.warn(
            f"The start cannot be opened again ({written(error)}); model/ stays step {otherwise}."
        )
        return otherwise
    environment = {**environment_record(run), "step": 0}
    write_folder(path / "model", lambda aside: checkpoint.write_model(aside, start, environment))
    return 0


def best_saved_step(run: Run) -> int:
    """The best step by validation or, if nothing was validated, the last step.

    If the checkpoint of the best step was lost, a warning says so, and the result is the best among the steps whose
    weights are still there.
    """
    validations, last = run.state.validations, run.state.step
    if not validations:
        return last
    best = run.criterion.best_step(validations)
    lost = {}  # step -> what is wrong with its checkpoint
    for step in validations.keys() - {last}:  # the weights of the last step are in memory
        if damage := damaged(checkpoint.folder_of_step(run.folder.path, step)):
            lost[step] = damage
    if best not in lost:
        return best
    kept = {step: measured for step, measured in validations.items() if step not in lost}
    best_kept = run.criterion.best_step(kept)
    lost_folder = checkpoint.folder_of_step(run.folder.path, best)
    run.console.warn(f"{lost_folder}, the best step, {lost[best]}; model/ is step {best_kept}.")
    return best_kept
