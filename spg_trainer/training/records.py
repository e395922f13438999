"""Writes the files of a run: rows, samples, checkpoints, the summary and the report; and composes its last lines."""

import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from spg_trainer import __version__
from spg_trainer.distributed import begin_phase, decide_on_main, gather, gathered_order, raising_on_all
from spg_trainer.errors import ConfigError, plural
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.evaluation.habits import change_of_shares
from spg_trainer.evaluation.statistics import lost_components
from spg_trainer.models import Policy
from spg_trainer.rollout.collect import sample_rows
from spg_trainer.rollout.problems import Pools
from spg_trainer.runs import checkpoint
from spg_trainer.runs.folder import REPORT, RunFolder
from spg_trainer.runs.progress import Console
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import REFERENCE_FOLDER
from spg_trainer.settings.packages import verifiers
from spg_trainer.settings.recorded import task_record
from spg_trainer.settings.task import task_words
from spg_trainer.tensors import Rows
from spg_trainer.training import advice, criteria
from spg_trainer.training.run import Run, TrainingState

STOP = "stop"
"""What `on_step` returns to end the run."""


def record_step(run: Run, scored: Rows, metrics: dict[str, Any], timings: dict[str, Any]) -> None:
    """Writes the rows of a finished step, and every --sample-steps its completions; `on_step` is called first.

    From here on, a checkpoint of this step may be saved. metrics, timings: the rows for metrics.jsonl and
    timings.jsonl, without `step`.
    """
    state = run.state
    metrics = {"step": state.step, **metrics}
    is_due = run.due(run.config.output.sample_steps)
    samples = step_samples(run, scored) if is_due or run.on_step else []
    told: dict[str, float] = {}
    try:
        if run.on_step:
            rows = with_tokens(scored, samples)
            # All processes gather the rows, and the first one has the function called.
            told, state.told_to_stop = decide_on_main(lambda: what_it_returned(run, dict(metrics), rows))
    finally:  # an error in the function ends the run after the step is recorded
        metrics |= {f"user/{name}": value for name, value in told.items()}
        run.folder.append_metrics(metrics)
        run.folder.append_timings({"step": state.step, **timings})
        run.trackers.log({**timings, **metrics}, state.step)
        state.consistent = True
        state.history.append(metrics)
        if is_due:
            written = samples[: run.config.output.sample_rows or None]
            run.folder.write_samples(state.step, written)
            run.trackers.table("samples", written, state.step)


def what_it_returned(
    run: Run, metrics: dict[str, Any], rows: list[dict[str, Any]]
) -> tuple[dict[str, float], bool]:
    """Calls the user's `on_step`: (the metrics that it returned, whether it returned "stop").

    Raises ConfigError for another text, and for metrics that are no numbers.
    """
    returned = run.on_step(metrics, verifiers.user_code.own_copy(rows))
    if isinstance(returned, str):
        if returned != STOP:
            raise ConfigError(f"on_step returned {returned!r:.60}. To end the run, return {STOP!r}.")
        return {}, True
    if not isinstance(returned, dict):
        return {}, False
    for name, value in returned.items():
        if not isinstance(name, str) or not isinstance(value, Real) or isinstance(value, bool):
            raise ConfigError(
                f"on_step returned {name!r:.60} with {value!r:.60}. Metrics are a dict of names and numbers."
            )
    return {name: float(value) for name, value in returned.items()}, False


