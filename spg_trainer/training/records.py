"""What a run leaves in its folder: rows, samples, checkpoints, the summary and the report."""

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spg_trainer.distributed import begin, gather, gathered_order, raising_on_all
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.evaluation.habits import change_of_shares
from spg_trainer.evaluation.lost import lost_components
from spg_trainer.evaluation.teaching import sft_command
from spg_trainer.rollout.scored import Scored, sample_rows
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.folder import REPORT, RunFolder
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.fields import Config
from spg_trainer.settings.task import task_words
from spg_trainer.training import validation
from spg_trainer.training.environment_json import environment_record, versions
from spg_trainer.training.run import Run
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
    """Writes a finished step's row and completions; from here on what is saved contains it.

    metrics, timings: rows for metrics.jsonl and timings.jsonl; `step` is added. advantages: of the completions that
    were learned from.
    """
    state = run.state
    metrics = {"step": state.step, **metrics}
    run.folder.metrics(metrics)
    run.folder.timings({"step": state.step, **timings})
    run.trackers.log({**timings, **metrics}, state.step)
    state.consistent = True
    state.history.append(metrics)
    if run.due(run.config.output.sample_steps):
        set_aside = None
        if scored.chosen is not None:
            of_all = torch.zeros(len(scored), dtype=advantages.dtype)
            of_all[torch.from_numpy(scored.is_learned)] = advantages.cpu()
            advantages, set_aside = of_all, ~scored.is_learned
        rows = gather(
            sample_rows(
                scored,
                policy=run.policy,
                env=run.source,
                step=state.step,
                advantages=advantages,
                set_aside=set_aside,
            )
        )
        rows = [rows[at] for at in gathered_order(scored.place.episode.numpy()[scored.episodes])]
        run.folder.samples(state.step, rows)
        run.trackers.table("samples", rows, state.step)


def save_checkpoint(run: Run) -> None:
    """Writes a checkpoint of the last finished step."""
    state = run.state
    begin(f"the checkpoint of step {state.step}")
    reference = {"reference": run.policy.frozen.state_dict()} if run.moves_reference else {}
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
        },
        environment=environment_record(run),
        keep=run.config.output.keep,
        needed=partial(validation.needed_steps, state.validations),
        **reference,
    )


def record_evaluation(
    folder: RunFolder, trackers: Trackers, name: str, result: Evaluation, *, step: int, logged_at: int
) -> None:
    """Writes eval/NAME and tells the trackers. step: whose weights were evaluated. logged_at: the step of the run."""
    split = result.settings["split"]
    with raising_on_all():
        folder.evaluation(name, {"step": step, **result.summary()}, result.rows)
    figures = {**result.rewards, "correct": result.correct, "low": result.low, "high": result.high}
    figures["mean_length"] = result.mean_length
    figures |= {f"{task}/solved": own["solved"] for task, own in result.tasks.items()}
    trackers.log({f"eval/{split}/{key}": value for key, value in figures.items()}, logged_at)
    trackers.table(f"eval/{split}/samples", result.rows, logged_at)


def write_summary(run: Run, before: dict[str, Any], after: dict[str, Any], ended_by: str) -> dict[str, Any]:
    """Writes summary.json and returns what it holds. after: of model/. ended_by: the flag that ended the run."""
    keys = ("correct", "n", "low", "high", "rewards", "mean_length", "clipped_ratio", "follows", "settings")
    sampled = [row["correct"] for row in run.state.history if "correct" in row]  # pairs are not sampled
    grouped = [row for row in run.state.history if "frac_reward_zero_std" in row]
    summary = {
        "env": run.splits["train"].spec_name,
        "algorithm": run.config.algorithm,
        "seed": run.config.seed,
        "steps": run.state.step,
        "max_steps": run.config.max_steps,
        "ended_by": ended_by,
        "updates": run.state.updates,
        "seconds": round(run.elapsed_seconds, 1),
        "eval_before": {key: before[key] for key in keys},
        "eval_after": {key: after[key] for key in keys},
        "gain": after["correct"] - before["correct"],
        "lost": lost_components(*(run.folder.completions(name) for name in ("before", "after"))),
        "solved_sampled": sum(sampled) / len(sampled) if sampled else None,
        "groups": shares_of_groups(grouped, run.algorithm.right_groups_teach) if grouped else None,
        "validation": validation.summary(run.state.validations, after["step"]),
        "model": str(run.folder.path / "model"),
        "base_model": run.policy.source,
        "processes": run.accelerator.num_processes,
        "device": str(run.accelerator.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    run.folder.summary(summary)
    return summary


def closing_lines(summary: Mapping[str, Any], config: Config, env: "TextEnv") -> list[str]:
    """Why a run ended early, what was gained, where everything lies, and what to type next.

    summary: the content of summary.json.
    """
    before, after, folder = summary["eval_before"], summary["eval_after"], Path(summary["model"]).parent
    shown = shlex.quote(str(folder))
    waits = " --patience 0" * (summary["ended_by"] == "patience")
    lines = [
        f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems never trained on: "
        f"{before['correct']:.3f} -> {after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
        f"after {summary['steps']} step{'s' * (summary['steps'] != 1)}, {summary['seconds'] / 60:.1f} minutes.",
        f"Everything is in {folder}.",
        f"Next:  python -m spg_trainer diff {shlex.quote(f'{folder}/eval/before.json')} {shown}",
        f"       python -m spg_trainer eval --model {shown}",
        f"       python -m spg_trainer --resume {shown} --max-steps {2 * summary['steps'] or 100}{waits}",
    ]
    if before["follows"]:
        follows = change_of_shares([before["follows"], after["follows"]], after["n"])
        lines.insert(1, f"What completions follow: {follows}.")
    if v := summary["validation"]:
        kept = (
            f"model/ is step {v['best_step']}, chosen on {v['problems']} validation problems: {v['best']:.3f}"
        )
        lines.insert(0, f"{kept}; the last, step {v['last_step']}, {v['last']:.3f}.")
    if waits:
        early = f"The run ended at step {summary['steps']} of {summary['max_steps']}, as --patience asks"
        lines.insert(
            0, f"{early}: {v['stale']} validations in a row solved no more problems than the best before."
        )
    if stayed(summary):
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
"""The steps after which a run without a gain is told what else to try; a shorter one is a look."""
MEANINGFUL = 0.1
"""A gain of the solved rate that a run without one must exclude by its interval before it is told so."""


def stayed(summary: Mapping[str, Any]) -> bool:
    """Whether a run of some length surely did not beat its start: nothing else may be said of few problems or steps.

    By its validations, or without any by the evaluation after training, it solved no more than its start.
    """
    if (v := summary["validation"]) and v["start"] is not None:
        gained = v["highest"] > v["start"]
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
