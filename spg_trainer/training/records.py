"""What a run leaves in its folder: rows, samples, checkpoints, the summary and the report."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spg_trainer.distributed import begin, gather, gathered_order, raising_on_all
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.evaluation.habits import change_of_shares
from spg_trainer.evaluation.lost import lost_components
from spg_trainer.evaluation.teaching import sft_command
from spg_trainer.models import Policy
from spg_trainer.rollout.pools import Pools
from spg_trainer.rollout.scored import Scored, sample_rows
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.folder import REPORT, RunFolder
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.fields import Config
from spg_trainer.settings.task import task_words
from spg_trainer.training import validation
from spg_trainer.training.environment_json import environment_record, versions
from spg_trainer.training.progress import Progress
from spg_trainer.training.run import Run, TrainingState
from spg_trainer.training.warnings import (
    MOST,
    remedy_of_equal_groups,
    shares_of_groups,
    what_equal_groups_are,
)

if TYPE_CHECKING:
    from envs import TextEnv


def record_step(
    run: Run, scored: Scored, advantages: torch.Tensor, metrics: dict[str, Any], timings: dict[str, Any]
) -> None:
    """Writes a finished step's row and completions; a checkpoint that is saved from here on contains this step.

    metrics, timings: rows for metrics.jsonl and timings.jsonl; `step` is added. advantages: of the completions that
    were learned from, which may be fewer than the scored ones.
    """
    state = run.state
    metrics = {"step": state.step, **metrics}
    run.folder.metrics(metrics)
    run.folder.timings({"step": state.step, **timings})
    run.trackers.log({**timings, **metrics}, state.step)
    state.consistent = True
    state.history.append(metrics)
    if run.due(run.config.output.sample_steps):
        rows = step_samples(run, scored, advantages)
        run.folder.samples(state.step, rows)
        run.trackers.table("samples", rows, state.step)


def step_samples(run: Run, scored: Scored, advantages: torch.Tensor) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl of all processes, episode by episode; advantages: as for `record_step`.

    Completions that were sampled and not learned from are there too, with an advantage of 0 and marked as set aside.
    """
    set_aside = None
    if scored.chosen is not None:
        with_zeros = torch.zeros(len(scored), dtype=advantages.dtype)
        with_zeros[torch.from_numpy(scored.is_learned)] = advantages.cpu()
        advantages, set_aside = with_zeros, ~scored.is_learned
    rows = gather(
        sample_rows(
            scored,
            policy=run.policy,
            env=run.source,
            step=run.state.step,
            advantages=advantages,
            set_aside=set_aside,
        )
    )
    episode_of_row = scored.place.episode.numpy()[scored.episodes]
    return [rows[i] for i in gathered_order(episode_of_row)]


def save_checkpoint(run: Run) -> None:
    """Writes a checkpoint of the last finished step."""
    state = run.state
    begin(f"the checkpoint of step {state.step}")
    tensors = {"reference": run.policy.frozen.state_dict()} if run.moves_reference else {}
    validated, resumable = {}, set[int]()
    if run.held_out is not None:
        validated, tensors["best"] = asdict(state.progress), state.best
        resumable = state.progress.kept_steps(state.step, run.config)
    checkpoint.save(
        run.folder.path,
        state.step,
        run.policy,
        run.optimizer.state_dict(),
        state={
            "updates": state.updates,
            "seconds": run.elapsed_seconds,
            "skipped": state.skipped,
            **({} if run.source.pools is None else {"pools": run.source.pools.state()}),
            **validated,
        },
        environment=environment_record(run),
        keep=run.config.output.keep,
        needed=partial(validation.needed_steps, state.validations),
        resumable=resumable,
        **tensors,
    )


def load_checkpoint(
    path: Path, policy: Policy, optimizer: torch.optim.Optimizer, pools: Pools | None = None
) -> TrainingState:
    """Puts weights, optimizer and pools back, and returns how far the run was, as `save_checkpoint` wrote it.

    Of an earlier version, a training on demonstrations counted no updates.
    """
    saved = checkpoint.load(path, policy, optimizer)
    counters = {name: saved[name] for name in ("step", "updates", "skipped", "seconds") if name in saved}
    state = TrainingState(**{"updates": saved["step"], **counters})
    if pools is not None:
        pools.restore(saved["pools"])
    if "best_loss" in saved:
        state.progress = Progress(**{f.name: saved[f.name] for f in fields(Progress)})
        tensors = torch.load(path / checkpoint.TRAINING, map_location="cpu", weights_only=True, mmap=True)
        state.best = {name: weight.clone() for name, weight in tensors["best"].items()}
    return state


