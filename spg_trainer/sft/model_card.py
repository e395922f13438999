"""The card of a model that `sft` made."""

from collections.abc import Mapping

from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.evaluation.habits import HabitCounts
from spg_trainer.export import card_text, shown_task
from spg_trainer.runs.checkpoint import how_to_open
from spg_trainer.sft.loop import Fit


def model_card(fit: Fit, results: Mapping[str, Evaluation], greedy: HabitCounts, sampled: HabitCounts) -> str:
    """The card of a model made by `sft`. results: by split. greedy, sampled: what its completions follow."""
    command, p = fit.command, fit.progress
    weights = sum(w.numel() for w in fit.policy.model.parameters())
    mix = " ".join(f"{name}={share:g}" for name, share in fit.mix.items())
    kept = "whose weights these are" if command.patience else "but these are the last ones"
    text = f"""\
A masked diffusion language model of {weights:,} weights, made to begin reinforcement learning on {shown_task(command)}:
it imitates several ways to answer, one of them right, and knows no other task.

- Start: {command.model.model}. Demonstrations: {mix} (`right` is the environment's own solution).
- {p.step} updates of {command.batch_size} demonstrations of {command.max_completion_length} tokens.
- Last training loss {sum(p.losses) / len(p.losses):.4f} nats per token; lowest validation loss {p.best_loss:.4f} after
  {p.best_step} updates, {kept}. {p.seconds / 60:.1f} minutes on {fit.policy.model.device.type}.
- Validation completions, greedy: {greedy.shares}.
  At temperature {command.temperature:g}: {sampled.shares}; {sampled.signal}.

`python -m spg_trainer sft --config FILE` with the settings below makes it again.
"""
    front = {"library_name": "transformers", "license": "apache-2.0"}
    measured = {split: result.summary() for split, result in results.items()}
    family = fit.policy.model.config.to_dict()["model_type"]
    return card_text(
        f"A base model for {shown_task(command)}", text, command, measured, how_to_open(), family, **front
    )
