"""The end of a training on demonstrations: the finished model is measured, written with its card, and told of."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spg_trainer.distributed import raising_on_all, rank
from spg_trainer.errors import plural
from spg_trainer.evaluation.evaluate import evaluate_checked
from spg_trainer.evaluation.habits import HabitCounts, count_habits
from spg_trainer.models.shard import unsharded
from spg_trainer.runs import checkpoint
from spg_trainer.runs.files import COMPLETE, write_folder, writing
from spg_trainer.settings.recorded import SFT
from spg_trainer.settings.task import task_words
from spg_trainer.sft import off_mix
from spg_trainer.sft.demonstrations import normalised
from spg_trainer.sft.fit import Fit
from spg_trainer.sft.model_card import Measured, model_card
from spg_trainer.training.loop import USER
from spg_trainer.training.records import record_evaluation, save_report, summary_of

EVAL_PROBLEMS = 256
"""Problems of each split that a finished model is evaluated on, at most; some test splits have thousands."""


GROUPS = 32
"""Validation problems, at most, that show whether RL would find right and wrong answers to compare."""


GENERATIONS = 8
"""Completions of each of these problems."""


FEWEST = 2 * GENERATIONS
"""Episodes that are evaluated, at least."""


def episodes_to_measure(fit: Fit) -> int:
    """How many episodes are evaluated: with no more turns than completions were learned, but at least `FEWEST`.

    A model of few updates plays long games to their last turn: after one update on Taxi all would take many minutes.
    """
    learned = fit.step * fit.command.batch.batch_size
    return max(FEWEST, learned // fit.evaluated["validation"].max_turns)


def measure(fit: Fit) -> Measured:
    """What a finished model can do on the task, greedily, and at the temperature of the RL to come."""
    policy, command, results, most = fit.policy, fit.command, {}, episodes_to_measure(fit)
    shared = {"overlong": command.overlong, "accelerator": fit.run.accelerator}
    with unsharded(policy.model):
        for split, env in fit.evaluated.items():
            count = min(EVAL_PROBLEMS, len(env), most)
            with fit.run.console.progress(count, f"eval {split}") as advance:
                results[split] = evaluate_checked(
                    policy, env, fit.sampling, split=split, num_problems=count, advance=advance, **shared
                )
        validation = fit.evaluated["validation"]
        as_in_rl = replace(fit.sampling, temperature=command.rollout.temperature)
        groups = {"num_problems": min(GROUPS, most // GENERATIONS), "num_generations": GENERATIONS}
        groups |= {"seed": command.seed, "split": "validation", **shared}
        samples = evaluate_checked(policy, validation, as_in_rl, **groups)
        greedy = results["validation"].rows
        far_from_mix = shares_off_mix(fit, samples.rows, greedy, groups)
    counts = count_habits(validation, greedy), count_habits(validation, samples.rows)
    return Measured(results, *counts, far_from_mix)


def shares_off_mix(
    fit: Fit,
    samples: Sequence[Mapping[str, Any]],
    greedy: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Any],
) -> list[str]:
    """What to tell of tasks whose completions are far from the mix; these are sampled once more, in random order.

    samples: completions as RL samples them. greedy: those of greedy decoding. groups: how `evaluate_checked` sampled
    them.
    """
    env, texts, in_random_order = fit.evaluated["validation"], [], None
    for task in env.parts or [""]:

        def counts(samples: Sequence[Mapping[str, Any]], task: str = task) -> HabitCounts:
            return count_habits(env, [sample for sample in samples if not task or sample["task"] == task])

        sampled = counts(samples)
        mix = normalised({name: share for name, share in fit.mix.items() if name in sampled.follows})
        if off_mix.is_far(mix, sampled):
            if in_random_order is None:  # once for all tasks
                sampling = replace(fit.sampling, temperature=1.0, remasking="random")
                in_random_order = evaluate_checked(fit.policy, env, sampling, **groups)
            drawn = counts(in_random_order.rows)
            texts.append(off_mix.why(mix, sampled, drawn, counts(greedy), fit.command, fit.folder.path, task))
    return texts


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


def publish(fit: Fit, stopped: bool) -> None:
    """Writes the model into its folder, beside what it can go on from, evaluates it and says what it can do.

    With --patience it has the weights of the lowest validation loss, otherwise the last. The last step must be saved.

    stopped: whether somebody has asked to stop, who may ask again and end the evaluation: the model is there by then.
    """
    folder, trained = fit.folder.path, fit.policy.model.dtype
    fit.run.state.consistent = False  # from here on the weights are those of the model, not of the last step
    if fit.command.eval.patience:
        fit.policy.model.load_state_dict(fit.run.state.best, strict=False)
    if fit.command.save_dtype == "bfloat16":
        fit.policy.model.to(torch.bfloat16).to(trained)  # what is evaluated is what is saved
    if stopped and fit.evaluated:
        write_files(fit, None)
        fit.run.console.say(f"The model so far is in {folder}; now it is evaluated.")
    measured = measure(fit) if fit.evaluated else None
    write_files(fit, measured)
    record_result(fit, measured)
    if not fit.progress.ended_early and rank() == 0:
        # From where the rate decayed a longer training goes on.
        checkpoint.delete_after(folder, fit.progress.decay_start(fit.run.config))
    if fit.command.output.report and rank() == 0:
        save_report(folder, fit.run.console)
    say_result(fit, measured)


def write_files(fit: Fit, measured: Measured | None) -> None:
    """Writes model, settings and card aside, and moves them into the folder, the mark of a whole model last.

    measured: None before the model is evaluated, and where it never is.
    """
    policy, folder, trained = fit.policy, fit.folder.path, fit.policy.model.dtype

    def write(place: Path, weights: checkpoint.Weights) -> None:
        checkpoint.write_model(place, policy, fit.run.record, weights)
        (place / SFT).write_text(fit.run.settings, encoding="utf-8")
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
                for path in sorted(aside.iterdir(), key=lambda path: path.name == COMPLETE):
                    os.replace(path, folder / path.name)
                aside.rmdir()
    if policy.model.dtype != trained:
        policy.model.to(trained)


def say_result(fit: Fit, measured: Measured | None) -> None:
    """Says how long training took, what the model can do, and with which command RL goes on."""
    command, console, p = fit.command, fit.run.console, fit.progress
    folder = str(fit.folder.path)
    best = f"best validation loss {p.best_loss:.4f} after {p.best_step}"
    console.say(f"{plural(fit.step, 'update')}, {fit.run.elapsed_seconds / 60:.1f} minutes; {best}.")
    if measured is None:
        words = shlex.join(["--env", "ENV", "--model", folder])
        console.say(f"The model is in {folder}. Train it: python -m spg_trainer {words}")
        return
    solved = "; ".join(f"{split} {result.solved}" for split, result in measured.results.items())
    sampled = measured.sampled
    console.say(f"{fit.evaluated['test'].spec_name}, greedy: {solved}.")
    console.say(f"At temperature {command.rollout.temperature:g}: {sampled.shares}; {sampled.signal}.")
    words = shlex.join([*task_words(command.env, command.env_args), "--model", folder])
    for text in measured.off_mix:
        console.say(text)
    go_on = "Train it" if sampled.mixed and not measured.off_mix else "To train it as it is"
    console.say(f"The model is in {folder}. {go_on}: python -m spg_trainer {words}")
    if not sampled.mixed:
        console.warn(
            "no group is mixed, so RL has no right and wrong answers to compare. Train longer (--steps), or try "
            "another --mix or easier problems (--env-args)."
        )