def with_tokens(scored: Rows, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `step_samples`, each also with the ids and log-probabilities of the tokens of its last completion."""
    last = scored.last_turns
    ids, logps = scored.completion_ids[last].tolist(), scored.unmask_logps[last].tolist()
    columns = gather(list(zip(ids, logps, strict=True)))
    in_order = [columns[i] for i in gathered_order(scored.episode.numpy()[last])]
    return [
        {**row, "completion_ids": ids_of_row, "unmask_logps": logps_of_row}
        for row, (ids_of_row, logps_of_row) in zip(samples, in_order, strict=True)
    ]


def step_samples(run: Run, scored: Rows) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl, those of all processes, episode by episode.

    Completions that were sampled and not learned from have rows too, with an advantage of 0, and are marked as set
    aside.
    """
    # With --max-rollout-batches, the step learns from some groups alone.
    set_aside = None if scored.chosen is None else ~scored.is_learned
    samples = gather(
        sample_rows(
            scored,
            policy=run.policy,
            env=run.source,
            step=run.state.step,
            advantages=scored.advantages,
            set_aside=set_aside,
        )
    )
    # `samples` has a row for each episode of all processes, process by process. `gathered_order` sorts them by episode:
    # it gathers the numbers of the episodes in the same order. An episode's number stands in each of its rows, also in
    # that of its last turn.
    episodes_here = scored.episode.numpy()[scored.last_turns]
    return [samples[i] for i in gathered_order(episodes_here)]


def save_checkpoint(run: Run) -> None:
    """Writes a checkpoint of the last finished step.

    Unless the model is divided, no process waits for another here, so a process that alone met an error can save.
    """
    state = run.state
    begin_phase(f"the checkpoint of step {state.step}")
    saved = {"updates": state.updates, "seconds": state.elapsed_seconds, "skipped": state.skipped}
    tensors = {}
    _, decay_start = run.steps_and_decay_start
    if run.moves_reference:
        tensors["reference"] = run.policy.frozen.state_dict()
    # --pools: how often in a row the groups of a problem were all right, or all wrong.
    if run.source.pools is not None:
        saved["pools"] = {
            str(problem): streak for problem, streak in sorted(run.source.pools.streaks.items())
        }
    checkpoint.save(
        run.folder.path,
        state.step,
        run.policy,
        run.optimizer.state_dict(),
        state=saved,
        environment=environment_record(run),
        keep=run.config.output.keep,
        # For each checkpoint that is kept, the best step up to it is needed: a run that goes on from there may end with
        # the weights of that step.
        needed=partial(run.criterion.needed_steps, state.validations),
        # A run that is resumed with more steps goes on from where its learning rate began to fall.
        resumable={decay_start} if decay_start < state.step else (),
        **tensors,
    )
    state.saved = time.monotonic()


def load_checkpoint(
    path: Path, policy: Policy, optimizer: torch.optim.Optimizer, pools: Pools | None = None
) -> TrainingState:
    """Puts weights, optimizer and pools into the state of a checkpoint; returns how far the run had come."""
    saved = checkpoint.load(path, policy, optimizer)
    counters = {name: saved[name] for name in ("step", "updates", "skipped", "seconds")}
    state = TrainingState(**counters, resumed_at=saved["step"])
    if pools is not None:
        pools.streaks = {int(problem): streak for problem, streak in saved["pools"].items()}
    return state


def record_evaluation(
    folder: RunFolder, trackers: Trackers, name: str, result: Evaluation, *, step: int, logged_at: int
) -> None:
    """Writes the result of an evaluation to eval/NAME and to the trackers.

    step: the one whose weights were evaluated. logged_at: the step that the run has reached.
    """
    split = result.settings["split"]
    with raising_on_all():
        folder.write_evaluation(name, {"step": step, **result.summary()}, result.rows)
    figures = {**result.rewards, "correct": result.correct, "low": result.low, "high": result.high}
    figures["mean_length"] = result.mean_length
    figures |= {f"{task}/solved": figures_of_task["solved"] for task, figures_of_task in result.tasks.items()}
    trackers.log({f"eval/{split}/{key}": value for key, value in figures.items()}, logged_at)
    trackers.table(f"eval/{split}/samples", result.rows, logged_at)


def write_summary(
    run: Run,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    kept: int,
    ended_by: str,
    worse: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Writes summary.json and returns what it holds.

    before, after: the contents of eval/before.json, about the model at the start, and of eval/after.json, about the
    trained model; None if a model was not evaluated. kept: the step of the trained model, which validations chose or
    which is the last. (If the run ended worse, model/ may have the start instead: `kept_step`.) ended_by: the setting
    that ended the run, e.g. "max_steps" or "patience". worse: what `keep_start_if_worse` returned.
    """
    keys = (
        "step",
        "correct",
        "n",
        "low",
        "high",
        "rewards",
        "mean_length",
        "clipped_ratio",
        "follows",
        "settings",
    )
    # If completions are given, not sampled, a row has neither "correct" nor "frac_reward_zero_std".
    solved_rates = [row["correct"] for row in run.state.comparable if "correct" in row]
    rows_with_groups = [row for row in run.state.comparable if "frac_reward_zero_std" in row]
    lost = {}
    if before and after:
        lost = lost_components(run.folder.completions("before"), run.folder.completions("after"))
    results = {
        "eval_before": {key: before[key] for key in keys} if before else None,
        "eval_after": {key: after[key] for key in keys} if after else None,
        "gain": after["correct"] - before["correct"] if before and after else None,
        "lost": lost,
        "solved_sampled": sum(solved_rates) / len(solved_rates) if solved_rates else None,
        "groups": shares_of_groups(rows_with_groups) if rows_with_groups else None,
        "validation": run.criterion.summary(run.state.validations, kept),
        "worse": worse,
        "start_of_other_code": None if before else run.folder.folder_of_other_start,
        "kept_step": worse["kept"] if worse else kept,
        "model": str(run.folder.path / "model"),
    }
    summary = {
        "env": run.splits["train"].spec_name,
        "algorithm": run.config.algorithm,
        "seed": run.config.seed,
        "steps": run.state.step,
        "max_steps": run.config.max_steps,
        "ended_by": ended_by,
        "updates": run.state.updates,
        "seconds": round(run.state.elapsed_seconds, 1),
        **results,
        "base_model": run.policy.source,
        "processes": run.accelerator.num_processes,
        "device": str(run.policy.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    run.folder.write_summary(summary)
    return summary


def shares_of_groups(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean shares of groups with equal rewards, with right or wrong completions only, and with one wrong text.

    history: rows of metrics.jsonl.
    """
    names = {
        "equal": "frac_reward_zero_std",
        "all_right": "frac_groups_all_correct",
        "all_wrong": "frac_groups_all_wrong",
        "same_wrong_text": "frac_groups_wrong_identical",
    }
    return {share: sum(row[name] for row in history) / len(history) for share, name in names.items()}


def closing_lines(summary: Mapping[str, Any], config: Config) -> list[str]:
    """The last lines of a run: why it ended early, what was gained, where everything lies, and what to type next.

    summary: the content of summary.json.
    """
    before, after, validations = summary["eval_before"], summary["eval_after"], summary["validation"]
    lines = []
    if summary["ended_by"] == "patience":
        criterion = criteria.CRITERIA[config.validates]
        lines.append(
            f"The run ended at step {summary['steps']} of {summary['max_steps']}, as --patience asks: "
            f"{criterion.why_ended(validations)}."
        )
    if validations:
        # If the run ended worse than it began, model/ has step 0 in place of the chosen step.
        start_is_kept = bool(after) and summary["kept_step"] < after["step"]
        start = "the start, and not " if start_is_kept else ""
        lines.append(
            f"model/ is {start}{validations['chosen']}; the last, step "
            f"{validations['last_step']}, has {validations['last']:.3f}."
        )
    minutes = f"{summary['seconds'] / 60:.1f} minutes"
    if after:
        at_start = f"{before['correct']:.3f} -> " if before else ""
        # The texts of --data may be those of any problems.
        unseen = "" if config.data else " that this run did not train on"
        lines.append(
            f"{summary['env']}: solved rate on {after['n']} {after['settings']['split']} problems{unseen}: "
            f"{at_start}{after['correct']:.3f} [{after['low']:.3f}, {after['high']:.3f}] "
            f"at step {after['step']} of {summary['steps']}, {minutes}."
        )
    else:
        lines.append(
            f"{summary['env']}: {plural(summary['steps'], 'step')}, {minutes}. No task is named (--env) on which the "
            "model could be evaluated."
        )
    if after and (folder_of_start := summary.get("start_of_other_code")):
        lines.append(
            "It is not compared with the start, which other code has judged: that code changed during the run. What "
            f"was measured with it is in {folder_of_start}."
        )
    if after and after["follows"]:
        follows = change_of_shares([figures["follows"] for figures in (before, after) if figures], after["n"])
        lines.append(f"What completions follow: {follows}.")
    first, *others = next_steps(summary, config)
    lines += [f"Everything is in {Path(summary['model']).parent}.", f"Next:  {first}"]
    lines += [f"       {line}" for line in others]
    is_judged = before and after and config.samples and not summary["worse"]
    if is_judged and advice.surely_gained_nothing(summary):
        lines.append(advice.nothing_gained_line(summary))
    if summary["lost"]:
        fell = [
            f"{name} fell from {before:.2f} to {after:.2f}"
            for name, (before, after) in summary["lost"].items()
        ]
        text = f"But this run lost something on these problems: {', '.join(fell)}"
        lines.append(f"{text}; {advice.HELP_IS_ON_PAGE}")
    return lines


def next_steps(summary: Mapping[str, Any], config: Config) -> list[str]:
    """The commands to type after a run, the most useful one first; after a run that got worse, that which shows how."""
    before, after = summary["eval_before"], summary["eval_after"]
    folder = Path(summary["model"]).parent
    quoted = shlex.quote(str(folder))
    diff = f"python -m spg_trainer diff {shlex.quote(f'{folder}/eval/before.json')} {quoted}"
    if summary["worse"]:
        return [diff]
    commands = []
    if not config.samples:  # the model has learned from given completions, so RL comes next
        task = shlex.join(task_words(config.env or "ENV", config.task_arguments))
        commands.append(f"python -m spg_trainer {task} --model {quoted}")
    if before and after:
        commands.append(diff)
    if after:
        commands.append(f"python -m spg_trainer eval --model {quoted}")
    if not loss_has_risen(summary):
        more_steps = 2 * summary["steps"] or 100
        no_patience = " --patience 0" if summary["ended_by"] == "patience" else ""
        commands.append(f"python -m spg_trainer --resume {quoted} --max-steps {more_steps}{no_patience}")
    return commands


def loss_has_risen(summary: Mapping[str, Any]) -> bool:
    """Whether the validation loss of a run has risen since its best step. summary: the content of summary.json."""
    validations = summary.get("validation") or {}  # validations that solve problems have no loss
    return validations.get("has_risen", False)


def nothing_to_do(summary: Mapping[str, Any], folder: Path) -> str:
    """The line for a run that is resumed, but is finished already. summary: the content of its summary.json."""
    steps, quoted = summary["steps"], shlex.quote(str(folder))
    no_patience = " --patience 0" if summary["ended_by"] == "patience" else ""
    return (
        f"{folder} is finished ({plural(steps, 'step')}, ended by --{summary['ended_by'].replace('_', '-')}); nothing "
        f"was changed. To go on: python -m spg_trainer --resume {quoted} --max-steps {2 * steps or 100}{no_patience}"
    )


def worse_line(summary: Mapping[str, Any]) -> str:
    """The last line of a run that ended worse than it began. summary: the content of summary.json."""
    before, after, worse = summary["eval_before"], summary["eval_after"], summary["worse"]
    trained = f"step {after['step']}"
    if worse["kept"]:  # the step in model/, where 0 is the start
        what_is_kept = f"model/ is {trained} all the same"
    else:
        what_is_kept = f"model/ is the start; to have {trained} there, add --keep-worse to --resume"
    return (
        f"this run ended worse than it began: {trained} solves {after['correct']:.3f} "
        f"[{after['low']:.3f}, {after['high']:.3f}] of {after['n']} {after['settings']['split']} problems, the start "
        f"{before['correct']:.3f} ({worse['lost']} lost, {worse['won']} won, p = {worse['p']:.2g}). {what_is_kept}."
    )


def show_ending(run: Run, summary: Mapping[str, Any]) -> None:
    """Writes report.html, unless the settings say not to, and prints the last lines of a run."""
    if run.config.output.report and run.accelerator.is_main_process:
        save_report(run.folder.path, run.console)
    for line in closing_lines(summary, run.config):
        run.console.say(line)
    if summary["worse"]:
        run.console.warn(worse_line(summary))


def save_report(path: Path, console: Console) -> None:
    """Writes report.html of the run in a folder; if that fails, a warning says why, and no error is raised."""
    from spg_trainer.reporting.page import report

    try:
        console.say(f"Report: {report(path).save(path / REPORT)}")
    except Exception as error:  # a finished run is worth more than its picture
        again = f"Try again with: python -m spg_trainer report {shlex.quote(str(path))}"
        console.warn(f"{REPORT} was not written ({type(error).__name__}: {error}). {again}")


def environment_record(run: Run) -> dict[str, Any]:
    """The content of environment.json for a model that this run writes."""
    config, model, own_copy = run.config, run.config.model, run.folder.path / REFERENCE_FOLDER
    if own_copy.is_dir():  # the folder that --model named may be deleted before the run is
        model = replace(model, model=str(own_copy))
    origin = dict(run.splits["train"].origin)
    return {
        **task_record(config.env, config.task_arguments, model, config.rollout, origin=origin),
        "ends": run.algorithm.end_tokens,
        "dtype": str(run.policy.model.dtype).removeprefix("torch."),
        "base_model": run.policy.source,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which a result depends."""
    packages = ("torch", "transformers", "accelerate", "peft", "numpy", "numba", "gymnasium")
    python_and_ours = {"python": platform.python_version(), "spg-trainer": __version__}
    python_and_ours["verifier_rules"] = str(verifiers.RULES)
    return python_and_ours | {package: installed(package) for package in packages}


@cache
def installed(package: str) -> str:
    """The version of an installed package; cached, since looking it up takes as long as writing a small checkpoint."""
    return version(package)