def record_evaluation(
    folder: RunFolder, trackers: Trackers, name: str, result: Evaluation, *, step: int, logged_at: int
) -> None:
    """Writes eval/NAME and tells the trackers. step: whose weights were evaluated. logged_at: the step of the run."""
    split = result.settings["split"]
    with raising_on_all():
        folder.evaluation(name, {"step": step, **result.summary()}, result.rows)
    figures = {**result.rewards, "correct": result.correct, "low": result.low, "high": result.high}
    figures["mean_length"] = result.mean_length
    figures |= {f"{task}/solved": figures_of_task["solved"] for task, figures_of_task in result.tasks.items()}
    trackers.log({f"eval/{split}/{key}": value for key, value in figures.items()}, logged_at)
    trackers.table(f"eval/{split}/samples", result.rows, logged_at)


def write_summary(run: Run, before: dict[str, Any], after: dict[str, Any], ended_by: str) -> dict[str, Any]:
    """Writes summary.json and returns what it holds.

    before, after: what eval/before.json and eval/after.json say of the model at the start, and of the one in model/.
    ended_by: the setting that ended the run, e.g. "max_steps" or "patience".
    """
    keys = ("correct", "n", "low", "high", "rewards", "mean_length", "clipped_ratio", "follows", "settings")
    sampled = [row["correct"] for row in run.state.history if "correct" in row]  # pairs are not sampled
    grouped = [row for row in run.state.history if "frac_reward_zero_std" in row]
    found = {
        "eval_before": {key: before[key] for key in keys},
        "eval_after": {key: after[key] for key in keys},
        "gain": after["correct"] - before["correct"],
        "lost": lost_components(*(run.folder.completions(name) for name in ("before", "after"))),
        "solved_sampled": sum(sampled) / len(sampled) if sampled else None,
        "groups": shares_of_groups(grouped, run.algorithm.right_groups_teach) if grouped else None,
        "validation": validation.summary(run.state.validations, after["step"]),
        "model": str(run.folder.path / "model"),
    }
    summary = summary_of(run, ended_by, found)
    run.folder.summary(summary)
    return summary


