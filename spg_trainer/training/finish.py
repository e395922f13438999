"""What follows a step (records, validation, a checkpoint, a line), and what follows the last one (the best weights)."""

import time
from typing import Any

from spg_trainer.tensors import Rows
from spg_trainer.training import records
from spg_trainer.training.advice import say_what_rl_would_find
from spg_trainer.training.best_model import keep_start_if_worse, write_best_model
from spg_trainer.training.evaluations import evaluate_once, run_validation
from spg_trainer.training.run import Run


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
