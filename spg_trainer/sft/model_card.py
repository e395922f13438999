"""The card of a model that `sft` made."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spg_trainer.errors import plural
from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.export import card_text, shown_task
from spg_trainer.runs.checkpoint import how_to_open
from spg_trainer.sft.fit import Fit


class Measured(NamedTuple):
    """What a finished model does on its task."""

    results: Mapping[str, Evaluation]
    """By split."""
    greedy: HabitCounts
    sampled: HabitCounts
    off_mix: Sequence[str]
    """What to tell of shares of rules that are far from those asked for."""


def model_card(fit: Fit, measured: Measured | None) -> str:
    """The card of a model made by `sft`; measured: None where it was made for no task."""
    command, p = fit.command, fit.progress
    weights = sum(w.numel() for w in fit.policy.model.parameters())
    mix = " ".join(f"{name}={share:g}" for name, share in fit.mix.items())
    these = "whose weights these are" if command.eval.patience else "but these are the last ones"
    if command.data:
        name = f"`{fit.train.spec_name}`"
        demonstrations = f"of {name}"
        purpose = f"that imitates the {len(fit.train):,} completions of {name}."
    else:
        name = shown_task(command)
        demonstrations = f"{mix} (`right` is the environment's own solution)"
        purpose = f"""made to begin reinforcement learning on {name}: it
imitates several ways to answer, one of them right, and knows no other task."""
    habits = ""
    if measured is not None:
        habits = f"""
- Validation completions, greedy: {measured.greedy.shares}.
  At temperature {command.rollout.temperature:g}: {measured.sampled.shares}; {measured.sampled.signal}."""
    made_of = f"{plural(fit.step, 'update')} of {plural(command.batch.batch_size, 'demonstration')}"
    text = f"""\
A masked diffusion language model of {weights:,} weights, {purpose}

- Start: {command.model.model}. Demonstrations: {demonstrations}.
- {made_of} of {command.rollout.max_completion_length} tokens.
- Last training loss {fit.last_loss:.4f} nats per token; lowest validation loss {p.best_loss:.4f} after
  {p.best_step} updates, {these}. {fit.run.elapsed_seconds / 60:.1f} minutes on {fit.policy.model.device.type}.{habits}

`python -m spg_trainer sft --config FILE` with the settings below makes it again.
"""
    front = {"library_name": "transformers", "license": "apache-2.0"}
    results = {split: result.summary() for split, result in measured.results.items()} if measured else {}
    family = fit.policy.model.config.to_dict()["model_type"]
    return card_text(f"A base model for {name}", text, command, results, how_to_open(), family, **front)