def summary_of(run: Run, ended_by: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json of any run holds. found: what came of it."""
    return {
        "env": run.splits["train"].spec_name,
        "algorithm": run.config.algorithm,
        "seed": run.config.seed,
        "steps": run.state.step,
        "max_steps": run.config.max_steps,
        "ended_by": ended_by,
        "updates": run.state.updates,
        "seconds": round(run.elapsed_seconds, 1),
        **found,
        "base_model": run.policy.source,
        "processes": run.accelerator.num_processes,
        "device": str(run.policy.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def closing_lines(summary: Mapping[str, Any], config: Config, env: "TextEnv") -> list[str]:
    """Why a run ended early, what was gained, where everything lies, and what to type next.

    summary: the content of summary.json.
    """
    before, after, folder = summary["eval_before"], summary["eval_after"], Path(summary["model"]).parent
    shown, validations = shlex.quote(str(folder)), summary["validation"]
    out_of_patience = summary["ended_by"] == "patience"
    lines = []
    if out_of_patience:
        lines.append(
            f"The run ended at step {summary['steps']} of {summary['max_steps']}, as --patience asks: "
            f"{validations['stale']} validations in a row solved no more problems than the best before."
        )
    if validations:
        lines.append(
            f"model/ is step {validations['best_step']}, chosen on {validations['problems']} validation problems: "
            f"{validations['best']:.3f}; the last, step {validations['last_step']}, {validations['last']:.3f}."
        )
    lines.append(
        f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems never trained on: "
        f"{before['correct']:.3f} -> {after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
        f"after {summary['steps']} step{'s' * (summary['steps'] != 1)}, {summary['seconds'] / 60:.1f} minutes."
    )
    if before["follows"]:
        follows = change_of_shares([before["follows"], after["follows"]], after["n"])
        lines.append(f"What completions follow: {follows}.")
    go_on = f"--resume {shown} --max-steps {2 * summary['steps'] or 100}"
    lines += [
        f"Everything is in {folder}.",
        f"Next:  python -m spg_trainer diff {shlex.quote(f'{folder}/eval/before.json')} {shown}",
        f"       python -m spg_trainer eval --model {shown}",
        f"       python -m spg_trainer {go_on}{' --patience 0' if out_of_patience else ''}",
    ]
    if surely_gained_nothing(summary):
        lines.append(next_try(summary, config, env))
    if summary["lost"]:
        lines.append(lost_line(summary["lost"], env.reward_weights))
    return lines


def lost_line(lost: Mapping[str, tuple[float, float]], reward_weights: Mapping[str, float]) -> str:
    """What a run unlearned, and the weights that pay for it. lost: {component: (before, after)}."""
    fell = ", ".join(
        f"{name} fell from {before:.2f} to {after:.2f}" for name, (before, after) in lost.items()
    )
    weights = " ".join(f"{name}={2 * reward_weights[name] or 0.2:g}" for name in lost)
    return f"But this run lost something on these problems: {fell}. To keep it, train with --reward-weights {weights}."


TRIED = 20
"""Steps of the shortest run that is told what else to try; a shorter one is taken for a first look."""
MEANINGFUL = 0.1
"""A gain of the solved rate. Only a run whose interval excludes so great a gain is told that it had none."""


def surely_gained_nothing(summary: Mapping[str, Any]) -> bool:
    """Whether a run of at least `TRIED` steps solves no more than its start, and its interval excludes a real gain.

    What it solves is the best of its validations, or without any, that of the evaluation after training. summary: the
    content of summary.json.
    """
    if (validations := summary["validation"]) and validations["start"] is not None:
        gained = validations["highest"] > validations["start"]
    else:
        gained = summary["gain"] > 0
    possible = summary["eval_after"]["high"] - summary["eval_before"]["correct"]
    return not gained and summary["steps"] >= TRIED and possible < MEANINGFUL


HIGHEST = {"math500": "justgrpo"}
"""Task -> the algorithm whose interval lies above all others' on it (docs/experiments/algorithms.md)."""


def next_try(summary: Mapping[str, Any], config: Config, env: "TextEnv") -> str:
    """What to tell of a run that did not beat its start, by what it sampled and what was measured.

    Where not one completion was right, neither sampled nor evaluated, no algorithm has anything to learn from. Where
    most groups had equal rewards, their remedy comes first; groups that are all right are none for RAFT, which gained
    most from a model that had learned its task. What ran with the algorithm that is advised lost what it had by too
    high a rate, or has to be taught more.
    """
    task, v, groups = task_words(config.env, config.env_args), summary["validation"], summary["groups"]
    start, page = "The run did not beat its start", "docs/experiments/algorithms.md"
    train = ["python", "-m", "spg_trainer", *task, "--model", config.model.model, "--algorithm"]
    teach = sft_command(env, config.env, config.env_args, config.model.model)
    if summary["solved_sampled"] == 0 == summary["eval_after"]["correct"] and not (v and v["highest"]):
        return (
            f"{start}: not one completion was right, so there was nothing to reinforce. Take easier problems "
            f"(--env-args), or teach the task first, and train with --model base:  {teach}"
        )
    if groups and groups["silent"] >= MOST and groups["all_right"] <= groups["equal"] / 2:
        return (
            f"{start}: {groups['silent']:.0%} of its groups had equal rewards, from which nothing is learned: "
            f"{what_equal_groups_are(groups)}. What helps: {remedy_of_equal_groups(groups)}."
        )
    algorithm = HIGHEST.get(config.env, "raft")
    if algorithm != config.algorithm:
        gained = "which gained most from a model that had learned its task"
        why = gained if algorithm == "raft" else "which ended highest on this task"
        return f"{start}. Try {algorithm}, {why} ({page}):  {shlex.join([*train, algorithm])}"
    if v and v["start"] is not None and v["last"] < v["start"]:
        words = [*train, algorithm, "--learning-rate", f"{config.optimizer.learning_rate / 3:.1g}"]
        fell = f"its last step solves {v['last']:.3f} of the validation problems, the start {v['start']:.3f}"
        return f"{start}: {fell}. Try a third of the learning rate:  {shlex.join(words)}"
    return (
        f"{start}, and no other algorithm that we measured is surely better ({page}). Teach the model more of the task "
        f"first:  {teach}"
    )


def write_report(run: Run) -> None:
    """Writes report.html, where the run wants one."""
    if run.config.output.report and run.accelerator.is_main_process:
        save_report(run.folder.path, run.console)


def save_report(path: Path, console: Console) -> None:
    """Writes report.html of the run in a folder; what stands in its way is told, and fails nothing."""
    from spg_trainer.reporting.page import report

    try:
        console.say(f"Report: {report(path).save(path / REPORT)}")
    except Exception as error:  # a finished run is worth more than its picture
        again = f"Try again with: python -m spg_trainer report {shlex.quote(str(path))}"
        console.warn(f"{REPORT} was not written ({type(error).__name__}: {error}). {again}")
